import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from threading import Thread
from typing import Any

import numpy as np
import pytest

from loadtests import offline
from loadtests.offline import Weights, prepared
from loadtests.peers import BATCH, Search, System, Translation, pinned
from loadtests.peers.attentive import Attentive
from loadtests.peers.convert import pieces, specification
from loadtests.peers.ctranslate2 import AVX512, CTranslate2, environments, in_child
from loadtests.peers.pytorch import PyTorch
from models.checkpoint import Run
from models.config import TransformerConfig
from models.transformer import Transformer
from tests.packages import sentences

SEARCH = Search(max_length=40)
SYSTEMS = ("attentive", "ctranslate2", "pytorch")


class Unused(System):
    """Stands for a system of which only the setup is asked."""

    def __init__(self, *setup: Any) -> None:
        super().__init__("int8", 2, str(setup))

    def translate(self, sources: Sequence[Sequence[int]], search: Search) -> list[Translation]:
        raise NotImplementedError


@pytest.fixture(scope="module")
def weights(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weights]:
    path = tmp_path_factory.mktemp("set") / "invented.en-fr.tsv"
    path.write_text("".join(f"{text}\t{text}\n" for text in sentences(20)), encoding="utf-8")
    with prepared(run, path) as made:
        yield made


@pytest.fixture(scope="module")
def sources(weights: Weights) -> list[list[int]]:
    return [weights.tokenizer.source(text, "fr") for text in sentences(BATCH * 2 + 3, longest=8, seed=5)]


@pytest.fixture
def built(weights: Weights) -> Iterator[dict[str, System]]:
    """By name, in fp32 on one core."""
    with offline.systems(weights, ["fp32"], [1]) as made:
        yield {system.name: system for system in made}


def identical(first: System, second: System, sources: list[list[int]], search: Search) -> float:
    pairs = zip(first.translate(sources, search), second.translate(sources, search), strict=True)
    return float(np.mean([a.token_ids == b.token_ids for a, b in pairs]))


def test_times_are_of_each_batch(built: dict[str, System], sources: list[list[int]]):
    for system in built.values():
        seconds, tokens = system.timed([sources[:3], sources[3:4]], SEARCH)
        assert len(seconds) == 2, system.name
        assert min(seconds) > 0
        assert tokens == sum(len(translation.token_ids) for translation in system.translate(sources[:4], SEARCH))


def test_every_system_that_can_is_there(weights: Weights, built: dict[str, System]):
    assert tuple(built) == (SYSTEMS if weights.package.manifest.architecture == "transformer" else SYSTEMS[::2])
    assert {system.precision for system in built.values()} == {"fp32"}


def test_greedy_outputs_are_identical(built: dict[str, System], sources: list[list[int]]):
    ours, *peers = built.values()
    outputs = {tuple(translation.token_ids) for translation in ours.translate(sources, SEARCH)}
    assert len(outputs) > len(sources) / 4, "a model that always says the same proves nothing"
    for peer in peers:
        assert identical(ours, peer, sources, SEARCH) >= 0.99, peer.name


def test_beams_agree(built: dict[str, System], sources: list[list[int]]):
    """CTranslate2 may end a beam at another step, so it has some room."""
    ours, *peers = built.values()
    search = replace(SEARCH, beam_size=4)
    assert identical(ours, built["pytorch"], sources, search) >= 0.99
    for peer in peers:
        assert identical(ours, peer, sources, search) >= (0.99 if peer.name == "pytorch" else 0.75), peer.name


def test_a_beam_is_not_greedy(built: dict[str, System], sources: list[list[int]]):
    for system in built.values():
        greedy = system.translate(sources, SEARCH)
        assert system.translate(sources, replace(SEARCH, beam_size=4)) != greedy, system.name


def test_results_keep_the_order_of_the_sources(built: dict[str, System], sources: list[list[int]]):
    for system in built.values():
        forward, backward = (system.translate(order, SEARCH) for order in (sources, sources[::-1]))
        assert [a.token_ids == b.token_ids for a, b in zip(forward, backward[::-1], strict=True)].count(False) <= 1


@pytest.mark.parametrize("beam_size", [1, 4])
def test_no_target_is_longer_than_asked(built: dict[str, System], sources: list[list[int]], beam_size: int):
    search = Search(beam_size=beam_size, max_length=3)
    lengths = {name: [len(t.token_ids) for t in system.translate(sources, search)] for name, system in built.items()}
    assert {name: max(each) for name, each in lengths.items()} == dict.fromkeys(built, 3)


def test_attention_is_that_of_the_same_layer(weights: Weights, built: dict[str, System], sources: list[list[int]]):
    """Ours is moved to the step that reads a token where the package says so; the others' is that of the predicting."""
    search, shift = replace(SEARCH, attention=True), weights.package.manifest.alignment.shift
    expected = built["pytorch"].translate(sources, search)
    for name, system in built.items():
        compared = 0
        for (ids, attention), found in zip(expected, system.translate(sources, search), strict=True):
            if ids != found.token_ids or len(ids) <= shift:
                continue
            moved = shift if name == "attentive" else 0
            length = len(ids) - moved
            np.testing.assert_allclose(np.array(found.attention)[:length], attention[moved : len(ids)], atol=1e-4)
            compared += length
        assert compared > len(sources), name


@pytest.mark.parametrize(("head", "averaged"), [(None, 2), (0, 1)])
def test_the_peer_averages_the_heads_that_align(head: int | None, averaged: int):
    sizes: dict[str, Any] = dict.fromkeys(("size", "feed_forward_size"), 16) | {"vocab_size": 20, "heads": 2}
    model = Transformer(TransformerConfig(encoder_layers=1, decoder_layers=1, alignment_head=head, **sizes))
    assert int(specification(model).decoder.alignment_heads) == averaged


def test_without_attention_there_is_none(built: dict[str, System], sources: list[list[int]]):
    for system in built.values():
        assert {translation.attention for translation in system.translate(sources[:3], SEARCH)} == {None}


def test_pytorch_records_no_attention_of_a_beam(weights: Weights):
    with pytest.raises(ValueError, match="greedy"):
        PyTorch(weights.model, 1, 1).translate([[3]], Search(beam_size=2, attention=True))


def test_ctranslate2_runs_in_the_precision_asked_for(weights: Weights):
    if weights.converted is None:
        return
    for precision, kernel in {"fp32": "float32", "int8": "int8_float32"}.items():
        system = CTranslate2(
            weights.converted, pieces(weights.tokenizer, weights.model.config.vocab_size), precision, inter=1, intra=1
        )
        assert system._translator.compute_type == kernel
        system.close()


def test_every_setup_of_ctranslate2_is_there(weights: Weights, monkeypatch: pytest.MonkeyPatch):
    """On two cores: two batches at a time or two threads for one, each with each choice of kernels."""
    monkeypatch.setattr(offline, "processor_flags", lambda: AVX512)
    monkeypatch.setattr(offline, "pinned", lambda cores: nullcontext())
    monkeypatch.setattr(offline, "in_child", lambda directory, pieces, precision, *setup: Unused(*setup))
    monkeypatch.setattr(offline, "Attentive", lambda *_: Unused("ours"))
    with offline.systems(weights, ["int8"], [2]) as made:
        setups = [system.setup for system in made if isinstance(system, Unused)]
    forced = {"CT2_FORCE_CPU_ISA": "AVX512"}
    expected = [("ours",), *([(1, 2, {}), (1, 2, forced), (2, 1, {}), (2, 1, forced)] if weights.converted else [])]
    assert setups == [str(setup) for setup in expected]


def test_kernels_are_forced_only_where_the_processor_has_them():
    assert environments(AVX512 | {"sse2"}) == [{}, {"CT2_FORCE_CPU_ISA": "AVX512"}]
    assert environments(AVX512 - {"avx512bw"}) == [{}]


def test_the_report_names_the_kernels_that_were_chosen(weights: Weights, monkeypatch: pytest.MonkeyPatch):
    if weights.converted is None:
        return
    monkeypatch.setenv("CT2_VERBOSE", "-1")
    environment = {"CT2_FORCE_CPU_ISA": "GENERIC"}
    system = in_child(
        weights.converted, pieces(weights.tokenizer, weights.model.config.vocab_size), "fp32", 1, 1, environment
    )
    try:
        assert system.setup == "inter_threads=1 intra_threads=1 CT2_FORCE_CPU_ISA=GENERIC CT2_VERBOSE=-1"
        assert system.translate([[4, 5, 3]], SEARCH)
    finally:
        system.close()


def test_the_engine_gets_a_slot_for_each_hypothesis(weights: Weights, sources: list[list[int]]):
    system = Attentive(weights.package, "int8", 1)
    for beam_size in (1, 2):
        system.translate(sources[:2], Search(beam_size=beam_size, max_length=5))
    assert [engine.slots for engine in system._engines.values()] == [BATCH, 2 * BATCH]
    system.close()


def test_threads_stay_on_the_cores_they_were_started_on():
    before, seen = os.sched_getaffinity(0), []
    with pinned(1):
        seen.append(os.sched_getaffinity(0))
        thread = Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
        thread.start()
        thread.join()
    assert seen == [{min(before)}] * 2
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("cores", [0, 100_000])
def test_cores_that_are_not_there_are_refused(cores: int):
    with pytest.raises(ValueError, match=f"{cores} cores"), pinned(cores):
        pass
