"""What the command reads, and where it writes: files, the terminal, pictures."""

import importlib.util
import secrets
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from . import documents
from .failure import CommandError
from .heatmap import heatmap
from .replies import Sentence, TranslateReply

STDIN = Path("-")
WIDE = 10_000
"""Columns for a table that no terminal shows: more than it needs."""


def read(path: Path) -> str:
    """The text, its line breaks as they are.

    Raises ``OSError``, and :class:`CommandError` for what is not UTF-8 and for a closed stdin.
    """
    content = _stdin() if path == STDIN else path.read_bytes()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        name = "stdin" if path == STDIN else path
        raise CommandError(f"{name} is not UTF-8 text: its byte {error.start + 1} is wrong") from error


def _stdin() -> bytes:
    if sys.stdin is None:
        raise CommandError("there is no text: stdin is closed")
    if sys.stdin.isatty():
        typer.echo("The text, please; Ctrl-D ends it.", err=True)
    return sys.stdin.buffer.read()


def read_glossary(path: Path) -> dict[str, str]:
    """Term to its translation, from lines of both with a tab between; empty lines count for nothing.

    Raises ``OSError`` and :class:`CommandError`.
    """
    terms: dict[str, str] = {}
    # Editors that put a byte order mark before the first term do not show it.
    for number, line in enumerate(read(path).removeprefix("\ufeff").splitlines(), 1):
        if line.strip():
            parts = [part.strip() for part in line.strip().split("\t")]
            if len(parts) != 2:
                raise CommandError(f"{path}, line {number}: not a term, a tab and its translation")
            terms[parts[0]] = parts[1]
    return terms


@contextmanager
def sink(path: Path | None) -> Iterator[BinaryIO]:
    """Where translations go: stdout for None. Raises ``OSError``, and :class:`CommandError` for a closed stdout."""
    if path is None:
        if sys.stdout is None:
            raise CommandError("there is nowhere to write: stdout is closed")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    elif path.exists() and not path.is_file():  # a device or a pipe
        with path.open("wb") as file:
            yield file
    else:
        with _replacing(path.resolve()) as file:
            yield file


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that becomes ``path`` at the end of the block; where the block fails, ``path`` stays as it was."""
    replaces = path.exists()
    if replaces:
        path.open("ab").close()  # who may not write it may not replace it either
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with _ended_by_signals():
        try:
            # Nobody may read of the draft what he may not read of the file.
            draft.touch(0o600 if replaces else 0o666, exist_ok=False)
            if replaces:
                shutil.copymode(path, draft)
            with draft.open("wb") as file:
                yield file
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Within, a signal that would end the process at once is ``SystemExit``, so that what was begun is cleared away."""
    signals = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]
    for each in signals:
        signal.signal(each, _exit)
    try:
        yield
    finally:
        for each in signals:
            signal.signal(each, signal.SIG_DFL)


def _exit(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)  # as a shell tells of it


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """On stdout, with no cell cut; for programs each row in one line. Raises ``OSError`` and ``UnicodeError``."""
    table = Table()
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*row)
    with sink(None):
        console = Console(markup=False)
        if not console.is_terminal:
            console.width = WIDE
        console.print(table)


@contextmanager
def progress(chars: int, out: BinaryIO) -> Iterator[Callable[[int], None]]:
    """A function to be told of characters that are done.

    A bar is drawn on stderr where that is a terminal with nothing else on it, for more than one request.
    """
    console = Console(stderr=True)
    shown = console.is_terminal and not out.isatty() and chars > documents.PIECE_CHARS
    with Progress(console=console, disable=not shown) as bar:
        task = bar.add_task("Translating", total=chars)
        yield lambda done: bar.advance(task, done)


class Drawing:
    """Where the model looked: on stderr sentence by sentence, in a picture all together.

    Raises :class:`CommandError` where matplotlib is needed and missing.
    """

    def __init__(self, on_stderr: bool, picture: Path | None) -> None:
        if picture is not None and importlib.util.find_spec("matplotlib") is None:
            raise CommandError("a picture needs matplotlib: pip install matplotlib")
        self.console = Console(stderr=True) if on_stderr else None
        self.picture = picture
        self.sentences: list[tuple[str, Sentence]] = []

    def add(self, reply: TranslateReply) -> None:
        for sentence in (sentence for translation in reply.translations for sentence in translation.sentences):
            if self.console is not None:
                self.console.print(heatmap(sentence, self.console.width), soft_wrap=True)
            if self.picture is not None:
                self.sentences.append((reply.model, sentence))

    def save(self) -> None:
        """Draw the picture, where one is wanted. Raises ``OSError``, and :class:`CommandError` for one too large."""
        if self.picture is None:
            return
        from .picture import figure  # noqa: PLC0415 - matplotlib is optional

        try:
            figure(self.sentences).savefig(self.picture, dpi=150)
        except ValueError as error:
            raise CommandError(f"{self.picture}: {error}") from error
