"""Dropout of our own against its definition and against PyTorch's."""

import pytest
import torch

from models.dropout import Dropout


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_every_feature_is_dropped_with_this_probability_and_the_others_scaled(p):
    output = Dropout(p)(torch.ones(1001, 400))
    kept = output != 0
    torch.testing.assert_close(output[kept], torch.full([int(kept.sum())], 1 / (1 - p)), rtol=1e-2, atol=0)
    noise = (p * (1 - p)) ** 0.5
    # Five standard deviations: of all, of each place among the features of one draw, and of neighbours together.
    assert abs((~kept).float().mean() - p) < 5 * noise / kept.numel() ** 0.5 + 2**-16
    by_place = (~kept).float().flatten().view(-1, 4)
    assert ((by_place.mean(0) - p).abs() < 5 * noise / len(by_place) ** 0.5 + 2**-16).all()
    both = (by_place[:, 0] * by_place[:, 1]).mean()
    assert abs(both - p * p) < 5 * p * (1 - p * p) ** 0.5 / len(by_place) ** 0.5 + 2**-16


def test_gradients_are_those_of_what_was_kept():
    x = torch.randn(7, 5, requires_grad=True)
    output = Dropout(0.25)(x)
    output.sum().backward()
    torch.testing.assert_close(x.grad, output.detach() / x.detach())


def test_one_seed_drops_the_same():
    dropped = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        dropped.append(Dropout(0.5)(torch.ones(99)).tolist())
    assert dropped[0] == dropped[1] != dropped[2]


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (5, 3)])
def test_any_shape_is_kept(shape):
    assert Dropout(0.5)(torch.ones(shape)).shape == shape


def test_nothing_is_dropped_at_zero_or_when_not_training_and_all_at_one():
    x = torch.randn(64)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert not Dropout(1.0)(x).any()


def test_bf16_stays_bf16():
    assert Dropout(0.5)(torch.ones(8, dtype=torch.bfloat16)).dtype == torch.bfloat16
