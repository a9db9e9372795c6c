import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import ROOT, Settings, markdown_table, unknown


def test_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTENTIVE_MAX_TEXTS", "7")
    monkeypatch.setenv("ATTENTIVE_THREADS", "3")
    assert Settings().max_texts == 7
    assert Settings().decode_threads == 3


def test_paths_start_at_the_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings().packages == ROOT / "models" / "trained"
    assert Settings(models_dir=tmp_path).packages == tmp_path
    assert Settings().decode_threads >= 1


def test_a_container_may_use_no_more_than_its_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limit = tmp_path / "cpu.max"
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr("os.path.exists", lambda path: path == "/sys/fs/cgroup/cpu.max")
    monkeypatch.setattr("loky.backend.context.open", lambda _: limit.open(), raising=False)
    limit.write_text("max 100000\n")
    assert Settings().decode_threads == 64
    limit.write_text("150000 100000\n")
    assert Settings().decode_threads == 2


def test_limits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValidationError):
        Settings(max_texts=0)


@pytest.mark.parametrize(
    "origins", ["", "*", "null", "https://a.example", " http://localhost:8080 , https://b.example,"]
)
def test_origins_are_those_that_browsers_tell(origins: str) -> None:
    assert Settings(cors_origins=origins).cors_origins == origins


@pytest.mark.parametrize("origins", ["a.example", "https://a.example/", "https://a.example/page", "https://A.example"])
def test_an_origin_that_no_browser_tells_is_refused(origins: str) -> None:
    with pytest.raises(ValidationError, match="cors_origins"):
        Settings(cors_origins=f"https://b.example, {origins}")


def test_a_misspelt_setting_is_found() -> None:
    right = [f"ATTENTIVE_{name.upper()}" for name in Settings.model_fields]
    others = ["HOME", "ATTENTIVE_URL", "ATTENTIVE_API_KEY", "attentive_threads"]
    cluster = ["ATTENTIVE_SERVICE_HOST", "ATTENTIVE_PORT", "ATTENTIVE_PORT_3000_TCP_ADDR"]
    assert unknown([*right, *others, *cluster]) == []
    assert unknown([*right, "ATTENTIVE_KEY_FILE", "ATTENTIVE_DRAIN"]) == ["ATTENTIVE_DRAIN", "ATTENTIVE_KEY_FILE"]


def test_the_table_has_every_setting() -> None:
    rows = markdown_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [f"ATTENTIVE_{name.upper()}" for name in Settings.model_fields]
    assert all(row.count("|") == 4 and not row.endswith("None |") for row in rows)


def test_the_command_prints_the_table() -> None:
    command = [sys.executable, "-m", "service.settings"]
    assert subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout == markdown_table()
