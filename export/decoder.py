"""The plainest use of a package's two graphs: one batch, greedy, until all rows have ended."""

import numpy as np

from export.package import NEXT, Package, Precision
from export.runtime import onnxruntime

Arrays = dict[str, np.ndarray]


class GraphDecoder:
    def __init__(self, package: Package, precision: Precision, *, exact: bool = False) -> None:
        """With ``exact``, no sum of 8-bit products is cut to 16 bits, as processors without VNNI do it, but for
        those in branches.
        """
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1  # batches are small: more threads would mostly wait for each other
        if exact:
            options.add_session_config_entry("session.x64quantprecision", "1")
        providers = ["CPUExecutionProvider"]
        self.manifest, self.specs = package.manifest, package.manifest.graphs[precision]
        self.encoder, self.decoder = (
            onnxruntime.InferenceSession(str(package.graph(precision, part)), options, providers)
            for part in ("encoder", "decoder")
        )

    def run(self, session: onnxruntime.InferenceSession, feeds: Arrays) -> Arrays:
        """All outputs of a graph, by name."""
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))

    def start(self, source: np.ndarray, lengths: np.ndarray) -> Arrays:
        """Memory and first state of a batch; caches are empty and have room for the longest target."""
        encoded = self.run(self.encoder, {"source_ids": source, "source_lengths": lengths})
        sizes = {"batch": len(source), "time": self.manifest.max_length}
        empty = [spec for spec in self.specs.state if spec.name not in encoded]
        shapes = [[sizes[axis] if isinstance(axis, str) else axis for axis in spec.shape] for spec in empty]
        return encoded | {spec.name: np.zeros(shape, spec.dtype) for spec, shape in zip(empty, shapes, strict=True)}

    def greedy(self, source: np.ndarray, lengths: np.ndarray, max_length: int) -> tuple[np.ndarray, np.ndarray]:
        """``source [B, S], lengths [B]`` -> tokens and log-probabilities, both ``[B, T]``, as ``models.greedy``."""
        tensors = self.start(source, lengths)
        token = np.full(len(source), self.manifest.special.bos, np.int64)
        ended = np.zeros(len(source), bool)
        tokens, log_probs = [], []
        for position in range(max_length):
            where = np.full(len(source), position, np.int32)
            step: Arrays = {"token": token, "position": where, "top_k": np.array([1])}
            result = self.run(self.decoder, {**tensors, **step})
            tensors.update({spec.name: result[f"{NEXT}{spec.name}"] for spec in self.specs.state})
            token = np.where(ended, self.manifest.special.eos, result["next_ids"][:, 0])
            ended |= token == self.manifest.special.eos
            tokens.append(token)
            log_probs.append(result["next_scores"][:, 0])
            if ended.all():
                break
        return np.stack(tokens, 1), np.stack(log_probs, 1)
