import asyncio
import gc

import pytest
from prometheus_client import REGISTRY

from export.package import Package
from service import metrics
from service.core import Translator
from service.engine import Event
from service.schemas.request import TranslateRequest
from service.settings import Settings
from service.watch import Watch
from tests.packages import sentences

MODEL = "tiny-transformer"


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.fixture
def translated(transformer_package: Package):
    """What the metrics say more than before, after some sentences in a request, and some more before that."""
    texts = sentences(12, seed=8)
    names = [
        *("attentive_queue_seconds_count", "attentive_decode_seconds_count", "attentive_encode_seconds_count"),
        *("attentive_steps_total", "attentive_step_rows_total", "attentive_step_seconds_total"),
        *("attentive_sentences_total", "attentive_tokens_in_total", "attentive_tokens_out_total"),
        *("attentive_queue_seconds_sum", "attentive_decode_seconds_sum"),
    ]

    async def scenario() -> dict[str, float]:
        settings = Settings(models_dir=transformer_package.path.parent, threads=2, slots=8, cache_bytes=0)
        translator = Translator(settings)
        await translator.start()
        translator.observe()
        before = {name: value(name, model=MODEL) for name in names}
        request = TranslateRequest(text=texts, target="fr", source="en", split_sentences="none")
        await translator.translate(request)
        translator.observe()
        found = {name: value(name, model=MODEL) - before[name] for name in names}
        watch = translator.registry.models[0].watch
        await translator.close()
        gc.collect()
        return found | {"kept": len(watch.joined), "slots": value("attentive_slots", model=MODEL)}

    return asyncio.run(scenario())


def test_every_sentence_waits_and_is_decoded_once(translated: dict[str, float]) -> None:
    assert translated["attentive_queue_seconds_count"] == translated["attentive_decode_seconds_count"] == 12
    assert translated["attentive_sentences_total"] == 12
    assert translated["attentive_queue_seconds_sum"] > 0
    assert translated["attentive_decode_seconds_sum"] > 0
    assert 1 <= translated["attentive_encode_seconds_count"] <= 12


def test_occupancy_is_rows_over_steps(translated: dict[str, float]) -> None:
    steps, rows = translated["attentive_steps_total"], translated["attentive_step_rows_total"]
    assert steps > 0
    assert steps <= rows <= 8 * steps
    # Each row is stepped for each of its sub-words and perhaps its end; a loop is longer than what is left of it.
    assert translated["attentive_tokens_out_total"] <= rows
    assert 0 < translated["attentive_step_seconds_total"] < 60
    assert translated["slots"] == 16


def test_what_loops_did_is_told_once() -> None:
    watch = Watch("told")
    for loop, rows, seconds in ((0, 3, 0.5), (1, 8, 0.25), (0, 4, 1.0)):
        watch(Event("step", loop, 10.0, 10.0 + seconds, rows))
    for _ in range(2):
        watch.flush()
        told = [value(f"attentive_{name}_total", model="told") for name in ("steps", "step_rows", "step_seconds")]
        assert told == [3, 15, 1.75]


def test_nothing_is_kept_of_what_is_finished(translated: dict[str, float]) -> None:
    assert translated["kept"] == 0


def test_the_pairs_of_languages_are_those_of_the_packages(client) -> None:
    before = value("attentive_texts_total", model="echo", source="en", target="fr")
    for body in ({"text": ["cat", "dog"]}, {"text": "cat", "target": "xx"}, {"text": "cat", "source": "xx"}):
        client.translate(**body)
    assert value("attentive_texts_total", model="echo", source="en", target="fr") == before + 2
    labels = {sample.labels["target"] for metric in metrics.TEXTS.collect() for sample in metric.samples}
    assert "xx" not in labels
