"""Training in several processes, by the command that starts them."""

import math
import os
import subprocess
import sys
from pathlib import Path

import models
from models import checkpoint, launch
from models.config import Config
from models.train import Budget, Trainer

ROOT = Path(models.__file__).parent.parent


def run(*arguments):
    command = [sys.executable, "-m", "models.launch", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def test_two_processes_learn_in_a_step_what_one_learns_in_two(toml, prepared, tmp_path):
    done = run(2, "models.train", "--config", toml, "--data", prepared, "--run", tmp_path / "two", "--max-steps", 4)
    assert done.returncode == 0, done.stderr
    alone = Trainer(Config.load(toml), prepared, tmp_path / "one", (), Budget(math.inf, 8))
    alone.train(save_minutes=math.inf)
    training = checkpoint.Run.open(tmp_path / "two").training
    assert (training.steps, training.tokens, training.processes) == (4, alone.at.tokens, 2)


def test_a_process_that_fails_is_an_error(tmp_path):
    done = run(2, "models.train", "--config", tmp_path / "none.toml", "--data", tmp_path, "--run", tmp_path / "run")
    assert done.returncode == 1
    assert "none.toml" in done.stderr


def test_processes_share_the_cores(monkeypatch):
    started = []
    monkeypatch.setattr(launch, "elastic_launch", lambda config, python: lambda *command: started.append(command))
    monkeypatch.setattr(launch, "cpu_count", lambda: 9)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")
    launch.launch(2, "models.train", "--run", "here")
    assert started == [("-m", "models.train", "--run", "here")]
    assert os.environ["OMP_NUM_THREADS"] == "4"
    assert os.environ["ACCELERATE_USE_CPU"] == "true"
