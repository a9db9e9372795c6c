import struct
from pathlib import Path

import numpy as np
import pytest

from export.marian.reader import FileError
from export.marian.shortlist import read_shortlist
from tests.export.marian import tiny

LISTS = [[5], [6, 7], [], [9]]


def test_words_of_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "lex.bin").write_bytes(tiny.shortlist(LISTS))
    found = read_shortlist(tmp_path / "lex.bin", sources=4, targets=10)
    assert found.of(np.array([1, 3, 1])).tolist() == [0, 1, 2, 6, 7, 9]
    assert found.of(np.array([2])).tolist() == [0, 1, 2]


def test_what_every_sentence_has(tmp_path: Path) -> None:
    (tmp_path / "lex.bin").write_bytes(tiny.shortlist(LISTS, first=0))
    found = read_shortlist(tmp_path / "lex.bin", sources=4, targets=10)
    assert found.having(8, own=False).of(np.array([1, 3])).tolist() == [6, 7, 8, 9]
    own = found.having(8, own=True)
    assert [own.of(np.array([source])).tolist() for source in range(4)] == [[0, 5, 8], [1, 6, 7, 8], [2, 8], [3, 8, 9]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (struct.pack("<6Q", 1, 0, 0, 0, 0, 0), "no binary shortlist"),
        (tiny.shortlist(LISTS)[:-1], "bytes are left|only"),
        (tiny.shortlist(LISTS) + b"\0", "1 bytes follow"),
        (tiny.shortlist([[10], [], [], []]), "word 10 is not one of 10"),
        (tiny.shortlist(LISTS[:3]), "it has 4 offsets"),
        (tiny.shortlist(LISTS, first=11), "11 frequent words"),
    ],
)
def test_a_broken_one_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "lex.bin").write_bytes(content)
    with pytest.raises(FileError, match=reason):
        read_shortlist(tmp_path / "lex.bin", sources=4, targets=10)


def test_offsets_out_of_order_are_refused(tmp_path: Path) -> None:
    content = bytearray(tiny.shortlist(LISTS))
    content[56:64] = struct.pack("<Q", 4)
    (tmp_path / "lex.bin").write_bytes(content)
    with pytest.raises(FileError, match="not in order"):
        read_shortlist(tmp_path / "lex.bin", sources=4, targets=10)
