"""What a program that uses the runtime leaves behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.served import ROOT

PRODUCT = "from export.runtime import onnxruntime"


@pytest.mark.parametrize(
    "how", [PRODUCT, "import service.engine.session", "import loadtests.limit", "import export.decoder"]
)
def test_nothing_is_kept_of_the_machine(how: str, tmp_path: Path) -> None:
    assert left_by(how, tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="where wheels report, and keep a number for it, is the system's")
def test_it_would_be_otherwise(tmp_path: Path) -> None:
    assert "deviceid" in left_by("import onnxruntime", tmp_path)


def left_by(code: str, home: Path) -> list[str]:
    """Names of the files in the home directory of a program that is not known to be a test: those report nothing."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, timeout=120)
    return [path.name for path in home.rglob("*") if path.is_file()]
