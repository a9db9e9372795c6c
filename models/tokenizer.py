"""One SentencePiece vocabulary for all languages: byte fallback, target tags, placeholders.

A tag ``<2fr>`` asks for the language to translate into. A placeholder ``⟦0⟧`` stands for something that a translation
repeats as it is, such as a name, a number or a piece of markup; models learn to copy it.
"""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

PAD, UNK, BOS, EOS = range(4)
PLACEHOLDERS = tuple(f"⟦{number}⟧" for number in range(8))


def target_tag(language: str) -> str:
    """The control symbol that begins a source and asks for ``language``."""
    return f"<2{language}>"


def train_tokenizer(
    sentences: Iterable[str],
    path: Path,
    *,
    vocab_size: int,
    languages: Sequence[str],
    placeholders: Sequence[str] = (),
    sample: int = 1_000_000,
) -> "Tokenizer":
    """Learn a unigram vocabulary from ``sentences`` and write it to ``path``.

    Deterministic for the same sentences. Raises ``RuntimeError`` where there is too little text for ``vocab_size``.
    """
    model = io.BytesIO()  # a file that SentencePiece names itself would hold its own path
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        vocab_size=vocab_size,
        model_type="unigram",
        byte_fallback=True,
        character_coverage=0.9998,
        split_digits=True,
        control_symbols=[target_tag(language) for language in languages],
        user_defined_symbols=list(placeholders),
        pad_id=PAD,
        unk_id=UNK,
        bos_id=BOS,
        eos_id=EOS,
        input_sentence_size=sample,
        shuffle_input_sentence=True,
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())
    return Tokenizer(path)


class Tokenizer:
    """Text to ids and back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = sentencepiece.SentencePieceProcessor(model_file=str(path))

    def __len__(self) -> int:
        return self.model.get_piece_size()

    def tag(self, language: str) -> int:
        """Id of the target tag. Raises ``KeyError`` for a language the vocabulary does not have."""
        tag = self.model.piece_to_id(target_tag(language))
        if tag == UNK:
            raise KeyError(language)
        return tag

    @property
    def placeholders(self) -> list[int]:
        """Ids of the placeholders in their order; none in a vocabulary without them."""
        ids = [self.model.piece_to_id(piece) for piece in PLACEHOLDERS]
        return [piece for piece in ids if piece != UNK]

    def encode(self, text: str) -> list[int]:
        """Ids without tag, BOS or EOS."""
        return self.model.encode(text)

    def source(self, text: str, target_language: str) -> list[int]:
        """What an encoder reads: tag, sub-words, EOS."""
        return [self.tag(target_language), *self.encode(text), EOS]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids`` up to the first EOS."""
        ids = list(ids)
        return self.model.decode(ids[: ids.index(EOS)] if EOS in ids else ids)
