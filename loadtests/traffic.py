"""What the users of a load test ask for, and whether a reply answers it."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

SENTENCES = Path(__file__).with_name("sentences.tsv")
LONGEST_LIST = 16
ROW_SUM_TOLERANCE = 1e-3

Sentences = Mapping[str, Sequence[str]]
"""Language -> sentences in it."""


class Model(NamedTuple):
    name: str
    directions: list[tuple[str, str]]


class Question(NamedTuple):
    name: str
    """What its figures are collected under."""
    body: dict[str, Any]
    """JSON of a ``POST /v1/translate``."""


def read_sentences(path: Path) -> Sentences:
    """``language<TAB>sentence`` lines. Raises ``ValueError`` naming file and line of one that is not so."""
    sentences = defaultdict(list)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        language, tab, sentence = line.partition("\t")
        if not (tab and language and sentence.strip()):
            raise ValueError(f"{path}:{number}: expected a language, a tab and a sentence")
        sentences[language].append(sentence)
    return sentences


def read_models(reply: Mapping[str, Any], sentences: Sentences) -> list[Model]:
    """The models of a ``GET /v1/models`` with the directions that there are sentences for.

    Raises ``ValueError`` where nothing is left to ask for.
    """
    models = [
        Model(model["name"], [(source, target) for source, target in model["directions"] if source in sentences])
        for model in reply["models"]
    ]
    if not (models := [model for model in models if model.directions]):
        raise ValueError(f"no served direction starts from {', '.join(sentences)}")
    return models


def ask(random: Random, models: Sequence[Model], sentences: Sentences) -> Question:
    """Of five requests three are a sentence, one is a sentence with its attention, one is a list."""
    model = random.choice(models)
    source, target = random.choice(model.directions)
    body: dict[str, Any] = {"model": model.name, "source": source, "target": target}
    kind = random.choices(["sentence", "attention", "list"], [3, 1, 1])[0]
    if kind == "list":
        body["text"] = random.choices(sentences[source], k=random.randint(2, LONGEST_LIST))
    else:
        body["text"] = random.choice(sentences[source])
    if kind == "attention":
        body["attention"] = "weights"
    return Question(f"{model.name} {kind}", body)


def problem(question: Question, reply: str) -> str | None:
    """What is wrong with the body of a status 200, in words that do not vary with the text; ``None`` if it is right."""
    text = question.body["text"]
    expected = len(text) if isinstance(text, list) else 1
    try:
        translations = json.loads(reply)["translations"]
        if len(translations) != expected:
            return "wrong number of translations"
        if not all(translation["text"].strip() for translation in translations):
            return "empty translation"
        if question.body.get("attention") == "weights":
            return next(filter(None, map(attention_problem, translations)), None)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return f"reply of another shape: {type(error).__name__}"
    return None


def attention_problem(translation: Mapping[str, Any]) -> str | None:
    """The first thing wrong with the attention matrices of a translation."""
    if not translation["sentences"]:
        return "no sentences"
    for sentence in translation["sentences"]:
        rows, columns = len(sentence["target_tokens"]), len(sentence["source_tokens"])
        weights = sentence["weights"]
        if len(weights) != rows or any(len(row) != columns for row in weights):
            return "attention matrix of a wrong size"
        if any(abs(sum(row) - 1) > ROW_SUM_TOLERANCE for row in weights):
            return "attention row does not sum to 1"
    return None
