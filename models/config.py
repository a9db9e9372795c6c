"""Typed configurations, one TOML file for each model."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(Section):
    vocab_size: int = Field(gt=0, le=2**16)
    """Tokenised text is stored as 16-bit ids."""
    dropout: Fraction = 0.1
    pad: int = 0
    max_length: PositiveInt = 256
    """Longest source or target the model can read or write, in sub-words."""


class TransformerConfig(ModelConfig):
    architecture: Literal["transformer"] = "transformer"
    size: PositiveInt
    heads: PositiveInt
    feed_forward_size: PositiveInt
    encoder_layers: PositiveInt
    decoder_layers: PositiveInt
    alignment_layer: int = 0
    """Decoder layer whose cross-attention, averaged over heads, is returned as the alignment."""
    alignment_shift: Literal[0, 1] = 0
    """0: attention of the step that *predicts* a token aligns it. 1: that of the step that *reads* it does."""

    @model_validator(mode="after")
    def alignment_layer_exists(self) -> Self:
        if not -self.decoder_layers <= self.alignment_layer < self.decoder_layers:
            raise ValueError(
                f"alignment_layer {self.alignment_layer} is not one of {self.decoder_layers} decoder layers"
            )
        return self


class BahdanauConfig(ModelConfig):
    architecture: Literal["bahdanau"] = "bahdanau"
    embedding_size: PositiveInt
    encoder_size: PositiveInt
    """Hidden units of the encoder in each direction."""
    decoder_size: PositiveInt
    attention_size: PositiveInt


AnyModelConfig = Annotated[TransformerConfig | BahdanauConfig, Field(discriminator="architecture")]


class DataConfig(Section):
    source: str
    target: str
    fractions: dict[str, Fraction]
    """Share of each corpus seen in one epoch, drawn afresh every time; corpora not named are left out."""
    licences: dict[str, str] = {}
    """Licence of each corpus, for the model card."""
    max_tokens: PositiveInt = 80
    """Pairs with a longer side are left out of training."""


class TrainingConfig(Section):
    batch_tokens: PositiveInt
    """Padded source or target tokens in a batch, whichever are more."""
    learning_rate: float = Field(gt=0)
    """Peak, reached after the warm-up; from there it falls linearly to zero at the end of the budget."""
    warmup_steps: PositiveInt
    label_smoothing: Fraction = 0.1
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

    @classmethod
    def load(cls, path: Path) -> "Config":
        """Read a TOML file. Raises ``pydantic.ValidationError`` naming the field that is wrong."""
        return cls.model_validate(tomllib.loads(path.read_text()))
