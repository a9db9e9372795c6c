import json
from concurrent.futures import Future
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from export.package import Package
from loadtests.soak import Plan, Tally, jobs, judge, main, resident

app = typer.Typer()
app.command()(main)

PLAN = Plan(sentences=60, reference=20, every=20, wave=10, max_length=5, seed=1)


def test_sentences_are_mixed_and_the_seed_decides(transformer_package: Package) -> None:
    manifest = transformer_package.manifest
    made = list(islice(jobs(transformer_package, PLAN), 2000))
    assert made == list(islice(jobs(transformer_package, PLAN), 2000))
    lengths = [len(job.source_ids) for job in made]
    assert min(lengths) >= 3
    assert max(lengths) == manifest.max_length
    assert 15 < np.median(lengths) < 30
    assert {job.beam_size for job in made} == {1, 2, 3, 4, 5}
    assert 0.8 < sum(job.beam_size == 1 for job in made) / 2000 < 0.95
    assert 0.05 < sum(job.attention for job in made) / 2000 < 0.2
    assert {job.max_length for job in made} == {None, 1, 2, 3, 4, 5}
    assert {job.source_ids[0] for job in made} == set(manifest.tags.values())
    control = {*manifest.special.model_dump().values(), *manifest.tags.values()}
    assert not any(control.intersection(job.source_ids[1:-1]) for job in made)
    assert {job.source_ids[-1] for job in made} == {manifest.special.eos}


def test_resident_memory_is_in_megabytes() -> None:
    before = resident()
    kept = np.ones(50_000_000, np.int8)
    assert 40 < resident() - before < 60
    assert kept[-1] == 1


def test_answers_are_counted_by_what_became_of_them() -> None:
    tally = Tally()
    for error in (None, ValueError("a"), None, ValueError("a")):
        future: Future[Any] = Future()
        future.add_done_callback(tally)
        if error is None:
            future.set_result([])
        else:
            future.set_exception(error)
    tally.wait(4)
    assert (tally.done, dict(tally.errors)) == (4, {"ValueError('a')": 2})


@pytest.mark.parametrize(
    ("megabytes", "errors", "last", "largest", "passed"),
    [
        ([90, 100, 103, 102], {}, 2, 3, True),
        ([90, 100, 110, 103], {}, 3, 10, True),
        ([90, 100, 101, 104], {}, 4, 4, False),
        ([90, 100, 90, 80], {}, -20, 0, True),
        ([90, 100, 100, 100], {"ValueError()": 1}, 0, 0, False),
    ],
)
def test_growth_counts_from_the_reference(
    megabytes: list[float], errors: dict[str, int], last: float, largest: float, passed: bool
) -> None:
    checkpoints = [{"sentences": 10 * (i + 1), "rss_mb": each} for i, each in enumerate(megabytes)]
    row = judge({"checkpoints": checkpoints, "errors": errors}, 20, 3.0)
    assert (row["reference_mb"], row["last_mb"]) == (100, megabytes[-1])
    assert (row["growth_percent"], row["largest_growth_percent"], row["passed"]) == (last, largest, passed)


def invoke(package: Package, output: Path, *options: object) -> Result:
    sizes = ["--sentences", 60, "--reference", 20, "--every", 20, "--wave", 10, "--max-length", 4]
    arguments = [*sizes, "--package", package.path, "--output", output, *options]
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_memory_is_read_at_every_checkpoint(package: Package, tmp_path: Path) -> None:
    result = invoke(package, tmp_path, "--limit", 1000)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "soak.json").read_text())
    (row,) = report["rows"]
    assert row["model"] == package.manifest.name
    assert [point["sentences"] for point in row["checkpoints"]] == [20, 40, 60]
    assert all(point["rss_mb"] > 10 for point in row["checkpoints"])
    assert row["reference_mb"] == row["checkpoints"][0]["rss_mb"]
    assert row["last_mb"] == row["checkpoints"][-1]["rss_mb"]
    assert row["errors"] == {}
    assert report["limit_percent"] == 1000
    assert f"{package.manifest.name}: {row['growth_percent']:+.2f} %" in result.output


def test_more_than_the_limit_fails(transformer_package: Package, tmp_path: Path) -> None:
    result = invoke(transformer_package, tmp_path, "--limit", -100)
    assert result.exit_code == 1, result.output
    assert json.loads((tmp_path / "soak.json").read_text())["rows"][0]["passed"] is False


@pytest.mark.parametrize("sizes", [("--wave", 7), ("--sentences", 50), ("--reference", 30), ("--reference", 80)])
def test_sizes_that_do_not_fit_are_refused(transformer_package: Package, tmp_path: Path, sizes: Any) -> None:
    assert invoke(transformer_package, tmp_path, *sizes).exit_code == 2
