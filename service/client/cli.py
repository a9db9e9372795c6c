"""The ``attentive`` command.

It ends with 0, with 1 where the server refuses or fails, with 2 where it cannot be done as it was typed, and with 3
where no server answers.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn, cast

import typer

from . import documents, launch, terminal, wire
from .client import Client
from .failure import AttentiveError, CommandError
from .replies import Reply, TranslateReply

FAILED, USAGE, NO_SERVER = 1, 2, 3

app = typer.Typer(
    help="Translate on your own machine, and see where the model looked.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Url = Annotated[str, typer.Option(envvar="ATTENTIVE_URL", help="Address of the server.")]
Key = Annotated[str | None, typer.Option(envvar="ATTENTIVE_API_KEY", help="Where the server asks for one.")]
Raw = Annotated[bool, typer.Option("--json", help="Print the server's reply as it is, a line for each request.")]


class Format(StrEnum):
    TEXT = "text"
    HTML = "html"
    XML = "xml"


@contextmanager
def told() -> Iterator[None]:
    """Within, what goes wrong is said in words and ends the command."""
    try:
        yield
    except AttentiveError as error:
        if error.code == "invalid_key":
            fail(str(error), USAGE)
        hint = "; is it running? `attentive serve` starts one" if error.code == "unreachable" else ""
        fail(f"{error}{hint}", FAILED if error.status else NO_SERVER)
    except BrokenPipeError:
        raise  # whoever reads has had enough, and knows it
    except (OSError, UnicodeError, CommandError) as error:
        fail(str(error), USAGE)


def fail(message: str, status: int) -> NoReturn:
    typer.echo(f"attentive: {message}", err=True)
    raise typer.Exit(status)


@app.command()
def translate(
    target: Annotated[str, typer.Option("--target", "-t", help="Language to translate into.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="TEXT", show_default=False)] = None,
    file: Annotated[list[Path] | None, typer.Option("--file", "-f", help="Text to translate; - is stdin.")] = None,
    source: Annotated[str | None, typer.Option("--source", "-s", help="Language of the text; else detected.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Name or architecture.")] = None,
    beam_size: Annotated[int | None, typer.Option(help="Hypotheses followed at a time; 1 is the fastest.")] = None,
    format: Annotated[Format, typer.Option(help="What the text is.")] = Format.TEXT,  # noqa: A002 - the API's name
    glossary: Annotated[Path | None, typer.Option(help="File with a term, a tab and its translation a line.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; else stdout.")] = None,
    attention: Annotated[bool, typer.Option("--attention", help="Draw on stderr where the model looked.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Draw it into a PNG, SVG or PDF.")] = None,
    raw: Raw = False,
    url: Url = wire.DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Translate TEXT, else files, else stdin. Lines, and the space between sentences, stay as they are."""
    if words and file:
        raise typer.BadParameter("either TEXT or --file")
    with told():
        given = {
            "source": source,
            "model": model,
            "beam_size": beam_size,
            "format": None if format is Format.TEXT else format.value,
            "glossary": terminal.read_glossary(glossary) if glossary else None,
            "attention": "weights" if attention or picture else None,
        }
        options = cast(wire.Options, {name: value for name, value in given.items() if value is not None})
        texts = [" ".join(words) + "\n"] if words else [terminal.read(path) for path in file or [terminal.STDIN]]
        drawing = terminal.Drawing(attention, picture)
        with (
            Client(url, api_key) as client,
            terminal.sink(output) as out,
            terminal.progress(sum(map(len, texts)), out) as done,
        ):
            for text in texts:
                for piece, reply in documents.translate(client, text, target, options):
                    out.write((as_json(reply) if raw else reply.translations[0].text).encode())
                    drawing.add(reply)
                    warn(reply)
                    done(len(piece))
        drawing.save()


@app.command()
def models(raw: Raw = False, url: Url = wire.DEFAULT_URL, api_key: Key = None) -> None:
    """The models that serve."""
    with told(), Client(url, api_key) as client:
        reply = client.ask(wire.models())
        rows = [
            (each.name, each.architecture, ", ".join(map("-".join, each.directions)), each.precision, each.version)
            for each in reply.models
        ]
        show(reply, ["name", "architecture", "directions", "precision", "version"], rows, raw)


@app.command()
def languages(raw: Raw = False, url: Url = wire.DEFAULT_URL, api_key: Key = None) -> None:
    """Source languages, and what each can be translated into."""
    with told(), Client(url, api_key) as client:
        reply = client.ask(wire.languages())
        rows = [(each.code, each.name, ", ".join(each.targets)) for each in reply.languages]
        show(reply, ["code", "name", "into"], rows, raw)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 3000,
    grace: Annotated[int, typer.Option(help="Seconds a stopping server gives the requests in flight.")] = 5,
    keep_alive: Annotated[int, typer.Option(help="Seconds until a connection without requests is closed.")] = 75,
) -> None:
    """Start the server, from the project's checkout. Its settings are ATTENTIVE_... variables."""
    with told():
        launch.serve(host, port, grace, keep_alive)


@app.command(
    "import", context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def import_model(context: typer.Context) -> None:
    """Make a package of a model of others, OPUS-MT or Firefox Translations: DIR --name en-pt; --help says more."""
    with told():
        launch.import_model(context.args)


def show(reply: Reply, heads: Sequence[str], rows: Iterable[Sequence[str]], raw: bool) -> None:
    if raw:
        with terminal.sink(None) as out:
            out.write(as_json(reply).encode())
    else:
        terminal.print_table(heads, rows)


def as_json(reply: Reply) -> str:
    """What the server sent, in one line."""
    return reply.model_dump_json(exclude_unset=True) + "\n"


def warn(reply: TranslateReply) -> None:
    [found] = reply.translations
    passed_over = [f"{term.source} is not always {term.target}" for term in found.glossary or [] if not term.honoured]
    for warning in [*found.warnings, *passed_over]:
        typer.echo(f"attentive: warning: {warning}", err=True)
