"""Typed configurations, one TOML file for each model."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

from models.pairs import LANGUAGES

EPOCHS = 10
"""Of a corpus that is seen in small shares, no more is prepared than so many epochs take."""
HEAD_STEP = 8
"""What the exported operator that attends needs the size of a head to be a multiple of."""
MOST_ALIGNED = 256
"""Sub-words of a side that alignments tell apart: a link is stored in two bytes."""
Fraction = Annotated[float, Field(ge=0, le=1)]
Languages = Annotated[str, Field(pattern=r"^[a-z]+-[a-z]+$")]
"""Two languages in the order of a file's columns, as ``en-fr``."""


def turned(way: str) -> str:
    """``en-fr`` -> ``fr-en``."""
    return "-".join(reversed(way.split("-")))


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(Section):
    vocab_size: int = Field(gt=0, le=2**16)
    """Tokenised text is stored as 16-bit ids."""
    dropout: Fraction = 0.1
    pad: int = 0
    max_length: PositiveInt = 256
    """Longest source or target the model can read or write, in sub-words."""
    alignment_shift: Literal[0, 1] = 0
    """0: attention of the step that *predicts* a token aligns it. 1: that of the step that *reads* it does."""


class TransformerConfig(ModelConfig):
    architecture: Literal["transformer"] = "transformer"
    size: PositiveInt
    """A multiple of 8 for each head."""
    heads: PositiveInt
    feed_forward_size: PositiveInt
    encoder_layers: PositiveInt
    decoder_layers: PositiveInt
    alignment_layer: int = 0
    """Decoder layer whose cross-attention is returned as the alignment."""
    alignment_head: NonNegativeInt | None = None
    """Head of that layer; without one, the mean over its heads."""

    @model_validator(mode="after")
    def heads_can_be_exported(self) -> Self:
        if self.size % (HEAD_STEP * self.heads):
            sizes = f"{self.heads} heads of a size that is a multiple of {HEAD_STEP}"
            raise ValueError(f"size {self.size} does not divide into {sizes}")
        return self

    @model_validator(mode="after")
    def alignment_exists(self) -> Self:
        if not -self.decoder_layers <= self.alignment_layer < self.decoder_layers:
            raise ValueError(
                f"alignment_layer {self.alignment_layer} is not one of {self.decoder_layers} decoder layers"
            )
        if self.alignment_head is not None and self.alignment_head >= self.heads:
            raise ValueError(f"alignment_head {self.alignment_head} is not one of {self.heads} heads")
        return self


class BahdanauConfig(ModelConfig):
    architecture: Literal["bahdanau"] = "bahdanau"
    embedding_size: PositiveInt
    encoder_size: PositiveInt
    """Hidden units of the encoder in each direction."""
    decoder_size: PositiveInt
    attention_size: PositiveInt


AnyModelConfig = Annotated[TransformerConfig | BahdanauConfig, Field(discriminator="architecture")]


class AugmentConfig(Section):
    """Share of the pairs that get a changed copy of each kind; see :mod:`models.augment`."""

    capitals: Fraction = 0.0
    title: Fraction = 0.0
    unpunctuated: Fraction = 0.0
    emoji: Fraction = 0.0
    joined: Fraction = 0.0
    typos: Fraction = 0.0
    """Of each direction: the source alone is changed."""
    placeholders: Fraction = 0.0
    """Of the pairs that have something to replace."""


class DataConfig(Section):
    fractions: dict[Languages, dict[str, Fraction]] = Field(min_length=1)
    """For each pair of languages, the share of each corpus seen in one epoch, drawn afresh every time.

    Corpora not named are left out. A single pair may be written ``source``, ``target`` and plain ``fractions``.
    """
    one_way: list[Languages] = []
    """Directions, as ``de-en``, whose pair is learnt that way alone; all others are learnt both ways."""
    licences: dict[str, str] = {}
    """Licence of each corpus, for the model card."""
    least_agreement: dict[str, float] = {}
    """For corpora that hold pairs which are no translations: the agreement below which a pair is dropped, see
    :mod:`models.score`."""
    augment: AugmentConfig = AugmentConfig()
    max_tokens: PositiveInt = 80
    """Pairs with a longer side are left out of training. At most 256 where ``training.alignment_weight`` is set."""

    @model_validator(mode="before")
    @classmethod
    def single_pair(cls, content: Any) -> Any:
        if isinstance(content, dict) and {"source", "target"} <= content.keys():
            rest = {name: value for name, value in content.items() if name not in {"source", "target"}}
            return rest | {"fractions": {f"{content['source']}-{content['target']}": content.get("fractions", {})}}
        return content

    @model_validator(mode="after")
    def ways_exist(self) -> Self:
        for way in self.one_way:
            if way not in self.fractions and turned(way) not in self.fractions:
                raise ValueError(f"one_way {way} is no direction of {', '.join(self.fractions)}")
            if turned(way) in self.one_way:
                raise ValueError(f"one_way has {way} and {turned(way)}: leave both out to learn both")
        return self

    @property
    def languages(self) -> list[str]:
        return list(dict.fromkeys(language for pair in self.fractions for language in pair.split("-")))

    @property
    def directions(self) -> list[tuple[str, str]]:
        """Source and target of everything that is trained, each pair both ways unless ``one_way`` has it."""
        ways = [way for pair in self.fractions for way in (pair, turned(pair)) if turned(way) not in self.one_way]
        return [(source, target) for source, target in (way.split("-") for way in ways)]

    @property
    def shares(self) -> dict[str, float]:
        """The fractions, keyed by languages and corpus as ``en-fr/tatoeba``."""
        return {f"{pair}/{name}": share for pair, names in self.fractions.items() for name, share in names.items()}

    def prepared(self, corpus: str) -> float:
        """The share of a corpus that is worth preparing."""
        return min(1.0, EPOCHS * self.shares.get(corpus, 0.0))

    def least(self, corpus: str) -> float | None:
        """The least agreement of a corpus named as in ``shares``; None where it is not judged."""
        return self.least_agreement.get(corpus.rpartition("/")[2])

    def licence(self, corpus: str) -> str | None:
        """Licence of a corpus named as in ``shares``."""
        return self.licences.get(corpus.rpartition("/")[2])

    def pair_of(self, file: Path) -> str:
        """The languages of a file's columns, from its name, as in ``en-fr.news.tsv`` or ``news.en-fr.tsv.xz``.

        With one pair in the configuration the name need not tell. Raises ``ValueError`` where it has to and does not,
        or where it tells of other languages.
        """
        parts = file.name.split(".")
        named = [pair for pair in self.fractions if pair in parts]
        if not named and (others := [part for part in parts if LANGUAGES.fullmatch(part)]):
            raise ValueError(f"{file}: the name says {others[0]}; the configuration has {', '.join(self.fractions)}")
        named = named or list(self.fractions)
        if len(named) != 1:
            raise ValueError(f"{file}: the name does not say which of {', '.join(self.fractions)} it holds")
        return named[0]


class TrainingConfig(Section):
    batch_tokens: PositiveInt
    """Padded source or target tokens in a batch, whichever are more."""
    learning_rate: float = Field(gt=0)
    """Peak, reached after the warm-up and kept until the decay."""
    warmup_steps: PositiveInt
    decay_share: float = Field(default=1.0, gt=0, le=1)
    """Last share of the budget, over which the learning rate falls linearly to zero."""
    label_smoothing: Fraction = 0.1
    alignment_weight: float = Field(default=0.0, ge=0)
    """Of the loss that guides the attention by alignments, see :mod:`models.align`. 0.05 is enough for a head that has
    nothing else to do; attention that translation needs too is pulled both ways."""
    gradient_norm: float = Field(default=1.0, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    average_last: PositiveInt = 5
    """Checkpoints averaged into the final weights."""
    seed: int = 1


class Config(Section):
    name: str
    licence: str = "not stated"
    """Of the trained weights."""
    model: AnyModelConfig
    data: DataConfig
    training: TrainingConfig

    @model_validator(mode="after")
    def longest_pair_fits(self) -> Self:
        longest = self.data.max_tokens + 2  # source: tag and EOS; target: BOS and EOS
        if longest > self.model.max_length:
            raise ValueError(f"data.max_tokens + 2 is over model.max_length {self.model.max_length}")
        if longest > self.training.batch_tokens:
            raise ValueError(f"data.max_tokens + 2 is over training.batch_tokens {self.training.batch_tokens}")
        return self

    @model_validator(mode="after")
    def links_fit(self) -> Self:
        if self.training.alignment_weight and self.data.max_tokens > MOST_ALIGNED:
            raise ValueError(f"data.max_tokens is over {MOST_ALIGNED}, all that training.alignment_weight can guide")
        return self

    @classmethod
    def load(cls, path: Path) -> "Config":
        """Read a TOML file. Raises ``pydantic.ValidationError`` naming the field that is wrong."""
        return cls.model_validate(tomllib.loads(path.read_text()))
