"""Checkpoints: whole or not at all, nothing executed, means that are means."""

import os
import pickle

import pytest
import torch

from models import checkpoint


def test_round_trip(tmp_path):
    weight, at = torch.randn(3), {"step": 7, "history": [{"loss": 0.5}]}
    checkpoint.save(tmp_path / "step.pt", {"model": {"weight": weight}, "at": at})
    loaded = checkpoint.load(tmp_path / "step.pt")
    assert torch.equal(loaded["model"]["weight"], weight)
    assert loaded["at"] == at
    assert [path.name for path in tmp_path.iterdir()] == ["step.pt"]


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "step.pt"
    checkpoint.save(path, {"step": 1})

    def disk_full(content, target):
        target.write(b"half a file")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(path, {"step": 2})
    assert checkpoint.load(path) == {"step": 1}
    assert list(tmp_path.glob("*.pt")) == [path]


def test_the_content_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    path, sizes = tmp_path / "step.pt", []

    def sync(number):
        assert not path.exists()
        sizes.append(os.fstat(number).st_size)

    monkeypatch.setattr(os, "fsync", sync)
    checkpoint.save(path, {"step": 1})
    assert sizes == [path.stat().st_size]


def test_a_checkpoint_that_does_not_open_is_passed_over(tmp_path):
    paths = [tmp_path / f"step-{i}.pt" for i in range(4)]
    for i, path in enumerate(paths):
        checkpoint.save(path, {"model": {"weight": torch.tensor([float(i)])}})
    paths[3].write_bytes(b"")
    paths[2].write_bytes(paths[2].read_bytes()[:100])
    with pytest.warns(UserWarning, match="does not open and is passed over") as warned:
        found = [content["model"]["weight"].item() for content in checkpoint.newest_first(paths)]
    assert found == [1, 0]
    assert [str(paths[i]) in str(each.message) for i, each in zip((3, 2), warned, strict=True)] == [True, True]
    with pytest.warns(UserWarning, match="passed over"):
        assert checkpoint.average(paths)["weight"].item() == 0.5


class Harmful:
    def __reduce__(self):
        return print, ("executed",)


def test_nothing_in_a_file_is_executed(tmp_path, capsys):
    torch.save({"model": Harmful()}, tmp_path / "step.pt")
    with pytest.raises(pickle.UnpicklingError):
        checkpoint.load(tmp_path / "step.pt")
    assert not capsys.readouterr().out


def test_average(tmp_path):
    paths = []
    for i, numbers in enumerate([[1.0, 2.0], [3.0, 2.0], [8.0, -1.0]]):
        paths.append(tmp_path / f"{i}.pt")
        checkpoint.save(paths[-1], {"model": {"weight": torch.tensor(numbers), "count": torch.tensor(i)}})
    mean = checkpoint.average(paths)
    assert mean["weight"].tolist() == [4.0, 1.0]
    assert mean["weight"].dtype == torch.float32
    assert mean["count"].item() == 1


def test_average_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="no checkpoints"):
        checkpoint.average([])


def test_an_unfinished_run_cannot_be_opened(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"is no finished run: it has no training\.json"):
        checkpoint.Run.open(tmp_path)
