"""Starting the server: it lives in the project's checkout and needs packages that the client does not."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import NoReturn

from .failure import CommandError

SERVICE = "service.service:Attentive"
NEEDED = ("bentoml", "fastapi", "onnxruntime", "sentencepiece")


def serve(host: str, port: int, grace: int) -> NoReturn:
    """Become the server, with this environment's ``ATTENTIVE_...`` settings. Raises :class:`CommandError`."""
    root = checkout()
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(f"the server needs {', '.join(missing)}: `make serve` in {root} brings what is missing")
    os.chdir(root)
    os.execve(sys.executable, command(host, port, grace), environment(root, port))


def checkout() -> Path:
    """The directory that holds the server: the one this file came with, else the current one."""
    for root in (Path(__file__).resolve().parents[2], Path.cwd()):
        if (root / "service" / "service.py").is_file():
            return root
    raise CommandError("the server is not part of the installed package: run this in the project's checkout")


def command(host: str, port: int, grace: int) -> list[str]:
    """As `make serve` runs it; ``grace`` is in seconds."""
    options = ["--host", host, "--port", str(port), "--timeout-graceful-shutdown", str(grace)]
    return [sys.executable, "-m", "bentoml", "serve", SERVICE, *options]


def environment(root: Path, port: int) -> dict[str, str]:
    """The server empties its metrics' directory under BENTOML_HOME when it starts, so each port has its own."""
    home = {"BENTOML_HOME": str(root / ".bentoml" / str(port)), "BENTOML_DO_NOT_TRACK": "True"}
    return {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"} | os.environ | home
