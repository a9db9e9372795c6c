import os
import signal
from collections.abc import Iterator, Sequence
from functools import partial

import pytest

from loadtests.peers import Search, System, Timed, Translation, pinned
from loadtests.peers.child import Child, ChildError

SECONDS = 0.25


class Variable(System):
    """Answers with what its process is like: the number in a variable, its cores, its id."""

    name = "variable"

    def __init__(self, variable: str) -> None:
        super().__init__("fp32", 1)
        self.variable = variable

    def translate(self, sources: Sequence[Sequence[int]], search: Search) -> list[Translation]:
        if search.beam_size == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if not sources:
            raise ValueError("nothing to translate")
        return [Translation([int(os.environ[self.variable]), len(os.sched_getaffinity(0)), os.getpid()], None)]

    def timed(self, batches: Sequence[Sequence[Sequence[int]]], search: Search) -> Timed:
        return Timed([SECONDS] * len(batches), 7)


@pytest.fixture
def child() -> Iterator[Child]:
    with pinned(1):
        made = Child("it", "int8", 2, "a setup", partial(Variable, "ANSWER"), {"ANSWER": "42"})
    yield made
    made.close()


def test_its_environment_and_its_cores_are_its_own(child: Child):
    ((answer, cores, process), _) = child.translate([[1]], Search())[0]
    assert (answer, cores) == (42, 1)
    assert process != os.getpid()
    assert "ANSWER" not in os.environ
    assert (child.name, child.precision, child.cores, child.setup) == ("it", "int8", 2, "a setup")


def test_times_are_those_of_the_other_side(child: Child):
    assert child.timed([[[1]], [[2]]], Search()) == Timed([SECONDS, SECONDS], 7)


def test_a_process_that_dies_is_named(child: Child):
    child.translate([[1]], Search())
    with pytest.raises(ChildError, match=r"it \(a setup\) ended with code -9"):
        child.translate([[1]], Search(beam_size=0))
    with pytest.raises(ChildError, match="code -9"):
        child.timed([], Search())


@pytest.mark.parametrize(
    ("arguments", "said"), [(["ANSWER"], "ValueError: nothing to translate"), (["A", "too many"], "TypeError")]
)
def test_an_error_there_is_one_here(capfd: pytest.CaptureFixture[str], arguments: list[str], said: str):
    """While it translates, or while it is built."""
    child = Child("it", "int8", 1, "", partial(Variable, *arguments), {})
    with pytest.raises(ChildError, match="ended with code 1"):
        child.translate([], Search())
    child.close()
    assert said in capfd.readouterr().err


def test_it_ends_when_it_is_closed(child: Child):
    process = child.translate([[1]], Search())[0].token_ids[2]
    child.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
