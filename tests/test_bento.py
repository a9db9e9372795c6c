import os
import subprocess
import sys
from pathlib import Path

from tests.served import ROOT, serve


def test_the_bento_builds_and_serves_from_another_folder(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", "PATH": tools}
    subprocess.run([sys.executable, "-m", "bentoml", "build"], cwd=ROOT, env=environment, check=True, timeout=120)
    source = next((home / "bentos" / "attentive").glob("*/src"))
    assert {path.name for path in source.iterdir()} >= {"service", "export", "models", "LICENSE"}
    assert not list(source.glob("models/*.py"))
    with serve(home, target="attentive:latest", cwd=elsewhere) as server, server.client() as client:
        reply = client.post("/v1/translate", json={"text": "I drink milk.", "target": "fr"})
        assert reply.status_code == 200
        assert reply.json()["translations"][0]["text"]
