"""Directories of models that others trained: which files are which, and what is made of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export import huggingface
from export.marian import load as marian
from export.marian.metadata import licence_of, origin_of
from export.marian.model import Marian
from export.marian.plain import read_numbers
from export.marian.reader import FileError, read
from export.marian.shortlist import read_shortlist
from export.marian.vocabulary import EOS, Vocabulary, is_tag, renumber
from export.package import Special

OTHERS = ("lex.", "qualityModel.")
"""Beginnings of names of what is beside a model: its shortlist, and what judges translations."""
LONGEST = 256
"""Sub-words of a sentence; these models were trained on shorter ones."""


@dataclass(frozen=True)
class Foreign:
    """A model, its vocabularies, and the numbers of sub-words that mean something."""

    model: Marian
    source: Vocabulary
    target: Vocabulary
    special: Special
    tags: dict[str, int]
    """Sub-words such as ``>>fra<<`` that ask for a target language."""
    longest: int
    licence: str
    origin: str

    def forbid(self) -> None:
        """No target contains what is no text."""
        special = {self.special.pad, self.special.unk, self.special.bos, *self.tags.values()}
        unwritten = self.target.gaps | set(range(len(self.target), self.model.shape.target_vocabulary))
        self.model.output_bias.data[sorted((special | unwritten) - {self.special.eos})] = -1e9

    def shorten(self, path: Path) -> None:
        """Translate to the sub-words of a shortlist only; a target can end, and carry over what it shares."""
        shape = self.model.shape
        lists = read_shortlist(path, shape.source_vocabulary, shape.target_vocabulary)
        shared = self.source.content == self.target.content
        self.model.shortlist = lists.having(self.special.eos, own=shared)


def open_foreign(directory: Path, shortlist: Path | None = None, *, whole: bool = False) -> Foreign:
    """A directory of the transformers library, or one with Marian's files. Raises :class:`FileError`.

    Marian's may have a ``shortlist``, this one or one beside them; ``whole`` takes no notice of it.
    """
    if not directory.is_dir():
        raise FileError(directory, "is no directory")
    if (directory / huggingface.CONFIG).exists():
        if shortlist is not None:
            raise FileError(shortlist, "is no part of a model of the transformers library")
        found = open_huggingface(directory)
    else:
        found = open_marian(directory)
        lists = [shortlist] if shortlist is not None else sorted(directory.glob("lex.*.bin"))
        if lists and not whole:
            found.shorten(only_one(directory, lists, "lex.*.bin"))
    found.forbid()
    return found


def open_huggingface(directory: Path) -> Foreign:
    config = huggingface.read_config(directory / huggingface.CONFIG)
    longest = min(config.max_position_embeddings, LONGEST)
    numbers = huggingface.read_numbers(directory / "vocab.json", config.vocab_size)
    source, target = (renumber(directory / name, numbers, config.vocab_size) for name in ("source.spm", "target.spm"))
    special = Special(
        pad=config.pad_token_id, unk=source.unk, bos=config.decoder_start_token_id, eos=config.eos_token_id
    )
    if numbers[EOS] != special.eos:
        raise FileError(directory / "vocab.json", f"{EOS} has the number {numbers[EOS]}, not {special.eos}")
    return Foreign(
        model=huggingface.load(directory, config, longest),
        source=source,
        target=target,
        special=special,
        tags={piece: number for piece, number in numbers.items() if is_tag(piece)},
        longest=longest,
        licence=licence_of(directory),
        origin=origin_of(directory),
    )


def open_marian(directory: Path) -> Foreign:
    source, target, tags = read_vocabularies(directory)
    # The start of a target has no embedding, and the unknown sub-word is never written: its number is free to mean it.
    model = marian.load(only(directory, "*.bin", "*.npz"), LONGEST, start=target.unk)
    for side, vocabulary, size in (
        ("source", source, model.shape.source_vocabulary),
        ("target", target, model.shape.target_vocabulary),
    ):
        if len(vocabulary) > size:
            raise FileError(directory, f"the {side} vocabulary has {len(vocabulary)} sub-words, the model {size}")
    if source.eos != target.eos:
        raise FileError(directory, f"{EOS} has the numbers {source.eos} and {target.eos}")
    return Foreign(
        model=model,
        source=source,
        target=target,
        special=Special(pad=source.eos, unk=source.unk, bos=target.unk, eos=target.eos),
        tags=tags,
        longest=LONGEST,
        licence=licence_of(directory),
        origin=origin_of(directory),
    )


def read_vocabularies(directory: Path) -> tuple[Vocabulary, Vocabulary, dict[str, int]]:
    """SentencePiece models that number the sub-words, or ``vocab.yml`` does; of both sides, and the tags among them."""
    files = sorted(directory.glob("*.spm"))
    sides = [[file for file in files if file.name.startswith(side)] for side in (("source", "src"), ("target", "trg"))]
    if not (len(files) == 1 or (len(files) == 2 and all(len(side) == 1 for side in sides))):
        raise FileError(directory, f"it has {len(files)} files *.spm, not one or one for each side")
    chosen = [side[0] if side else files[0] for side in sides]
    lists = sorted(directory.glob("*vocab.yml"))
    if len(lists) > 1:
        raise FileError(directory, f"it has {len(lists)} files *vocab.yml, not one")
    if not lists:
        first = Vocabulary.open(chosen[0])
        return first, first if len(files) == 1 else Vocabulary.open(chosen[1]), {}
    numbers = read_numbers(read(lists[0]), lists[0])
    vocabularies = [renumber(file, numbers, len(numbers)) for file in chosen]
    return vocabularies[0], vocabularies[1], {piece: number for piece, number in numbers.items() if is_tag(piece)}


def only(directory: Path, *patterns: str) -> Path:
    """The one file that is meant. Raises :class:`FileError` where there is none, or are several."""
    found = [file for pattern in patterns for file in directory.glob(pattern) if not file.name.startswith(OTHERS)]
    return only_one(directory, found, *patterns)


def only_one(directory: Path, found: Sequence[Path], *patterns: str) -> Path:
    if len(found) != 1:
        raise FileError(directory, f"it has {len(found)} files {' or '.join(patterns)}, not one")
    return found[0]
