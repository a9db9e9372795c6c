"""From a trained checkpoint to a model package: ONNX graphs, quantisation, parity check, manifest."""
