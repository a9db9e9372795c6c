"""What the files beside a model say about where it comes from and how it may be used."""

import json
from pathlib import Path
from typing import Any

from export.marian.plain import read_mapping
from export.marian.reader import FileError, read

NONE_FOUND = "none was found beside the model: ask whoever published it"
LONGEST = 200
"""Characters of a statement that are kept."""
NAMES = ("modelName", "name", "_name_or_path")
PLACES = ("modelUrl", "repositoryUrl", "url")


def licence_of(directory: Path) -> str:
    """From the head of a model card, the first line of a licence's text, or the plain statement that there is none."""
    found = card_of(directory / "README.md").get("license")
    if isinstance(found, str) and found.strip():
        return found.strip()[:LONGEST]
    for name in ("LICENSE", "LICENSE.txt", "LICENCE"):
        lines = text_of(directory / name).splitlines()
        if first := next((line.strip() for line in lines if line.strip()), ""):
            return f"{first[:LONGEST]} ({name} beside the model)"
    return NONE_FOUND


def origin_of(directory: Path) -> str:
    """The directory's name and what is said in it of names, versions and addresses."""
    found = [directory.resolve().name]
    for path in sorted(directory.glob("*.json")):
        content = object_of(path)
        said = [content.get(key) for key in (*NAMES, "version", *PLACES)]
        found += [str(value)[:LONGEST] for value in said if isinstance(value, str | int | float) and value]
    return ", ".join(dict.fromkeys(found))


def text_of(path: Path) -> str:
    return path.read_text(errors="replace")[: 1 << 16] if path.is_file() else ""


def card_of(path: Path) -> dict[str, Any]:
    """The YAML between two lines of dashes at the head of a model card."""
    parts = text_of(path).split("---\n", 2)
    try:
        return read_mapping(parts[1].encode(), path) if len(parts) == 3 and not parts[0].strip() else {}
    except FileError:
        return {}


def object_of(path: Path) -> dict[str, Any]:
    if path.stat().st_size > 1 << 16:
        return {}
    try:
        found = json.loads(read(path))
    except (ValueError, RecursionError, FileError):
        return {}
    return found if isinstance(found, dict) else {}
