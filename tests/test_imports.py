"""The direction of the arrows between the rooms, read from the source: nothing is imported here."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
ROOMS = ("models", "export", "service", "loadtests")

SHARED = {"export.package", "export.runtime"}
"""What both sides of a package may import."""

Graph = dict[str, set[str]]
"""Module name -> dotted names it imports anywhere in its text, of this project and of others."""


def dotted(path: Path, root: Path) -> str:
    """``root/export/package.py`` -> ``export.package``; a package is named like its directory."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Dotted names of every import statement, ``from a import b`` as both ``a`` and ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def read(root: Path) -> Graph:
    """Every module of the rooms under ``root``."""
    graph: Graph = {}
    for path in sorted(path for room in ROOMS for path in (root / room).rglob("*.py")):
        name = dotted(path, root)
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        graph[name] = set(imported(ast.parse(path.read_text(encoding="utf-8"), str(path)), package))
    return graph


def loaded(graph: Graph, start: str) -> set[str]:
    """Dotted names that importing ``start`` can load, its parent packages and theirs included."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            parents = [name.rpartition(".")[0]] if "." in name else []
            waiting += [*graph.get(name, ()), *parents]
    return seen


def violations(graph: Graph) -> list[str]:
    """``module: what it may not import``, one line each."""
    forbidden = {"models": {"export", "service"}, "export": {"service"}, "service": {"models", "torch"}}
    found = []
    for module in graph:
        room = module.split(".")[0]
        names = loaded(graph, module)
        tops = {name.split(".")[0] for name in names}
        bad = tops & forbidden.get(room, set())
        if room != "loadtests":
            bad |= tops & {"loadtests"}
        if room == "service":
            bad |= {name for name in graph[module] if name in graph and name.startswith("export.")} - SHARED
        if module in SHARED:
            bad |= tops & {"torch", "bentoml"}
        found += [f"{module}: {name}" for name in sorted(bad)]
    return found


def undeclared(graph: Graph, rooms: set[str], extra: str) -> dict[str, str]:
    """What the modules of some rooms import that ``pip install '.[extra]'`` promises to nobody, and who does."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {canonicalize_name(Requirement(line).name) for line in project["optional-dependencies"][extra]}
    owners = packages_distributions()
    known = {top for top, names in owners.items() if declared & {canonicalize_name(name) for name in names}}
    known |= {*sys.stdlib_module_names, *ROOMS, ""}
    return {
        name: module
        for module, names in graph.items()
        if module.split(".")[0] in rooms
        for name in names
        if name.split(".")[0] not in known
    }


def test_what_training_and_importing_need_is_in_their_extra():
    graph = read(ROOT)
    assert undeclared(graph, {"models", "export"}, "train") == {}
    assert "torch" in undeclared(graph, {"models"}, "client")


def test_the_arrows_point_one_way():
    graph = read(ROOT)
    assert {name.split(".")[0] for name in graph} == set(ROOMS)
    assert violations(graph) == []


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"models/a.py": "def f():\n    import export.package"}, ["models.a: export"]),
        ({"export/a.py": "from service import settings"}, ["export.a: service"]),
        ({"service/a.py": "import torch.nn"}, ["service.a: torch"]),
        ({"service/a.py": "from export import package", "export/package.py": "import pydantic"}, []),
        (
            {"service/a.py": "import export.package", "export/package.py": "", "export/__init__.py": "import torch"},
            ["service.a: torch", "export.package: torch"],
        ),
        ({"service/a.py": "from export import quantize", "export/quantize.py": ""}, ["service.a: export.quantize"]),
        (
            {"service/text/a.py": "from ..b import c", "service/b.py": "from models.d import e"},
            ["service.text.a: models", "service.b: models"],
        ),
        ({"export/package.py": "from . import a", "export/a.py": "import bentoml"}, ["export.package: bentoml"]),
        ({"export/a.py": "import loadtests.run"}, ["export.a: loadtests"]),
    ],
)
def test_a_wrong_arrow_is_found(tmp_path: Path, files: dict[str, str], expected: list[str]):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert sorted(violations(read(tmp_path))) == sorted(expected)
