"""Prometheus metrics. Labels are bounded: route templates, status codes, error codes, names of loaded packages."""

import os

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

REQUESTS = Counter("attentive_requests", "Requests answered", ["route", "status"])
REQUEST_SECONDS = Histogram(
    "attentive_request_seconds", "From the request's head to its answer", ["route"], buckets=SECONDS
)
REFUSED = Counter("attentive_refused", "Requests refused", ["code"])
SENTENCES = Counter("attentive_sentences", "Sentences translated", ["model"])
TOKENS_IN = Counter("attentive_tokens_in", "Source sub-words translated, without tag and EOS", ["model"])
TOKENS_OUT = Counter("attentive_tokens_out", "Target sub-words of the best hypotheses", ["model"])
TOKENIZE_SECONDS = Histogram(
    "attentive_tokenize_seconds", "Detection, sentence split and sub-words of one request", buckets=SECONDS
)
INFERENCE_SECONDS = Histogram(
    "attentive_inference_seconds", "In the engine, waiting included, all sentences of one request", buckets=SECONDS
)
IN_FLIGHT = Gauge("attentive_in_flight", "Requests being translated", multiprocess_mode="livesum")
QUEUED = Gauge("attentive_queued", "Sentences that wait for a slot", ["model"], multiprocess_mode="livesum")
DECODING = Gauge("attentive_decoding", "Rows that decode together now", ["model"], multiprocess_mode="livesum")


def exposition() -> bytes:
    """The text format, over all worker processes where BentoML has set the directory they share."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return generate_latest(registry)
