"""Marian models as the transformers library keeps them: ``config.json``, weights, ``source.spm``, ``vocab.json``."""

import json
import pickle
import zipfile
from pathlib import Path
from typing import Annotated, Any, Literal

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from export.linear import Activation
from export.marian.architecture import Architecture
from export.marian.model import Activated, Marian
from export.marian.npz import open_archive
from export.marian.reader import FileError, read
from models.attention import MultiHeadAttention
from models.config import HEAD_STEP
from models.transformer import sinusoids

CONFIG, SAFETENSORS, PYTORCH = "config.json", "model.safetensors", "pytorch_model.bin"
ACTIVATIONS: dict[str, Activation] = {"relu": "relu", "swish": "swish", "silu": "swish", "gelu": "gelu"}
COMPUTED = ("embed_positions.weight",)
"""Ends of the names of tensors that follow from the configuration."""


class Config(BaseModel):
    """Those entries that say what a model computes."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    model_type: Literal["marian"]
    vocab_size: PositiveInt
    decoder_vocab_size: PositiveInt | None = None
    d_model: PositiveInt
    encoder_layers: PositiveInt
    decoder_layers: PositiveInt
    encoder_attention_heads: PositiveInt
    decoder_attention_heads: PositiveInt
    encoder_ffn_dim: PositiveInt
    decoder_ffn_dim: PositiveInt
    activation_function: Literal["relu", "swish", "silu", "gelu"]
    max_position_embeddings: PositiveInt
    pad_token_id: Annotated[int, Field(ge=0)]
    eos_token_id: Annotated[int, Field(ge=0)]
    decoder_start_token_id: Annotated[int, Field(ge=0)]
    scale_embedding: bool = False
    share_encoder_decoder_embeddings: Literal[True] = True
    tie_word_embeddings: bool = True
    normalize_before: Literal[False] = False
    normalize_embedding: Literal[False] = False
    add_final_layer_norm: Literal[False] = False
    static_position_embeddings: Literal[True] = True

    @property
    def architecture(self) -> Architecture:
        guess = max(self.decoder_layers - 2, 0)
        return Architecture(
            size=self.d_model,
            heads=self.encoder_attention_heads,
            encoder_layers=self.encoder_layers,
            decoder_layers=self.decoder_layers,
            encoder_hidden=self.encoder_ffn_dim,
            decoder_hidden=self.decoder_ffn_dim,
            source_vocabulary=self.vocab_size,
            target_vocabulary=self.vocab_size,
            activation=ACTIVATIONS[self.activation_function],
            embedding_factor=self.d_model**0.5 if self.scale_embedding else 1.0,
            epsilon=1e-5,
            # Nothing says which heads were trained to align. All of the last layer but one, when the word is read, come
            # closest to a word alignment in models in which none was.
            alignment_layer=guess,
            alignment_shift=1,
        )

    def wrong(self) -> str:
        """What is not supported or makes no sense; empty if there is nothing."""
        if self.encoder_attention_heads != self.decoder_attention_heads:
            return "the entry decoder_attention_heads: another number than encoder_attention_heads is not supported"
        if self.decoder_vocab_size not in (None, self.vocab_size):
            return f"the entry decoder_vocab_size: {self.decoder_vocab_size} is not supported beside {self.vocab_size}"
        if self.d_model % (HEAD_STEP * self.encoder_attention_heads):
            sizes = f"{self.encoder_attention_heads} heads of a size that is a multiple of {HEAD_STEP}"
            return f"d_model {self.d_model} does not divide into {sizes}"
        if max(self.pad_token_id, self.eos_token_id, self.decoder_start_token_id) >= self.vocab_size:
            return f"a special token is not one of {self.vocab_size}"
        return ""


def read_json(path: Path) -> dict[str, Any]:
    """Raises :class:`FileError` for what is no JSON object."""
    try:
        found = json.loads(read(path))
    except (ValueError, RecursionError) as error:
        raise FileError(path, "is no JSON that can be read") from error
    if not isinstance(found, dict):
        raise FileError(path, "is no JSON object")
    return found


def read_config(path: Path) -> Config:
    """Raises :class:`FileError`, which names the entry that is wrong or not supported."""
    found = read_json(path)
    try:
        config = Config.model_validate(found)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        if name not in found:
            raise FileError(path, f"the entry {name} is missing") from error
        raise FileError(path, f"the entry {name}: {str(found[name])[:60]!r} is not supported") from error
    if reason := config.wrong():
        raise FileError(path, reason)
    return config


def read_numbers(path: Path, size: int) -> dict[str, int]:
    """Sub-words and their numbers, all below ``size``. Raises :class:`FileError`."""
    found = read_json(path)
    numbers = set(found.values()) if all(type(number) is int for number in found.values()) else set()
    if len(numbers) != len(found) or not numbers or min(numbers) < 0 or max(numbers) >= size:
        raise FileError(path, f"its numbers are not different ones from 0 to {size - 1}")
    return found


def read_state(directory: Path) -> tuple[Path, dict[str, Tensor]]:
    """The weights by name, and their file. Nothing is unpickled but tensors. Raises :class:`FileError`."""
    path = directory / SAFETENSORS
    try:
        if path.exists():
            return path, safetensors.torch.load_file(path)
        path = directory / PYTORCH
        if path.exists() and not zipfile.is_zipfile(path):
            raise FileError(path, "is not what torch 1.6 and later write: load it with one of them and save it again")
        open_archive(path)  # so that no entry is larger than the file
        return path, torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, ValueError, EOFError, KeyError, OSError, pickle.UnpicklingError) as error:
        raise FileError(path, f"its tensors cannot be read: {str(error)[:200]}") from error


class State:
    """Hands tensors to the parts of a model and knows what is left over."""

    def __init__(self, path: Path, tensors: dict[str, Tensor]) -> None:
        self.path, self.tensors = path, tensors
        self.left = {name for name in tensors if not name.endswith(COMPUTED)}

    def take(self, name: str, shape: tuple[int, ...]) -> nn.Parameter:
        found = self.tensors.get(name)
        if not isinstance(found, Tensor):
            raise FileError(self.path, f"the tensor {name} is missing")
        if found.shape != shape or not found.is_floating_point() or not found.isfinite().all():
            kind = f"{found.dtype} {tuple(found.shape)}"
            raise FileError(self.path, f"the tensor {name} of {kind} has not the shape {shape} or is not finite")
        self.left.discard(name)
        return nn.Parameter(found.float().clone())

    def fill(self, part: nn.Linear | nn.LayerNorm, name: str) -> None:
        part.weight = self.take(f"{name}.weight", tuple(part.weight.shape))
        part.bias = self.take(f"{name}.bias", tuple(part.bias.shape))

    def attention(self, part: MultiHeadAttention, norm: nn.LayerNorm | None, name: str) -> None:
        for ours, theirs in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "out")):
            self.fill(getattr(part, ours), f"{name}.{theirs}_proj")
        assert norm is not None
        self.fill(norm, f"{name}_layer_norm")

    def feed_forward(self, part: Activated, norm: nn.LayerNorm | None, name: str) -> None:
        self.fill(part.up, f"{name}.fc1")
        self.fill(part.down, f"{name}.fc2")
        assert norm is not None
        self.fill(norm, f"{name}.final_layer_norm")

    def embeddings(self, model: Marian, tied: bool) -> None:
        """One table for both sides; it may be stored under several names."""
        vocabulary = model.shape.target_vocabulary
        names = ["model.shared.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"]
        names += ["lm_head.weight"] if tied else []
        stored = [name for name in names if name in self.tensors] or names[:1]
        tables = [self.take(name, (vocabulary, model.shape.size)) for name in stored]
        if any(not torch.equal(table, tables[0]) for table in tables[1:]):
            raise FileError(self.path, f"the tensors {stored} are not one, as the configuration says they are")
        model.source_embedding.weight = model.target_embedding.weight = tables[0]
        model.output.weight = tables[0] if tied else self.take("lm_head.weight", (vocabulary, model.shape.size))
        bias = self.take("final_logits_bias", (1, vocabulary)) if "final_logits_bias" in self.tensors else None
        model.output.bias = nn.Parameter(torch.zeros(vocabulary) if bias is None else bias.data[0])


def load(directory: Path, config: Config, longest: int) -> Marian:
    """A model for sentences of up to ``longest`` sub-words. Raises :class:`FileError`."""
    path, tensors = read_state(directory)
    state, shape = State(path, tensors), config.architecture
    stored = sum(tensor.numel() for tensor in tensors.values())
    hidden = shape.encoder_layers * shape.encoder_hidden + shape.decoder_layers * shape.decoder_hidden
    if shape.size * (hidden + shape.target_vocabulary) > stored:
        raise FileError(path, "it has fewer numbers than a model of its configuration")
    table = sinusoids(longest, shape.size)
    halves = torch.cat([table[:, 0::2], table[:, 1::2]], dim=1)  # all sines, then all cosines
    model = Marian(shape, halves, config.decoder_start_token_id, empty_start=False)
    state.embeddings(model, config.tie_word_embeddings)
    for i, layer in enumerate(model.encoder):
        name = f"model.encoder.layers.{i}"
        state.attention(layer.self_attention, layer.self_around.after_norm, f"{name}.self_attn")
        state.feed_forward(layer.feed_forward, layer.feed_forward_around.after_norm, name)
    for i, reader in enumerate(model.decoder):
        name = f"model.decoder.layers.{i}"
        assert reader.self_attention is not None
        state.attention(reader.self_attention, reader.self_around.after_norm, f"{name}.self_attn")
        state.attention(reader.cross_attention, reader.cross_around.after_norm, f"{name}.encoder_attn")
        state.feed_forward(reader.feed_forward, reader.feed_forward_around.after_norm, name)
    if state.left:
        raise FileError(path, f"the tensor {min(state.left)} is no part of the model that {CONFIG} describes")
    return model.eval()
