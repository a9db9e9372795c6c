"""ONNX Runtime behind two calls: encode some sources, advance all rows by one step."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnxruntime

from export.package import Package, Part

Arrays = dict[str, np.ndarray]


class Encoded(NamedTuple):
    lengths: np.ndarray
    """[B]"""
    tensors: Arrays
    """Memory and first state, batch first."""


class Stepped(NamedTuple):
    ids: np.ndarray
    """[B, K]"""
    scores: np.ndarray
    """[B, K], log-probabilities"""
    states: list[np.ndarray]
    """In the manifest's order; the newest entry only where a state grows with time."""
    attention: np.ndarray | None
    """[B, S]"""


class Session:
    """Both graphs of a package in one precision. Calls may come from several threads at once.

    One intra-op thread each: a thread per decode loop scales better than threads inside an operator.
    """

    def __init__(self, package: Package, precision: str, provider: str) -> None:
        if provider not in (available := onnxruntime.get_available_providers()):
            raise ValueError(f"execution provider {provider} is not one of {', '.join(available)}")
        self.manifest = package.manifest
        self.encoder, self.decoder = (self._open(package, precision, part, provider) for part in ("encoder", "decoder"))
        self._encoded = [output.name for output in self.encoder.get_outputs()]
        self._stepped = ["next_ids", "next_scores", *(f"next_{spec.name}" for spec in self.manifest.state)]

    @staticmethod
    def _open(package: Package, precision: str, part: Part, provider: str) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Shapes change with every step, so a pattern remembered for one of them is rarely used again.
        options.enable_mem_pattern = False
        providers = list(dict.fromkeys([provider, "CPUExecutionProvider"]))
        return onnxruntime.InferenceSession(str(package.graph(precision, part)), options, providers)

    def encode(self, sources: Sequence[Sequence[int]]) -> Encoded:
        """Token ids of each source, tag and EOS included."""
        lengths = np.array([len(source) for source in sources], np.int64)
        ids = np.full((len(sources), int(lengths.max())), self.manifest.special.pad, np.int64)
        for row, source in zip(ids, sources, strict=True):
            row[: len(source)] = source
        tensors = self.encoder.run(self._encoded, {"source_ids": ids, "source_lengths": lengths})
        return Encoded(lengths, dict(zip(self._encoded, tensors, strict=True)))

    def step(self, token: np.ndarray, position: np.ndarray, tensors: Arrays, top_k: int, attention: bool) -> Stepped:
        """``token [B], position [B]`` and memory and state of the same rows."""
        feeds = {"token": token, "position": position, "top_k": np.array([top_k], np.int64), **tensors}
        names = [*self._stepped, "attention"] if attention else self._stepped
        ids, scores, *rest = self.decoder.run(names, feeds)
        return Stepped(ids, scores, rest[: len(self.manifest.state)], rest[-1] if attention else None)
