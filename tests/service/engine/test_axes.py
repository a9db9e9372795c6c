"""Memory along an axis of its own: the candidates of a package with a shortlist."""

import numpy as np
import pytest

from export.foreign import open_foreign
from export.importer import build, draw
from export.int8 import Int8Layers
from export.package import Package, Precision
from service.engine import Job
from service.engine.session import Session
from service.engine.slots import Slots
from tests.export.others import VOCABULARY, firefox, write_shortlist
from tests.service.engine.helpers import running, translate, translate_alone
from tests.service.engine.reference import assert_same, oracles, search
from tests.service.engine.test_options import mixed

EOS = 0


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Of a tiny student, in both precisions."""
    root = tmp_path_factory.mktemp("short")
    directory = firefox(root / "enpt")
    write_shortlist(directory)
    found = open_foreign(directory)
    (root / "package").mkdir()
    texts = [(text, "pt") for text in draw(found.source, 40)]
    return build(found, root / "package", "en-pt", "0", [("en", "pt")], {}, texts, Int8Layers)


@pytest.fixture(scope="module")
def sources() -> list[list[int]]:
    random = np.random.default_rng(5)
    return [[*random.integers(2, VOCABULARY - 20, size=random.integers(1, 40)).tolist(), EOS] for _ in range(20)]


def allowed(package: Package, source: list[int]) -> set[int]:
    """The candidates of a source, without what is never produced."""
    session = Session(package, "fp32", "CPUExecutionProvider")
    return set(session.encode([source]).tensors["memory.candidates"][0].tolist()) - {package.manifest.special.bos}


def test_slots_are_as_wide_as_the_most_candidates(package: Package) -> None:
    """And what a row has follows it, with nothing of others behind it."""
    session = Session(package, "fp32", "CPUExecutionProvider")
    slots = Slots(session.manifest, session.graphs, 3)
    few, many = session.encode([[5, EOS]]), session.encode([[*range(2, 60), EOS]])
    narrow, wide = (each.tensors["memory.candidates"].shape[1] for each in (few, many))
    assert narrow < wide
    slots.join(few, 0, 1)
    assert slots.width["candidates"] == narrow
    slots.join(many, 0, 2)
    assert slots.width["candidates"] == wide
    names = [spec.name for spec in session.graphs.memory if "candidates" in spec.shape]
    assert len(names) == 3
    specs = {spec.name: spec for spec in session.graphs.memory}
    for name in names:
        buffer = slots.buffers[name]
        assert np.array_equal(buffer[0, :narrow], few.tensors[name][0])
        assert (buffer[0, narrow:] == specs[name].pad).all()
        assert all(np.array_equal(buffer[row], many.tensors[name][0]) for row in (1, 2))
    layout = slots.layout
    slots.leave(2)
    slots.leave(1)
    slots.fit({"source": 1, "candidates": 1})
    assert slots.width["candidates"] == narrow
    assert slots.layout == layout + 1
    assert all(np.array_equal(slots.buffers[name][0], few.tensors[name][0]) for name in names)


def test_targets_are_made_of_candidates(package: Package, sources: list[list[int]]) -> None:
    jobs = [Job(source, beam_size=3, n_best=3) for source in sources]
    with running(package, slots=9) as engine:
        for source, hypotheses in zip(sources, translate(engine, jobs), strict=True):
            few = allowed(package, source)
            assert few < set(range(VOCABULARY + 1))
            assert all(set(each.token_ids) <= few for each in hypotheses)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_option_in_any_company(package: Package, sources: list[list[int]], precision: Precision) -> None:
    """Prefixes have sub-words that are no candidates, beams and bans ask for more than there are few of."""
    vocabulary = package.manifest.graphs["fp32"].axes["candidates"]
    jobs = mixed(sources, VOCABULARY - 20)
    assert any(set(job.prefix) - allowed(package, list(job.source_ids)) for job in jobs)
    with running(package, precision=precision, slots=8) as engine:
        alone, together = translate_alone(engine, jobs), translate(engine, jobs)
    known = oracles(package, precision, vocabulary, sources)
    for job, one, other, oracle in zip(jobs, alone, together, known, strict=True):
        assert_same(one, other)
        assert_same(other, search(oracle, job))


@pytest.mark.parametrize("beam", [1, 4])
def test_a_target_ends_when_every_candidate_is_banned(package: Package, beam: int) -> None:
    """Though it should be longer; others in the batch do not notice."""
    source = [5, EOS]
    few = allowed(package, source)
    job = Job(source, beam_size=beam, min_length=250, max_length=254, no_repeat_ngram=1)
    assert len(few) < job.min_length
    other = Job([*range(2, 30), EOS])
    with running(package) as engine:
        [(best, *_), companion] = translate(engine, [job, other])
        assert_same(companion, translate_alone(engine, [other])[0])
    assert sorted(best.token_ids) == sorted(few - {EOS})
    assert best.whole
