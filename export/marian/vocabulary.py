"""SentencePiece models of others, and those whose sub-words a model numbers in its own way."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
from numpy.typing import NDArray
from sentencepiece import sentencepiece_model_pb2

from export.marian.reader import FileError, read

EOS, UNK, PAD = "</s>", "<unk>", "<pad>"
protobuf: Any = sentencepiece_model_pb2  # its classes are made when it is imported
PIECE = protobuf.ModelProto.SentencePiece
UNIGRAM, BPE = 1, 2
"""Kinds of SentencePiece models."""


class Vocabulary:
    """A SentencePiece model as it will be shipped; ids are those of the model that it belongs to."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.content = content
        try:
            self.model = sentencepiece.SentencePieceProcessor(model_proto=content)
        except (RuntimeError, ValueError, TypeError) as error:
            raise FileError(path, f"is no SentencePiece model that can be read: {error}") from error
        self.unk, self.eos = self.model.unk_id(), self.model.eos_id()
        if self.eos < 0:
            raise FileError(path, f"it has no sub-word {EOS}")

    @classmethod
    def open(cls, path: Path) -> "Vocabulary":
        """One whose ids are the model's. Raises :class:`FileError`."""
        return cls(path, read(path))

    def __len__(self) -> int:
        return self.model.get_piece_size()

    @property
    def gaps(self) -> set[int]:
        """Numbers that a model has without a sub-word."""
        return {number for number in range(len(self)) if self.model.id_to_piece(number) == nameless(number)}

    def frequencies(self) -> tuple[list[int], NDArray[np.float64]]:
        """Sub-words of text, without bytes and symbols, and how frequent each is: ``[N]``, summing to 1.

        A unigram model has logarithms of probabilities. One of BPE has ranks only, whose frequencies follow Zipf's law.
        """
        proto = protobuf.ModelProto.FromString(self.content)
        usual = [number for number, piece in enumerate(proto.pieces) if piece.type == PIECE.NORMAL]
        scores = np.array([proto.pieces[number].score for number in usual])
        ranked = proto.trainer_spec.model_type == BPE
        weights = 1 / (1 - scores) if ranked else np.exp(np.maximum(scores, -20.0))
        return usual, weights / weights.sum()

    def encode(self, text: str) -> list[int]:
        return self.model.encode(text)

    def decode(self, ids: list[int]) -> str:
        return self.model.decode(ids)


def is_tag(piece: str) -> bool:
    """Does it ask for a target language, as ``>>fra<<``?"""
    return piece.startswith(">>") and piece.endswith("<<") and len(piece) > 4


def renumber(path: Path, numbers: Mapping[str, int], size: int) -> Vocabulary:
    """A SentencePiece model whose ids are a model's ``numbers`` of sub-words, all below ``size``.

    Sub-words that only the other side has are not found in text but can be written. Those that the model has no number
    for are left out: text is made of smaller ones then. Raises :class:`FileError`.
    """
    proto, content = protobuf.ModelProto(), read(path)
    try:
        proto.ParseFromString(content)
    except Exception as error:  # the class is that of whichever implementation protobuf has
        raise FileError(path, "is no SentencePiece model that can be read") from error
    if proto.trainer_spec.model_type not in (UNIGRAM, BPE):
        raise FileError(path, "only unigram and BPE models are supported")
    for needed in (EOS, UNK):
        if needed not in numbers:
            raise FileError(path, f"the vocabulary has no {needed}")
    known = {piece.piece: piece for piece in proto.pieces}
    written = {number: piece for piece, number in numbers.items()}
    pieces = [numbered(written.get(number, ""), number, known) for number in range(size)]
    if any(piece.type == PIECE.BYTE and piece.piece not in numbers for piece in proto.pieces):
        proto.trainer_spec.byte_fallback = False  # SentencePiece wants all bytes or none
        for piece in pieces:
            piece.type = PIECE.UNUSED if piece.type == PIECE.BYTE else piece.type
    del proto.pieces[:]
    proto.pieces.extend(pieces)
    proto.DiscardUnknownFields()  # a self-test of the sub-words that it had
    spec = proto.trainer_spec
    spec.unk_piece, spec.unk_id = UNK, numbers[UNK]
    spec.eos_piece, spec.eos_id = EOS, numbers[EOS]
    spec.bos_id, spec.pad_id = -1, numbers.get(PAD, -1)
    return Vocabulary(path, proto.SerializeToString(deterministic=True))


def numbered(text: str, number: int, known: Mapping[str, Any]) -> Any:
    if text == UNK:
        return PIECE(piece=text, type=PIECE.UNKNOWN)
    if text in (EOS, PAD) or is_tag(text):
        return PIECE(piece=text, type=PIECE.CONTROL)
    if text in known and known[text].type not in (PIECE.UNKNOWN, PIECE.CONTROL):
        return PIECE(piece=text, score=known[text].score, type=known[text].type)
    return PIECE(piece=text or nameless(number), type=PIECE.UNUSED)


def nameless(number: int) -> str:
    return f"<number {number}>"
