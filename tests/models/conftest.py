"""Tiny seeded models, and a tiny corpus with the vocabulary learnt from it."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from models import checkpoint, data, train
from models.config import Config
from models.tokenizer import BOS, EOS, Tokenizer
from tests.models.tiny import MODELS, VOCABULARY, sentences


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """Accelerate keeps the precision of the first trainer of a process for all later ones."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True)
def fp32(monkeypatch):
    """Whether bf16 is faster is found out by timing, and may come out otherwise for the next trainer."""
    monkeypatch.setattr(train, "is_faster_in_bf16", lambda: False)


@pytest.fixture(params=sorted(MODELS))
def architecture(request):
    return request.param


@pytest.fixture(scope="session")
def configure():
    """Makes a small configuration; keyword arguments change its training section."""

    def make(architecture: str, dropout: float = 0.1, **training) -> Config:
        return Config.model_validate(
            {
                "name": f"tiny-{architecture}",
                "model": {
                    "architecture": architecture, "vocab_size": VOCABULARY, "dropout": dropout, "max_length": 64,
                    **MODELS[architecture],
                },
                "data": {"source": "en", "target": "fr", "max_tokens": 60, "fractions": {"home": 1.0, "street": 0.5}},
                "training": {"batch_tokens": 400, "learning_rate": 5e-3, "warmup_steps": 3, **training},
            }
        )  # fmt: skip

    return make


@pytest.fixture
def model(configure, architecture):
    """An untrained translator of either kind, with no parameter left at zero or one."""
    translator = checkpoint.build(configure(architecture)).eval()
    with torch.no_grad():
        for parameter in translator.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return translator


@pytest.fixture
def batch():
    """Three sentences of different lengths on both sides, the longest neither first nor last."""
    draw = np.random.default_rng(3)

    def rows(*lengths):
        return [np.append(draw.integers(EOS + 1, VOCABULARY, length - 1), EOS) for length in lengths]

    source, source_lengths = data.pad(rows(4, 7, 3))
    target, _ = data.pad([np.append([BOS], row) for row in rows(5, 6, 2)])
    return data.Batch(source, source_lengths, target)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """A file of 150 clean pairs of two corpora, and one pair of a third that no configuration names."""
    path = tmp_path_factory.mktemp("corpus") / "pairs.tsv"
    rows = [
        (*pair, "home" if i % 3 else "street")
        for i, pair in enumerate(list(dict.fromkeys(sentences(160, seed=1)))[:150])
    ]
    rows.append(("Not wanted at all.", "Pas du tout voulu.", "elsewhere"))
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def toml(tmp_path_factory) -> Path:
    """The configuration of ``configure("bahdanau")`` as a file."""
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    sizes = "\n".join(f"{name} = {size}" for name, size in MODELS["bahdanau"].items())
    path.write_text(f"""
name = "tiny-bahdanau"
[model]
architecture = "bahdanau"
vocab_size = {VOCABULARY}
max_length = 64
{sizes}
[data]
source = "en"
target = "fr"
max_tokens = 60
fractions = {{ home = 1.0, street = 0.5 }}
[training]
batch_tokens = 400
learning_rate = 5e-3
warmup_steps = 3
""")
    return path


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, corpus, toml) -> Path:
    """The directory that ``models.data`` writes from ``corpus``."""
    output = tmp_path_factory.mktemp("data")
    data.main(config=toml, output=output, files=[corpus])
    return output


@pytest.fixture(scope="session")
def tokenizer(prepared) -> Tokenizer:
    return Tokenizer(prepared / "tokenizer.model")


@pytest.fixture
def trainer(configure, architecture, prepared, tmp_path):
    """Makes a trainer whose run is a directory of ``tmp_path``."""

    def make(run="run", steps=1000, minutes=math.inf, dev=(), **training):
        return train.Trainer(
            configure(architecture, **training), prepared, tmp_path / run, dev, train.Budget(minutes, steps)
        )

    return make


@pytest.fixture
def finished(configure, architecture, prepared, tmp_path) -> checkpoint.Run:
    """A run of three steps."""
    budget = train.Budget(minutes=math.inf, steps=3)
    trainer = train.Trainer(configure(architecture), prepared, tmp_path / "old", (), budget)
    trainer.train(save_minutes=math.inf)
    trainer.finish()
    return checkpoint.Run.open(tmp_path / "old")
