from pathlib import Path

import pytest
import typer

from export.package import Package
from loadtests.samples import read_files, sampled
from tests.packages import sentences

COUNT = 9


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "first.en-fr.tsv", tmp_path / "second.en-fr.tsv"]
    for seed, path in enumerate(paths):
        path.write_text("".join(f"{text}\t{text}\n" for text in sentences(COUNT, seed=seed)), encoding="utf-8")
    return paths


def test_each_package_gets_both_directions_of_all_files(transformer_package: Package, files: list[Path]) -> None:
    first, second = read_files([transformer_package] * 2, files)
    assert first == second
    assert len(first) == len(files) * 2 * COUNT
    assert {(each.source, each.target) for each in first} == {("en", "fr"), ("fr", "en")}


def test_a_sample_depends_on_the_seed_and_is_all_where_there_is_no_more(
    transformer_package: Package, files: list[Path]
) -> None:
    def drawn(count: int, seed: int) -> list[str]:
        (found,) = sampled([transformer_package], files, count, seed)
        return [f"{each.source} {each.text}" for each in found]

    assert drawn(5, seed=1) == drawn(5, seed=1) != drawn(5, seed=2)
    everything = drawn(10 * COUNT, seed=1)
    assert len(everything) == len(files) * 2 * COUNT
    assert set(drawn(5, seed=1)) <= set(everything)


def test_a_file_that_cannot_be_read_is_named(transformer_package: Package, files: list[Path], tmp_path: Path) -> None:
    for wrong in ("missing.en-fr.tsv", "unnamed.tsv"):
        with pytest.raises(typer.BadParameter, match=wrong):
            read_files([transformer_package], [*files, tmp_path / wrong])
