"""Rows being decoded, side by side in fixed buffers: joining, leaving and re-ordering copy one row, never the batch."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from export.package import Graphs, Manifest, TensorSpec

GRAIN = 16
"""Entries by which buffers grow and shrink along an axis: few shapes, little padding."""

Arrays = dict[str, np.ndarray]


def rounded(size: int) -> int:
    return -(-size // GRAIN) * GRAIN


def filled(shape: Sequence[int], value: float, dtype: str) -> np.ndarray:
    """Unlike ``np.zeros``, which leaves memory to be found when it is first used."""
    array = np.empty(shape, dtype)
    array.fill(value)
    return array


class Encoded(NamedTuple):
    lengths: np.ndarray
    """[B]"""
    tensors: Arrays
    """Memory and first state, batch first."""


class Slots:
    """Memory, state and history of up to ``capacity`` rows; rows ``0 .. active - 1`` are in use.

    Buffers are ``[capacity, ...]``, so the rows in use are a contiguous prefix that ONNX Runtime reads, and appends to,
    in place. There is room for the longest source and target from the start, all of it touched, so that nothing grows
    later; memory is laid out as wide as the longest source in use, and so along every other axis that differs.
    """

    def __init__(self, manifest: Manifest, graphs: Graphs, capacity: int) -> None:
        self.manifest, self.capacity, self.active = manifest, capacity, 0
        self.layout = 0
        """Changes when a buffer is another one than before."""
        longest = manifest.max_length
        self._specs = [*graphs.memory, *graphs.state]
        self._longest = {"source": longest, **graphs.axes}
        self._measured = [
            (str(axis), spec.name, place)
            for spec in self._specs
            for place, axis in enumerate(spec.shape)
            if axis in graphs.axes
        ]
        """Axes but that of the source, which has lengths, and where a row's size along them is seen."""
        self.width = dict.fromkeys(self._longest, GRAIN)
        """Entries that the memory has room for along each axis."""
        self.sizes = {axis: np.zeros(capacity, np.int64) for axis in self._longest}
        """Of each row along each axis."""
        self.token = np.zeros(capacity, np.int64)
        """The token each row reads next."""
        self.position = np.zeros(capacity, np.int32)
        self.log_prob = np.zeros(capacity, np.float64)
        self.tokens = np.zeros((capacity, longest), np.int32)
        """What each row has produced, up to its position."""
        self.steps = 0
        """Recorded since the start."""
        self.attention = filled((longest, capacity, rounded(longest)), 0.0, "float32")
        """Of the latest steps, each row in use and its source positions; written while somebody asks for it."""
        self.trail = np.zeros((capacity, longest), np.int32)
        """The slot that each row was in when it was at a position: what follows a row instead of its attention."""
        self._rows = np.arange(capacity)
        self._scalars: tuple[np.ndarray, ...] = (self.token, self.position, self.log_prob, *self.sizes.values())
        self._own = [spec for spec in graphs.state if not self._longest.keys() & set(spec.shape)]
        """What differs between hypotheses of one sentence."""
        self._shared = [spec for spec in self._specs if spec not in self._own]
        self._room = {spec.name: filled(self._shape(spec, self._longest), spec.pad, spec.dtype) for spec in self._specs}
        self.buffers = {spec.name: self._laid_out(spec) for spec in self._specs}
        own = [(self.buffers[spec.name], spec.shape) for spec in self._own]
        self._caches = [np.moveaxis(buffer, shape.index("time"), 1) for buffer, shape in own if "time" in shape]
        """``[capacity, time, ...]``"""
        self._states = [buffer for buffer, shape in own if "time" not in shape]

    @property
    def bytes(self) -> int:
        """Of the states and histories."""
        arrays = [*self._room.values(), *self._scalars, self.tokens, self.attention, self.trail]
        return sum(array.nbytes for array in arrays)

    @property
    def source(self) -> int:
        """Source positions that there is room for."""
        return self.width["source"]

    def _shape(self, spec: TensorSpec, width: Mapping[str, int]) -> list[int]:
        sizes = {"batch": self.capacity, "time": self.manifest.max_length}
        sizes |= {axis: rounded(size) for axis, size in width.items()}
        return [sizes[axis] if isinstance(axis, str) else axis for axis in spec.shape]

    def _laid_out(self, spec: TensorSpec) -> np.ndarray:
        """A tensor as wide as it is now, at the beginning of its room."""
        shape = self._shape(spec, self.width)
        return self._room[spec.name].reshape(-1)[: math.prod(shape)].reshape(shape)

    @staticmethod
    def _part(spec: TensorSpec, sizes: Mapping[str, int]) -> tuple[slice, ...]:
        """Of one row, the first so many entries along some axes."""
        return tuple(slice(sizes.get(str(axis))) for axis in spec.shape[1:])

    def fit(self, sizes: Mapping[str, int]) -> None:
        """Make room for a row of such sizes beside those in use; give room back that nobody needs."""
        kept: dict[str, int] = {}
        for axis, size in sizes.items():
            need = rounded(max(size, int(self.sizes[axis][: self.active].max(initial=1))))
            if need not in (self.width[axis], self.width[axis] - GRAIN):
                kept[axis], self.width[axis] = min(need, self.width[axis]), need
        if not kept:
            return
        self.layout += 1
        for spec in self._shared:
            if kept.keys() & set(spec.shape):
                self._lay_out_anew(spec, self._part(spec, kept))

    def _lay_out_anew(self, spec: TensorSpec, part: tuple[slice, ...]) -> None:
        """Move the kept part of each row in use to its new place in the same room, one at a time: no large copy.

        Rows that get longer move from the last on, others from the first, so that none is overwritten before it moves.
        """
        old = self.buffers[spec.name]
        new = self.buffers[spec.name] = self._laid_out(spec)
        rows = range(self.active)
        for row in rows if new[0].size < old[0].size else reversed(rows):
            kept = old[row][part].copy()
            new[row] = spec.pad
            new[row][part] = kept

    def join(self, encoded: Encoded, row: int, copies: int) -> list[int]:
        """Put row ``row`` of an encoded batch into ``copies`` new slots."""
        sizes = {"source": int(encoded.lengths[row])}
        sizes |= {axis: encoded.tensors[name].shape[place] for axis, name, place in self._measured}
        self.fit(sizes)
        slots = list(range(self.active, self.active + copies))
        new = slice(self.active, self.active + copies)
        self.active += copies
        for spec in self._specs:
            if "time" in spec.shape:
                continue
            buffer, value = self.buffers[spec.name], encoded.tensors[spec.name][row]
            part = self._part(spec, sizes)
            if sizes.keys() & set(spec.shape):
                buffer[new] = spec.pad
            buffer[new, *part] = value[part]
        self.token[new] = self.manifest.special.bos
        self.position[new] = 0
        self.log_prob[new] = 0.0
        for axis, size in sizes.items():
            self.sizes[axis][new] = size
        return slots

    @property
    def used(self) -> int | slice:
        """Index of the rows in use; of a lone one a number: numpy takes several times as long for an array of one."""
        return 0 if self.active == 1 else slice(self.active)

    def record(self, ids: np.ndarray, scores: np.ndarray, attention: np.ndarray | None) -> None:
        """Take the best token of every row in use and move on by one position: ``[B, K], [B, K], [B, S]``."""
        used = self.used
        rows, position = self._rows[used], self.position[used]
        self.token[used] = self.tokens[rows, position] = ids[used, 0]
        if attention is not None:
            self.attention[self.steps % len(self.attention), : self.active, : self.source] = attention
            self.trail[rows, position] = rows
        self.steps += 1
        self.log_prob[used] += scores[used, 0]
        self.position[used] = position + 1

    def attention_of(self, slot: int, positions: np.ndarray) -> np.ndarray:
        """Of a row that has just been recorded, the attention at some of its positions: ``[positions, source]``."""
        first = self.steps - int(self.position[slot])
        steps, length = (first + positions) % len(self.attention), int(self.sizes["source"][slot])
        return self.attention[steps, self.trail[slot, positions], :length]

    def replace(self, slots: np.ndarray, tokens: np.ndarray, log_probs: np.ndarray) -> None:
        """Other tokens than the best ones at the position just decoded."""
        self.token[slots] = self.tokens[slots, self.position[slots] - 1] = tokens
        self.log_prob[slots] = log_probs

    def copy(self, slots: np.ndarray, to: np.ndarray) -> None:
        """Continue hypotheses in other slots of their sentences, whose memory is there already.

        Hypotheses of a sentence begin alike, and a cache is a function of the tokens read: the rest of it is copied.
        """
        position = self.position[slots]
        length = int(position.max())
        differ = self.tokens[slots, :length] != self.tokens[to, :length]
        first = np.where(differ.any(axis=1), differ.argmax(axis=1), length) + 1
        """Entry of a cache that the first different token has made."""
        for history in (self.tokens, self.trail):
            history[to, :length] = history[slots, :length]
        for state in self._states:
            state[to] = state[slots]
        pairs = list(zip(slots.tolist(), to.tolist(), first.tolist(), position.tolist(), strict=True))
        for cache in self._caches:
            for slot, new, start, end in pairs:
                if start < end:
                    cache[new, start:end] = cache[slot, start:end]

    def leave(self, slot: int) -> int:
        """Free a slot by moving the last row in use into it; returns the slot that row had."""
        last = self.active = self.active - 1
        if slot != last:
            length = int(self.position[last])
            for history in (self.tokens, self.trail):
                history[slot, :length] = history[last, :length]
            for spec in self._specs:
                buffer, part = self.buffers[spec.name], self._part(spec, {"time": length})
                buffer[slot : slot + 1, *part] = buffer[last : last + 1, *part]
            for array in self._scalars:
                array[slot] = array[last]
        return last
