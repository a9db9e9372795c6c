"""Files, streams and signals, without a command around them."""

import os
import signal
import sys
from pathlib import Path

import pytest

from service.client import terminal
from service.client.failure import CommandError


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_a_draft_is_as_private_as_what_it_replaces(tmp_path: Path, mode: int) -> None:
    kept = tmp_path / "kept.txt"
    kept.touch(mode)
    with terminal.sink(kept) as out:
        out.write(b"begun")
        assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [mode, mode]


def send(number: signal.Signals) -> None:
    """To this process, which must not end by it."""
    assert signal.getsignal(number) is not signal.SIG_DFL
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_draft(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # where tests run behind nohup one is ignored
    try:
        with pytest.raises(SystemExit) as raised, terminal.sink(tmp_path / "out.txt"):
            send(number)
        assert raised.value.code == 128 + number
        assert not [*tmp_path.iterdir()]
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_a_signal_that_is_ignored_stays_so(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminal.sink(tmp_path / "out.txt"):
            send(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (tmp_path / "out.txt").exists()


def test_streams_that_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(CommandError, match="stdin is closed"):
        terminal.read(terminal.STDIN)
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(CommandError, match="stdout is closed"):
        terminal.print_table(["name"], [["a"]])


@pytest.mark.parametrize("seen_by", ["people", "programs"])
def test_no_cell_of_a_table_is_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seen_by: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    if seen_by == "people":
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
    terminal.print_table(["name", "version"], [["a" * 300, "1.1.1"]])
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.count("a") for line in lines[2:]) == 300
    assert any("a" * 300 in line and "1.1.1" in line for line in lines) == (seen_by == "programs")
