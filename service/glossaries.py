"""Glossaries that callers keep on the server, each its own, in a file of SQLite."""

import json
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from service import errors
from service.settings import Settings

Pair = tuple[str, str]
"""Codes of a source and a target language."""
Terms = Mapping[str, str]

SCHEMA = """
CREATE TABLE IF NOT EXISTS glossary (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, name TEXT NOT NULL, created TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS of_owner ON glossary (owner);
CREATE TABLE IF NOT EXISTS dictionary (
    glossary TEXT NOT NULL REFERENCES glossary (id) ON DELETE CASCADE,
    source TEXT NOT NULL, target TEXT NOT NULL, size INTEGER NOT NULL, terms TEXT NOT NULL,
    PRIMARY KEY (glossary, source, target)
);
"""
PUT = """
INSERT INTO dictionary VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET size = excluded.size, terms = excluded.terms
"""


class Kept(NamedTuple):
    """A glossary without its terms."""

    id: str
    name: str
    created: str
    """ISO 8601, UTC"""
    sizes: dict[Pair, int]
    """Terms of each of its dictionaries."""


class Glossaries:
    """A glossary is found by its owner only, and has a dictionary for each pair of languages.

    Every call opens the file for itself, so calls may come from several threads and processes at once. Without a file
    there are none, and none can be made.
    """

    def __init__(self, settings: Settings) -> None:
        """Raises ``ValueError`` where the file cannot be opened, or made."""
        self.file, self.settings = settings.glossaries, settings
        try:
            if self.file is not None:
                self.file.parent.mkdir(parents=True, exist_ok=True)
            with self._open():
                pass
        except (sqlite3.Error, OSError) as error:
            raise ValueError(f"ATTENTIVE_GLOSSARIES_FILE, {self.file}: {error}") from error

    @contextmanager
    def _open(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction. Without a file it finds nothing."""
        with closing(sqlite3.connect(self.file or ":memory:", isolation_level=None)) as database:
            database.executescript(f"PRAGMA foreign_keys = ON; {SCHEMA}")
            database.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            with database:
                yield database

    def all(self, owner: str) -> list[Kept]:
        """The oldest first."""
        with self._open() as database:
            ids = database.execute("SELECT id FROM glossary WHERE owner = ? ORDER BY rowid", (owner,)).fetchall()
            return [_find(database, owner, id_) for (id_,) in ids]

    def find(self, owner: str, id_: str) -> Kept:
        """Raises :class:`service.errors.UnknownGlossary`, as all do that are given an id."""
        with self._open() as database:
            return _find(database, owner, id_)

    def terms(self, owner: str, id_: str, pair: Pair) -> dict[str, str] | None:
        """None where the glossary has no dictionary for these languages."""
        with self._open() as database:
            _find(database, owner, id_)
            return _terms(database, id_, pair)

    def add(self, owner: str, name: str, dictionaries: Mapping[Pair, Terms]) -> Kept:
        """Raises :class:`service.errors.InvalidRequest` where there is no file to keep it in, and
        :class:`service.errors.TooLarge` where the owner has as many as there may be, or it is too long.
        """
        if self.file is None:
            raise errors.InvalidRequest("this server keeps no glossaries: ATTENTIVE_GLOSSARIES_FILE is not set")
        most = self.settings.max_glossaries
        with self._open(write=True) as database:
            if database.execute("SELECT count(*) FROM glossary WHERE owner = ?", (owner,)).fetchone()[0] >= most:
                raise errors.TooLarge(f"at most {most} glossaries are kept: delete one first")
            id_, now = str(uuid.uuid4()), datetime.now(UTC).isoformat(timespec="milliseconds")
            database.execute("INSERT INTO glossary VALUES (?, ?, ?, ?)", (id_, owner, name, now[:-6] + "Z"))
            self._put(database, id_, dictionaries)
            return _find(database, owner, id_)

    def change(
        self,
        owner: str,
        id_: str,
        dictionaries: Mapping[Pair, Terms],
        name: str | None = None,
        *,
        replace: bool = False,
    ) -> Kept:
        """Give it another ``name`` and more terms, or ``replace`` those of these languages.

        Raises :class:`service.errors.TooLarge` where there would be too many terms; then nothing has changed.
        """
        with self._open(write=True) as database:
            _find(database, owner, id_)
            if name is not None:
                database.execute("UPDATE glossary SET name = ? WHERE id = ?", (name, id_))
            before = {} if replace else {pair: _terms(database, id_, pair) or {} for pair in dictionaries}
            self._put(database, id_, {pair: {**before.get(pair, {}), **terms} for pair, terms in dictionaries.items()})
            return _find(database, owner, id_)

    def remove(self, owner: str, id_: str, pair: Pair | None = None) -> None:
        """All of it, or the dictionary of these languages, which must be there."""
        with self._open(write=True) as database:
            kept = _find(database, owner, id_)
            if pair is None:
                database.execute("DELETE FROM glossary WHERE id = ?", (id_,))
            elif pair in kept.sizes:
                key = (id_, *pair)
                database.execute("DELETE FROM dictionary WHERE glossary = ? AND source = ? AND target = ?", key)
            else:
                raise no_dictionary(pair)

    def _put(self, database: sqlite3.Connection, id_: str, dictionaries: Mapping[Pair, Terms]) -> None:
        for pair, terms in dictionaries.items():
            check_terms(terms, self.settings, "entries")
            row = (id_, *pair, len(terms), json.dumps(terms))
            database.execute(PUT, row)


def no_dictionary(pair: Pair) -> errors.UnknownGlossary:
    return errors.UnknownGlossary(f"the glossary has no dictionary from {pair[0]} to {pair[1]}")


def _find(database: sqlite3.Connection, owner: str, id_: str) -> Kept:
    query = "SELECT name, created FROM glossary WHERE id = ? AND owner = ?"
    found = database.execute(query, (id_, owner)).fetchone()
    if found is None:
        raise errors.UnknownGlossary("there is no such glossary")
    sizes = database.execute("SELECT source, target, size FROM dictionary WHERE glossary = ? ORDER BY rowid", (id_,))
    name, created = found
    return Kept(id_, name, created, {(source, target): size for source, target, size in sizes})


def _terms(database: sqlite3.Connection, id_: str, pair: Pair) -> dict[str, str] | None:
    query = "SELECT terms FROM dictionary WHERE glossary = ? AND source = ? AND target = ?"
    found = database.execute(query, (id_, *pair)).fetchone()
    return None if found is None else json.loads(found[0])


def check_terms(terms: Terms, limits: Settings, field: str) -> None:
    """Raises :class:`service.errors.TooLarge`, which names the field."""
    if len(terms) > limits.max_glossary_terms:
        raise errors.TooLarge(f"a glossary has at most {limits.max_glossary_terms} terms", field=field)
    if any(len(term) > limits.max_term_chars for pair in terms.items() for term in pair):
        raise errors.TooLarge(f"a term has at most {limits.max_term_chars} characters", field=field)
