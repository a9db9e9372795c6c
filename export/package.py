"""The model package on disk: what is in it, writing it, opening it verified.

Shared by export and serving, so it needs neither torch, nor onnx, nor BentoML.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

FORMAT: Literal[2] = 2
MANIFEST = "manifest.json"
NEXT, READ = "next_", "read_"
"""Before the name of a state: the output that is the next one, and that which is the same after it was read."""
Precision = Literal["fp32", "int8"]
Part = Literal["encoder", "decoder"]


class PackageError(Exception):
    """A package that is incomplete, altered or of a later format; the message names the file."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.reason = reason


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class File(Record):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """A plain name, so that a package cannot point outside itself."""
    sha256: str


class TensorSpec(Record):
    """A tensor that travels from the encoder to the decoder, or from step to step.

    ``shape`` has numbers and names: ``batch``, ``source`` (positions of the source), ``time`` (decoded so far) and
    those of :attr:`Graphs.axes`, along which sentences have different sizes, too.
    A state with a ``time`` axis starts empty and has room for the longest target. The decoder writes one entry of each
    row of a state with a ``time`` or ``source`` axis, and is meant to do so in place: input and output may be the same
    memory. A step that writes such a state first and then reads it may have to output it once more, named after
    :data:`READ`: the same memory again. Every other state is new with each step, in memory of its own.
    """

    name: str
    dtype: Literal["float32", "int8", "int32"]
    shape: list[int | str]
    pad: float = 0.0
    """What stands where a row is shorter than others."""

    @property
    def grows(self) -> bool:
        """Is it a state that is written in place?"""
        return "time" in self.shape or "source" in self.shape


class Special(Record):
    pad: int
    unk: int
    bos: int
    eos: int


class Alignment(Record):
    shift: Literal[0, 1]
    """1: the attention of the step that reads a target token aligns it; 0: that of the step that predicts it."""
    layer: int | None
    heads: str


class Corpus(Record):
    name: str
    pairs: int
    licence: str | None = None


class FirstWeights(Record):
    """The run whose weights a training began with, and what it cost with all runs before it."""

    name: str
    minutes: float
    """Of each process."""
    processes: int = 1
    tokens: int


class Trained(Record):
    """What the weights cost, and how to make them again."""

    device: str
    minutes: float
    """Of computing, of each process, without those of ``initial``."""
    processes: int = 1
    steps: int
    tokens: int
    """Target tokens learnt from."""
    initial: FirstWeights | None = None
    commands: list[str]


class Score(Record):
    set: str
    direction: tuple[str, str]
    precision: Precision
    metric: str
    value: float
    signature: str


class Graphs(Record):
    encoder: File
    decoder: File
    weights: File
    """What both graphs refer to by this name, in the same directory."""
    memory: list[TensorSpec]
    state: list[TensorSpec]
    axes: dict[str, int] = {}
    """Axes of memory that are neither ``batch`` nor ``source``, and the largest size of each."""


class OtherFormat(BaseModel):
    format: int


class Manifest(Record):
    format: Literal[2] = FORMAT
    name: str
    version: str
    architecture: str
    directions: list[tuple[str, str]]
    special: Special
    tags: dict[str, int]
    """Language to the id of its target tag, the first token of a source; a model of one direction may need none."""
    placeholders: list[int] = []
    """Ids of the sub-words ``⟦0⟧``, ``⟦1⟧``, ... that the model was trained to carry over as they are."""
    max_length: int
    """Longest source and longest target in sub-words, tag and EOS included."""
    learnt_length: int | None = None
    """Sub-words of the longest sentences that it learnt from: what is longer, it reads less well. None: not known."""
    tokenizer: File
    target_tokenizer: File | None = None
    """Where targets are made of other sub-words than sources."""
    graphs: dict[Precision, Graphs]
    alignment: Alignment
    licence: str
    origin: str | None = None
    """Where the weights come from, if they were not trained here."""
    training_data: list[Corpus]
    training: Trained | None = None
    scores: list[Score] = []
    parameters: int

    @property
    def precisions(self) -> list[Precision]:
        return list(self.graphs)


def sha256(path: Path) -> str:
    """Hex digest of a file. Raises ``OSError`` if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Package:
    """A verified package; make one with :meth:`open`."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: Path) -> "Package":
        """Read the manifest and verify every file it names. Raises :class:`PackageError`."""
        file = path / MANIFEST
        try:
            text = file.read_bytes()
        except OSError as error:
            raise PackageError(file, error.strerror or "cannot be read") from error
        try:
            manifest = Manifest.model_validate_json(text)
        except ValidationError as error:
            raise PackageError(file, cls._why(text, error)) from error
        package = cls(path, manifest)
        for entry in package.files():
            package._verify(entry)
        return package

    @staticmethod
    def _why(text: bytes, error: ValidationError) -> str:
        """Another format has other fields: say that first."""
        try:
            found = OtherFormat.model_validate_json(text).format
        except ValidationError:
            found = FORMAT
        if found > FORMAT:
            return f"format {found} is newer than {FORMAT}, the latest known"
        if found < FORMAT:
            return f"format {found} is older than {FORMAT}: export the model again"
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        return f"{where}: {first['msg']}"

    def _verify(self, entry: File) -> None:
        file = self.path / entry.name
        try:
            digest = sha256(file)
        except OSError as error:
            raise PackageError(file, error.strerror or "cannot be read") from error
        if digest != entry.sha256:
            raise PackageError(file, "differs from the sha256 in the manifest")

    def files(self) -> list[File]:
        graphs, target = self.manifest.graphs.values(), self.manifest.target_tokenizer
        tokenizers = [self.manifest.tokenizer, *([target] if target else [])]
        return [*tokenizers, *(file for g in graphs for file in (g.encoder, g.decoder, g.weights))]

    @property
    def tokenizer_path(self) -> Path:
        return self.path / self.manifest.tokenizer.name

    @property
    def target_tokenizer_path(self) -> Path:
        """The same as :attr:`tokenizer_path` where one does for both sides."""
        return self.path / (self.manifest.target_tokenizer or self.manifest.tokenizer).name

    def graph(self, precision: str, part: Part) -> Path:
        """Path of a graph. Raises ``KeyError`` for a precision the package does not have."""
        graphs = self.manifest.graphs[precision]  # type: ignore[index]
        return self.path / (graphs.encoder if part == "encoder" else graphs.decoder).name

    def save_manifest(self) -> None:
        (self.path / MANIFEST).write_text(self.manifest.model_dump_json(indent=2) + "\n")
