"""Weights of a finished run under another vocabulary."""

import pytest
import torch

from models import checkpoint, train
from models.checkpoint import Run
from models.config import Config
from models.tokenizer import BOS, EOS, PAD, UNK, Tokenizer, target_tag, train_tokenizer
from models.transplant import spelling, transplant
from tests.models.tiny import VOCABULARY, sentences

ROOM = VOCABULARY + 30


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A vocabulary with another language."""
    texts = [
        text.replace("chat", "Kater").replace("jardin", "Garten") for pair in sentences(300, seed=9) for text in pair
    ]
    path = tmp_path_factory.mktemp("vocabulary") / "tokenizer.model"
    return train_tokenizer(texts, path, vocab_size=VOCABULARY + 10, languages=["en", "fr", "de"])


@pytest.fixture
def fresh(configure, architecture):
    config = configure(architecture).model_dump()
    config["model"]["vocab_size"] = ROOM
    return checkpoint.build(Config.model_validate(config))


def test_what_both_have_is_copied_and_what_is_new_is_spelled(finished, fresh, other):
    before = {name: weight.clone() for name, weight in fresh.state_dict().items()}
    transplant(finished, fresh, other)
    old, old_tokenizer = finished.model().state_dict(), Tokenizer(finished.tokenizer)
    weights = fresh.state_dict()
    assert all(torch.equal(weights[name], old[name]) for name in old if len(old[name]) != VOCABULARY)
    for name in (name for name in old if len(old[name]) == VOCABULARY):
        for piece in ("▁the", "<2en>", "<0x41>"):
            ours, theirs = other.model.piece_to_id(piece), old_tokenizer.model.piece_to_id(piece)
            assert UNK not in (ours, theirs)
            assert torch.equal(weights[name][ours], old[name][theirs])
        german = weights[name][other.tag("de")]
        torch.testing.assert_close(german, old[name][[old_tokenizer.tag("en"), old_tokenizer.tag("fr")]].mean(0))
        assert torch.equal(weights[name][len(other) :], before[name][len(other) :])  # of no piece


def test_the_transplanted_model_translates_as_the_old_one(finished, configure, architecture):
    """With the same vocabulary nothing changes."""
    model = checkpoint.build(configure(architecture, seed=5)).eval()
    transplant(finished, model, Tokenizer(finished.tokenizer))
    arguments = torch.tensor([[5, 6, EOS]]), torch.tensor([3]), torch.tensor([[BOS, 9]])
    with torch.inference_mode():
        torch.testing.assert_close(model(*arguments)[0], finished.model()(*arguments)[0])


def test_spelling(tokenizer):
    pieces = lambda piece: [tokenizer.model.id_to_piece(i) for i in spelling(piece, tokenizer)]  # noqa: E731
    assert pieces("▁the") == ["▁the"]
    assert pieces(target_tag("de")) == ["<2en>", "<2fr>"]
    assert pieces("ß") == ["<0xC3>", "<0x9F>"]
    assert "".join(pieces("▁gardenbird")) == "▁gardenbird"
    assert "".join(pieces("tth")).removeprefix("▁") == "tth"
    specials = "<pad>", "<unk>", "<s>", "</s>"
    assert [spelling(special, tokenizer) for special in specials] == [[PAD], [UNK], [BOS], [EOS]]


def test_a_run_of_another_shape_is_refused(finished, configure, other):
    config = configure(finished.config.model.architecture).model_dump()
    config["model"] |= {"size": 32} if "size" in config["model"] else {"attention_size": 7}
    model = checkpoint.build(Config.model_validate(config | {"name": "wider"}))
    with pytest.raises(ValueError, match=r"has no .* of shape"):
        transplant(finished, model, other)


def test_a_run_begins_with_the_weights_of_another_and_says_so(finished, configure, architecture, prepared, tmp_path):
    budget = train.Budget(minutes=1e9, steps=4)
    second = train.Trainer(configure(architecture, seed=8), prepared, tmp_path / "new", (), budget)
    second.begin(finished.path)
    old = finished.model().state_dict()
    assert all(torch.equal(weight, old[name]) for name, weight in second.bare.state_dict().items())
    second.train(save_minutes=1e9)
    resumed = train.Trainer(configure(architecture, seed=8), prepared, tmp_path / "new", (), budget)
    resumed.resume()
    resumed.begin(finished.path)  # the same command again
    ours, theirs = resumed.bare.state_dict(), second.bare.state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())
    resumed.finish()
    training = Run.open(tmp_path / "new").training
    assert training.initial == {
        "name": finished.config.name,
        "minutes": finished.training.minutes,
        "processes": 1,
        "tokens": finished.training.tokens,
    }
    known = training.model_copy(update={"minutes": 5.0, "processes": 2, "initial": training.initial | {"minutes": 3.0}})
    (tmp_path / "new" / "training.json").write_text(known.model_dump_json())
    third = train.Trainer(configure(architecture, seed=9), prepared, tmp_path / "third", (), budget)
    third.begin(tmp_path / "new")
    assert third.at.initial == {
        "name": training.initial["name"],
        "minutes": 6.5,  # three minutes of one process are one and a half of two
        "processes": 2,
        "tokens": training.tokens + finished.training.tokens,
    }
