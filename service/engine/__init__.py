"""The decoding engine: continuous batching over a package's two graphs. It knows no architecture."""

from service.engine.job import Hypothesis, Job
from service.engine.scheduler import Engine, Overloaded
from service.engine.task import Event

__all__ = ["Engine", "Event", "Hypothesis", "Job", "Overloaded"]
