"""A request on its way through the translator: its models and its time, and what is told of it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from service import logs, metrics
from service.plan import Plan
from service.registry import in_turn
from service.schemas.request import TranslateRequest
from service.serving import Serving


@dataclass
class Call:
    """What a caller asked for. Pages, and texts by way of a third language, ask the engines several times for it."""

    request: TranslateRequest
    serving: Serving
    deadline: float
    """A ``time.monotonic()``."""
    begun: bool = False
    """The engines have done something for it: it is not refused any more."""
    noted: bool = False

    def note(self, plans: Sequence[Plan]) -> None:
        """Tell metrics and log what the caller asked for: the first time only, since what follows is part of it."""
        if self.noted:
            return
        self.noted = True
        asked = Counter((self._model(plan), plan.source, plan.target) for plan in plans if not plan.unchanged)
        for labels, texts in asked.items():
            metrics.TEXTS.labels(*labels).inc(texts)
        columns = zip(*asked, strict=True) if asked else ((), (), ())
        model, source, target = (",".join(sorted(set(names))) for names in columns)
        characters = sum(map(len, self.request.texts))
        logs.note(model=model, source=source, target=target, texts=len(plans), characters=characters)

    def _model(self, plan: Plan) -> str:
        """Its name, or both where there is a language between."""
        ways = [(plan.source, plan.target)]
        if plan.pivot:
            ways = [(plan.source, plan.pivot), (plan.pivot, plan.target)]
        return in_turn(self.serving.registry.select(self.request.model, *way).name for way in ways)
