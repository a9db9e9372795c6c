"""Rows in fixed buffers: what a row has is where the row is, whoever comes and goes."""

import numpy as np
import pytest

from export.decoder import GraphDecoder
from export.package import Package, TensorSpec
from service.engine.session import Session, Stepper
from service.engine.slots import GRAIN, Encoded, Slots

CAPACITY = 4
SHORT, MIDDLE, LONG = [4, 9, 10, 3], [5, *range(20, 40), 3], [5, *[11] * 40, 3]


@pytest.fixture(scope="session")
def session(package: Package) -> Session:
    return Session(package, "fp32", "CPUExecutionProvider")


@pytest.fixture
def slots(session: Session) -> Slots:
    return Slots(session.manifest, session.graphs, CAPACITY)


@pytest.fixture
def specs(session: Session) -> list[TensorSpec]:
    return [*session.graphs.memory, *session.graphs.state]


def filled(slots: Slots, specs: list[TensorSpec], row: int, encoded: Encoded, of: int) -> bool:
    """Does a row have what its source was encoded to, and padding behind it?"""
    length = int(encoded.lengths[of])
    for spec in (spec for spec in specs if "time" not in spec.shape):
        buffer, value = slots.buffers[spec.name][row], encoded.tensors[spec.name][of]
        if "source" in spec.shape:
            axis = spec.shape.index("source") - 1
            buffer, value = np.moveaxis(buffer, axis, 0), np.moveaxis(value, axis, 0)[:length]
            if not np.all(buffer[length:] == spec.pad):
                return False
            buffer = buffer[:length]
        if not np.array_equal(buffer, value):
            return False
    return True


def test_a_row_is_what_its_source_was_encoded_to(session: Session, slots: Slots, specs: list[TensorSpec]) -> None:
    """Of a batch in which others are longer, and in every copy."""
    encoded = session.encode([SHORT, MIDDLE])
    assert slots.join(encoded, 0, 1) == [0]
    assert slots.join(encoded, 1, 2) == [1, 2]
    assert slots.active == 3
    assert [filled(slots, specs, row, encoded, of) for row, of in ((0, 0), (1, 1), (2, 1))] == [True] * 3
    assert slots.token[:3].tolist() == [session.manifest.special.bos] * 3
    assert slots.position[:3].tolist() == [0] * 3


def test_a_slot_keeps_nothing_of_the_row_before(session: Session, slots: Slots, specs: list[TensorSpec]) -> None:
    long, short = session.encode([LONG]), session.encode([SHORT])
    slots.join(long, 0, 1)
    slots.log_prob[0], slots.position[0] = -7.0, 5
    slots.leave(0)
    slots.join(short, 0, 1)
    assert filled(slots, specs, 0, short, 0)
    assert (slots.log_prob[0], slots.position[0], slots.sizes["source"][0]) == (0.0, 0, len(SHORT))


def test_the_source_axis_grows_and_shrinks_by_need(session: Session, slots: Slots, specs: list[TensorSpec]) -> None:
    """And whoever is there keeps what it has."""
    short, middle, long = (session.encode([source]) for source in (SHORT, MIDDLE, LONG))
    slots.join(short, 0, 1)
    assert (slots.source, slots.layout) == (GRAIN, 0)
    slots.join(middle, 0, 1)
    slots.join(long, 0, 1)
    assert slots.source == 3 * GRAIN
    assert all(filled(slots, specs, row, each, 0) for row, each in enumerate((short, middle, long)))
    slots.leave(2)
    layout = slots.layout
    slots.fit({"source": 1})
    assert (slots.source, slots.layout) == (3 * GRAIN, layout)  # one grain less is not worth the copy
    slots.leave(1)
    slots.fit({"source": 1})
    assert (slots.source, slots.layout) == (GRAIN, layout + 1)
    assert filled(slots, specs, 0, short, 0)
    for spec in specs:
        sizes = {"batch": CAPACITY, "source": GRAIN, "time": session.manifest.max_length}
        assert slots.buffers[spec.name].shape == tuple(sizes.get(str(axis), axis) for axis in spec.shape)


def test_several_rows_keep_what_they_have_when_the_source_axis_shrinks(
    session: Session, slots: Slots, specs: list[TensorSpec]
) -> None:
    short, middle, long = (session.encode([source]) for source in (SHORT, MIDDLE[: GRAIN - 1], LONG))
    for encoded in (short, middle, long):
        slots.join(encoded, 0, 1)
    slots.leave(2)
    slots.fit({"source": 1})
    assert slots.source == GRAIN
    assert all(filled(slots, specs, row, each, 0) for row, each in enumerate((short, middle)))


def advance(slots: Slots, stepper: Stepper, times: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Greedy steps: what each row says and where it looks."""
    said = []
    for _ in range(times):
        result = stepper.run(1, attention=True)
        assert result.attention is not None
        said.append((result.ids[:, 0].copy(), result.attention.copy()))
        slots.record(result.ids, result.scores, result.attention)
    return said


def alone(package: Package, source: list[int], steps: int) -> list[int]:
    tokens, _ = GraphDecoder(package, "fp32").greedy(np.array([source]), np.array([len(source)]), steps)
    ids: list[int] = tokens[0].tolist()
    return ids


@pytest.fixture
def sources(package: Package) -> list[list[int]]:
    """Some whose targets are not done after twelve steps."""
    random = np.random.default_rng(3)
    found: list[list[int]] = []
    while len(found) < CAPACITY:
        source = [4, *random.integers(6, 300, size=random.integers(2, 40)).tolist(), 3]
        if len(alone(package, source, 12)) == 12:
            found.append(source)
    return found


def test_rows_go_on_where_they_were_moved_to(
    package: Package, session: Session, slots: Slots, sources: list[list[int]]
) -> None:
    """Others leave before and behind them, join late, and make the memory wider and narrower."""
    stepper = Stepper(session, slots)
    for source in (SHORT, sources[0], LONG, sources[1]):
        slots.join(session.encode([source]), 0, 1)
    advance(slots, stepper, 3)
    assert slots.leave(0) == 3
    assert slots.leave(2) == 2
    advance(slots, stepper, 4)
    slots.join(session.encode([sources[2]]), 0, 1)
    advance(slots, stepper, 5)
    expected = [alone(package, source, 12) for source in (sources[1], sources[0], sources[2])]
    found = [slots.tokens[row, : slots.position[row]].tolist() for row in range(3)]
    assert found == [expected[0], expected[1], expected[2][:5]]


def test_a_copy_goes_on_as_what_it_was_copied_from(
    package: Package, session: Session, slots: Slots, sources: list[list[int]]
) -> None:
    stepper = Stepper(session, slots)
    encoded = session.encode([sources[0]])
    slots.join(encoded, 0, 3)
    advance(slots, stepper, 4)
    rows, where = np.array([1, 2]), np.array([0, 0])
    slots.token[1:3] = slots.tokens[1:3, 3] = 9  # they have gone another way
    advance(slots, stepper, 2)
    slots.copy(where, rows)
    slots.replace(rows, slots.tokens[where, 5], np.array([-1.0, -2.0]))
    advance(slots, stepper, 6)
    expected = alone(package, sources[0], 12)
    assert [slots.tokens[row, :12].tolist() for row in range(3)] == [expected] * 3
    assert slots.log_prob[1] - slots.log_prob[2] == pytest.approx(1.0, abs=1e-4)


def test_attention_is_that_of_the_row_wherever_it_was(session: Session, slots: Slots, sources: list[list[int]]) -> None:
    stepper = Stepper(session, slots)
    for source in (SHORT, sources[0], sources[1]):
        slots.join(session.encode([source]), 0, 1)
    seen = [weights[2] for _, weights in advance(slots, stepper, 3)]
    slots.leave(0)  # the last row takes its place
    seen += [weights[0] for _, weights in advance(slots, stepper, 3)]
    slots.leave(1)
    seen += [weights[0] for _, weights in advance(slots, stepper, 1)]
    length = len(sources[1])
    found = slots.attention_of(0, np.arange(7))
    assert found.shape == (7, length)
    assert np.array_equal(found, np.stack([weights[:length] for weights in seen]))


def test_a_lone_row_is_recorded_as_among_others(session: Session) -> None:
    """To the bit, and so that the log-probability is a sum in 64 bits."""
    random = np.random.default_rng(2)
    encoded, steps = session.encode([MIDDLE]), 20
    ids = random.integers(6, 300, size=(steps, CAPACITY, 2))
    scores = -random.exponential(size=(steps, CAPACITY, 2)).astype(np.float32)
    attention = random.random((steps, CAPACITY, 2 * GRAIN), np.float32)
    lone, among = (Slots(session.manifest, session.graphs, CAPACITY) for _ in range(2))
    for slots, rows in ((lone, 1), (among, CAPACITY)):
        slots.join(encoded, 0, rows)
        for said in zip(ids, scores, attention, strict=True):
            slots.record(*(array[:rows] for array in said))
        assert slots.tokens[0, :steps].tolist() == ids[:, 0, 0].tolist()
        assert (slots.position[0], slots.token[0], slots.steps) == (steps, ids[-1, 0, 0], steps)
        assert slots.log_prob[0] == sum(scores[:, 0, 0].tolist())
        found = slots.attention_of(0, np.arange(steps))
        assert np.array_equal(found, attention[:, 0, : len(MIDDLE)])
    assert not lone.position[1:].any()
    assert (among.position == steps).all()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_caches_are_written_in_place(package: Package, precision: str) -> None:
    """At one position of the rows in use; what else there is stays, and stays where it is."""
    session = Session(package, precision, "CPUExecutionProvider")
    slots = Slots(session.manifest, session.graphs, CAPACITY)
    grown = [spec for spec in session.graphs.state if spec.grows]
    slots.join(session.encode([SHORT]), 0, 2)
    places = {name: buffer.ctypes.data for name, buffer in slots.buffers.items()}
    cross = {spec.name: slots.buffers[spec.name].copy() for spec in grown if "source" in spec.shape}
    stepper = Stepper(session, slots)
    for step in range(1, 4):
        advance(slots, stepper, 1)
        for spec in grown:
            if "time" in spec.shape:
                buffer = np.moveaxis(slots.buffers[spec.name], spec.shape.index("time"), 1)
                assert buffer[:2, :step].any(axis=(2, 3)).all()
                assert not buffer[:2, step:].any()
                assert not buffer[2:].any()
    assert all(np.array_equal(slots.buffers[name], before) for name, before in cross.items())
    assert {name: buffer.ctypes.data for name, buffer in slots.buffers.items()} == places


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("attention", [False, True])
def test_a_step_gives_what_is_asked_for(session: Session, slots: Slots, count: int, attention: bool) -> None:
    slots.join(session.encode([MIDDLE]), 0, 3)
    found = Stepper(session, slots).run(count, attention=attention)
    assert found.ids.shape == found.scores.shape == (3, count)
    assert np.all(np.diff(found.scores, axis=1) < 0)
    assert (found.ids == found.ids[:1]).all()
    assert (found.attention is not None) == attention
    if found.attention is not None:
        assert found.attention.shape == (3, slots.source)
        assert not found.attention[:, len(MIDDLE) :].any()
