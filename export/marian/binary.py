"""Marian's binary format, version 1: a table of names, types and shapes, then the numbers of one tensor after another.

8-bit tensors are products of the library intgemm: ``levels / multiplier``, the multiplier behind the levels. They are
stored with their outputs first, though their shape says ``[inputs, outputs]``; embeddings are stored as they are
shaped. Some are laid out for one kind of processor: blocks of eight outputs and as many inputs as one of its registers
holds.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from export.marian.reader import Reader

VERSION = 1
MOST_AXES = 8
ALIGNMENT = 256
"""Bytes to whose multiple a tensor's data may be filled up."""
CONFIG = "special:model.yml"

FLOATS = {0x404: "<f4", 0x402: "<f2"}
BYTES = 0x101
INTGEMM8 = (0x4101, 0x10001)
"""Its number in the two branches of Marian that are in use."""
REGISTERS = {0x18001: 16, 0x11001: 32, 0x12001: 64, 0x13001: 64}
"""8-bit types laid out for SSSE3, AVX2, AVX-512 and AVX-512 with VNNI: bytes in a register."""
LANES = 8
"""Outputs in a block of such a type."""
SMALLEST, LARGEST = 1e-30, 1e30
"""Multipliers are between these."""


@dataclass(frozen=True)
class Quantized:
    """Weights ``levels / multiplier``; ``levels`` are int8 and as the tensor is shaped."""

    levels: np.ndarray
    multiplier: float

    @property
    def values(self) -> np.ndarray:
        return self.levels.astype(np.float32) / np.float32(self.multiplier)


Tensor = np.ndarray | Quantized
"""float32, uint8 for text, or quantized."""
Tensors = dict[str, Tensor]


class Header(NamedTuple):
    name_length: int
    type: int
    axes: int
    size: int
    """Bytes of its data."""


class Item(NamedTuple):
    name: str
    type: int
    shape: tuple[int, ...]
    size: int


def read_binary(path: Path) -> Tensors:
    """All tensors by name. Raises :class:`export.marian.reader.FileError`."""
    reader = Reader(path)
    if (version := reader.number("the version")) != VERSION:
        reader.fail(f"version {version} of the format is not known, only {VERSION}", 0)
    items = read_table(reader)
    reader.take(reader.number("the size of the gap"), "the gap before the data")
    tensors = {item.name: read_item(reader, item) for item in items}
    if len(tensors) < len(items):
        reader.fail("two tensors have the same name")
    if reader.left:
        reader.fail(f"{reader.left} bytes follow the last tensor")
    return tensors


def read_table(reader: Reader) -> list[Item]:
    count = reader.number("the number of tensors")
    table = reader.numbers("<u8", 4 * count, f"the table of {count} tensors").reshape(count, 4)
    headers = [Header(*row) for row in table.tolist()]
    names = [read_name(reader, header) for header in headers]
    return [
        Item(name, header.type, read_shape(reader, header, name), header.size)
        for header, name in zip(headers, names, strict=True)
    ]


def read_name(reader: Reader, header: Header) -> str:
    start = reader.offset
    raw = bytes(reader.take(header.name_length, "the name of a tensor"))
    if not raw.endswith(b"\0") or not raw[:-1].isascii() or not raw[:-1].decode("ascii", "replace").isprintable():
        reader.fail("the name of a tensor is not plain text", start)
    return raw[:-1].decode("ascii")


def read_shape(reader: Reader, header: Header, name: str) -> tuple[int, ...]:
    start = reader.offset
    if not 1 <= header.axes <= MOST_AXES:
        reader.fail(f"{name} has {header.axes} axes, not 1 to {MOST_AXES}")
    shape = tuple(reader.numbers("<i4", header.axes, f"the shape of {name}").tolist())
    if min(shape) < 1:
        reader.fail(f"{name} has the shape {shape}", start)
    return shape


def read_item(reader: Reader, item: Item) -> Tensor:
    start, count = reader.offset, math.prod(item.shape)
    quantized = item.type in (*INTGEMM8, *REGISTERS)
    if item.type in FLOATS:
        needed = count * np.dtype(FLOATS[item.type]).itemsize
    elif item.type == BYTES:
        needed = count
    elif quantized:
        needed = count + 4
    else:
        reader.fail(f"{item.name} has type {item.type:#x}, which is not known")
    if not needed <= item.size < needed + ALIGNMENT:
        reader.fail(f"{item.name} of shape {item.shape} needs {needed} bytes and has {item.size}")
    data = reader.take(item.size, item.name)
    if quantized:
        return quantized_of(reader, item, data, start)
    if item.type == BYTES:
        return np.frombuffer(data, np.uint8, count)
    return checked(reader, item.name, np.frombuffer(data, FLOATS[item.type], count).reshape(item.shape), start)


def checked(reader: Reader, name: str, values: np.ndarray, start: int) -> np.ndarray:
    """As float32. Raises :class:`export.marian.reader.FileError` for what is no number."""
    if not np.isfinite(values).all():
        reader.fail(f"{name} has values that are no finite numbers", start)
    return values.astype(np.float32, copy=False)


def quantized_of(reader: Reader, item: Item, data: memoryview, start: int) -> Quantized:
    count = math.prod(item.shape)
    levels = np.frombuffer(data, np.int8, count)
    multiplier = float(np.frombuffer(data[count : count + 4], "<f4")[0])
    if not SMALLEST < multiplier < LARGEST:  # so that no weight is infinite, nor any a NaN
        reader.fail(f"{item.name} has the multiplier {multiplier}", start + count)
    outputs, inputs = item.shape[-1], count // item.shape[-1]
    if item.type in REGISTERS:
        width = REGISTERS[item.type]
        if outputs % LANES or inputs % width:
            reader.fail(f"{item.name} of shape {item.shape} has no layout in blocks of {LANES} times {width}", start)
        blocks = levels.reshape(outputs // LANES, inputs // width, LANES, width)
        levels = blocks.transpose(0, 2, 1, 3).reshape(outputs, inputs).T
    elif "Wemb" not in item.name:
        levels = levels.reshape(outputs, inputs).T
    return Quantized(levels.reshape(item.shape), multiplier)
