import numpy as np
import pytest

from export.package import Package
from service.engine.session import Session
from service.engine.slots import GRAIN, Slots


@pytest.fixture
def session(package: Package) -> Session:
    return Session(package, "fp32", "CPUExecutionProvider")


@pytest.fixture
def slots(session: Session) -> Slots:
    return Slots(session.manifest, 4)


def test_a_row_keeps_its_memory_when_others_come_and_go(session: Session, slots: Slots) -> None:
    short, long = [4, 9, 10, 3], [5, *[11] * 30, 3]
    encoded = session.encode([short])
    slots.fit(source=4)
    assert slots.join(encoded, 0, 1) == [0]
    other = session.encode([long])
    slots.fit(source=32)
    assert slots.join(other, 0, 2) == [1, 2]
    assert slots.leave(0) == 2  # the last row moves into the free slot
    slots.fit(source=1)
    assert slots.active == 2
    for name, buffer in slots.tensors().items():
        spec = next(spec for spec in [*session.manifest.memory, *session.manifest.state] if spec.name == name)
        if "time" in spec.shape:
            continue
        value = other.tensors[name][0]
        inside = tuple(slice(0, size) for size in value.shape)
        for row in (0, 1):
            assert np.array_equal(buffer[row][inside], value)


def test_what_lies_beyond_a_source_is_padding(session: Session, slots: Slots) -> None:
    encoded = session.encode([[4, 9, 3], [4, 9, 9, 9, 9, 3]])
    slots.fit(source=6)
    slots.join(encoded, 0, 1)
    assert np.all(slots.tensors()["memory.bias"][0, 3:] == -1e9)
    assert np.all(slots.tensors()["memory.bias"][0, :3] == 0)


def test_buffers_grow_with_time_and_shrink_with_demand(session: Session, slots: Slots) -> None:
    sizes = {"source": GRAIN, "time": GRAIN}
    slots.fit(source=2 * GRAIN + 1)
    slots.join(session.encode([[4, *[9] * (2 * GRAIN - 1), 3]]), 0, 1)
    slots.position[0] = 3 * GRAIN
    slots.fit()
    for spec in [*session.manifest.memory, *session.manifest.state]:
        sizes = {"batch": 1, "source": 3 * GRAIN, "time": 4 * GRAIN}
        expected = [sizes[axis] if isinstance(axis, str) else axis for axis in spec.shape]
        assert list(slots.tensors()[spec.name].shape) == expected
    slots.leave(0)
    slots.fit(source=2)
    assert slots.tensors()["memory.bias"].shape == (0, GRAIN)
