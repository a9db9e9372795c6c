"""Words and sub-words are put together rightly, and a server that looks rightly has no error."""

import asyncio

import httpx
import numpy as np
import pytest

from loadtests.alignment import METRIC, SYMMETRISED, THRESHOLDS, GoldSet, measure, read_set, word_of, words_attention
from models.align import Gold

MODEL = {"name": "m", "version": "1", "precision": "int8", "directions": [["en", "fr"], ["fr", "en"]]}
MIRROR = GoldSet(
    "gold", "en", "fr", [Gold(["a", "bb", "c"], ["C", "BB", "A"], {(0, 2), (1, 1), (2, 0)}, {(0, 2), (1, 1), (2, 0)})]
)


def spans(text):
    """Sub-words of one character, the space with the one behind it."""
    return [
        {"start": place - (place > 0 and text[place - 1] == " "), "end": place + 1}
        for place, letter in enumerate(text)
        if letter != " "
    ]


def mirrored(body):
    """Says what it is made to, and more; looks at the source from its end to its beginning."""
    assert (body["attention"], body["tokens"], body["split_sentences"]) == ("weights", "subwords", "none")
    text = body["target_prefix"] + " ever after"
    source, target = spans(body["text"]), spans(text)
    weights = np.full((len(target), len(source)), 0.01)
    for row in range(len(target)):
        weights[row, max(len(source) - 1 - row, 0)] = 0.9
    sentence = {"source_tokens": source, "target_tokens": target, "weights": weights.tolist()}
    return 200, {"translations": [{"text": text, "sentences": [sentence]}]}


def rates(answer, stub_server, links="every word", model=MODEL):
    async def run(url):
        async with httpx.AsyncClient(base_url=url) as client:
            return await measure(client, model, MIRROR)

    with stub_server(answer) as url:
        return [row["scores"][0] for row in asyncio.run(run(url)) if row["links"] == links]


def test_a_character_belongs_to_its_word():
    assert [word_of(["ab", "c", "de"], place) for place in range(7)] == [0, 0, 0, 1, 1, 2, 2]


def test_the_rates_of_a_server_that_looks_rightly(stub_server):
    found = rates(mirrored, stub_server)
    assert [(each["metric"], each["direction"], each["value"]) for each in found] == [
        (METRIC, ["en", "fr"], 0.0), (METRIC, ["fr", "en"], 0.0), (SYMMETRISED, ["en", "fr"], 0.0),
    ]  # fmt: skip


def test_the_rates_of_a_server_that_looks_wrongly_one_way(stub_server):
    """Straight on from French to English: of three links one is right."""

    def half(body):
        status, reply = mirrored(body)
        if body["source"] == "fr":
            reply["translations"][0]["sentences"][0]["weights"] = [
                row[::-1] for row in reply["translations"][0]["sentences"][0]["weights"]
            ]
        return status, reply

    there, back, both = (each["value"] for each in rates(half, stub_server))
    assert there == 0
    assert back == pytest.approx(66.67)
    assert 0 < both < back


def test_links_of_little_weight_are_not_trusted(stub_server):
    """The last word looks everywhere, and elsewhere most: its link is wrong, unless it is left out."""

    def undecided(body):
        status, reply = mirrored(body)
        weights = reply["translations"][0]["sentences"][0]["weights"]
        weights[len(body["target_prefix"].replace(" ", "")) - 1] = [0.25, 0.15, 0.21, 0.39]
        return status, reply

    every, trusted = (rates(undecided, stub_server, links) for links in THRESHOLDS)
    assert [each["value"] for each in trusted[:2]] == pytest.approx([20.0, 20.0])
    assert [each["value"] for each in every[:2]] == pytest.approx([33.33, 33.33])
    assert all("weight 0.4 and more" in each["signature"] for each in trusted)
    assert [each["metric"] for each in trusted[:2]] == [f"{METRIC}, weight 0.4 and more"] * 2


def test_sub_words_are_added_up_and_averaged():
    tokens = [{"start": 0, "end": 1}, {"start": 1, "end": 2}]
    weights = [[0.3, 0.3, 0.4], [0.1, 0.1, 0.8]]
    sentence = {"source_tokens": [*tokens, {"start": 2, "end": 4}], "target_tokens": tokens, "weights": weights}
    found = words_attention({"text": "xy", "sentences": [sentence]}, ["ab", "c"], ["xy"])
    np.testing.assert_allclose(found, [[0.4, 0.6]])


def test_another_translation_than_was_asked_for_tells_nothing():
    sentence = {
        "source_tokens": [{"start": 0, "end": 1}],
        "target_tokens": [{"start": 0, "end": 2}],
        "weights": [[1.0]],
    }
    asked, written = ["en", "1985"], ("en 85 .", "en", "un 1985", "en 1985 et")
    told = [words_attention({"text": text, "sentences": [sentence]}, ["a"], asked).tolist() for text in written]
    nothing, something = [[0.0], [0.0]], [[1.0], [0.0]]
    assert told == [something, nothing, nothing, something]


def test_a_model_without_both_directions_is_left_out(stub_server):
    assert rates(mirrored, stub_server, model=MODEL | {"directions": [["en", "fr"]]}) == []


def test_a_gold_file_says_its_languages(tmp_path):
    path = tmp_path / "gold.en-de.tsv"
    path.write_text("a b\tc d\t1-1 2p2\n")
    gold = read_set(path)
    assert (gold.name, gold.first, gold.second) == ("gold", "en", "de")
    assert gold.rows[0].possible == {(0, 0), (1, 1)}
    with pytest.raises(ValueError, match="expected a name like"):
        read_set(tmp_path / "gold.tsv")
