"""Configurations: the shipped files are sound, a mistake in one is named."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

import models
from models.bahdanau import Bahdanau
from models.checkpoint import build
from models.config import MOST_ALIGNED, BahdanauConfig, Config, DataConfig, TransformerConfig
from models.transformer import Transformer

SHIPPED = sorted((Path(models.__file__).parent / "configs").rglob("*.toml"))
BUDGET = 15e6
"""Bytes of a package whose weights take one each."""


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configuration_builds_a_model_within_its_size(path):
    config = Config.load(path)
    with torch.device("meta"):
        model = build(config)
    assert sum(parameter.numel() for parameter in model.parameters()) < BUDGET
    assert config.name.endswith(("-".join(config.data.languages), *config.data.one_way))


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


def several(configure):
    fractions = {"en-fr": {"home": 1.0, "street": 0.01}, "en-de": {"home": 0.5}}
    content = configure("bahdanau").data.model_dump() | {
        "fractions": fractions,
        "licences": {"home": "CC0"},
        "least_agreement": {"street": 1.0},
    }
    return DataConfig.model_validate(content)


def test_a_single_pair_of_languages_may_be_written_flat():
    flat = DataConfig.model_validate({"source": "en", "target": "fr", "fractions": {"home": 0.5}})
    assert flat == DataConfig(fractions={"en-fr": {"home": 0.5}})
    assert flat.directions == [("en", "fr"), ("fr", "en")]


def test_several_pairs_of_languages(configure):
    data = several(configure)
    assert data.languages == ["en", "fr", "de"]
    assert data.directions == [("en", "fr"), ("fr", "en"), ("en", "de"), ("de", "en")]
    assert data.shares == {"en-fr/home": 1.0, "en-fr/street": 0.01, "en-de/home": 0.5}
    assert [data.licence(name) for name in ("en-de/home", "en-fr/street")] == ["CC0", None]
    assert [data.least(name) for name in ("en-de/home", "en-fr/street")] == [None, 1.0]
    assert [data.prepared(name) for name in ("en-de/home", "en-fr/street", "en-de/street")] == [1.0, 0.1, 0.0]


def test_a_pair_may_be_learnt_one_way(configure):
    content = several(configure).model_dump() | {"one_way": ["de-en", "en-fr"]}
    data = DataConfig.model_validate(content)
    assert data.directions == [("en", "fr"), ("de", "en")]
    assert data.languages == ["en", "fr", "de"]


@pytest.mark.parametrize(
    ("name", "pair"), [("en-de.news.tsv.xz", "en-de"), ("news.en-fr.tsv", "en-fr"), ("en-fr.tsv", "en-fr")]
)
def test_the_name_of_a_file_says_its_languages(configure, name, pair):
    assert several(configure).pair_of(Path("/en-de.d") / name) == pair


@pytest.mark.parametrize("name", ["news.tsv", "en-fr.en-de.tsv", "xenon-fr.tsv"])
def test_a_name_that_does_not_say_its_languages(configure, name):
    with pytest.raises(ValueError, match=r"does not say which of en-fr, en-de"):
        several(configure).pair_of(Path(name))


def test_with_one_pair_of_languages_a_name_need_not_tell(configure):
    assert configure("bahdanau").data.pair_of(Path("news.tsv")) == "en-fr"


@pytest.mark.parametrize("name", ["en-de.news.tsv.xz", "news.fr-en.tsv", "deu-fra.tsv"])
def test_a_name_that_says_other_languages_is_refused(configure, name):
    """With one pair of languages too: German must not be learnt as French, nor the columns be taken for each other."""
    with pytest.raises(ValueError, match=r"the name says \w+-\w+; the configuration has en-fr"):
        configure("bahdanau").data.pair_of(Path(name))
    with pytest.raises(ValueError, match=r"has en-fr, en-de"):
        several(configure).pair_of(Path("en-it.tsv"))


def test_json_round_trip(configure, architecture):
    config = configure(architecture)
    assert Config.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("model", {"size": 0}, "model.transformer.size"),
        ("model", {"size": 24}, "size 24 does not divide into 2 heads of a size that is a multiple of 8"),
        ("model", {"wings": 2}, "model.transformer.wings"),
        ("model", {"architecture": "lstm"}, "architecture"),
        ("model", {"vocab_size": 70_000}, "model.transformer.vocab_size"),
        ("model", {"alignment_layer": 2}, "alignment_layer 2 is not one of 2 decoder layers"),
        ("model", {"alignment_layer": -3}, "alignment_layer -3 is not one of 2 decoder layers"),
        ("model", {"alignment_head": 2}, "alignment_head 2 is not one of 2 heads"),
        ("data", {"fractions": {"en-fr": {"home": 1.5}}}, "data.fractions.en-fr.home"),
        ("data", {"fractions": {"english": {"home": 1.0}}}, "data.fractions.english"),
        ("data", {"fractions": {}}, "data.fractions"),
        ("data", {"one_way": ["en-de"]}, "one_way en-de is no direction of en-fr"),
        ("data", {"one_way": ["fr-en", "en-fr"]}, "leave both out"),
        ("training", {"decay_share": 0.0}, "training.decay_share"),
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


def test_sentences_that_are_aligned_are_at_most_as_long_as_links_can_tell(configure):
    content = configure("bahdanau").model_dump()
    content["model"]["max_length"] = 300
    content["data"]["max_tokens"] = 256
    content["training"]["alignment_weight"] = 0.05
    assert Config.model_validate(content).data.max_tokens == MOST_ALIGNED
    content["data"]["max_tokens"] = 257
    with pytest.raises(ValidationError, match=r"data.max_tokens is over 256"):
        Config.model_validate(content)
    content["training"]["alignment_weight"] = 0.0
    assert Config.model_validate(content).data.max_tokens == 257


def test_a_configuration_does_not_change(configure):
    with pytest.raises(ValidationError, match="frozen"):
        configure("transformer").name = "other"
