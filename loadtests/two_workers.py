"""The service with two worker processes instead of one, to measure what they bring: see :mod:`loadtests.disruption`."""

from service.service import Attentive

Attentive.config["workers"] = 2  # type: ignore[attr-defined]
