"""YAML of unknown origin: plain objects, of limited size and depth, without references."""

from pathlib import Path
from typing import Any

import yaml

from export.marian.reader import FileError

LONGEST, LONGEST_LIST = 1 << 16, 1 << 24
"""Bytes of a configuration, and of a list of sub-words; real ones have about a thousand, and a million."""
DEEPEST = 20
SAFE, BASE = (getattr(yaml, f"C{name}", getattr(yaml, name)) for name in ("SafeLoader", "BaseLoader"))
"""The ones in C are there where libyaml is."""


def read_mapping(content: bytes, path: Path) -> dict[str, Any]:
    """Raises :class:`export.marian.reader.FileError`."""
    return mapping(content, path, LONGEST, SAFE)


def read_numbers(content: bytes, path: Path) -> dict[str, int]:
    """Names and their numbers, which are those from 0 on. Raises :class:`export.marian.reader.FileError`."""
    found = mapping(content, path, LONGEST_LIST, BASE)  # as text: ``yes`` and ``1`` are sub-words too
    written = [str(value) for value in found.values()]
    numbers = [int(value) for value in written if value.isdecimal() and len(value) < 10]
    if sorted(numbers) != list(range(len(found))):
        raise FileError(path, f"its numbers are not those from 0 to {len(found) - 1}")
    return dict(zip(found, numbers, strict=True))


def mapping(content: bytes, path: Path, longest: int, loader: Any) -> dict[str, Any]:
    if len(content) > longest:
        raise FileError(path, f"its YAML has {len(content)} bytes, over {longest}")
    try:
        text = content.rstrip(b"\0").decode()
        check(text, path, loader)
        found = yaml.load(text, loader)
    except (UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
        raise FileError(path, "is no YAML that can be read") from error
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise FileError(path, "is no YAML mapping of names")
    return found


def check(text: str, path: Path, loader: Any) -> None:
    """Without building anything yet."""
    depth = 0
    for token in yaml.scan(text, loader):
        if isinstance(token, yaml.AliasToken):
            raise FileError(path, "its YAML refers to itself")
        kind = type(token).__name__
        depth += kind.endswith("StartToken") - kind.endswith("EndToken")
        if depth > DEEPEST:
            raise FileError(path, f"its YAML is nested deeper than {DEEPEST}")
