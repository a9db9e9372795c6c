import json
import re
import subprocess

import numpy as np
import pytest

from loadtests import machine


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository of one commit, in place of the project's own."""
    identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    (tmp_path / "file").write_text("first")
    for command in (["init", "--quiet"], ["add", "file"], [*identity, "commit", "--quiet", "--message", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    return tmp_path


def test_what_is_described_is_plain_json():
    described = machine.describe("numpy", "no-such-distribution")
    assert json.loads(json.dumps(described)) == described
    assert described["versions"]["numpy"] == np.__version__
    assert described["versions"]["no-such-distribution"] is None
    assert described["machine"]["cpu"]
    assert described["machine"]["cores"] >= 1


@pytest.mark.parametrize(
    ("flags", "best"),
    [
        ("avx2 avx512f avx512_vnni", "AVX512 with VNNI"),
        ("avx2 avx512f", "AVX512"),
        ("avx2 avx_vnni", "AVX2 with VNNI"),
        ("sse avx2", "AVX2"),
        ("sse", None),
    ],
)
def test_the_best_instructions_are_named(flags, best):
    assert machine.instructions(set(flags.split())) == best


def test_changed_files_show_in_the_commit(repository):
    assert re.fullmatch("[0-9a-f]{12}", machine.commit() or "")
    (repository / "file").write_text("second")
    assert (machine.commit() or "").endswith("-dirty")


def test_what_is_not_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    assert machine.output("no-such-command-anywhere") is None
    assert machine.output("git", "no-such-subcommand") is None
    assert machine.output("true") is None
