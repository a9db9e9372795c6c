import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import typer

from export.package import Package
from loadtests import links


def test_a_picture_has_all_words_and_a_line_for_each_strong_weight() -> None:
    linked = links.Linked(["The", "cat & dog"], ["Le", "chat"], [[0.95, 0.05], [0.3, 0.7]])
    root = ET.fromstring(links.picture([linked] * 3))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["The", "cat & dog", "Le", "chat"] * 3
    assert len(list(root.iter("{http://www.w3.org/2000/svg}line"))) == 3 * 3


def test_words_stand_apart() -> None:
    assert links.centres(["ab", "c"]) == [links.WIDE, 3.5 * links.WIDE]


def test_a_package_is_drawn(transformer_package: Package, tmp_path: Path) -> None:
    links.main(transformer_package.path, "int8", tmp_path / "links.svg")
    assert len(ET.parse(tmp_path / "links.svg").getroot()) > 2 * len(links.SENTENCES)
    assert (tmp_path / "links.json").exists()


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match=r"manifest\.json"):
        links.main(tmp_path, "int8", tmp_path / "links.svg")
