"""Which optimizer has which weights, and how large an update is."""

import pytest
import torch

from models import checkpoint, optimizer
from models.optimizer import Muon, learning_rate, optimizers


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


def names_of(which, model):
    named = {parameter: name for name, parameter in model.named_parameters()}
    return {named[parameter] for group in which.param_groups for parameter in group["params"]}


def test_adamw_has_every_weight(configure, architecture):
    config = configure(architecture)
    model = checkpoint.build(config)
    [adamw] = optimizers(model, config.training)
    assert isinstance(adamw, torch.optim.AdamW)
    assert names_of(adamw, model) == set(dict(model.named_parameters()))


def test_muon_has_the_matrices_between_embedding_and_output(configure, architecture):
    config = configure(architecture, optimizer="muon")
    model = checkpoint.build(config)
    adamw, muon = optimizers(model, config.training)
    assert isinstance(muon, Muon)
    ours, theirs = names_of(muon, model), names_of(adamw, model)
    assert ours | theirs == set(dict(model.named_parameters()))
    assert not ours & theirs
    assert "embedding.weight" in theirs
    lone = {"attention.score.weight"} if architecture == "bahdanau" else set()
    matrices = {name for name, parameter in model.named_parameters() if parameter.dim() == 2}
    assert ours == matrices - {"embedding.weight"} - lone


@pytest.mark.parametrize("bf16", [False, True])
def test_an_update_of_muon_is_nearly_orthogonal_and_as_large_as_one_of_adamw(configure, monkeypatch, bf16):
    monkeypatch.setattr(optimizer, "has_bf16", lambda: bf16)
    config = configure("transformer", optimizer="muon")
    model = checkpoint.build(config)
    _, muon = optimizers(model, config.training)
    torch.manual_seed(0)
    before = {}
    for group in muon.param_groups:
        group["lr"] = 0.01
        for parameter in group["params"]:
            before[parameter] = parameter.detach().clone()
            parameter.grad = torch.randn_like(parameter) * 10.0 ** torch.randint(-6, 6, ())  # its size does not count
    muon.step()
    for parameter, old in before.items():
        update = (parameter.detach() - old) / 0.01
        stretch = torch.linalg.svdvals(update) / (0.2 * max(update.shape) ** 0.5)
        assert 0.4 < stretch.min() <= stretch.max() < 1.4
        assert 0.4 * 0.2 < update.square().mean().sqrt() < 1.4 * 0.2


@pytest.mark.parametrize(("bf16", "tolerance"), [(True, 1e-6), (False, 2e-2)])
@pytest.mark.parametrize("shape", [(24, 8), (8, 24), (16, 16)])
def test_muon_does_what_that_of_torch_does(monkeypatch, bf16, tolerance, shape):
    monkeypatch.setattr(optimizer, "has_bf16", lambda: bf16)
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(shape))
    theirs = torch.nn.Parameter(ours.detach().clone())
    muon = Muon([ours], weight_decay=0.1)
    peer = torch.optim.Muon([theirs], lr=0.3, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    muon.param_groups[0]["lr"] = 0.3
    for _ in range(4):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        muon.step()
        peer.step()
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)
