"""Marian's ``.npz``: arrays in an archive without compression. Nothing of it is ever unpickled, nor evaluated."""

import io
import math
import re
import zipfile
from pathlib import Path

import numpy as np

from export.marian.binary import CONFIG, Tensors
from export.marian.reader import FileError, Reader, read

SUFFIX = ".npy"
MAGIC = b"\x93NUMPY"
LENGTHS = {(1, 0): "<u2", (2, 0): "<u4"}
"""Type of a header's length, by version of the format."""
HEADER = re.compile(
    rb"\{'descr': '(?P<dtype>[<|][a-zA-Z]\d)', 'fortran_order': False, 'shape': \((?P<shape>[\d, ]{0,200})\),? *\}\s*"
)
DTYPES = {b"<f2", b"<f4", b"<f8"}
TEXT_DTYPES = {b"|i1", b"<i1", b"|u1", b"<u1", b"|S1"}


def open_archive(path: Path) -> zipfile.ZipFile:
    """A zip file whose entries are stored as they are, so that they are not larger than the whole.

    Raises :class:`export.marian.reader.FileError`.
    """
    data = read(path)
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError) as error:
        raise FileError(path, f"is no zip archive that can be read: {error}") from error
    entries = archive.infolist()
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise FileError(path, f"{entry.filename} is compressed", entry.header_offset)
    if (total := sum(entry.file_size for entry in entries)) > len(data):
        raise FileError(path, f"its entries have {total} bytes, the file has {len(data)}")
    if len(set(archive.namelist())) < len(entries):
        raise FileError(path, "two entries have the same name")
    return archive


def read_npz(path: Path) -> Tensors:
    """All arrays by name, floats as float32. Raises :class:`export.marian.reader.FileError`."""
    archive = open_archive(path)
    tensors: Tensors = {}
    for entry in archive.infolist():
        name = entry.filename.removesuffix(SUFFIX)
        try:
            content = archive.read(entry)
        except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, ValueError, OSError) as error:
            raise FileError(path, f"{name}: {str(error)[:200]}", entry.header_offset) from error
        tensors[name] = read_array(Reader(path, content), name, text=name == CONFIG)
    return tensors


def read_array(reader: Reader, name: str, *, text: bool) -> np.ndarray:
    """One array; offsets in errors are those of its entry."""
    magic = bytes(reader.take(len(MAGIC) + 2, f"the beginning of {name}"))
    version = magic[-2], magic[-1]
    if magic[:-2] != MAGIC or version not in LENGTHS:
        reader.fail(f"{name} is no array in a known format", 0)
    length = int(reader.numbers(LENGTHS[version], 1, f"the length of {name}'s header")[0])
    header = HEADER.fullmatch(bytes(reader.take(length, f"the header of {name}")))
    if header is None or header["dtype"] not in (TEXT_DTYPES if text else DTYPES):
        reader.fail(f"{name} is of no known type or layout")
    dtype = "u1" if text else header["dtype"].decode()
    shape = tuple(int(size) for size in header["shape"].replace(b" ", b"").split(b",") if size)
    values = reader.numbers(dtype, math.prod(shape), f"{name} of shape {shape}").reshape(shape)
    if reader.left:
        reader.fail(f"{name} of shape {shape} has {reader.left} bytes too many")
    if text:
        return values.reshape(-1)
    with np.errstate(over="ignore"):
        floats = values.astype(np.float32, copy=False)
    if not np.isfinite(floats).all():
        reader.fail(f"{name} has values that are no finite numbers")
    return floats
