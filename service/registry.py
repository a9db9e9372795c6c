"""The packages that are served: opening them, and choosing one for a request."""

import logging
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from export.package import MANIFEST, Manifest, Package, PackageError
from service.engine import Engine
from service.errors import UnknownDirection, UnknownModel
from service.settings import Settings
from service.text.tokens import Tokenizer
from service.watch import Watch

logger = logging.getLogger("attentive")

DECODE_NICE = 10
"""Under overload the event loop needs little, but at once: a refusal then takes 5 ms, and 40 without it."""


@dataclass(frozen=True, eq=False)
class Model:
    """A package with its engine and tokenizer."""

    manifest: Manifest
    engine: Engine
    tokenizer: Tokenizer
    path: Path = Path()
    watch: Watch = field(default_factory=Watch)

    @property
    def name(self) -> str:
        return self.manifest.name

    def is_called(self, name: str) -> bool:
        return name in (self.name, self.manifest.architecture)

    def source_ids(self, subwords: Sequence[int], target: str) -> list[int]:
        """What the encoder reads: tag, sub-words, EOS. A model of one direction may have no tag."""
        tag = self.manifest.tags.get(target)
        return [*([] if tag is None else [tag]), *subwords, self.manifest.special.eos]

    @property
    def max_subwords(self) -> int:
        """Of one sentence, without tag and EOS: what the model can read, and no more than it has learnt to read."""
        longest = self.manifest.max_length - 2
        return min(longest, self.manifest.learnt_length or longest)


class Registry:
    """Models in the order of preference; the first that has a direction serves it."""

    def __init__(self, models: Sequence[Model] = (), default: str = "") -> None:
        self.models = sorted(models, key=lambda model: (not model.is_called(default), model.name))

    def select(self, name: str | None, source: str, target: str) -> Model:
        """Raises :class:`UnknownModel` and :class:`UnknownDirection`."""
        for model in self.named(name):
            if (source, target) in model.manifest.directions:
                return model
        raise UnknownDirection(f"no model translates from {source} to {target}: see /v1/languages", field="target")

    def pivot(self, name: str | None, source: str, target: str) -> str | None:
        """The language between where no model has the direction itself; English if it can be.

        Raises :class:`UnknownModel` and :class:`UnknownDirection`.
        """
        pairs = {pair for model in self.named(name) for pair in model.manifest.directions}
        if (source, target) in pairs:
            return None
        if found := between(pairs, source, target):
            return found[0]
        raise UnknownDirection(f"no model translates from {source} to {target}: see /v1/languages", field="target")

    def sources(self, name: str | None, target: str) -> list[str]:
        """Languages that can be translated into ``target``. Raises :class:`UnknownModel`, :class:`UnknownDirection`."""
        found = sorted(source for source, to in reached(self.named(name)) if to == target)
        if not found:
            raise UnknownDirection(f"no model translates to {target}: see /v1/languages", field="target")
        return found

    def direct(self, name: str | None, target: str) -> set[str]:
        """Languages that one model translates into ``target``. Raises :class:`UnknownModel`."""
        return {source for model in self.named(name) for source, to in model.manifest.directions if to == target}

    def named(self, name: str | None) -> list[Model]:
        """Models with that name or architecture, all for None. Raises :class:`UnknownModel` if there is none."""
        if name is None:
            return self.models
        found = [model for model in self.models if model.is_called(name)]
        if not found:
            raise UnknownModel(f"no model is called {name}: see /v1/models", field="model")
        return found

    def languages(self) -> dict[str, list[str]]:
        """Source language to the languages it can be translated into, both in alphabetical order."""
        pairs = sorted(reached(self.models))
        return {source: [to for origin, to in pairs if origin == source] for source, _ in pairs}


def in_turn(names: Iterable[str]) -> str:
    """What models are called that translate a text one after the other."""
    return "+".join(dict.fromkeys(names))


def between(pairs: Collection[tuple[str, str]], source: str, target: str) -> list[str]:
    """Languages through which ``source`` leads to ``target``, English first; there and back is no way."""
    if source == target:
        return []
    found = {middle for origin, middle in pairs if origin == source and (middle, target) in pairs}
    return sorted(found, key=lambda language: (language != "en", language))


def reached(models: Sequence[Model]) -> set[tuple[str, str]]:
    """Their directions, and those through a third language."""
    pairs = {pair for model in models for pair in model.manifest.directions}
    joined = {(source, to) for source, middle in pairs for origin, to in pairs if origin == middle and source != to}
    return pairs | joined


@dataclass(frozen=True)
class Opened:
    """What became of a package."""

    package: str
    """Its directory's name."""
    outcome: Literal["loaded", "unchanged", "failed", "removed"]
    model: Model | None
    """What serves from here on, if anything."""
    before: Model | None = None
    """What served so far."""
    error: str = ""


def open_packages(settings: Settings, serving: Sequence[Model] = ()) -> list[Opened]:
    """Every package in the directory of the settings, its engine running, in alphabetical order; then those of the
    models ``serving`` that are gone.

    A package that is what it was keeps its model. One that cannot be served has the model that it had before, if any,
    and an error that names the file that is wrong, which is logged as well; the others serve.
    """
    before = {model.path: model for model in serving}
    paths = _directories(settings.packages)
    with ThreadPoolExecutor(max_workers=max(1, len(paths))) as pool:
        opened = list(pool.map(lambda path: _open(path, settings, before.get(path)), paths))
    gone = [model for path, model in before.items() if path not in paths]
    return _named_once(opened) + [Opened(model.path.name, "removed", None, model) for model in gone]


def _directories(parent: Path) -> list[Path]:
    """Those that may be packages, in alphabetical order; none where there is nothing to be read."""
    try:
        return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        logger.error("no packages: %s", error)
        return []


def _named_once(opened: Sequence[Opened]) -> list[Opened]:
    """Two of one name could not be told apart, in requests as little as in metrics. It stays with the package that has
    it, else it is the first one's.
    """
    owners: dict[str, str] = {}
    for each in sorted(opened, key=lambda each: (each.outcome == "loaded", each.before is None)):
        if each.model is not None:
            owners.setdefault(each.model.name, each.package)
    return [each if each.model is None else _beside(each, owners[each.model.name]) for each in opened]


def _beside(opened: Opened, owner: str) -> Opened:
    """What becomes of it beside the package that has the name."""
    if opened.outcome != "loaded" or opened.model is None or owner == opened.package:
        return opened
    opened.model.engine.close()
    error = f"{opened.model.path / MANIFEST}: its name, {opened.model.name}, is that of the package in {owner}"
    logger.error("package refused: %s", error)
    return replace(opened, outcome="failed", model=opened.before, error=error)


def _open(path: Path, settings: Settings, before: Model | None) -> Opened:
    try:
        package = Package.open(path)
        if settings.precision not in package.manifest.precisions:
            there = ", ".join(package.manifest.precisions)
            raise PackageError(path, f"no graphs in {settings.precision}, but in {there}")
        if before is not None and before.manifest == package.manifest:
            return Opened(path.name, "unchanged", before, before)
        watch = Watch(package.manifest.name)
        engine = Engine(
            package,
            precision=settings.precision,
            provider=settings.provider,
            slots=settings.slots,
            queue_size=settings.queue_size,
            threads=settings.decode_threads,
            nice=DECODE_NICE,
            trace=watch,
        )
        tokenizer = Tokenizer(package.tokenizer_path, package.target_tokenizer_path)
        model = Model(package.manifest, engine, tokenizer, path, watch)
    except PackageError as error:
        logger.error("package refused: %s", error)
        return Opened(path.name, "failed", before, before, str(error))
    except Exception as error:
        logger.exception("package refused: %s", path)
        return Opened(path.name, "failed", before, before, f"{path}: {error}")
    engine.start()
    logger.info("package %s %s opened", model.name, package.manifest.version)
    return Opened(path.name, "loaded", model, before)
