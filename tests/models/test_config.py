"""Configurations: the shipped files are sound, a mistake in one is named."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

import models
from models.bahdanau import Bahdanau
from models.checkpoint import build
from models.config import BahdanauConfig, Config, TransformerConfig
from models.transformer import Transformer

SHIPPED = sorted((Path(models.__file__).parent / "configs").glob("*.toml"))
BUDGET = 15e6
"""Bytes of a package whose weights take one each."""


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configuration_builds_a_model_within_its_size(path):
    config = Config.load(path)
    with torch.device("meta"):
        model = build(config)
    assert sum(parameter.numel() for parameter in model.parameters()) < BUDGET
    assert config.name.endswith(f"{config.data.source}-{config.data.target}")


def test_every_architecture_is_shipped():
    assert {Config.load(path).model.architecture for path in SHIPPED} == {"transformer", "bahdanau"}


def test_architecture_chooses_the_class(configure):
    assert isinstance(configure("transformer").model, TransformerConfig)
    assert isinstance(configure("bahdanau").model, BahdanauConfig)
    assert isinstance(build(configure("transformer")), Transformer)
    assert isinstance(build(configure("bahdanau")), Bahdanau)


def test_the_seed_decides_the_weights(configure, architecture):
    one, same, other = (build(configure(architecture, seed=seed)).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_file_is_read(toml, configure):
    assert Config.load(toml) == configure("bahdanau")


def test_json_round_trip(configure, architecture):
    config = configure(architecture)
    assert Config.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("model", {"size": 0}, "model.transformer.size"),
        ("model", {"wings": 2}, "model.transformer.wings"),
        ("model", {"architecture": "lstm"}, "architecture"),
        ("model", {"vocab_size": 70_000}, "model.transformer.vocab_size"),
        ("model", {"alignment_layer": 2}, "alignment_layer 2 is not one of 2 decoder layers"),
        ("model", {"alignment_layer": -3}, "alignment_layer -3 is not one of 2 decoder layers"),
        ("data", {"fractions": {"home": 1.5}}, "data.fractions.home"),
        ("data", {"max_tokens": 63}, "over model.max_length 64"),
        ("training", {"learning_rate": 0}, "training.learning_rate"),
        ("training", {"batch_tokens": 61}, "over training.batch_tokens 61"),
    ],
)
def test_mistakes_are_named(configure, section, change, message):
    content = configure("transformer").model_dump()
    content[section] |= change
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(content)


def test_a_configuration_does_not_change(configure):
    with pytest.raises(ValidationError, match="frozen"):
        configure("transformer").name = "other"
