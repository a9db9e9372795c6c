"""Tables in markdown, and where something was measured."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table


def grid(columns: Sequence[str], rows: Iterable[Iterable[object]], right: int = 0) -> str:
    """A table in markdown; columns from number ``right`` on are numbers, where it is not 0."""
    rule = "".join("|---:" if 0 < right <= number else "|---" for number in range(len(columns)))
    head, *body = (f"| {' | '.join(map(str, line))} |" for line in (columns, *rows))
    return "\n".join([head, f"{rule}|", *body])


def shown(table: Table) -> str:
    """What a command prints, with its title and caption, in markdown."""
    rows = zip(*(column.cells for column in table.columns), strict=True)
    columns = [str(column.header) for column in table.columns]
    right = next((number for number, column in enumerate(table.columns) if column.justify == "right"), 0)
    parts = [f"**{table.title}**" if table.title else "", grid(columns, rows, right), str(table.caption or "")]
    return "\n\n".join(part for part in parts if part)


def where(report: dict[str, Any]) -> str:
    """Machine, versions and commit."""
    machine, versions = report["machine"], report["versions"]
    known = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    kind = f" ({machine['instructions']})" if machine.get("instructions") else ""
    return f"{machine['cpu']}{kind}, {machine['cores']} cores; {known}; commit {report['commit']}."
