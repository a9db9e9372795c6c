"""Commands that live in the project's checkout and need packages that the client does not."""

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from . import listen
from .failure import CommandError

SERVICE = "service.service:Attentive"
NEEDED = ("bentoml", "fastapi", "onnxruntime", "sentencepiece")
IMPORTER = "export.importer"
IMPORTER_NEEDS = ("onnx", "onnxruntime", "safetensors", "sentencepiece", "torch", "yaml")


def serve(host: str, port: int, grace: int, keep_alive: int) -> NoReturn:
    """Become the server, with this environment's ``ATTENTIVE_...`` settings. Raises :class:`CommandError`."""
    root = checkout()
    # make has an environment of its own: what it installs is not there for this command.
    require(NEEDED, f"the server needs {{}}: run `make serve` in {root}, or pip install '{root}[client,serve,cpu]'")
    listen.check(host, port)
    os.chdir(root)
    os.execve(sys.executable, command(host, port, grace, keep_alive), environment(root, port))


def import_model(arguments: Sequence[str]) -> NoReturn:
    """Become the importer, in the current directory. Raises :class:`CommandError`."""
    root = checkout()
    require(IMPORTER_NEEDS, f"importing needs {{}}: pip install '{root}[train]' brings what is missing")
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    os.execve(sys.executable, [sys.executable, "-m", IMPORTER, *arguments], os.environ | {"PYTHONPATH": path})


def require(names: Sequence[str], reason: str) -> None:
    """Raises :class:`CommandError` with ``reason`` if modules are not installed."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(reason.format(", ".join(missing)))


def checkout() -> Path:
    """The directory that holds the server: the one this file came with, else the current one."""
    for root in (Path(__file__).resolve().parents[2], Path.cwd()):
        if (root / "service" / "service.py").is_file():
            return root
    raise CommandError("the server is not part of the installed package: run this in the project's checkout")


def command(host: str, port: int, grace: int, keep_alive: int) -> list[str]:
    """As `make serve` runs it; ``grace`` and ``keep_alive`` are in seconds."""
    options = ["--host", host, "--port", str(port)]
    options += ["--timeout-graceful-shutdown", str(grace), "--timeout-keep-alive", str(keep_alive)]
    return [sys.executable, "-m", "bentoml", "serve", SERVICE, *options]


def environment(root: Path, port: int) -> dict[str, str]:
    """The server empties its metrics' directory under BENTOML_HOME when it starts, so each port has its own."""
    home = {"BENTOML_HOME": str(root / ".bentoml" / str(port)), "BENTOML_DO_NOT_TRACK": "True"}
    return {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"} | os.environ | home
