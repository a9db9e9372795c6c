import asyncio
import builtins
import time
from types import SimpleNamespace

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind, StatusCode

from service import tracing
from service.boundary import Boundary
from service.settings import Settings
from service.text.tokens import Tokenizer
from service.tracing import Tracing
from tests.service.fakes import Client, EchoEngine, model, run, started

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Traced(Client):
    """A client of an application that is traced."""

    def __init__(self, translator, exporter: SpanExporter) -> None:
        super().__init__(translator)
        self.tracing = Tracing()
        self.tracing.start(exporter)
        self.app = Boundary(self.app, Settings(), self.tracing)  # type: ignore[assignment]

    def finish(self) -> None:
        run(self.tracing.stop())


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traced(tokenizer: Tokenizer, exporter: InMemorySpanExporter) -> Traced:
    return Traced(started([model(tokenizer, EchoEngine())]), exporter)


def ended(exporter: InMemorySpanExporter) -> tuple[list[ReadableSpan], ReadableSpan]:
    """The phases, and the request that they are of."""
    *parts, whole = exporter.get_finished_spans()
    return parts, whole


def identity(span: ReadableSpan) -> SpanContext:
    assert span.context is not None
    return span.context


def times(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


def test_a_request_is_a_span_with_its_phases(traced: Traced, exporter: InMemorySpanExporter) -> None:
    before = time.time_ns()
    answer = traced.translate(text="The cat sleeps.")
    after = time.time_ns()
    traced.finish()
    parts, whole = ended(exporter)
    assert [part.name for part in parts] == ["tokenize", "queue", "decode"]
    assert (whole.name, whole.kind, whole.parent) == ("POST /v1/translate", SpanKind.SERVER, None)
    assert whole.resource.attributes["service.name"] == "attentive"
    assert whole.attributes is not None
    assert whole.attributes["http.response.status_code"] == 200
    assert whole.attributes["attentive.request_id"] == answer.headers["X-Request-ID"]
    assert whole.attributes["attentive.model"] == "echo"
    assert all("cat" not in str(value) for value in whole.attributes.values())
    slack = 5_000_000
    start, end = times(whole)
    assert before - slack <= start <= end <= after + slack
    for part in parts:
        assert part.parent is not None
        assert part.parent.span_id == identity(whole).span_id
    moments = [start, *(moment for part in parts for moment in times(part)), end]
    assert moments == sorted(moments)


def test_the_callers_trace_is_continued_and_in_the_log(
    traced: Traced, exporter: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    traced.request("GET", "/v1/models", headers={"traceparent": CALLER})
    traced.finish()
    _, span = ended(exporter)
    assert span.parent is not None
    _, trace, parent, _ = CALLER.split("-")
    assert f"{identity(span).trace_id:032x}" == trace
    assert f"{span.parent.span_id:016x}" == parent
    assert f" trace_id={trace} " in caplog.text


def test_a_caller_who_wants_no_trace_gets_none(traced: Traced, exporter: InMemorySpanExporter) -> None:
    traced.request("GET", "/v1/models", headers={"traceparent": CALLER.removesuffix("01") + "00"})
    traced.finish()
    assert exporter.get_finished_spans() == ()


def test_a_failure_is_marked(tokenizer: Tokenizer, exporter: InMemorySpanExporter) -> None:
    engine = EchoEngine()
    traced = Traced(started([model(tokenizer, engine)]), exporter)
    engine.error = RuntimeError()
    assert traced.translate(text="cat").status_code == 500
    traced.finish()
    assert ended(exporter)[1].status.status_code is StatusCode.ERROR


class Stuck(SpanExporter):
    """A collector that never answers."""

    def export(self, spans) -> SpanExportResult:
        time.sleep(60)
        return SpanExportResult.FAILURE


class Broken(SpanExporter):
    def export(self, spans) -> SpanExportResult:
        raise RuntimeError


@pytest.mark.parametrize("exporter", [Stuck(), Broken()], ids=["stuck", "broken"])
def test_no_request_notices_a_collector_that_fails(
    tokenizer: Tokenizer, exporter: SpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "SEND_S", 0.05)
    traced = Traced(started([model(tokenizer, EchoEngine())]), exporter)
    began = time.monotonic()
    assert [traced.translate(text="cat").status_code for _ in range(20)] == [200] * 20
    traced.finish()
    assert time.monotonic() - began < 20


def test_without_the_package_there_are_no_traces_and_a_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    known = builtins.__import__

    def missing(name: str, *rest, **more):
        if name.startswith("opentelemetry.exporter"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return known(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    unconnected = Tracing()
    unconnected.connect("http://127.0.0.1:4318")
    assert unconnected.provider is None
    assert "opentelemetry.exporter" in caplog.text


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "nonsense", "http://[", "http://no such host:4318/"])
def test_no_address_keeps_the_server_from_serving(
    tokenizer: Tokenizer, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "SEND_S", 0.05)
    client = Client(started([model(tokenizer, EchoEngine())]))
    connected = Tracing()
    connected.connect(endpoint)
    client.app = Boundary(client.app, Settings(), connected)  # type: ignore[assignment]
    assert client.translate(text="cat").status_code == 200
    run(connected.stop())


def test_what_goes_wrong_ends_the_tracing_only(
    traced: Traced, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no context")

    monkeypatch.setattr(traced.tracing, "propagator", SimpleNamespace(extract=broken))
    assert [traced.translate(text="cat").status_code for _ in range(2)] == [200, 200]
    assert caplog.text.count("no more traces") == 1


def test_it_is_off_until_it_is_started(tokenizer: Tokenizer) -> None:
    client = Client(started([model(tokenizer, EchoEngine())]))
    client.app = Boundary(client.app, Settings(), Tracing())  # type: ignore[assignment]
    assert client.translate(text="cat").status_code == 200
    asyncio.run(Tracing().stop())
