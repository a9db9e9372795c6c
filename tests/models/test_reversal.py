"""Proof that attention is learnt: both translators learn to write a sequence backwards, and look where they should.

Target ``i`` of a sequence of ``n`` letters is source ``n - 1 - i``. Nothing tells the models so.
"""

import pytest
import torch
import typer
from typer.testing import CliRunner

from models import toy
from models.tokenizer import BOS, EOS, PAD
from models.translator import greedy

HELD_OUT = toy.sequences(500, torch.Generator().manual_seed(1234))


@pytest.fixture(scope="module", params=sorted(toy.STEPS))
def trained(request):
    return toy.train(request.param)


def test_sequences_are_mirrored():
    for source, length, target in zip(HELD_OUT.source, HELD_OUT.source_lengths, HELD_OUT.target, strict=True):
        n = int(length) - 1
        letters = source[:n].tolist()
        assert toy.SHORTEST <= n <= toy.LONGEST
        assert min(letters) > EOS
        assert source[n:].tolist() == [EOS] + [PAD] * (toy.LONGEST - n)
        assert target[: n + 2].tolist() == [BOS, *reversed(letters), EOS]
        assert not target[n + 2 :].any()


def test_it_reverses_sequences_it_has_never_seen(trained):
    tokens, _ = greedy(trained, HELD_OUT.source, HELD_OUT.source_lengths, bos=BOS, eos=EOS, max_length=toy.LONGEST + 1)
    right = 0
    for written, wanted, length in zip(tokens, HELD_OUT.target, HELD_OUT.source_lengths.tolist(), strict=True):
        right += written[:length].tolist() == wanted[1 : length + 1].tolist()
    assert right / len(tokens) > 0.95


def test_its_attention_is_the_anti_diagonal(trained):
    """In both models the step that *predicts* letter ``i`` looks at it; of the target it has read only ``i - 1``."""
    with torch.inference_mode():
        _, attention = trained(HELD_OUT.source, HELD_OUT.source_lengths, HELD_OUT.target[:, :-1])  # [B, T, S]
    n = HELD_OUT.source_lengths[:, None] - 1  # [B, 1]
    i = torch.arange(attention.shape[1])[None]  # [1, T]
    looked_at = attention.argmax(dim=-1)  # [B, T]
    letters = i < n
    aligned = (looked_at == n - 1 - i)[letters]
    assert aligned.float().mean() >= 0.95
    assert attention.amax(dim=-1)[letters].mean() > 0.5  # a clear look, not the best of a blur


def test_the_heat_map_shows_what_was_looked_at():
    a, b = toy.FIRST_LETTER, toy.FIRST_LETTER + 1
    drawn = toy.heat_map(torch.tensor([a, b]), torch.tensor([b, EOS]), torch.tensor([[0.0, 1.0], [0.55, 0.45]]))
    assert drawn.splitlines() == ["   a  b", "b     @@", "$  ++ =="]


def test_the_command_draws_a_map(monkeypatch):
    monkeypatch.setattr(toy, "train", lambda architecture: toy.build(architecture).eval())
    app = typer.Typer()
    app.command()(toy.main)
    result = CliRunner().invoke(app, ["transformer"])
    assert result.exit_code == 0
    header, *rows = result.output.splitlines()
    assert [row[0] for row in rows] == [*reversed(header.split()[:-1]), "$"]
