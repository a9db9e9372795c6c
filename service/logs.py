"""Logs: a line for each request and event, as text or JSON. What is to be translated is in none of them."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

QUIET = frozenset({"/livez", "/readyz", "/metrics"})
"""Asked every few seconds by machines: no line for them."""

logger = logging.getLogger("attentive")


class Fields(dict[str, Any]):
    """What a line says besides its words. In JSON these are fields of their own."""

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.items())


class Phase(NamedTuple):
    """A part of a request's time; ``time.perf_counter()``."""

    name: str
    start: float
    end: float


@dataclass
class Record:
    """What is known of a request for its line and its trace: names and numbers, never its text."""

    request_id: str
    start: float = field(default_factory=time.perf_counter)
    end: float = 0.0
    method: str = ""
    route: str = ""
    status: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    trace_id: str | None = None
    noted: dict[str, str | int] = field(default_factory=dict)
    phases: list[Phase] = field(default_factory=list)

    def answered(self, method: str, route: str, status: int) -> None:
        self.end = time.perf_counter()
        self.method, self.route, self.status = method, route, status

    def log(self) -> None:
        """Its line, once it has been answered."""
        if self.route in QUIET:
            return
        names = ("request_id", "method", "route", "status", "bytes_in", "bytes_out", "trace_id")
        fields = Fields({name: value for name in names if (value := getattr(self, name)) is not None})
        times = {"ms": self.end - self.start}
        for phase in self.phases:
            name = f"{phase.name}_ms"
            times[name] = times.get(name, 0.0) + phase.end - phase.start
        fields |= {name: round(1000 * seconds, 1) for name, seconds in times.items()} | self.noted
        logger.log(logging.WARNING if self.status >= 500 else logging.INFO, "request %s", fields)


_current: ContextVar[Record | None] = ContextVar("record", default=None)


@contextmanager
def recording(record: Record | None) -> Iterator[None]:
    """Whatever is noted within, in tasks begun there too, is noted in ``record``; None: nowhere."""
    token = _current.set(record)
    try:
        yield
    finally:
        _current.reset(token)


def note(**noted: str | int) -> None:
    """Remember something of the request that is being answered; what is empty is left out."""
    if (record := _current.get()) is not None:
        record.noted |= {name: value for name, value in noted.items() if value != ""}


def add(**counts: int) -> None:
    """Remember how much more of something there was in the request that is being answered."""
    if (record := _current.get()) is not None:
        record.noted |= {name: int(record.noted.get(name, 0)) + count for name, count in counts.items()}


def phase(name: str, start: float, end: float) -> None:
    """A part of the request that is being answered."""
    if (record := _current.get()) is not None:
        record.phases.append(Phase(name, start, end))


class JsonFormatter(logging.Formatter):
    """One JSON object for each record."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if isinstance(record.args, Fields):
            line |= {"message": str(record.msg).removesuffix(" %s"), **record.args}
        else:
            line["message"] = record.getMessage()
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(log_format: str) -> None:
    """Give all that this process logs, whoever logs it, the format. Call it when the server has set up its handlers."""
    logger.setLevel(logging.INFO)
    if log_format == "json":
        for name in (None, "bentoml", "circus", "uvicorn.error"):
            for handler in logging.getLogger(name).handlers:
                handler.setFormatter(JsonFormatter())
