"""Tiny seeded models and packages made on the spot, for tests that need the real thing but not its quality."""

import random
from pathlib import Path

import numpy as np
import torch

from export.best import best
from export.build import build as build_package
from export.graph import Graph
from export.package import Alignment, File, Graphs, Manifest, Package, Special, TensorSpec
from export.weights import Weights
from models import checkpoint
from models.checkpoint import Run, Training
from models.config import BahdanauConfig, Config, DataConfig, TrainingConfig, TransformerConfig
from models.tokenizer import BOS, EOS, PAD, UNK, train_tokenizer

ARCHITECTURES = ("transformer", "bahdanau")
SPREAD = {"transformer": (4.0, 2.0), "bahdanau": (4.0, 1.5)}
"""What random weights are multiplied by and EOS is favoured by: some targets end, some are cut, some are loops."""
SYLLABLES = ("ba", "né", "ti", "ko", "lu", "sa", "mi", "çà", "ré", "du")
VOCABULARY = 340


def sentences(count: int, longest: int = 12, seed: int = 0) -> list[str]:
    """Sentences of one to ``longest`` invented words."""
    chance = random.Random(seed)

    def word() -> str:
        return "".join(chance.choices(SYLLABLES, k=chance.randint(1, 3)))

    return [" ".join(word() for _ in range(chance.randint(1, longest))).capitalize() + "." for _ in range(count)]


def config(architecture: str) -> Config:
    model: TransformerConfig | BahdanauConfig
    if architecture == "transformer":
        model = TransformerConfig(
            vocab_size=VOCABULARY,
            max_length=64,
            size=32,
            heads=4,
            feed_forward_size=64,
            encoder_layers=2,
            decoder_layers=2,
            alignment_layer=0,
            alignment_shift=1,
        )
    else:
        model = BahdanauConfig(
            vocab_size=VOCABULARY, max_length=64, embedding_size=24, encoder_size=16, decoder_size=32, attention_size=20
        )
    data = DataConfig(max_tokens=60, fractions={"en-fr": {"invented": 1.0}}, licences={"invented": "CC0"})
    training = TrainingConfig(batch_tokens=100, learning_rate=1e-3, warmup_steps=10)
    return Config(name=f"tiny-{architecture}", licence="CC0", model=model, data=data, training=training)


def write_run(path: Path, architecture: str) -> Run:
    """A run directory as training leaves it, with random weights spread enough for outputs to vary."""
    path.mkdir(parents=True)
    settings = config(architecture)
    train_tokenizer(
        sentences(400),
        path / "tokenizer.model",
        vocab_size=VOCABULARY,
        languages=settings.data.languages,
    )
    torch.manual_seed(7)
    model = checkpoint.build(settings)
    weights, ending = SPREAD[architecture]
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and name != "embedding.weight":
            parameter.data *= weights
    model.output_bias.data[EOS] += ending
    checkpoint.save(path / "final.pt", {"model": model.state_dict()})
    (path / "config.json").write_text(settings.model_dump_json())
    training = Training(steps=0, tokens=0, minutes=0, device="cpu", corpora={"invented": 400}, history=[])
    (path / "training.json").write_text(training.model_dump_json())
    return Run.open(path)


def write_package(run: Run, path: Path) -> Package:
    """The package of a run, in both precisions."""
    path.mkdir(parents=True)
    calibration = [(text, language) for text in sentences(50, seed=9) for language in ("en", "fr")]
    return build_package(run, path, "0", calibration)[1]


def markov_package(path: Path, table: np.ndarray, max_length: int = 40) -> Package:
    """Graphs of a model that knows its last token only: ``table [V, V]`` has the logits of what follows each token.

    Made in milliseconds, and a test can write down what it says. Its attention is the same to all of a source.
    """
    path.mkdir(parents=True, exist_ok=True)
    weights = Weights(path / "weights.bin")
    memory = TensorSpec(name="memory.bias", dtype="float32", shape=["batch", "source"], pad=-1e9)
    encoder, decoder = Graph("encoder", weights), Graph("decoder", weights)
    source = encoder.input("source_ids", "int64", ["batch", "source"])
    lengths = encoder.input("source_lengths", "int64", ["batch"])
    encoder.output_of(encoder.visible(encoder.size(source, 1), lengths), memory)
    token = decoder.input("token", "int64", ["batch"])
    decoder.input("position", "int32", ["batch"])
    attention = decoder.op("Softmax", decoder.input_of(memory), axis=-1)
    decoder.output(attention, "attention", "float32", ["batch", "source"])
    logits = table.astype(np.float32)
    logits[:, [PAD, UNK, BOS]] = -1e9
    best(decoder, decoder.op("Gather", decoder.weight("table", logits), token), len(table))
    encoder.save(path / "encoder.onnx")
    decoder.save(path / "decoder.onnx")
    first, step, numbers = (File(name=name, sha256="") for name in ("encoder.onnx", "decoder.onnx", "weights.bin"))
    graphs = Graphs(encoder=first, decoder=step, weights=numbers, memory=[memory], state=[])
    manifest = Manifest(
        name="markov",
        version="0",
        architecture="markov",
        directions=[],
        special=Special(pad=PAD, unk=UNK, bos=BOS, eos=EOS),
        tags={},
        max_length=max_length,
        tokenizer=File(name="tokenizer.model", sha256=""),
        graphs={"fp32": graphs},
        alignment=Alignment(shift=0, layer=None, heads="single"),
        licence="CC0",
        training_data=[],
        parameters=table.size,
    )
    return Package(path, manifest)
