"""Several processes share the batches, the clock and the precision, and may go on in another number."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import models
from models import checkpoint
from models.train import Progressed

ROOT = Path(models.__file__).parent.parent


def as_one_of(learner, processes, process=0):
    """The trainer as it would be in one of several processes."""
    learner.accelerator = SimpleNamespace(
        num_processes=processes,
        process_index=process,
        is_main_process=process == 0,
        mixed_precision="no",
        device=torch.device("cpu"),
        unwrap_model=lambda model: model,
    )
    return learner


def test_processes_share_an_epoch(trainer):
    learner = trainer()
    everything = [tuple(batch) for batch in learner.epoch()]
    shares = [[tuple(batch) for batch in as_one_of(learner, 3, process).epoch()] for process in range(3)]
    assert {len(share) for share in shares} == {len(everything) // 3}
    dealt = [batch for share in shares for batch in share]
    assert len(set(dealt)) == len(dealt)
    assert set(dealt) <= set(everything)


@pytest.mark.parametrize(
    ("before", "batch", "after", "known"),
    [(2, 4, 1, 8), (1, 8, 2, 8), (1, 9, 2, 8), (3, 3, 2, 8), (2, 4, 2, 8), (2, 0, 1, 0)],
)
def test_another_number_of_processes_goes_on_where_the_last_one_was(trainer, before, batch, after, known):
    """But for what is no full round of the new number, which is learnt again."""
    learner = trainer(batch_tokens=200)
    everything = [tuple(each) for each in learner.epoch()]
    as_one_of(learner, before).at = Progressed(step=1, batch=batch, processes=before)
    learner.save()
    shares = []
    for process in range(after):
        as_one_of(learner, after, process).resume()
        shares.append([tuple(each) for each in learner.epoch()[learner.at.batch :]])
    left = [each for together in zip(*shares, strict=True) for each in together]
    assert len(left) > after
    assert left == everything[known : len(everything) // after * after]


def test_minutes_of_other_numbers_of_processes_count_as_what_they_computed(trainer):
    """An hour of one process and half an hour of two are an hour of two."""
    learner = as_one_of(trainer(), 1)
    learner.at = Progressed(step=1, seconds=3600, computed=3600)
    learner.save()
    as_one_of(learner, 2).resume()
    learner.at.seconds += 1800
    learner.at.computed += 2 * 1800
    learner.finish()
    training = checkpoint.Run.open(learner.run).training
    assert (training.minutes, training.processes) == (60, 2)


def test_a_checkpoint_that_does_not_know_its_processes_is_of_as_many(trainer):
    learner = as_one_of(trainer(), 2)
    learner.at = Progressed(step=1, batch=3, seconds=60)
    learner.save()
    [path] = learner.checkpoints()
    content = checkpoint.load(path)
    for field in ("processes", "computed"):
        del content["at"][field]
    checkpoint.save(path, content)
    learner.resume()
    assert (learner.at.batch, learner.at.processes, learner.at.computed) == (3, 2, 120)


DRIVER = """
import os, sys, torch
from pathlib import Path
from models import train
from models.config import Config
from models.train import Budget, Trainer

train.is_faster_in_bf16 = lambda: os.environ["RANK"] == "1"
toml, data, run = map(Path, sys.argv[1:])
trainer = Trainer(Config.load(toml), data, run, (), Budget(minutes=0.01, steps=1_000_000))
trainer.train(save_minutes=1)
total = sum(parameter.double().abs().sum().item() for parameter in trainer.bare.parameters())
(run / f"{trainer.accelerator.process_index}.txt").write_text(
    f"{trainer.at.step} {total!r} {trainer.accelerator.mixed_precision}"
)
"""


def test_two_processes_agree_on_when_to_stop_and_what_they_learnt(toml, prepared, tmp_path):
    """Each has its own clock, and both the learning rate and the end of the budget depend on it.

    Each may also find that another precision is the faster one.
    """
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(driver)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    arguments = [str(path) for path in (toml, prepared, tmp_path)]
    done = subprocess.run(
        [*launch, *arguments], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    steps, _, precision = (tmp_path / "0.txt").read_text().split()
    assert int(steps) > 1
    assert precision == "no"
    assert (tmp_path / "0.txt").read_text() == (tmp_path / "1.txt").read_text()
    assert len(list(tmp_path.glob("step-*.pt"))) == 1
