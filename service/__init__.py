"""The translation server: HTTP and BentoML in front, ONNX Runtime behind."""

__version__ = "0.1.0"
