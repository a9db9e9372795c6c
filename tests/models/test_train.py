"""Training: it learns, it goes on where it was killed, it stops when its budget says so."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from accelerate.state import AcceleratorState
from typer.testing import CliRunner

import models
from models import checkpoint, train
from models.config import Config
from models.data import Column, ParallelText
from models.precision import has_bf16
from models.train import Budget, Progressed, Trainer, learning_rate

NEVER = math.inf
ROOT = Path(models.__file__).parent.parent


def test_learning_rate_at_its_edges(configure):
    training = configure("transformer", learning_rate=0.8, warmup_steps=4).training
    assert [learning_rate(training, step, 0.0) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])
    assert learning_rate(training, 100, 0.5) == pytest.approx(0.4)
    assert learning_rate(training, 1, 0.5) == pytest.approx(0.2)
    assert learning_rate(training, 100, 1.0) == 0
    assert learning_rate(training, 100, 1.7) == 0


def test_learning_rate_is_constant_before_the_decay(configure):
    training = configure("transformer", learning_rate=0.8, warmup_steps=4, decay_share=0.25).training
    rates = [learning_rate(training, 100, share) for share in (0.0, 0.5, 0.75, 0.875, 1.0)]
    assert rates == pytest.approx([0.8, 0.8, 0.8, 0.4, 0.0])


def test_budget_is_used_up_by_whichever_comes_first():
    at = Progressed(step=30, seconds=120)
    assert Budget(minutes=10, steps=100).share(at) == pytest.approx(0.3)
    assert Budget(minutes=4, steps=100).share(at) == pytest.approx(0.5)
    assert Budget(minutes=NEVER, steps=60).share(at) == pytest.approx(0.5)


def losses_of(trainer, steps):
    batches = trainer.epoch()
    losses = []
    for step in range(steps):
        losses.append(trainer.learn(batches[step % len(batches)])[0])
        trainer.at.step += 1
    return losses


def test_a_few_steps_reduce_the_loss(trainer):
    losses = losses_of(trainer(learning_rate=2e-2), 25)
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])


@pytest.mark.skipif(not has_bf16(), reason="this processor has no bf16")
def test_it_learns_in_bf16_where_the_processor_has_it(trainer, monkeypatch):
    monkeypatch.setattr(train, "is_faster_in_bf16", lambda: True)
    learner = trainer(learning_rate=2e-2)
    assert learner.accelerator.mixed_precision == "bf16"
    losses = losses_of(learner, 25)
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    assert {parameter.dtype for parameter in learner.bare.parameters()} == {torch.float32}


@pytest.mark.skipif(not has_bf16(), reason="this processor has no bf16")
@pytest.mark.parametrize("bf16", [False, True])
def test_a_run_goes_on_in_the_precision_it_began_in(trainer, monkeypatch, bf16):
    monkeypatch.setattr(train, "is_faster_in_bf16", lambda: bf16)
    trainer(steps=1).train(save_minutes=0)
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr(train, "is_faster_in_bf16", lambda: not bf16)
    assert trainer().accelerator.mixed_precision == ("bf16" if bf16 else "no")
    AcceleratorState._reset_state(reset_partial_state=True)
    assert trainer("another").accelerator.mixed_precision == ("no" if bf16 else "bf16")


class KilledError(Exception):
    pass


def kill_at(trainer, step):
    """The process dies while it learns its ``step``-th batch."""
    learn = trainer.learn

    def dying(examples):
        if trainer.at.step == step:
            raise KilledError
        return learn(examples)

    trainer.learn = dying
    return trainer


def test_a_killed_run_goes_on_as_if_nothing_had_happened(trainer):
    """Weights, figures and data are those of the run that was never killed, to the last bit, dropout included."""
    in_epoch = len(trainer().epoch())
    steps = in_epoch + 3
    whole = trainer("whole", steps)
    whole.train(save_minutes=NEVER)

    for killed in (2, in_epoch):  # within an epoch and at its very end
        with pytest.raises(KilledError):
            kill_at(trainer(f"killed-{killed}", steps), killed).train(save_minutes=0)
        torch.manual_seed(12345)  # what else the new process may have drawn
        resumed = trainer(f"killed-{killed}", steps)
        resumed.resume()
        assert resumed.at.step == killed
        resumed.train(save_minutes=NEVER)
        assert (resumed.at.step, resumed.at.epoch, resumed.at.tokens) == (steps, 1, whole.at.tokens)
        ours, theirs = resumed.bare.state_dict(), whole.bare.state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_process_that_is_killed_outright_goes_on_when_it_is_started_again(toml, prepared, tmp_path):
    """SIGKILL in the middle of training, then the same command: the final weights are those of a run left alone."""
    config = tmp_path / "tiny.toml"
    config.write_text(f"{toml.read_text()}average_last = 1\n")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def start(name):
        options = {"--config": config, "--data": prepared, "--run": tmp_path / name, "--max-steps": 150}
        arguments = [str(word) for option in (options | {"--save-minutes": 1e-4}).items() for word in option]
        return subprocess.Popen(
            [sys.executable, "-m", "models.train", *arguments], env=environment, stdout=subprocess.DEVNULL
        )

    with start("killed") as process:
        while len(list((tmp_path / "killed").glob("step-*.pt"))) == 0:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    [*_, last] = sorted((tmp_path / "killed").glob("step-*.pt"))
    assert 0 < checkpoint.load(last)["at"]["step"] < 150
    assert not (tmp_path / "killed" / "final.pt").exists()

    for name in ("killed", "whole"):
        with start(name) as process:
            assert process.wait() == 0
    killed, whole = (checkpoint.Run.open(tmp_path / name) for name in ("killed", "whole"))
    assert (killed.training.steps, killed.training.tokens) == (150, whole.training.tokens)
    weights = whole.model().state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in killed.model().state_dict().items())


def test_what_was_learnt_after_the_last_checkpoint_is_learnt_again(trainer):
    whole = trainer("whole", steps=9)
    whole.train(save_minutes=NEVER)
    with pytest.raises(KilledError):
        kill_at(trainer("killed", steps=9, average_last=20), 7).train(save_minutes=0)
    *_, last_but_one, last = sorted((trainer("killed").run).glob("step-*.pt"))
    last.unlink()
    assert last_but_one.name == "step-0000006.pt"
    resumed = trainer("killed", steps=9)
    resumed.resume()
    resumed.train(save_minutes=NEVER)
    weights = whole.bare.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in resumed.bare.state_dict().items())


def copied(prepared, directory):
    for file in prepared.iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    return directory


def test_a_run_goes_on_with_its_own_text_and_vocabulary_alone(toml, prepared, tmp_path):
    def command(data, steps):
        options = {"--config": toml, "--data": data, "--run": tmp_path / "run", "--max-steps": steps}
        return CliRunner().invoke(app, [str(word) for option in options.items() for word in option])

    assert command(prepared, 1).exit_code == 0
    (tmp_path / "other").mkdir()
    other = copied(prepared, tmp_path / "other")
    assert command(other, 2).exit_code == 0  # the same in another place
    text = ParallelText.load(other / "text.npz")
    replace(text, ways=text.ways + 1).save(other / "text.npz")
    refused = command(other, 3)
    assert refused.exit_code == 2
    assert "go on with the --data it had, or choose another --run" in refused.output


def test_a_checkpoint_that_does_not_say_its_text_is_gone_on_from(trainer):
    learner = trainer(steps=1)
    learner.train(save_minutes=0)
    [path] = learner.checkpoints()
    content = checkpoint.load(path)
    del content["of"]
    checkpoint.save(path, content)
    learner = trainer()
    learner.resume()
    assert learner.at.step == 1


def test_a_run_goes_on_from_the_newest_checkpoint_that_opens(trainer):
    trainer(steps=3).train(save_minutes=0)
    *others, last = trainer().checkpoints()
    last.write_bytes(b"")  # as a power cut may leave it
    with pytest.warns(UserWarning, match=f"{last.name} does not open and is passed over"):
        learner = trainer(steps=4)
    with pytest.warns(UserWarning, match=f"{last.name} does not open and is passed over"):
        learner.resume()
    assert learner.at.step == 2
    for path in others:
        path.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="passed over"),
        pytest.raises(ValueError, match=r"no checkpoint in \S+ opens: delete them"),
    ):
        learner.resume()


@pytest.mark.filterwarnings("ignore:.*passed over:UserWarning")
def test_what_is_learnt_behind_a_checkpoint_that_does_not_open_is_kept(trainer):
    """Checkpoints are taken by the clock: the next ones may be of earlier steps than the one that is broken."""
    learner = trainer(steps=2, average_last=1)
    learner.train(save_minutes=0)
    (learner.run / "step-0000009.pt").write_bytes(b"")
    learner = trainer(steps=3, average_last=1)
    learner.resume()
    learner.train(save_minutes=0)
    assert [path.name for path in learner.checkpoints()] == ["step-0000003.pt", "step-0000009.pt"]
    learner.finish()
    assert (learner.run / "final.pt").exists()


def test_an_epoch_is_the_same_when_asked_again_and_differs_from_the_next(trainer):
    learner = trainer()
    first, again = ([batch.tolist() for batch in learner.epoch()] for _ in range(2))
    learner.at.epoch = 1
    assert first == again
    assert first != [batch.tolist() for batch in learner.epoch()]


def test_no_text_is_an_error_and_no_endless_loop(configure, prepared, tmp_path):
    content = configure("bahdanau").model_dump()
    content["data"]["fractions"] = {"en-fr": {"elsewhere": 1.0}}
    trainer = Trainer(Config.model_validate(content), prepared, tmp_path, (), Budget(NEVER, 5))
    with pytest.raises(ValueError, match=r"0 batches of \['en-fr/elsewhere'\]"):
        trainer.train(save_minutes=NEVER)


def test_a_vocabulary_too_large_for_the_model_is_an_error(configure, prepared, tmp_path):
    content = configure("bahdanau").model_dump()
    content["model"]["vocab_size"] = 100
    with pytest.raises(ValueError, match="340 pieces"):
        Trainer(Config.model_validate(content), prepared, tmp_path, (), Budget(NEVER, 5))


def test_the_budget_of_minutes(trainer):
    """With six seconds a step, half a minute is five steps; what came before a resume counts."""
    learner = trainer(minutes=0.5)
    learner.clock = iter(range(0, 10_000, 6)).__next__
    learner.train(save_minutes=NEVER)
    assert learner.at.step == 5
    assert learner.at.seconds == 30
    longer = trainer(minutes=0.8)
    longer.clock = iter(range(0, 10_000, 6)).__next__
    longer.resume()
    longer.train(save_minutes=NEVER)
    assert longer.at.step == 8
    over = trainer(minutes=0.8)
    over.resume()
    over.train(save_minutes=NEVER)
    assert over.at.step == 8


def test_a_process_that_is_stopped_uses_no_budget_up(trainer):
    """What a stop looks like from inside: time goes by, and the process computes nothing."""
    learner = trainer(steps=3)
    learn = learner.learn

    def held_up(examples):
        time.sleep(0.3)
        return learn(examples)

    learner.learn = held_up
    began = time.monotonic()
    learner.train(save_minutes=NEVER)
    assert 0 < learner.at.seconds < time.monotonic() - began - 0.8


def test_the_horizon_can_be_moved_before_the_decay_begins(trainer):
    """A run that is told its end later is the run that knew it from the start."""
    known = trainer("known", steps=10, decay_share=0.4)
    known.train(save_minutes=NEVER)
    with pytest.raises(KilledError):
        kill_at(trainer("told", steps=100, decay_share=0.4), 5).train(save_minutes=0)
    told = trainer("told", steps=10, decay_share=0.4)
    told.resume()
    told.train(save_minutes=NEVER)
    weights = known.bare.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in told.bare.state_dict().items())


def test_log_and_checkpoints(trainer, prepared, tmp_path):
    dev = tmp_path / "dev.tsv"
    dev.write_text("The cat.\tLe chat.\nA dog.\tUn chien.\n")
    learner = trainer(steps=4, average_last=2, dev=[dev])
    learner.train(save_minutes=0)
    assert [path.name for path in learner.checkpoints()] == ["step-0000003.pt", "step-0000004.pt"]
    rows = [json.loads(line) for line in (learner.run / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert rows == learner.at.history
    assert set(rows[0]) == {"step", "minutes", "tokens", "loss", "tokens_per_s", "bleu_en-fr", "bleu_fr-en"}
    assert learner.bare.training


def test_where_a_line_cannot_be_logged_there_is_a_checkpoint(trainer, monkeypatch):
    learner = trainer()

    def failing(*_):
        raise RuntimeError("no score")

    monkeypatch.setattr(learner, "log", failing)
    with pytest.raises(RuntimeError, match="no score"):
        learner.train(save_minutes=0)
    assert [path.name for path in learner.checkpoints()] == ["step-0000001.pt"]


def test_a_dev_set_is_asked_for_in_the_directions_that_are_trained(configure, prepared, tmp_path):
    dev = tmp_path / "dev.tsv"
    dev.write_text("The cat.\tLe chat.\n")
    content = configure("bahdanau").model_dump()
    content["data"]["one_way"] = ["fr-en"]
    learner = Trainer(Config.model_validate(content), prepared, tmp_path / "run", [dev], Budget(NEVER, 5))
    assert learner.dev == [("Le chat.", "The cat.", "fr", "en")]


def test_a_guided_run_without_alignments_says_how_to_make_them(toml, prepared, tmp_path):
    config = tmp_path / "guided.toml"
    config.write_text(f"{toml.read_text()}alignment_weight = 0.05\n")
    arguments = ["--config", config, "--data", prepared, "--run", tmp_path / "run", "--max-steps", 1]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2
    assert f"run python -m models.align label --config FILE --data {prepared}" in result.output


def test_first_weights_that_are_not_there_are_an_error_in_words(toml, prepared, tmp_path):
    arguments = ["--config", toml, "--data", prepared, "--run", tmp_path / "run", "--initial", tmp_path / "none"]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2
    assert str(tmp_path / "none") in result.output


app = typer.Typer()
app.command()(train.main)


def test_command(configure, toml, prepared, tmp_path):
    arguments = ["--config", toml, "--data", prepared, "--run", tmp_path, "--max-steps", 6, "--save-minutes", 0]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output

    run = checkpoint.Run.open(tmp_path)
    assert run.config == configure("bahdanau")
    assert run.training.steps == 6
    assert run.training.corpora == {"en-fr/home": 100, "en-fr/street": 50}
    assert run.tokenizer.read_bytes() == (prepared / "tokenizer.model").read_bytes()
    states = [checkpoint.load(path)["model"] for path in sorted(tmp_path.glob("step-*.pt"))]
    assert len(states) == run.config.training.average_last
    weights = run.model().state_dict()
    assert not run.model().training
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, torch.stack([state[name] for state in states]).mean(0))


def test_a_guided_run_reads_its_alignments(configure, architecture, prepared, tmp_path):
    budget = Budget(NEVER, 2)
    with pytest.raises(FileNotFoundError, match=r"alignment\.npz"):
        Trainer(configure(architecture, alignment_weight=0.05), prepared, tmp_path / "run", (), budget)
    copied(prepared, tmp_path)
    pairs = len(np.load(prepared / "text.npz")["corpus"])
    links = Column.pack([[257]] * pairs)  # the second sub-words of all
    np.savez(tmp_path / "alignment.npz", links=links.tokens, offsets=links.offsets)
    weights = []
    for weight in (0.0, 0.05):
        learner = Trainer(
            configure(architecture, alignment_weight=weight), tmp_path, tmp_path / f"{weight}", (), budget
        )
        learner.train(save_minutes=NEVER)
        weights.append(torch.cat([parameter.flatten() for parameter in learner.bare.parameters()]))
    assert not torch.equal(*weights)
