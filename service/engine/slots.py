"""Rows being decoded, side by side in fixed buffers: joining, leaving and re-ordering copy one row, never the batch."""

from collections.abc import Sequence

import numpy as np

from export.package import Manifest, TensorSpec
from service.engine.session import Arrays, Encoded

GRAIN = 16
"""Positions by which buffers grow and shrink: few shapes, little padding."""


def rounded(size: int) -> int:
    return -(-size // GRAIN) * GRAIN


class Slots:
    """Memory and state of up to ``capacity`` rows; rows ``0 .. active - 1`` are in use.

    Buffers are ``[capacity, ...]``, so the rows in use are a contiguous prefix that ONNX Runtime reads in place.
    """

    def __init__(self, manifest: Manifest, capacity: int) -> None:
        self.manifest, self.capacity, self.active = manifest, capacity, 0
        self.token = np.zeros(capacity, np.int64)
        self.position = np.zeros(capacity, np.int64)
        self.source_length = np.zeros(capacity, np.int64)
        self._sizes = {"source": GRAIN, "time": GRAIN}
        self._buffers = {spec.name: self._empty(spec) for spec in self._specs}

    @property
    def _specs(self) -> list[TensorSpec]:
        return [*self.manifest.memory, *self.manifest.state]

    def _shape(self, spec: TensorSpec) -> list[int]:
        sizes = {"batch": self.capacity, **self._sizes}
        return [sizes[axis] if isinstance(axis, str) else axis for axis in spec.shape]

    def _empty(self, spec: TensorSpec) -> np.ndarray:
        return np.full(self._shape(spec), spec.pad, spec.dtype)

    def tensors(self) -> Arrays:
        """Views of the rows in use, without a copy."""
        return {name: buffer[: self.active] for name, buffer in self._buffers.items()}

    def fit(self, source: int = 0) -> None:
        """Make room for the next step, and for rows with ``source`` positions; give room back that nobody needs."""
        used = slice(0, self.active)
        need = {
            "source": rounded(max(source, int(self.source_length[used].max(initial=1)))),
            "time": rounded(int(self.position[used].max(initial=0)) + 1),
        }
        shrink = source > 0
        sizes = {axis: need[axis] if shrink else max(need[axis], size) for axis, size in self._sizes.items()}
        changed = {axis for axis in sizes if sizes[axis] != self._sizes[axis]}
        if not changed:
            return
        self._sizes = sizes
        for spec in self._specs:
            if changed.intersection(map(str, spec.shape)):
                old, new = self._buffers[spec.name], self._empty(spec)
                kept = tuple(slice(0, min(a, b)) for a, b in zip(old.shape, new.shape, strict=True))
                new[kept] = old[kept]
                self._buffers[spec.name] = new

    def join(self, encoded: Encoded, row: int, copies: int) -> list[int]:
        """Put row ``row`` of an encoded batch into ``copies`` new slots; room must have been made by :meth:`fit`."""
        slots = list(range(self.active, self.active + copies))
        self.active += copies
        length = int(encoded.lengths[row])
        for spec in self._specs:
            buffer = self._buffers[spec.name]
            if "time" in spec.shape:
                continue
            value = encoded.tensors[spec.name][row]
            if "source" not in spec.shape:
                buffer[slots] = value
                continue
            axis = spec.shape.index("source") - 1
            real = tuple(slice(0, length) if i == axis else slice(None) for i in range(value.ndim))
            for slot in slots:
                buffer[slot] = spec.pad
                buffer[slot][real] = value[real]
        self.token[slots] = self.manifest.special.bos
        self.position[slots] = 0
        self.source_length[slots] = length
        return slots

    def write(self, states: Sequence[np.ndarray]) -> None:
        """Take over what the decoder returned for the rows in use, then move on by one position."""
        rows = np.arange(self.active)
        for spec, value in zip(self.manifest.state, states, strict=True):
            buffer = self._buffers[spec.name]
            if "time" in spec.shape:
                np.moveaxis(buffer, spec.shape.index("time"), 1)[rows, self.position[rows]] = value
            else:
                buffer[rows] = value
        self.position[rows] += 1

    def reorder(self, slots: Sequence[int], parents: Sequence[int]) -> None:
        """Give ``slots`` the states of ``parents``; their memory is the same."""
        if list(slots) != list(parents):
            for spec in self.manifest.state:
                buffer = self._buffers[spec.name]
                buffer[slots] = buffer[parents]

    def leave(self, slot: int) -> int:
        """Free a slot by moving the last row in use into it; returns the slot that row had."""
        last = self.active = self.active - 1
        if slot != last:
            for array in (self.token, self.position, self.source_length, *self._buffers.values()):
                array[slot] = array[last]
        return last
