"""ONNX Runtime behind two calls: encode some sources, advance all rows in the slots by one step."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from export.package import NEXT, READ, Package, Part
from export.runtime import onnxruntime
from service.engine.slots import Encoded, Slots

GROUP_TOKENS = 256
"""Source tokens encoded together at most, padding included: what is between two layers should stay in the cache."""


class Session:
    """Both graphs of a package in one precision. Calls may come from several threads at once.

    One intra-op thread each: a thread per decode loop scales better than threads inside an operator.
    With ``profile``, the beginning of a file name, ONNX Runtime writes down how long each operator takes.
    Raises ``ValueError`` for an execution provider that is not there and ``KeyError`` for an unknown precision.
    """

    def __init__(self, package: Package, precision: str, provider: str, profile: Path | None = None) -> None:
        if provider not in (available := onnxruntime.get_available_providers()):
            raise ValueError(f"execution provider {provider} is not one of {', '.join(available)}")
        self.manifest, self.graphs = package.manifest, package.manifest.graphs[precision]  # type: ignore[index]
        self.encoder, self.decoder = (
            self._open(package, precision, part, provider, profile) for part in ("encoder", "decoder")
        )
        self._encoded = [output.name for output in self.encoder.get_outputs()]
        outputs = {output.name for output in self.decoder.get_outputs()}
        named = {f"{prefix}{spec.name}": spec for spec in self.graphs.state for prefix in (NEXT, READ)}
        self.states = {name: spec for name, spec in named.items() if name in outputs}
        """Of the decoder's outputs those that are states."""

    @staticmethod
    def _open(
        package: Package, precision: str, part: Part, provider: str, profile: Path | None
    ) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Shapes change with every step, so a pattern remembered for one of them is rarely used again.
        options.enable_mem_pattern = False
        if profile is not None:
            options.enable_profiling, options.profile_file_prefix = True, str(profile)
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

    def reserve(self, groups: int) -> None:
        """Encode as much as ``groups`` calls at a time ever will: the runtime keeps the memory and needs no more."""
        longest = self.manifest.max_length
        self.encode([[self.manifest.special.eos] * longest] * (groups * math.ceil(GROUP_TOKENS / longest)))


class Stepped(NamedTuple):
    """Views of memory that the next step overwrites."""

    ids: np.ndarray
    """[B, K]"""
    scores: np.ndarray
    """[B, K], log-probabilities"""
    attention: np.ndarray | None
    """[B, S]"""


class Stepper:
    """The decoder bound to the memory of some slots: a step hands over no tensor and copies no cache."""

    def __init__(self, session: Session, slots: Slots) -> None:
        self._session, self._slots = session, slots
        self._binding = session.decoder.io_binding()
        self._top_k = np.array([1], np.int64)
        self._bound: tuple[object, ...] = ()
        self._results: Stepped
        self._fresh = {
            spec.name: np.empty_like(slots.buffers[spec.name]) for spec in session.graphs.state if not spec.grows
        }

    def run(self, top_k: int, attention: bool) -> Stepped:
        """Advance the rows in use; their positions are the caller's to move."""
        slots = self._slots
        wanted = (slots.layout, slots.active, top_k, attention)
        if wanted != self._bound:
            self._bind(top_k, attention)
            self._bound = wanted
        self._session.decoder.run_with_iobinding(self._binding)
        for name, value in self._fresh.items():
            slots.buffers[name][: slots.active] = value[: slots.active]
        return self._results

    def _bind(self, top_k: int, attention: bool) -> None:
        binding, slots, rows = self._binding, self._slots, self._slots.active
        binding.clear_binding_inputs()
        binding.clear_binding_outputs()

        def bind(how: object, name: str, array: np.ndarray) -> None:
            how(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)  # type: ignore[operator]

        self._top_k[0] = top_k
        bind(binding.bind_input, "top_k", self._top_k)
        bind(binding.bind_input, "token", slots.token[:rows])
        bind(binding.bind_input, "position", slots.position[:rows])
        for name, buffer in slots.buffers.items():
            bind(binding.bind_input, name, buffer[:rows])
        for name, spec in self._session.states.items():
            buffer = self._fresh.get(spec.name, slots.buffers[spec.name])
            bind(binding.bind_output, name, buffer[:rows])
        ids, scores = np.empty((rows, top_k), np.int64), np.empty((rows, top_k), np.float32)
        weights = np.empty((rows, slots.source), np.float32) if attention else None
        bind(binding.bind_output, "next_ids", ids)
        bind(binding.bind_output, "next_scores", scores)
        if weights is not None:
            bind(binding.bind_output, "attention", weights)
        self._results = Stepped(ids, scores, weights)
