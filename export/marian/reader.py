"""Files of unknown origin, read from front to back: every size is checked against what is left before it is used."""

from pathlib import Path
from typing import NoReturn

import numpy as np


class FileError(Exception):
    """A file that is not what it should be; the message names it and, where there is one, the byte that is wrong."""

    def __init__(self, path: Path, reason: str, offset: int | None = None) -> None:
        super().__init__(f"{path}: {reason}" if offset is None else f"{path}: at byte {offset}: {reason}")
        self.path = path
        self.offset = offset


def read(path: Path) -> bytes:
    """All of a file. Raises :class:`FileError` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(path, error.strerror or "cannot be read") from error


class Reader:
    """Takes one thing after the other from a file; what it gives are views of the bytes, not copies."""

    def __init__(self, path: Path, data: bytes | None = None) -> None:
        self.path = path
        self.data = memoryview(read(path) if data is None else data)
        self.offset = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.offset

    def fail(self, reason: str, offset: int | None = None) -> NoReturn:
        raise FileError(self.path, reason, self.offset if offset is None else offset)

    def take(self, size: int, what: str) -> memoryview:
        """The next ``size`` bytes. Raises :class:`FileError` where there are fewer."""
        if size > self.left:
            self.fail(f"{what} has {size} bytes, but only {self.left} are left")
        taken = self.data[self.offset : self.offset + size]
        self.offset += size
        return taken

    def numbers(self, dtype: str, count: int, what: str) -> np.ndarray:
        """The next ``count`` numbers. Raises :class:`FileError` where there are fewer."""
        return np.frombuffer(self.take(np.dtype(dtype).itemsize * count, what), dtype)

    def number(self, what: str) -> int:
        """The next unsigned 64-bit number."""
        return int(self.numbers("<u8", 1, what)[0])
