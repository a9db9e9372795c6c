"""What is no translation is dropped from the corpora that are judged, and the rest is left alone."""

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from models import score
from models.clean import Cleaner
from models.pairs import Pair
from models.score import SHUFFLED, agreeing, distributions
from tests.models.tiny import sentences


@pytest.fixture(scope="module")
def pairs():
    """A corpus that is trusted, and one of which every third pair is no translation."""
    good = [Pair(*pair, "en-fr/home") for pair in sentences(1000, seed=6)]
    noisy = [Pair(*pair, "en-fr/street") for pair in sentences(300, seed=7)]
    return good + [pair if i % 3 else pair._replace(second=noisy[i - 1].second) for i, pair in enumerate(noisy)]


@pytest.fixture
def judging(configure):
    return configure("bahdanau").data.model_copy(update={"least_agreement": {"street": 0.3}})


def test_what_disagrees_is_dropped_and_counted(pairs, judging):
    cleaner = Cleaner()
    for pair in pairs:
        cleaner.counts[pair.corpus]["kept"] += 1
    kept = agreeing(pairs, judging, 1, cleaner.counts)
    right = {pair for i, pair in enumerate(pairs[1000:]) if i % 3}
    wrong = {pair for i, pair in enumerate(pairs[1000:]) if i % 3 == 0} - right
    assert kept[:1000] == pairs[:1000]
    assert len(set(kept[1000:]) & right) > 0.9 * len(right)
    assert len(set(kept[1000:]) & wrong) < 0.1 * len(wrong)
    counts = cleaner.counts["en-fr/street"]
    assert (counts["kept"], counts["kept"] + counts["agreement"]) == (len(kept) - 1000, 300)


def test_without_a_threshold_nothing_is_scored(pairs, configure):
    counts = Cleaner().counts
    assert agreeing(pairs, configure("bahdanau").data, 1, counts) == pairs
    assert not counts


def test_somebody_must_be_trusted(pairs, judging):
    with pytest.raises(ValueError, match="every corpus is judged"):
        agreeing(pairs[1000:], judging, 1, Cleaner().counts)


def test_distributions(pairs, judging):
    found = distributions(pairs, judging, seed=1)
    assert set(found) == {"en-fr/home", "en-fr/street", f"en-fr/{SHUFFLED}"}
    for members, scores in found.values():
        assert len(members) == len(scores)
        assert (np.diff(scores) >= 0).all()
    median = {name: np.median(scores) for name, (_, scores) in found.items()}
    assert median["en-fr/home"] > median["en-fr/street"] > median[f"en-fr/{SHUFFLED}"]


app = typer.Typer()
app.command()(score.main)


def test_command(tmp_path, toml, pairs):
    config = tmp_path / "judging.toml"
    config.write_text(toml.read_text().replace("[training]", "least_agreement = { street = 0.3 }\n[training]"))
    path = tmp_path / "pairs.tsv"
    path.write_text("".join("\t".join((*pair[:2], pair.corpus.partition("/")[2])) + "\n" for pair in pairs))
    arguments = ["--config", config, "--samples", 1, path]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert all(name in result.output for name in ("en-fr/home", "en-fr/street", "en-fr/shuffled"))
    shown = [tuple(map(str.strip, lines.split("\n")[1:3])) for lines in result.output.split("en-fr/street")[1:-1]]
    assert len(shown) == len(score.QUANTILES)
    assert {(pair.first, pair.second) for pair in pairs[1000:]} >= set(shown)
