"""The commands that make a package again, for its card, from what a run knows of itself.

Corpora are in ``corpora``, evaluation sets in ``eval``, as docs/training.md has them.
"""

from pathlib import Path

import models
from models.checkpoint import Training
from models.config import Config

CONFIGS = Path(models.__file__).parent / "configs"


def configuration(name: str) -> str:
    """Where the repository has the configuration of that name; a file in its root where it has none."""
    for path in sorted(CONFIGS.rglob("*.toml")):
        if Config.load(path).name == name:
            return str(path.relative_to(CONFIGS.parent.parent))
    return f"{name}.toml"


def training_commands(
    name: str, config: Config | None, minutes: float, processes: int, initial: str | None = None
) -> list[str]:
    """From text to a finished run. Without a ``config`` the repository's is taken, if there is one."""
    path = configuration(name)
    if config is None:
        if not (CONFIGS.parent.parent / path).exists():
            return [f"# {name}: its configuration is not in the repository"]
        config = Config.load(CONFIGS.parent.parent / path)
    files = " ".join(f"corpora/{pair}.*.tsv.xz" for pair in config.data.fractions)
    where = f"CONFIG={path} DATA=data/{name}"
    options = f"--max-minutes {minutes:.0f}" + (f" --initial runs/{initial}" if initial else "")
    lines = [f'make data {where} FILES="{files}"']
    if config.training.alignment_weight:
        lines.append(f"python -m models.align label --config {path} --data data/{name}")
    several = f" PROCESSES={processes}" if processes > 1 else ""
    return [*lines, f'make train {where} RUN=runs/{name}{several} ARGS="{options}"']


def commands(config: Config, training: Training, version: str) -> list[str]:
    """Everything, from the text to the scores in the card."""
    name, lines, initial = config.name, [], training.initial
    on_cpu = training.device == "cpu"  # on GPUs the command has a process on each
    if initial is not None:
        processes = initial.get("processes", 1) if on_cpu else 1
        lines += training_commands(initial["name"], None, initial["minutes"], processes)
    processes = training.processes if on_cpu else 1
    lines += training_commands(name, config, training.minutes, processes, initial["name"] if initial else None)
    sentences = " ".join(f"eval/tatoeba-dev.{pair}.tsv" for pair in config.data.fractions)
    package = f"models/trained/{name}"
    options = f"--precision int8 --version {version}"
    return [
        *lines,
        f'make export RUN=runs/{name} OUTPUT={package} SENTENCES="{sentences}" ARGS="{options}"',
        "make evaluate EVAL=eval",
        "make robustness",
        f"python -m export.card {package} --scores reports/quality.json --scores reports/robustness.json",
    ]
