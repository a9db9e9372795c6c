"""What a model is made of, from the configuration that Marian stores in it. What is not known is refused by name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from export.linear import Activation
from export.marian.plain import read_mapping
from export.marian.reader import FileError
from models.config import HEAD_STEP

IRRELEVANT = (
    *("version", "original-type", "dim-rnn", "enc-cell", "enc-type", "transformer-depth-scaling", "factors-combine"),
    *("bert-", "char-", "dec-cell-", "enc-cell-", "transformer-aan-", "transformer-dim-aan"),
)
"""Options, and beginnings of options, of other architectures or of training."""

Before = Annotated[str, Field(pattern=r"^d*n?d*$")]
"""What is done before a part, a letter each: drop out, normalise."""
After = Annotated[str, Field(pattern=r"^d*(a?d*n?|n?d*a?)d*$")]
"""What is done after it: the same, and add the input of the part."""
ACTIVATIONS: dict[str, Activation] = {"relu": "relu", "swish": "swish", "gelu": "quick_gelu"}
"""Marian's GELU is ``x sigmoid(1.702 x)``."""


Number = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,2}$")]


@dataclass(frozen=True)
class Architecture:
    """A Transformer, or an encoder of one and a decoder with recurrent units."""

    size: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    encoder_hidden: int
    """Size of the hidden layer of the feed-forward part."""
    decoder_hidden: int
    source_vocabulary: int
    target_vocabulary: int
    activation: Activation = "relu"
    recurrent: bool = False
    """The decoder's self-attention is replaced by simpler simple recurrent units."""
    before: str = ""
    """Letters of what is done before each part: ``n`` normalises."""
    after: str = "an"
    """And after it: ``a`` adds the input of the part."""
    after_embedding: str = ""
    after_top: str = ""
    """After the last layer; ``a`` adds the embeddings."""
    embedding_factor: float = 1.0
    epsilon: float = 1e-6
    """Of layer normalisation."""
    alignment_layer: int = -1
    alignment_head: int | None = None
    """None: the mean of all."""
    alignment_shift: Literal[0, 1] = 0


class Options(BaseModel):
    """Those that say what a model computes."""

    model_config = ConfigDict(
        alias_generator=lambda name: name.replace("_", "-"), extra="allow", strict=True, frozen=True
    )

    type: Literal["transformer"]
    dim_vocabs: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)]
    dim_emb: PositiveInt
    enc_depth: PositiveInt
    dec_depth: PositiveInt
    transformer_heads: PositiveInt
    transformer_dim_ffn: PositiveInt
    transformer_decoder_dim_ffn: Annotated[int, Field(ge=0)] = 0
    transformer_ffn_depth: Literal[2] = 2
    transformer_decoder_ffn_depth: Literal[0, 2] = 0
    transformer_ffn_activation: Literal["relu", "swish", "gelu"] = "swish"
    transformer_preprocess: Before = ""
    transformer_postprocess: After = "dan"
    transformer_postprocess_emb: Before = "d"
    transformer_postprocess_top: After = ""
    transformer_decoder_autoreg: Literal["self-attention", "rnn"] = "self-attention"
    transformer_guided_alignment_layer: Literal["last"] | PositiveInt | Number = "last"
    transformer_tied_layers: list[PositiveInt] = []
    dec_cell: str = "ssru"
    tied_embeddings: bool = False
    tied_embeddings_src: bool = False
    tied_embeddings_all: bool = False
    output_omit_bias: bool = False

    @property
    def architecture(self) -> Architecture:
        layer = str(self.transformer_guided_alignment_layer)
        return Architecture(
            size=self.dim_emb,
            heads=self.transformer_heads,
            encoder_layers=self.enc_depth,
            decoder_layers=self.dec_depth,
            encoder_hidden=self.transformer_dim_ffn,
            decoder_hidden=self.transformer_decoder_dim_ffn or self.transformer_dim_ffn,
            source_vocabulary=self.dim_vocabs[0],
            target_vocabulary=self.dim_vocabs[1],
            activation=ACTIVATIONS[self.transformer_ffn_activation],
            recurrent=self.transformer_decoder_autoreg == "rnn",
            before=self.transformer_preprocess.replace("d", ""),
            after=self.transformer_postprocess.replace("d", ""),
            after_embedding=self.transformer_postprocess_emb.replace("d", ""),
            after_top=self.transformer_postprocess_top.replace("d", ""),
            embedding_factor=self.dim_emb**0.5,
            alignment_layer=self.dec_depth - 1 if layer == "last" else int(layer) - 1,
            alignment_head=0,  # whichever layer it is, Marian trains and reads the first head
        )

    def wrong(self) -> str:
        """What makes no sense, or is not supported, though every option by itself is; empty if there is nothing."""
        found = self.architecture
        if found.size % (HEAD_STEP * found.heads):
            sizes = f"transformer-heads {found.heads} of a size that is a multiple of {HEAD_STEP}"
            return f"dim-emb {found.size} does not divide into {sizes}"
        if found.recurrent and self.dec_cell != "ssru":
            return f"the option dec-cell: {self.dec_cell!r} is not supported"
        if not 0 <= found.alignment_layer < found.decoder_layers:
            layer = found.alignment_layer + 1
            return f"transformer-guided-alignment-layer {layer} is not one of {found.decoder_layers}"
        tied = self.transformer_tied_layers
        if tied and (len(tied) != found.decoder_layers or max(tied) > found.decoder_layers):
            return f"transformer-tied-layers {tied} does not fit {found.decoder_layers} layers"
        shared = self.tied_embeddings_src or self.tied_embeddings_all
        if shared and found.source_vocabulary != found.target_vocabulary:
            return f"vocabularies of {self.dim_vocabs} sub-words cannot share their embeddings"
        return ""


def read_options(content: bytes, path: Path) -> Options:
    """Raises :class:`export.marian.reader.FileError`, which names the option that is wrong or not supported."""
    found = read_mapping(content, path)
    try:
        options = Options.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        if name not in found:
            raise FileError(path, f"the option {name} is missing") from error
        raise FileError(path, f"the option {name}: {str(found[name])[:60]!r} is not supported") from error
    for name, value in (options.model_extra or {}).items():
        if value and not name.startswith(IRRELEVANT):
            raise FileError(path, f"the option {name}: {str(value)[:60]!r} is not supported")
    if reason := options.wrong():
        raise FileError(path, reason)
    return options
