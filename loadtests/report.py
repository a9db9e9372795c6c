"""Figures of a load test: recorded request by request, reported as JSON, shown as a table."""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from loadtests.machine import describe

PERCENTILES = (50, 95, 97, 99)


class Recorder:
    """Exact latencies in memory; Locust's own statistics round them to two digits."""

    def __init__(self, settings: Mapping[str, Any], models: Sequence[Any], *, offered: float) -> None:
        """``offered``: requests a second that the users would make if every reply came at once."""
        self.settings, self.models, self.offered = settings, models, offered
        self.latencies: dict[str, list[float]] = defaultdict(list)
        self.errors: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.never_sent = 0
        self.started = self.ended = time.monotonic()

    def record(self, *, name: str, response_time: float, exception: object = None, **_: Any) -> None:
        """Listener of Locust's ``request`` event; ``response_time`` in milliseconds. Failures have a latency too."""
        self.latencies[name].append(response_time)
        self.ended = time.monotonic()
        if exception is not None:
            self.failures[name] += 1
            self.errors[str(exception)] += 1

    def unsent(self, *, name: str, waited: float) -> None:
        """A request that was due ``waited`` milliseconds ago and is not sent any more: it would have taken longer."""
        self.latencies[name].append(waited)
        self.never_sent += 1

    def crash(self, *, exception: Exception, **_: Any) -> None:
        """Listener of Locust's ``user_error`` event: the load test itself is at fault."""
        self.errors[f"in the load test: {exception!r}"] += 1

    def report(self) -> dict[str, Any]:
        """``passed``: something was answered, without an error, and within the limit if there is one."""
        seconds = self.ended - self.started
        every = [latency for latencies in self.latencies.values() for latency in latencies]
        sent = len(every) - self.never_sent
        total = row(every, self.failures.total())
        limit = self.settings["p95_limit_ms"]
        in_time = sent > 0 and (limit is None or total["p95_ms"] <= limit)
        return {
            "passed": in_time and not self.errors,
            "settings": dict(self.settings),
            "seconds": round(seconds, 1),
            "offered_per_s": self.offered,
            "achieved_per_s": round(sent / seconds, 2) if sent else 0.0,
            "unsent": self.never_sent,
            "total": total,
            "by_kind": {name: row(self.latencies[name], self.failures[name]) for name in sorted(self.latencies)},
            "errors": dict(self.errors),
            "models": list(self.models),
            "client": describe("locust", "bentoml", "onnxruntime", "sentencepiece", "numpy"),
        }


def row(latencies: Sequence[float], failures: int) -> dict[str, Any]:
    """Count, failures and percentiles, in milliseconds; no percentiles of nothing."""
    points = np.percentile(latencies, PERCENTILES).tolist() if latencies else []
    named = {f"p{percent}_ms": round(point, 1) for percent, point in zip(PERCENTILES, points, strict=False)}
    return {"requests": len(latencies), "failures": failures} | named


def table(report: Mapping[str, Any]) -> Table:
    """A line for each kind of request and one for all."""
    columns = ["requests", "failures", "p50_ms", "p95_ms", "p99_ms"]
    shown = Table(caption=f"offered {report['offered_per_s']:g}, achieved {report['achieved_per_s']:g} requests/s")
    shown.add_column("request", no_wrap=True)
    for column in columns:
        shown.add_column(column.replace("_", " "), justify="right")
    for name, figures in report["by_kind"].items():
        shown.add_row(name, *(f"{figures.get(column, '-')}" for column in columns))
    shown.add_section()
    shown.add_row("all", *(f"{report['total'].get(column, '-')}" for column in columns), style="bold")
    return shown
