"""Users who translate sentences of mixed length in every direction of every model that is served.

``locust -f loadtests/locustfile.py --headless --host URL --users 8 --run-time 60s --p95 1000 --report FILE.json``

Each user asks once a second, or as soon as the last reply is there if that took longer, so that ``--users`` is the
offered rate in requests a second. Latency is counted from when a request was due: a slow server cannot hide behind the
requests that it kept from being sent. Those that are still unsent when the test ends count with what they have waited.
Exits non-zero on any error, on a wrong reply, on a 95th percentile above ``--p95``, and if nothing was answered. ``make
loadtest`` runs this and brings its own server.
"""

import json
import sys
import time
import urllib.request
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import gevent
from locust import FastHttpUser, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from loadtests.report import Recorder
from loadtests.traffic import SENTENCES, Model, Sentences, ask, problem, read_models, read_sentences

PACE = 1.0
"""Seconds between two requests of a user."""
TIMEOUT = 30.0
"""Seconds after which a request that is not answered is an error."""


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    group = parser.add_argument_group("attentive")
    group.add_argument("--p95", type=float, default=None, help="limit of the 95th percentile, in milliseconds")
    group.add_argument("--report", type=Path, default=None, help="JSON file to write the figures to")
    group.add_argument("--sentences", type=Path, default=SENTENCES, help="lines of language, tab, sentence")
    group.add_argument("--seed", type=int, default=1, help="same seed, same requests")


class Translating(FastHttpUser):
    """One who asks for translations, never for two at a time."""

    connection_timeout = TIMEOUT
    network_timeout = TIMEOUT

    sentences: ClassVar[Sentences]
    models: ClassVar[list[Model]]
    recorder: ClassVar[Recorder]
    ended: ClassVar[float]
    """From when on nobody has to ask any more."""
    numbers: ClassVar[count] = count()

    def on_start(self) -> None:
        self.random = Random(f"{self.environment.parsed_options.seed} {next(self.numbers)}")
        gevent.sleep(self.random.uniform(0, PACE))  # out of step with the others, who started at the same moment
        self.due = time.monotonic()  # the next request; those before it have been sent

    def wait_time(self) -> float:
        """Seconds until the next request is due; one that is overdue goes out at once."""
        return max(0.0, self.due - time.monotonic())

    @task
    def translate(self) -> None:
        question = ask(self.random, self.models, self.sentences)
        late = max(0.0, time.monotonic() - self.due)
        self.due += PACE
        with self.client.post("/v1/translate", json=question.body, name=question.name, catch_response=True) as response:
            response.request_meta["response_time"] += 1000 * late
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
            elif wrong := problem(question, response.text):
                response.failure(f"wrong reply: {wrong}")

    def on_stop(self) -> None:
        """What fell due during the test and waits still has taken at least until now."""
        while self.due < self.ended:
            question = ask(self.random, self.models, self.sentences)
            self.recorder.unsent(name=question.name, waited=1000 * (time.monotonic() - self.due))
            self.due += PACE


@events.init.add_listener
def set_clock(**_: Any) -> None:
    """The event loop's clock, which ``--run-time`` is counted from, stood still while Locust was loaded."""
    gevent.get_hub().loop.update_now()


@events.test_stopping.add_listener
def end(**_: Any) -> None:
    Translating.ended = time.monotonic()


@events.test_start.add_listener
def prepare(environment: Environment, **_: Any) -> None:
    """Learn what is served, and start to record. Nobody has asked for anything yet."""
    options: Any = environment.parsed_options
    try:
        with urllib.request.urlopen(f"{environment.host}/v1/models", timeout=TIMEOUT) as response:
            served = json.load(response)
        Translating.sentences = read_sentences(options.sentences)
        Translating.models = read_models(served, Translating.sentences)
    except (OSError, ValueError) as error:
        sys.exit(f"no load test of {environment.host}: {error}")
    settings = {"url": environment.host, "users": options.num_users, "seed": options.seed, "p95_limit_ms": options.p95}
    recorder = Recorder(settings, served["models"], offered=options.num_users / PACE)
    Translating.recorder = recorder
    environment.events.request.add_listener(recorder.record)
    environment.events.user_error.add_listener(recorder.crash)

    @environment.events.quitting.add_listener
    def finish(environment: Environment, **_: Any) -> None:
        report = recorder.report()
        environment.process_exit_code = 0 if report["passed"] else 1
        if options.report:
            options.report.parent.mkdir(parents=True, exist_ok=True)
            options.report.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
