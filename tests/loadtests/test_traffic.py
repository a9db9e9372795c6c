import json
from random import Random

import pytest

from loadtests.traffic import LONGEST_LIST, SENTENCES, Model, Question, ask, problem, read_models, read_sentences

MODELS = [Model("small", [("en", "fr"), ("fr", "en")]), Model("large", [("en", "fr")])]
TEXTS = {"en": ["Yes.", "The cat sleeps."], "fr": ["Oui.", "Le chat dort."]}


def translation(**changes):
    sentence = {"source_tokens": [{}, {}], "target_tokens": [{}, {}], "weights": [[0.5, 0.5], [0.1, 0.9]]}
    return {"text": "Oui.", "sentences": [sentence | changes]}


def test_the_shipped_sentences_are_mixed():
    sentences = read_sentences(SENTENCES)
    assert set(sentences) == {"en", "fr", "de"}
    for texts in sentences.values():
        words = [len(text.split()) for text in texts]
        assert len(set(texts)) == len(texts) >= 50
        assert min(words) == 1
        assert 30 < max(words) <= 40


@pytest.mark.parametrize("line", ["no tab", "\tno language", "en\t "])
def test_a_bad_line_is_named(tmp_path, line):
    path = tmp_path / "own.tsv"
    path.write_text(f"en\tYes.\n{line}\n")
    with pytest.raises(ValueError, match=r"own\.tsv:2"):
        read_sentences(path)


def test_only_directions_with_sentences_are_asked_for():
    reply = {
        "models": [
            {"name": "a", "directions": [["en", "fr"], ["de", "en"]], "version": "1"},
            {"name": "b", "directions": [["de", "fr"]]},
        ]
    }
    assert read_models(reply, TEXTS) == [Model("a", [("en", "fr")])]
    with pytest.raises(ValueError, match="en, fr"):
        read_models({"models": reply["models"][1:]}, TEXTS)


def test_every_kind_of_request_is_made_and_the_seed_decides():
    random = Random(1)
    questions = [ask(random, MODELS, TEXTS) for _ in range(500)]
    assert {question.name for question in questions} == {
        f"{model} {kind}" for model in ("small", "large") for kind in ("sentence", "attention", "list")
    }
    directions = {(q.body["model"], q.body["source"], q.body["target"]) for q in questions}
    assert directions == {("small", "en", "fr"), ("small", "fr", "en"), ("large", "en", "fr")}
    for name, body in questions:
        texts = body["text"] if isinstance(body["text"], list) else [body["text"]]
        assert set(texts) <= set(TEXTS[body["source"]])
        assert (1 < len(texts) <= LONGEST_LIST) == name.endswith("list")
        assert body.get("attention", "none") == ("weights" if name.endswith("attention") else "none")
    again = Random(1)
    assert questions == [ask(again, MODELS, TEXTS) for _ in range(500)]


@pytest.mark.parametrize(
    ("translations", "expected"),
    [
        ([translation()], None),
        ([], "wrong number of translations"),
        ([translation(), translation()], "wrong number of translations"),
        ([translation() | {"text": " "}], "empty translation"),
        ([translation() | {"sentences": []}], "no sentences"),
        ([translation(weights=[[0.5, 0.5]])], "attention matrix of a wrong size"),
        ([translation(weights=[[0.5, 0.5], [1.0]])], "attention matrix of a wrong size"),
        ([translation(weights=[[0.5, 0.5], [0.1, 0.8]])], "attention row does not sum to 1"),
        ([translation(weights=[[0.5, 0.5], [0.1, 0.9005]])], None),
        ([translation(weights=None)], "reply of another shape: TypeError"),
        ([{"text": "Oui."}], "reply of another shape: KeyError"),
        ([{"text": None}], "reply of another shape: AttributeError"),
    ],
)
def test_a_reply_is_checked(translations, expected):
    question = Question("any", {"text": "Yes.", "attention": "weights"})
    assert problem(question, json.dumps({"translations": translations})) == expected


def test_lists_and_plain_sentences_are_checked_too():
    listed = Question("any", {"text": ["Yes.", "No."]})
    plain = {"text": "Oui."}
    assert problem(listed, json.dumps({"translations": [plain, plain]})) is None
    assert problem(listed, json.dumps({"translations": [plain]})) == "wrong number of translations"
    assert problem(listed, json.dumps({"translations": [plain, {"text": ""}]})) == "empty translation"
    assert problem(listed, "<html>") == "reply of another shape: JSONDecodeError"
