"""Training: ``python -m models.train --config FILE --data DIR --run DIR``, or the same after ``accelerate launch -m``
(GPUs) or ``python -m models.launch 2`` (a CPU).

The same command goes on from the last checkpoint when the run directory has one. The budget may then be another: as
long as the decay of the learning rate has not begun, a run that goes on with a later end is the run that had it from
the start. ``--initial RUN`` starts from the weights of a finished run with another vocabulary
(:mod:`models.transplant`).

Minutes of the budget are minutes of computing, those of the main process where there are several: on a CPU the
processor time of its main thread, so that a process that is stopped, or gets no processor, uses nothing up.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list, parse_flag_from_env
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from models import checkpoint
from models.config import Config, TrainingConfig
from models.data import ParallelText, fingerprint
from models.evaluate import corpus_bleu, read_examples
from models.loss import loss_of
from models.precision import has_bf16, is_faster_in_bf16
from models.tokenizer import Tokenizer
from models.transplant import transplant

DEV_SENTENCES = 200
"""Sentences a direction for the dev BLEU while training: enough to see the trend, few enough to be cheap."""


@dataclass
class Progressed:
    """How far a run has come; part of every checkpoint."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    """Batches of the current epoch that each process has already learnt from."""
    processes: int = 1
    seconds: float = 0.0
    """Of the main process: what the budget counts."""
    computed: float = 0.0
    """Seconds of all processes."""
    tokens: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    initial: dict[str, Any] | None = None
    """The run that gave the first weights, as in :class:`models.checkpoint.Training`."""


def learning_rate(training: TrainingConfig, step: int, share: float) -> float:
    """Linear warm-up, a constant, then linear decay to zero where the ``share`` of the budget used up nears one.

    The constant makes the length of a run a late decision at no cost in quality (Hägele et al. 2024, arXiv:2405.18392).
    """
    decay = min(1.0, max(0.0, 1.0 - share) / training.decay_share)
    return training.learning_rate * min(1.0, (step + 1) / training.warmup_steps) * decay


class Trainer:
    """One run: a directory with its configuration, checkpoints, log and final weights."""

    def __init__(self, config: Config, data: Path, run: Path, dev: Sequence[Path], budget: "Budget") -> None:
        self.config, self.run, self.budget = config, run, budget
        self.text = ParallelText.load(data / "text.npz")
        if config.training.alignment_weight:
            self.text = self.text.aligned(data / "alignment.npz")
        self.tokenizer, self.of = Tokenizer(data / "tokenizer.model"), fingerprint(data)
        if len(self.tokenizer) > config.model.vocab_size:
            raise ValueError(f"{len(self.tokenizer)} pieces in {data}, only {config.model.vocab_size} in {config.name}")
        self.accelerator = Accelerator(mixed_precision=self.precision())
        model = checkpoint.build(config)
        optimizer = torch.optim.AdamW(
            model.parameters(), betas=(0.9, 0.98), eps=1e-9, weight_decay=config.training.weight_decay, fused=True
        )
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.at = Progressed(processes=self.accelerator.num_processes)
        self.dev = [example for file in dev for example in read_examples(file, config.data, DEV_SENTENCES)]
        # A CPU is shared with others, and a process on it may be stopped for a while.
        self.clock = time.thread_time if self.accelerator.device.type == "cpu" else time.monotonic
        run.mkdir(parents=True, exist_ok=True)

    @property
    def bare(self) -> Any:
        return self.accelerator.unwrap_model(self.model)

    def save(self) -> None:
        """Checkpoint for resuming; the newest few are kept for averaging."""
        if not self.accelerator.is_main_process:
            return
        content = {"model": self.bare.state_dict(), "optimizer": self.optimizer.state_dict(), "at": vars(self.at)}
        content |= {"precision": self.accelerator.mixed_precision, "of": self.of}
        newest = self.run / f"step-{self.at.step:07d}.pt"
        checkpoint.save(newest, content)
        # One of a later step did not open, or the run would have gone on from there: it is no reason to drop others.
        for old in [path for path in self.checkpoints() if path <= newest][: -self.config.training.average_last]:
            old.unlink()

    def precision(self) -> str:
        """The main process finds it out for all: another one might find otherwise."""
        process = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
        return str(broadcast_object_list([self.better_precision() if process.is_main_process else ""])[0])

    def better_precision(self) -> str:
        """That of the run's checkpoints where it can be had: which is faster may come out otherwise the next time."""
        known = next(checkpoint.newest_first(self.checkpoints()), {}).get("precision")
        if known == "no" or (known == "bf16" and has_bf16()):
            return str(known)
        return "bf16" if is_faster_in_bf16() else "no"

    def checkpoints(self) -> list[Path]:
        return sorted(self.run.glob("step-*.pt"))

    def resume(self) -> None:
        """Go on from the newest checkpoint that opens, if there are any, with as many processes as there are now.

        Raises ``ValueError`` where none opens, or where it has learnt from other text or with another vocabulary.
        """
        if not (paths := self.checkpoints()):
            return
        if (content := next(checkpoint.newest_first(paths), None)) is None:
            raise ValueError(f"no checkpoint in {self.run} opens: delete them to begin again, or choose another --run")
        if content.get("of", self.of) != self.of:  # older checkpoints do not say
            what = "has learnt from other text, or with another vocabulary"
            raise ValueError(f"{self.run} {what}: go on with the --data it had, or choose another --run")
        self.bare.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        processes = self.accelerator.num_processes
        # Checkpoints that do not say how many there were are taken to be of as many: the same command goes on.
        unsaid = {"processes": processes, "computed": content["at"]["seconds"] * processes}
        self.at = Progressed(**unsaid | content["at"])
        # Batches are dealt out in turn, so these are the same ones; what is no full round is learnt again.
        self.at.batch = self.at.batch * self.at.processes // processes
        self.at.processes = processes

    def begin(self, initial: Path) -> None:
        """Start from the weights of a finished run, unless there is a checkpoint to go on from.

        Raises ``FileNotFoundError`` where it has not finished, ``ValueError`` where its model has another shape.
        """
        if self.at.step == 0:
            run = checkpoint.Run.open(initial)
            transplant(run, self.bare, self.tokenizer)
            self.at.initial = {"name": run.config.name} | run.training.spent()

    def epoch(self) -> list[np.ndarray]:
        """This process's share of the batches of the current epoch; the same after a resume.

        Raises ``ValueError`` where there are fewer batches than processes: they would wait for each other for ever.
        """
        random = np.random.default_rng([self.config.training.seed, self.at.epoch])
        examples = self.text.epoch(self.config.data.shares, random)
        batches = self.text.batches(examples, self.config.training.batch_tokens, random)
        processes = self.accelerator.num_processes
        if len(batches) < processes:
            raise ValueError(f"{len(batches)} batches of {sorted(self.config.data.shares)} for {processes} processes")
        return batches[self.accelerator.process_index : len(batches) // processes * processes : processes]

    def agreed(self, seconds: float, tokens: int) -> tuple[float, int]:
        """The main process's ``seconds``, else they would decay and stop at different steps, and the tokens of all."""
        own = [seconds * self.accelerator.is_main_process, tokens]
        total = self.accelerator.reduce(torch.tensor(own, dtype=torch.float32, device=self.accelerator.device))
        return float(total[0]), int(total[1])

    def learn(self, examples: np.ndarray) -> tuple[float, int]:
        """One update; returns the loss and the target tokens of this process's batch."""
        share = self.budget.share(self.at)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config.training, self.at.step, share)
        # Drawn anew for each step and process, dropout is the same after a resume.
        place = [self.config.training.seed, self.at.step, self.accelerator.process_index]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
        batch = self.text.collate(examples.tolist()).to(self.accelerator.device)
        with self.accelerator.autocast():
            loss, tokens = loss_of(
                self.model,
                batch,
                self.config.training.label_smoothing,
                self.config.training.alignment_weight,
                self.config.model.alignment_shift,
            )
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.training.gradient_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item(), tokens

    def log(self, console: Console, loss: float, rate: float) -> None:
        """A line of figures to ``log.jsonl`` and the terminal, with BLEU where there is a dev set."""
        if not self.accelerator.is_main_process:
            return
        self.bare.eval()
        bleu = corpus_bleu(self.bare, self.tokenizer, self.dev) if self.dev else {}
        self.bare.train()
        row = {"step": self.at.step, "minutes": round(self.at.seconds / 60, 1), "tokens": self.at.tokens}
        row |= {"loss": round(loss, 4), "tokens_per_s": round(rate)} | bleu
        self.at.history.append(row)
        with (self.run / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        console.print(row)

    def train(self, *, save_minutes: float) -> None:
        """Until the budget is used up."""
        console = Console()
        columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
        with Progress(*columns, console=console, disable=not self.accelerator.is_main_process) as progress:
            bar = progress.add_task(self.config.name, total=1.0)
            losses: list[float] = []
            mark, saved, tokens = self.clock(), self.at.seconds, 0
            self.model.train()
            while (share := self.budget.share(self.at)) < 1:
                batches = self.epoch()
                for examples in batches[self.at.batch :]:
                    loss, count = self.learn(examples)
                    now = self.clock()
                    seconds, count = self.agreed(now - mark, count)
                    self.at.seconds += seconds
                    self.at.computed += seconds * self.at.processes
                    mark = now
                    self.at.step, self.at.batch = self.at.step + 1, self.at.batch + 1
                    self.at.tokens += count
                    losses.append(loss)
                    tokens += count
                    share = self.budget.share(self.at)
                    progress.update(bar, completed=share, description=f"loss {np.mean(losses[-50:]):.3f}")
                    if self.at.seconds - saved > 60 * save_minutes or share >= 1:
                        try:
                            self.log(console, float(np.mean(losses)), tokens / (self.at.seconds - saved))
                        finally:  # the line is part of the checkpoint, but nothing learnt is lost with it
                            self.save()
                        mark, saved, tokens = self.clock(), self.at.seconds, 0
                        losses = []
                    if share >= 1:
                        return
                self.at.epoch, self.at.batch = self.at.epoch + 1, 0

    def finish(self) -> None:
        """Average the newest checkpoints into ``final.pt``, with everything export needs beside it."""
        if not self.accelerator.is_main_process:
            return
        checkpoint.save(self.run / "final.pt", {"model": checkpoint.average(self.checkpoints())})
        (self.run / "tokenizer.model").write_bytes(self.tokenizer.path.read_bytes())
        (self.run / "config.json").write_text(self.config.model_dump_json(indent=2))
        training = checkpoint.Training(
            steps=self.at.step,
            tokens=self.at.tokens,
            minutes=round(self.at.computed / 60 / self.at.processes, 1),
            processes=self.at.processes,
            device=str(self.accelerator.device.type),
            corpora={name: pairs for name, pairs in self.text.pairs().items() if self.config.data.shares.get(name)},
            history=self.at.history,
            initial=self.at.initial,
        )
        (self.run / "training.json").write_text(training.model_dump_json(indent=2))


@dataclass(frozen=True)
class Budget:
    """Training ends with whichever is used up first."""

    minutes: float
    steps: int

    def share(self, at: Progressed) -> float:
        return max(at.seconds / 60 / self.minutes, at.step / self.steps)


def main(
    config: Annotated[Path, typer.Option(help="configuration file")],
    data: Annotated[Path, typer.Option(help="directory that models.data wrote")],
    run: Annotated[Path, typer.Option(help="directory of this run; resumed if it has checkpoints")],
    dev: Annotated[list[Path], typer.Option(help="TSV of dev sentences for BLEU while training; repeatable")] = [],  # noqa: B006
    initial: Annotated[Path | None, typer.Option(help="finished run whose weights a new run starts from")] = None,
    max_minutes: Annotated[
        float, typer.Option(min=0.1, help="budget of computing time, over all resumed parts")
    ] = float("inf"),
    max_steps: Annotated[int, typer.Option(min=1, help="step budget, over all resumed parts")] = 100_000,
    save_minutes: Annotated[float, typer.Option(help="minutes of computing between checkpoints")] = 5.0,
) -> None:
    """Train a model, or go on training it."""
    settings = Config.load(config)
    try:
        trainer = Trainer(settings, data, run, dev, Budget(max_minutes, max_steps))
        trainer.resume()
        if initial:
            trainer.begin(initial)
    except (FileNotFoundError, ValueError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from None
    trainer.train(save_minutes=save_minutes)
    trainer.finish()


if __name__ == "__main__":
    typer.run(main)
