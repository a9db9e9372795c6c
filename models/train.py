"""Training: ``python -m models.train --config FILE --data DIR --run DIR``, or the same after ``accelerate launch``.

The same command goes on from the last checkpoint when the run directory has one.
"""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn

from models import checkpoint
from models.config import Config, TrainingConfig
from models.data import Batch, ParallelText, read_pairs
from models.evaluate import Example, corpus_bleu
from models.tokenizer import PAD, Tokenizer

DEV_SENTENCES = 500
"""Sentences a direction for the dev BLEU while training: enough to see the trend, few enough to be cheap."""


@dataclass
class Progressed:
    """How far a run has come; part of every checkpoint."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    """Batches of the current epoch already learnt from."""
    seconds: float = 0.0
    tokens: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def learning_rate(training: TrainingConfig, step: int, share: float) -> float:
    """Linear warm-up, then linear decay to zero over the ``share`` of the budget that is used up."""
    return training.learning_rate * min(1.0, (step + 1) / training.warmup_steps) * max(0.0, 1.0 - share)


def loss_of(model: nn.Module, batch: Batch, smoothing: float) -> tuple[Tensor, int]:
    """Label-smoothed cross-entropy, a mean over the real target tokens, and how many those are."""
    target = batch.target[:, 1:]
    logits, _ = model(batch.source, batch.source_lengths, batch.target[:, :-1])
    loss = nn.functional.cross_entropy(
        logits.float().flatten(0, 1), target.flatten(), ignore_index=PAD, label_smoothing=smoothing
    )
    return loss, int((target != PAD).sum())


class Trainer:
    """One run: a directory with its configuration, checkpoints, log and final weights."""

    def __init__(self, config: Config, data: Path, run: Path, dev: Path | None, budget: "Budget") -> None:
        self.config, self.run, self.budget = config, run, budget
        self.text = ParallelText.load(data / "text.npz")
        self.tokenizer = Tokenizer(data / "tokenizer.model")
        if len(self.tokenizer) > config.model.vocab_size:
            raise ValueError(f"{len(self.tokenizer)} pieces in {data}, only {config.model.vocab_size} in {config.name}")
        self.accelerator = Accelerator(mixed_precision="bf16" if has_bf16() else "no")
        model = checkpoint.build(config)
        optimizer = torch.optim.AdamW(
            model.parameters(), betas=(0.9, 0.98), eps=1e-9, weight_decay=config.training.weight_decay, fused=True
        )
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.at = Progressed()
        self.dev = [
            Example(*sides)
            for pair in (list(read_pairs([dev]))[:DEV_SENTENCES] if dev else [])
            for sides in (
                (pair.first, pair.second, config.data.source, config.data.target),
                (pair.second, pair.first, config.data.target, config.data.source),
            )
        ]
        run.mkdir(parents=True, exist_ok=True)

    @property
    def bare(self) -> Any:
        return self.accelerator.unwrap_model(self.model)

    def save(self) -> None:
        """Checkpoint for resuming; the newest few are kept for averaging."""
        if not self.accelerator.is_main_process:
            return
        content = {"model": self.bare.state_dict(), "optimizer": self.optimizer.state_dict(), "at": vars(self.at)}
        checkpoint.save(self.run / f"step-{self.at.step:07d}.pt", content)
        for old in self.checkpoints()[: -self.config.training.average_last]:
            old.unlink()

    def checkpoints(self) -> list[Path]:
        return sorted(self.run.glob("step-*.pt"))

    def resume(self) -> None:
        """Go on from the newest checkpoint, if there is one."""
        if not (paths := self.checkpoints()):
            return
        content = checkpoint.load(paths[-1])
        self.bare.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.at = Progressed(**content["at"])

    def epoch(self) -> list[np.ndarray]:
        """This process's share of the batches of the current epoch; the same after a resume.

        Raises ``ValueError`` where there are fewer batches than processes: they would wait for each other for ever.
        """
        random = np.random.default_rng([self.config.training.seed, self.at.epoch])
        examples = self.text.epoch(self.config.data.fractions, random)
        batches = self.text.batches(examples, self.config.training.batch_tokens, random)
        processes = self.accelerator.num_processes
        if len(batches) < processes:
            raise ValueError(
                f"{len(batches)} batches of {sorted(self.config.data.fractions)} for {processes} processes"
            )
        return batches[self.accelerator.process_index : len(batches) // processes * processes : processes]

    def agreed(self, seconds: float) -> float:
        """The main process's ``seconds``, on every process: else they would decay and stop at different steps."""
        return broadcast_object_list([seconds])[0]

    def learn(self, examples: np.ndarray) -> tuple[float, int]:
        """One update; returns its loss and target tokens."""
        share = self.budget.share(self.at)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config.training, self.at.step, share)
        # Drawn anew for each step and process, dropout is the same after a resume.
        place = [self.config.training.seed, self.at.step, self.accelerator.process_index]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
        batch = self.text.collate(examples.tolist()).to(self.accelerator.device)
        with self.accelerator.autocast():
            loss, tokens = loss_of(self.model, batch, self.config.training.label_smoothing)
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
            mark = saved = time.monotonic()
            tokens = 0
            self.model.train()
            while (share := self.budget.share(self.at)) < 1:
                batches = self.epoch()
                for examples in batches[self.at.batch :]:
                    loss, count = self.learn(examples)
                    now = time.monotonic()
                    self.at.seconds += self.agreed(now - mark)
                    mark = now
                    self.at.step, self.at.batch = self.at.step + 1, self.at.batch + 1
                    self.at.tokens += count
                    losses.append(loss)
                    tokens += count
                    share = self.budget.share(self.at)
                    progress.update(bar, completed=share, description=f"loss {np.mean(losses[-50:]):.3f}")
                    if now - saved > 60 * save_minutes or share >= 1:
                        self.log(console, float(np.mean(losses)), tokens / (now - saved))
                        self.save()
                        mark = saved = time.monotonic()
                        losses, tokens = [], 0
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
            minutes=round(self.at.seconds / 60, 1),
            device=str(self.accelerator.device.type),
            corpora={name: pairs for name, pairs in self.text.pairs().items() if self.config.data.fractions.get(name)},
            history=self.at.history,
        )
        (self.run / "training.json").write_text(training.model_dump_json(indent=2))


@dataclass(frozen=True)
class Budget:
    """Training ends with whichever is used up first."""

    minutes: float
    steps: int

    def share(self, at: Progressed) -> float:
        return max(at.seconds / 60 / self.minutes, at.step / self.steps)


def has_bf16() -> bool:
    """True where bf16 is computed natively and so is faster than fp32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def main(
    config: Annotated[Path, typer.Option(help="configuration file")],
    data: Annotated[Path, typer.Option(help="directory that models.data wrote")],
    run: Annotated[Path, typer.Option(help="directory of this run; resumed if it has checkpoints")],
    dev: Annotated[Path | None, typer.Option(help="TSV of dev sentences for BLEU while training")] = None,
    max_minutes: Annotated[float, typer.Option(min=0.1, help="time budget, over all resumed parts")] = float("inf"),
    max_steps: Annotated[int, typer.Option(min=1, help="step budget, over all resumed parts")] = 100_000,
    save_minutes: Annotated[float, typer.Option(help="minutes between checkpoints")] = 5.0,
) -> None:
    """Train a model, or go on training it."""
    trainer = Trainer(Config.load(config), data, run, dev, Budget(max_minutes, max_steps))
    trainer.resume()
    trainer.train(save_minutes=save_minutes)
    trainer.finish()


if __name__ == "__main__":
    typer.run(main)
