"""What the README and the pages in docs tell a newcomer to type, and lead to, exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README, *OTHERS = (page.read_text(encoding="utf-8") for page in PAGES)
TEXT = "\n".join([README, *OTHERS])


def test_every_make_command_is_a_target() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", TEXT, re.MULTILINE))
    assert {"serve", "test", "check", "loadtest", "train", "bench", "timeline"} <= named <= targets
    assert targets <= set(re.findall(r"make ([a-z-]+)", README)) | {"help", "format", "lock", "clean"}


def test_every_variable_of_a_make_command_is_read_by_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    used = {name for line in re.findall(r"make [a-z-]+[^\n`]*", TEXT) for name in re.findall(r"\b([A-Z0-9]+)=", line)}
    assert used
    for name in used:
        assert f"$({name})" in makefile, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")) if "://" not in link]
    assert links
    for link in links:
        assert (page.parent / link).exists(), link


def test_every_configuration_named_is_valid() -> None:
    from models.config import Config

    named = set(re.findall(r"models/configs/[\w/-]+\.toml", TEXT))
    assert "models/configs/transformer-en-fr-de.toml" in named
    for path in named:
        assert Config.load(ROOT / path).name
