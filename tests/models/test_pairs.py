"""Files of parallel text, read."""

import lzma

import pytest

from models.pairs import Pair, read_pairs


def write(path, text):
    with lzma.open(path, "wt", encoding="utf-8") if path.suffix == ".xz" else path.open("w", encoding="utf-8") as file:
        file.write(text)
    return path


@pytest.mark.parametrize("name", ["news.tsv", "news.tsv.xz"])
def test_read_pairs(tmp_path, name):
    path = write(tmp_path / name, " A cat. \tUn chat.\ttatoeba\textra\nÉté\t夏\n\tx\ty\n")
    assert list(read_pairs([path])) == [
        Pair("A cat.", "Un chat.", "tatoeba"),
        Pair("Été", "夏", "news"),  # without a third column the corpus is the file
        Pair("", "x", "y"),
    ]


@pytest.mark.parametrize(
    ("name", "corpus"),
    [("en-fr.tatoeba.tsv", "tatoeba"), ("news.2014.en-fr.tsv.xz", "news.2014"), ("en-fr.tsv", "en-fr")],
)
def test_the_languages_in_the_name_are_no_part_of_the_corpus(tmp_path, name, corpus):
    assert [pair.corpus for pair in read_pairs([write(tmp_path / name, "a\tb\n")])] == [corpus]


def test_read_pairs_goes_through_all_files(tmp_path):
    paths = [write(tmp_path / name, f"{name}\tx\n") for name in ("b.tsv", "a.tsv.xz")]
    assert [pair.corpus for pair in read_pairs(paths)] == ["b", "a"]


def test_windows_line_ends_are_not_part_of_the_corpus(tmp_path):
    path = tmp_path / "windows.tsv"
    path.write_bytes(b"a\tb\tc\r\n")
    assert list(read_pairs([path])) == [Pair("a", "b", "c")]


def test_a_line_with_one_column_is_named(tmp_path):
    path = write(tmp_path / "broken.tsv.xz", "a\tb\nno second column\n")
    with pytest.raises(ValueError, match=r"broken\.tsv\.xz:2: expected two tab-separated columns"):
        list(read_pairs([path]))
