"""Checkpoints: what resuming and averaging need, written whole or not at all."""

import os
import pickle
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from models.bahdanau import Bahdanau
from models.config import Config, TransformerConfig
from models.transformer import Transformer
from models.translator import Translator

Weights = dict[str, torch.Tensor]


def build(config: Config) -> Translator:
    """The untrained model of a configuration, seeded by it."""
    torch.manual_seed(config.training.seed)
    if isinstance(config.model, TransformerConfig):
        return Transformer(config.model)
    return Bahdanau(config.model)


def save(path: Path, content: dict[str, Any]) -> None:
    """Write beside, then rename: a process killed half-way leaves the previous checkpoint intact.

    So does a power cut: the content is on the disk before the new name is.
    """
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load(path: Path) -> dict[str, Any]:
    """Tensors and plain values only; nothing in the file is executed."""
    return torch.load(path, map_location="cpu", weights_only=True)


def newest_first(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Those of ``paths``, oldest first, that open. Warns of every other one: a power cut may have left it empty."""
    for path in reversed(paths):
        try:
            content = load(path)
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
            warnings.warn(f"{path} does not open and is passed over: {error}", stacklevel=2)
        else:
            yield content


def average(paths: Sequence[Path]) -> Weights:
    """Mean of the weights of several checkpoints. Raises ``ValueError`` where none is there that opens."""
    states: list[Weights] = [content["model"] for content in newest_first(paths)]
    if not states:
        raise ValueError("no checkpoints to average")
    first = states[0]
    return {name: torch.stack([s[name].double() for s in states]).mean(0).to(first[name].dtype) for name in first}


class Training(BaseModel):
    """How a run went, for the model card."""

    steps: int
    tokens: int
    """Target tokens learnt from."""
    minutes: float
    """Of each process; what other numbers of processes computed counts as the time that so many would have taken."""
    processes: int = 1
    device: str
    corpora: dict[str, int]
    """Pairs at hand of each corpus."""
    history: list[dict[str, float]]
    initial: dict[str, Any] | None = None
    """The run that gave the first weights: its name and what it has :meth:`spent`."""

    def spent(self) -> dict[str, Any]:
        """Minutes of each process, processes and tokens, with those of the runs before it."""
        first = {"minutes": 0.0, "processes": 1, "tokens": 0} | (self.initial or {})
        minutes = self.minutes + first["minutes"] * first["processes"] / self.processes
        return {"minutes": minutes, "processes": self.processes, "tokens": self.tokens + first["tokens"]}


@dataclass(frozen=True)
class Run:
    """A finished training run on disk: all that export needs."""

    path: Path
    config: Config
    training: Training

    @classmethod
    def open(cls, path: Path) -> "Run":
        """Raises ``FileNotFoundError`` where training has not finished."""
        try:
            config, training = ((path / name).read_text() for name in ("config.json", "training.json"))
        except FileNotFoundError as error:
            missing = Path(error.filename).name
            raise FileNotFoundError(f"{path} is no finished run: it has no {missing}") from error
        return cls(path, Config.model_validate_json(config), Training.model_validate_json(training))

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer.model"

    def model(self) -> Translator:
        """The trained model, in evaluation mode."""
        model = build(self.config)
        model.load_state_dict(load(self.path / "final.pt")["model"])
        return model.eval()
