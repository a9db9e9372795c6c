"""What a request asks of the engines, and its replies as the answers come in."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from service.engine import Hypothesis, Job
from service.parts import Item, Piece, Stretch
from service.plan import Plan
from service.registry import Model
from service.render import Lost, Rendering, render
from service.reply import Cells, Reply
from service.schemas.reply import Sentence, Translation
from service.schemas.request import TranslateRequest

Place = tuple[int, int]
"""Index of a text, and of a piece of its plan."""


class Work:
    """The jobs of a request: those it begins with, and those of further attempts, which are added to the end."""

    def __init__(self, plans: Sequence[Plan], request: TranslateRequest, deadline: float, cells: Cells) -> None:
        self.plans = plans
        self.request = request
        self.deadline = deadline
        self.jobs: list[tuple[Model, Job]] = []
        self._places: list[tuple[Place, int]] = []
        """For each job where its piece is, and which stretch of it."""
        self._found: dict[Place, dict[int, list[Rendering]]] = {}
        self._lost: defaultdict[Place, list[Item]] = defaultdict(list)
        self._next: Place = (0, 0)
        """The piece that comes next in the reply."""
        self._replies = [Reply(plan, request, cells) for plan in plans]
        for text, plan in enumerate(plans):
            for number in range(len(plan.pieces)):
                self._ask((text, number))

    def take(self, index: int, hypotheses: Sequence[Hypothesis]) -> None:
        """The answer to a job. Where nothing is written, or all hypotheses have lost something, there are jobs anew."""
        place, number = self._places[index]
        plan, piece = self._at(place)
        assert plan.model is not None
        assert plan.cutter is not None
        job = self.jobs[index][1]
        written = [each for each in hypotheses if each.token_ids]
        if not written and not job.min_length:
            # A word by itself, such as an article, may be likeliest to have no translation.
            self._add(place, number, replace(job, min_length=1))
            return
        stretch = piece.stretches[number]
        rendered = [render(plan.model, piece, stretch, each, plan.target) for each in written or hypotheses]
        found = self._found[place]
        found[number] = [each for each in rendered if isinstance(each, Rendering)]
        if isinstance(rendered[0], Lost) and not found[number]:
            self._lost[place] += rendered[0].items
        if len(found) == len(piece.stretches) and (lost := self._lost.pop(place, None)):
            plan.pieces[place[1]] = plan.cutter.again(piece, lost)
            plan.lost |= {item.span.kind for item in lost if item.mark or piece.attempt > 1}
            self._ask(place)

    def ready(self) -> Iterator[tuple[int, Sentence | Translation]]:
        """What of the replies is there by now and has not been told yet: sentences in order, after the last one of a
        text its whole translation, each with the index of the text. Raises what :meth:`service.reply.Reply.add` does.
        """
        while self._next[0] < len(self.plans):
            text, number = self._next
            if number == len(self.plans[text].pieces):
                self._next = (text + 1, 0)
                yield text, self._replies[text].finish()
            else:
                _, piece = self._at(self._next)
                found = self._found[self._next]
                if len(found) < len(piece.stretches):
                    return
                del self._found[self._next]
                self._next = (text, number + 1)
                yield text, self._replies[text].add(piece, [found[index] for index in range(len(found))])

    def _at(self, place: Place) -> tuple[Plan, Piece]:
        text, number = place
        return self.plans[text], self.plans[text].pieces[number]

    def _ask(self, place: Place) -> None:
        plan, piece = self._at(place)
        assert plan.model is not None
        self._found[place] = {}
        for index, stretch in enumerate(piece.stretches):
            self._add(place, index, self._job(plan.model, plan.target, piece, stretch))

    def _add(self, place: Place, number: int, job: Job) -> None:
        model = self._at(place)[0].model
        assert model is not None
        self.jobs.append((model, job))
        self._places.append((place, number))

    def _job(self, model: Model, target: str, piece: Piece, stretch: Stretch) -> Job:
        request = self.request
        prefix = piece.prefix.ids if piece.prefix and stretch is piece.stretches[0] else []
        min_length = math.ceil(piece.min_length * len(stretch.ids) / piece.size)
        job = Job(
            source_ids=model.source_ids(stretch.ids, target),
            beam_size=max(request.beam_size, request.alternatives + 1),
            n_best=request.alternatives + 1,
            attention=request.attention != "none" or bool(stretch.free),
            max_length=request.max_length,
            min_length=min_length,
            length_penalty=request.length_penalty,
            no_repeat_ngram=request.no_repeat_ngram_size,
            prefix=prefix,
            deadline=self.deadline,
        )
        forced = max(len(prefix), min_length)
        if request.max_length is None and forced:
            # After what was asked for there must be room to end the sentence.
            return replace(job, max_length=job.longest(model.manifest) + forced)
        return job
