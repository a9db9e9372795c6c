"""The decoding engine: continuous batching over a package's two graphs. It knows no architecture."""

from service.engine.scheduler import Engine, Overloaded
from service.engine.search import Hypothesis, Job

__all__ = ["Engine", "Hypothesis", "Job", "Overloaded"]
