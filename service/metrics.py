"""Prometheus metrics. Labels are bounded: route templates, status codes, error codes, what the packages are called and
translate.
"""

import os

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.multiprocess import MultiProcessCollector

from service import errors

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

REQUESTS = Counter("attentive_requests", "Requests answered", ["route", "status"])
REQUEST_SECONDS = Histogram(
    "attentive_request_seconds", "From the request's head to its answer", ["route"], buckets=SECONDS
)
REFUSED = Counter("attentive_refused", "Requests refused", ["code"])
TEXTS = Counter("attentive_texts", "Texts translated", ["model", "source", "target"])
SENTENCES = Counter("attentive_sentences", "Sentences translated", ["model"])
TOKENS_IN = Counter("attentive_tokens_in", "Source sub-words translated, without tag and EOS", ["model"])
TOKENS_OUT = Counter("attentive_tokens_out", "Target sub-words of the best hypotheses", ["model"])
TOKENIZE_SECONDS = Histogram(
    "attentive_tokenize_seconds", "Detection, sentence split and sub-words of one request", buckets=SECONDS
)
INFERENCE_SECONDS = Histogram(
    "attentive_inference_seconds", "In the engine, waiting included, all sentences of one request", buckets=SECONDS
)
QUEUE_SECONDS = Histogram(
    "attentive_queue_seconds",
    "From handing a sentence to the engine to its slot, encoding included",
    ["model"],
    buckets=SECONDS,
)
ENCODE_SECONDS = Histogram("attentive_encode_seconds", "Encoding one group of sentences", ["model"], buckets=SECONDS)
DECODE_SECONDS = Histogram(
    "attentive_decode_seconds", "From a sentence's slot to its translation", ["model"], buckets=SECONDS
)
STEPS = Counter("attentive_steps", "Decoder steps", ["model"])
STEP_ROWS = Counter("attentive_step_rows", "Rows of all decoder steps: over the steps, what a batch has", ["model"])
STEP_SECONDS = Counter("attentive_step_seconds", "Time in decoder steps, all loops", ["model"])
RELOADS = Counter("attentive_reloads", "Packages, by what became of them at the start or a reload", ["outcome"])
CACHE = Counter("attentive_cache", "Sentences looked up among those translated lately", ["result"])
IN_FLIGHT = Gauge("attentive_in_flight", "Requests being translated", multiprocess_mode="livesum")
QUEUED = Gauge("attentive_queued", "Sentences that wait for a slot", ["model"], multiprocess_mode="livesum")
DECODING = Gauge("attentive_decoding", "Rows that decode together now", ["model"], multiprocess_mode="livesum")
SLOTS = Gauge("attentive_slots", "Rows that can decode together", ["model"], multiprocess_mode="livesum")
WAIT_SECONDS = Gauge(
    "attentive_wait_seconds", "How long work that comes now would wait, as far as is known", multiprocess_mode="livemax"
)
READY = Gauge("attentive_ready", "1 while new work is accepted", multiprocess_mode="livesum")
RESIDENT_BYTES = Gauge("attentive_resident_bytes", "Memory of the workers", multiprocess_mode="livesum")

# A series that begins with its first event has no growth that an alert could see.
for outcome in ("loaded", "unchanged", "failed", "removed"):
    RELOADS.labels(outcome)
for refusal in errors.ServiceError.__subclasses__():
    REFUSED.labels(refusal.code)


def exposition() -> bytes:
    """The text format, over all worker processes where BentoML has set the directory they share."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return generate_latest(registry)


def markdown_table() -> str:
    """The metrics as a Markdown table, in the order of this module."""
    rows = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for metric in globals().values():
        if isinstance(metric, MetricWrapperBase):
            [family] = metric.describe()
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            rows.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join(rows) + "\n"
