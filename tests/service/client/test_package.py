"""What is installed is the client alone: it works without anything of the server."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.served import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SOURCE = ROOT / PROJECT["tool"]["setuptools"]["package-dir"]["attentive"]
PYPI = re.compile(rb"pip install ['\"]?attentive\b")
"""On PyPI that is somebody else's."""
OPTIONAL = {"matplotlib": "picture.py"}
"""Package -> the only module that needs it."""


def test_it_needs_what_its_extra_brings() -> None:
    brought = {Requirement(each).name for each in PROJECT["project"]["optional-dependencies"]["client"]}
    for path in SOURCE.glob("*.py"):
        nodes = [*ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
        names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
        foreign = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)
        assert foreign <= brought | {name for name, module in OPTIONAL.items() if module == path.name}, path


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A directory with the package as it is installed, and modules that forbid those of the server."""
    (tmp_path / "attentive").symlink_to(SOURCE)
    for name in ("service", "bentoml", "fastapi", "onnxruntime", "torch", "matplotlib", "uvicorn", "starlette"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name} is imported')")
    return tmp_path


def run(installed: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *arguments], cwd=installed, capture_output=True, text=True, check=False)


def test_the_command_starts(installed: Path) -> None:
    done = run(installed, "-m", "attentive", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "translate" in done.stdout


def test_the_script_is_the_command(installed: Path) -> None:
    module, function = PROJECT["project"]["scripts"]["attentive"].split(":")
    done = run(
        installed,
        "-c",
        f"import sys; sys.argv = ['attentive', 'models', '--url', 'nonsense']; "
        f"from {module} import {function}; {function}()",
    )
    assert done.returncode == 3
    assert "attentive: nonsense is not the address of a server" in done.stderr


def test_the_library_needs_no_terminal(installed: Path) -> None:
    for name in ("typer", "rich"):
        (installed / f"{name}.py").write_text(f"raise ModuleNotFoundError('no {name}', name='{name}')")
    assert run(installed, "-c", "import attentive; attentive.Client(), attentive.AsyncClient()").returncode == 0
    done = run(installed, "-m", "attentive", "models")
    assert done.returncode == 1
    assert done.stderr == "attentive: typer is missing; pip install '.[client]' in the project's checkout brings it\n"


def test_nobody_is_told_to_install_another_package_of_that_name() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    told = [name for name in files if PYPI.search((ROOT / name).read_bytes())]
    assert told == []


def test_its_types_are_for_everybody() -> None:
    assert (SOURCE / "py.typed").exists()
    assert PROJECT["tool"]["setuptools"]["package-data"]["attentive"] == ["py.typed"]
