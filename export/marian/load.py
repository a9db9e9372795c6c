"""Marian's tensors, by the names that Marian gives them, in a model."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from export.marian import binary
from export.marian.architecture import Architecture, Options, read_options
from export.marian.binary import CONFIG, LARGEST, SMALLEST, Quantized, Tensors, read_binary
from export.marian.model import Around, DecoderLayer, Marian, Multipliers
from export.marian.npz import read_npz
from export.marian.reader import FileError

ALPHA = "_QuantMultA"
"""Behind the name of 8-bit weights: what Marian multiplies their input by to make it 8-bit."""
OUTPUT_ALPHA = f"none{ALPHA}"
"""That of the last layer, whose weights are those of the embeddings."""


def positions(longest: int, size: int) -> Tensor:
    """Sines in the first half and cosines in the second, the last of each with a period of ``2 pi 10000``.

    Cosines are sines of angles that a quarter is added to, and all angles are 32-bit: rounded as Marian does it.
    """
    half = size // 2
    exponents = np.arange(half, dtype=np.float32) / np.float32(half - 1)
    rates = (np.float64(np.float32(1e-4)) ** exponents).astype(np.float32)
    angles = np.arange(longest, dtype=np.float32)[:, None] * rates
    angles = np.concatenate([angles, angles + np.float32(math.pi / 2)], axis=1)
    return torch.from_numpy(np.sin(angles.astype(np.float64)).astype(np.float32))


NO_INPUT = 1.0
"""Multiplier of the input of a table, which is multiplied with nothing."""


class Parameters:
    """Hands tensors to the parts of a model and knows what is left over."""

    def __init__(self, path: Path, tensors: Tensors) -> None:
        self.path, self.tensors = path, tensors
        self.multipliers: dict[nn.Module, Multipliers] = {}
        self.left = {name for name in tensors if name != CONFIG and not name.endswith(ALPHA)}

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """As float32; axes of length one do not count. Raises :class:`FileError` where it is not as it should be."""
        found = self.tensors.get(name)
        if found is None:
            raise FileError(self.path, f"the tensor {name} is missing")
        values = found.values if isinstance(found, Quantized) else found
        if [size for size in values.shape if size > 1] != [size for size in shape if size > 1]:
            raise FileError(self.path, f"the tensor {name} has the shape {values.shape}, not {shape}")
        self.left.discard(name)
        return np.array(values.reshape(shape), np.float32)

    def linear(self, layer: nn.Linear, weight: str, bias: str | None) -> None:
        """Marian's weights are ``[inputs, outputs]``."""
        layer.weight.data = torch.from_numpy(self.take(weight, (layer.in_features, layer.out_features)).T.copy())
        if bias is not None:
            layer.bias.data = torch.from_numpy(self.take(bias, (layer.out_features,)))
        self.note(layer, weight, f"{weight}{ALPHA}")

    def note(self, layer: nn.Module, weight: str, alpha: str) -> None:
        """Keep the multipliers of 8-bit weights if those of their input are there, too."""
        found, of_input = self.tensors[weight], self.tensors.get(alpha)
        if isinstance(found, Quantized) and of_input is not None:
            values = of_input.values if isinstance(of_input, Quantized) else of_input
            if values.size != 1 or not SMALLEST < values.item() < LARGEST:
                raise FileError(self.path, f"the tensor {alpha} is no multiplier")
            self.multipliers[layer] = Multipliers(found.multiplier, values.item())

    def norm(self, layer: nn.LayerNorm | None, name: str, suffix: str = "") -> None:
        if layer is not None:
            shape = tuple(layer.normalized_shape)
            layer.weight.data = torch.from_numpy(self.take(f"{name}_ln_scale{suffix}", shape))
            layer.bias.data = torch.from_numpy(self.take(f"{name}_ln_bias{suffix}", shape))

    def around(self, part: Around, before: str, after: str) -> None:
        self.norm(part.before_norm, before, "_pre")
        self.norm(part.after_norm, after)

    def attention(self, part: nn.Module, around: Around, name: str) -> None:
        for letter, kind in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "output")):
            self.linear(getattr(part, kind), f"{name}_W{letter}", f"{name}_b{letter}")
        self.around(around, f"{name}_Wo", f"{name}_Wo")

    def feed_forward(self, part: nn.Module, around: Around, name: str) -> None:
        for number, kind in ((1, "up"), (2, "down")):
            self.linear(getattr(part, kind), f"{name}_W{number}", f"{name}_b{number}")
        self.around(around, f"{name}_ffn", f"{name}_ffn")

    def decoder_layer(self, layer: DecoderLayer, name: str) -> None:
        if layer.unit is not None:
            self.linear(layer.unit.input, f"{name}_rnn_W", None)
            self.linear(layer.unit.forget, f"{name}_rnn_Wf", f"{name}_rnn_bf")
            self.around(layer.self_around, f"{name}_rnn", f"{name}_rnn_ffn")
        else:
            assert layer.self_attention is not None
            self.attention(layer.self_attention, layer.self_around, f"{name}_self")
        self.attention(layer.cross_attention, layer.cross_around, f"{name}_context")
        self.feed_forward(layer.feed_forward, layer.feed_forward_around, f"{name}_ffn")

    def embeddings(self, model: Marian, options: Options) -> None:
        """Which of them are one is a matter of options."""
        shape, shared = model.shape, options.tied_embeddings_src or options.tied_embeddings_all
        source, target = ("Wemb", "Wemb") if shared else ("encoder_Wemb", "decoder_Wemb")
        vocabulary = (shape.source_vocabulary, shape.size), (shape.target_vocabulary, shape.size)
        model.source_embedding.weight.data = torch.from_numpy(self.take(source, vocabulary[0]))
        if shared:
            model.target_embedding.weight = model.source_embedding.weight
        else:
            model.target_embedding.weight.data = torch.from_numpy(self.take(target, vocabulary[1]))
        for table, name in ((model.source_embedding, source), (model.target_embedding, target)):
            found = self.tensors[name]
            if isinstance(found, Quantized):
                self.multipliers[table] = Multipliers(found.multiplier, NO_INPUT)
        bias = None if options.output_omit_bias else "decoder_ff_logit_out_b"
        model.output.bias.data.zero_()
        if options.tied_embeddings or options.tied_embeddings_all:
            model.output.weight = model.target_embedding.weight
            self.note(model.output, target, OUTPUT_ALPHA if OUTPUT_ALPHA in self.tensors else f"{target}{ALPHA}")
            if bias is not None:
                model.output.bias.data = torch.from_numpy(self.take(bias, (shape.target_vocabulary,)))
        else:
            self.linear(model.output, "decoder_ff_logit_out_W", bias)


def read_tensors(path: Path) -> Tensors:
    """Of a ``.bin`` or ``.npz`` file. Raises :class:`FileError`."""
    return read_npz(path) if path.suffix == ".npz" else read_binary(path)


def load(path: Path, longest: int, start: int) -> Marian:
    """A model for sentences of up to ``longest`` sub-words; ``start`` stands for the beginning of a target.

    Raises :class:`FileError` for a file that is broken, incomplete, or of an architecture that is not supported.
    """
    tensors = read_tensors(path)
    config = tensors.get(CONFIG)
    if not isinstance(config, np.ndarray) or config.dtype != np.uint8:
        raise FileError(path, f"{CONFIG}, its configuration, is missing")
    options = read_options(config.tobytes(), path)
    shape = options.architecture
    check_size(path, tensors, shape)
    model = Marian(shape, positions(longest, shape.size), start, empty_start=True)
    parameters = Parameters(path, tensors)
    parameters.embeddings(model, options)
    for side, edge in (("encoder", model.encoder_edge), ("decoder", model.decoder_edge)):
        parameters.around(edge, f"{side}_emb", f"{side}_top")
    for number, layer in enumerate(model.encoder, 1):
        parameters.attention(layer.self_attention, layer.self_around, f"encoder_l{number}_self")
        parameters.feed_forward(layer.feed_forward, layer.feed_forward_around, f"encoder_l{number}_ffn")
    numbers = options.transformer_tied_layers or range(1, shape.decoder_layers + 1)
    for number, reader in zip(numbers, model.decoder, strict=True):
        parameters.decoder_layer(reader, f"decoder_l{number}")
    if parameters.left:
        raise FileError(path, f"the tensor {min(parameters.left)} is no part of the architecture it says it has")
    model.multipliers = parameters.multipliers
    return model.eval()


def check_size(path: Path, tensors: Tensors, shape: Architecture) -> None:
    """A model is made before its tensors are given to it: it must not be larger than they are."""
    vocabulary = shape.source_vocabulary + 2 * shape.target_vocabulary
    hidden = shape.encoder_layers * shape.encoder_hidden + shape.decoder_layers * shape.decoder_hidden
    attention = shape.encoder_layers + shape.decoder_layers
    largest = max(math.prod(shape_of(tensor)) for tensor in tensors.values())
    total = sum(math.prod(shape_of(tensor)) for tensor in tensors.values())
    if shape.size * (hidden + attention * shape.size) > total or shape.size * vocabulary > 3 * largest:
        raise FileError(path, "it has fewer numbers than a model of its configuration")


def shape_of(tensor: binary.Tensor) -> tuple[int, ...]:
    return tensor.levels.shape if isinstance(tensor, Quantized) else tensor.shape
