import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from typer.testing import CliRunner, Result

from service.client import Client, cli, documents, terminal
from tests.service.client.helpers import Scripted, listening

LINES = "the cat sleeps. \n\n\tthe cat drinks milk.\r\n  a red table"


def attentive(*arguments: object, stdin: str | bytes = "", **environment: str) -> Result:
    return CliRunner().invoke(cli.app, [str(each) for each in arguments], input=stdin, env=environment)


def scripted(monkeypatch: pytest.MonkeyPatch, *replies: httpx.Response | Exception) -> Scripted:
    """The server that commands speak to."""
    script = Scripted(*replies)
    monkeypatch.setattr(cli, "Client", lambda url, key: Client(url, key, transport=script))
    return script


def test_words_are_a_text(url: str) -> None:
    result = attentive("translate", "-t", "fr", "--url", url, "the", "cat drinks milk.")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "the cat drinks milk.\n", "")


def test_stdin_keeps_its_lines(url: str) -> None:
    result = attentive("translate", "-t", "fr", stdin=LINES.encode(), ATTENTIVE_URL=url)
    assert result.stdout_bytes == LINES.encode()
    assert attentive("translate", "-t", "fr", "-f", "-", "--url", url, stdin="").stdout_bytes == b""


@pytest.mark.parametrize("size", [1, 7, 100])
def test_files_of_any_length_come_out_as_they_were(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(documents, "PIECE_CHARS", 50)
    one, two, output = tmp_path / "one.txt", tmp_path / "two.txt", tmp_path / "out.txt"
    one.write_bytes((LINES * size).encode())
    two.write_bytes(b"\n")
    result = attentive("translate", "-t", "fr", "-f", one, "--file", two, "--output", output, "--url", url)
    assert (result.exit_code, result.stdout) == (0, "")
    assert output.read_bytes() == one.read_bytes() + b"\n"


def test_an_output_file_keeps_its_permissions_and_its_links(url: str, tmp_path: Path) -> None:
    kept, link = tmp_path / "kept.txt", tmp_path / "link.txt"
    kept.write_text("the cat")
    kept.chmod(0o604)
    link.symlink_to(kept)
    assert attentive("translate", "-t", "fr", "-f", link, "-o", link, "--url", url).exit_code == 0
    assert attentive("translate", "-t", "fr", "-f", kept, "-o", "/dev/null", "--url", url).exit_code == 0
    assert (kept.read_text(), kept.stat().st_mode & 0o777) == ("the cat", 0o604)
    assert link.is_symlink()
    assert set(tmp_path.iterdir()) == {kept, link}


@pytest.mark.parametrize("before", [None, b"kept"])
def test_what_fails_leaves_the_output_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes | None
) -> None:
    monkeypatch.setattr(documents, "PIECE_CHARS", 50)
    scripted(monkeypatch, httpx.Response(200, json=reply("le chat")), httpx.ConnectError("Connection refused"))
    output = tmp_path / "out.txt"
    if before is not None:
        output.write_bytes(before)
    assert attentive("translate", "-t", "fr", "--output", output, stdin=LINES * 2).exit_code == 3
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before] * (before is not None)


@pytest.mark.parametrize(("wanted", "shown"), [("--output", True), ("stdout", False)])
def test_progress_is_for_long_texts_and_people(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, shown: bool
) -> None:
    monkeypatch.setattr(documents, "PIECE_CHARS", 50)
    output = ["--output", tmp_path / "out.txt"] if wanted == "--output" else []
    watched = {"TTY_COMPATIBLE": "1"} if shown else {}
    result = attentive("translate", "-t", "fr", *output, "--url", url, stdin=LINES * 10, **watched)
    assert ("100%" in result.stderr) == shown
    assert "100%" not in result.stdout


def test_options_arrive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    terms = tmp_path / "terms.tsv"
    terms.write_text("cat\tmatou\n\n  red table \t table rouge \n", encoding="utf-8")
    script = scripted(monkeypatch, httpx.Response(200, json=reply("le matou")))
    options = ["-s", "en", "-m", "m", "--beam-size", 3, "--format", "html", "--glossary", terms, "--api-key", "k"]
    assert attentive("translate", "--target", "fr", *options, "the cat").exit_code == 0
    [request] = script.requests
    assert request.headers["Authorization"] == "Bearer k"
    assert json.loads(request.content) == {
        "text": "the cat\n",
        "target": "fr",
        "source": "en",
        "model": "m",
        "beam_size": 3,
        "format": "html",
        "glossary": {"cat": "matou", "red table": "table rouge"},
    }


def test_what_is_not_asked_for_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    script = scripted(monkeypatch, httpx.Response(200, json=reply("le chat")))
    attentive("translate", "-t", "fr", "the cat")
    assert json.loads(script.requests[0].content) == {"text": "the cat\n", "target": "fr"}


def reply(text: str, **changes: Any) -> dict[str, Any]:
    found = {"text": text, "source": "en", "target": "fr", "score": 0, "truncated": False, "warnings": []}
    return {"model": "m", "translations": [found | {"alternatives": [], "sentences": []} | changes]}


def test_warnings_stay_out_of_the_translation(monkeypatch: pytest.MonkeyPatch) -> None:
    terms = [
        {"source": "cat", "target": "matou", "honoured": False},
        {"source": "red", "target": "roux", "honoured": True},
    ]
    scripted(monkeypatch, httpx.Response(200, json=reply("le chat\n", warnings=["it was cut"], glossary=terms)))
    result = attentive("translate", "-t", "fr", "the cat")
    assert (result.exit_code, result.stdout) == (0, "le chat\n")
    warned = ["it was cut", "cat is not always matou"]
    assert result.stderr.splitlines() == [f"attentive: warning: {warning}" for warning in warned]


@pytest.mark.parametrize("command", ["models", "languages"])
def test_json_is_what_the_server_sent(url: str, command: str) -> None:
    printed = attentive(command, "--json", "--url", url).stdout
    assert json.loads(printed) == httpx.get(f"{url}/v1/{command}").json()
    asked = {"text": "the cat\n", "target": "fr"}
    printed = attentive("translate", "-t", "fr", "--json", "--url", url, "the", "cat").stdout
    assert json.loads(printed) == httpx.post(f"{url}/v1/translate", json=asked).json()


def test_json_of_a_long_text_is_a_line_for_each_request(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "PIECE_CHARS", 30)
    printed = attentive("translate", "-t", "fr", "--json", "--url", url, stdin=LINES).stdout
    replies = [json.loads(line) for line in printed.splitlines()]
    assert len(replies) == 3
    assert "".join(each["translations"][0]["text"] for each in replies) == LINES


def test_tables(url: str) -> None:
    models, languages = attentive("models", "--url", url).stdout, attentive("languages", "--url", url).stdout
    assert "echo" in models
    assert "en-fr, fr-en" in models
    assert "English" in languages


@pytest.mark.parametrize("raw", [[], ["--json"]])
@pytest.mark.parametrize("error", [OSError("No space left"), UnicodeEncodeError("ascii", "é", 0, 1, "not in range")])
def test_what_cannot_be_printed_is_told(
    url: str, monkeypatch: pytest.MonkeyPatch, raw: list[str], error: Exception
) -> None:
    def full(path: Path | None) -> NoReturn:
        raise error

    monkeypatch.setattr(terminal, "sink", full)
    result = attentive("models", *raw, "--url", url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert str(error) in result.stderr


def test_attention_is_drawn_beside_the_translation(url: str, tmp_path: Path) -> None:
    output = tmp_path / "out.png"
    result = attentive("translate", "-t", "fr", "--attention", "--picture", output, "--url", url, "the cat sleeps.")
    assert (result.exit_code, result.stdout) == (0, "the cat sleeps.\n")
    assert "sleeps ░░" in result.stderr or "sleeps   " in result.stderr
    assert "█" in result.stderr
    assert output.read_bytes().startswith(b"\x89PNG")


def test_a_picture_needs_matplotlib(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = attentive("translate", "-t", "fr", "--picture", tmp_path / "out.png", "--url", url, "the cat")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "pip install matplotlib" in result.stderr


@pytest.mark.parametrize(("name", "text"), [("out.xyz", "the cat"), ("no/such.png", "the cat"), ("out.png", " ")])
def test_pictures_that_cannot_be_drawn(url: str, tmp_path: Path, name: str, text: str) -> None:
    result = attentive("translate", "-t", "fr", "--picture", tmp_path / name, "--url", url, text)
    assert result.exit_code == 2
    assert name in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "status", "said"),
    [
        (["-t", "xx", "-s", "en", "the cat"], b"", 1, "[unknown_direction]"),
        (["-t", "fr", "--beam-size", "99", "the cat"], b"", 1, "beam_size"),
        (["-t", "fr", "--url", "http://127.0.0.1:1", "the cat"], b"", 3, "attentive serve"),
        (["-t", "fr", "--url", "nonsense", "the cat"], b"", 3, "nonsense"),
        (["-t", "fr", "--api-key", "a\rb", "the cat"], b"", 2, "the API key has control characters"),
        (["-t", "fr", "-f", "no-such-file"], b"", 2, "no-such-file"),
        (["-t", "fr", "-f", "."], b"", 2, "directory"),
        (["-t", "fr"], b"caf\xe9", 2, "stdin is not UTF-8 text: its byte 4"),
        (["-t", "fr", "--output", "no/such", "the cat"], b"", 2, "no/such"),
        (["-t", "fr", "--glossary", "no-such-file", "the cat"], b"", 2, "no-such-file"),
        (["-t", "fr", "-f", "x", "the cat"], b"", 2, "either TEXT or --file"),
        (["the cat"], b"", 2, "--target"),
    ],
)
def test_errors_are_for_people(url: str, arguments: list[str], stdin: bytes, status: int, said: str) -> None:
    result = attentive("translate", *arguments, stdin=stdin, ATTENTIVE_URL=url, COLUMNS="200")
    assert (result.exit_code, result.stdout) == (status, "")
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_byte_order_mark_is_no_part_of_a_term(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    terms = tmp_path / "terms.tsv"
    terms.write_text("cat\tmatou\n", encoding="utf-8-sig")
    script = scripted(monkeypatch, httpx.Response(200, json=reply("le matou")))
    assert attentive("translate", "-t", "fr", "--glossary", terms, "the cat").exit_code == 0
    assert json.loads(script.requests[0].content)["glossary"] == {"cat": "matou"}


@pytest.mark.parametrize("line", ["cat", "cat\t", "\tchat", "cat\tchat\tmatou", "cat\t\tchat"])
def test_a_glossary_that_is_none(tmp_path: Path, line: str) -> None:
    terms = tmp_path / "terms.tsv"
    terms.write_text(f"a\tb\n{line}\n")
    result = attentive("translate", "-t", "fr", "--glossary", terms, "the cat")
    assert result.exit_code == 2
    assert f"{terms}, line 2" in result.stderr


def test_a_page_that_is_no_server() -> None:
    async def page(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"<h1>Welcome</h1>"})

    with listening(page) as address:
        result = attentive("models", "--url", address)
    assert result.exit_code == 1
    assert "not as a translation server does" in result.stderr


def test_without_arguments_there_is_help() -> None:
    result = attentive()
    assert all(command in result.output for command in ("translate", "serve", "models", "languages"))
    assert attentive("translate", "--help").exit_code == 0


def test_a_broken_pipe_is_no_error_to_talk_about(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def close(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(documents, "translate", close)
    result = attentive("translate", "-t", "fr", "--url", url, "the cat")
    assert "Traceback" not in result.stderr
    assert sys.stdout
