import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bentoml._internal.bento.build_config import BentoBuildConfig, BentoPathSpec

from tests.served import ROOT, serve


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BENTOML_HOME with the bento."""
    home = tmp_path_factory.mktemp("home")
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", "PATH": tools}
    subprocess.run([sys.executable, "-m", "bentoml", "build"], cwd=ROOT, env=environment, check=True, timeout=120)
    return home


def test_the_bento_holds_what_serves(home: Path) -> None:
    [bento] = (home / "bentos" / "attentive").glob("*/")
    assert {path.name for path in (bento / "src").iterdir()} >= {"service", "export", "models", "LICENSE"}
    assert not list((bento / "src").glob("models/*.py"))
    recipe = (bento / "env" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    [setting] = re.findall(r"GLIBC_TUNABLES \?= (.+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert f"ARG GLIBC_TUNABLES={setting}\n" in recipe
    assert "ENV GLIBC_TUNABLES=$GLIBC_TUNABLES\n" in recipe
    assert "ARG BENTOML_DO_NOT_TRACK=True\n" in recipe
    assert "ENV BENTOML_DO_NOT_TRACK=$BENTOML_DO_NOT_TRACK\n" in recipe


def test_the_bento_serves_from_another_folder_and_writes_nothing_there(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CI", "GITHUB_ACTIONS"):  # there libraries leave fewer traces
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    with serve(home, target="attentive:latest", cwd=tmp_path) as server, server.client() as client:
        reply = client.post("/v1/translate", json={"text": "I drink milk.", "target": "fr"})
        assert reply.status_code == 200
        assert reply.json()["translations"][0]["text"]
    assert list(tmp_path.rglob("*")) == []


def test_licences_of_what_is_installed_stay_out() -> None:
    with (ROOT / "bentofile.yaml").open(encoding="utf-8") as file:
        config = BentoBuildConfig.from_yaml(file)
    taken = BentoPathSpec(config.include, config.exclude)
    assert taken.includes("LICENSE")
    assert not taken.includes(".venv-cpu/lib/python3.11/site-packages/any/LICENSE")


def test_an_image_is_started_with_the_times_of_make_serve() -> None:
    made = subprocess.run(["make", "-n", "serve"], cwd=ROOT, capture_output=True, text=True, check=True)
    [times] = re.findall(r"--timeout-graceful-shutdown \d+ --timeout-keep-alive \d+", made.stdout)
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert f"attentive:latest serve {times}\n" in page
