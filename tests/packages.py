"""Tiny seeded models and packages made on the spot, for tests that need the real thing but not its quality."""

import random
from pathlib import Path

import torch

from export.build import build as build_package
from export.package import Package
from models import checkpoint
from models.checkpoint import Run, Training
from models.config import BahdanauConfig, Config, DataConfig, TrainingConfig, TransformerConfig
from models.tokenizer import train_tokenizer

ARCHITECTURES = ("transformer", "bahdanau")
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
    data = DataConfig(
        source="en", target="fr", max_tokens=60, fractions={"invented": 1.0}, licences={"invented": "CC0"}
    )
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
        languages=[settings.data.source, settings.data.target],
    )
    model = checkpoint.build(settings)
    torch.manual_seed(7)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data *= 2.0
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
