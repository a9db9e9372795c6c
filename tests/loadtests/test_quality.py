import json
from typing import Any

import pytest

from loadtests.quality import (
    alignment_table,
    draw,
    multi30k_table,
    newstest_table,
    points,
    robustness_table,
    served_table,
    speed_table,
    summary,
)

WHERE = {"machine": {"cpu": "a cpu", "cores": 2, "load_1_min": 0.5}, "versions": {"numpy": "2.0"}, "commit": "abc"}
ROW: dict[str, Any] = {"model": "t", "architecture": "transformer", "precision": "int8", "set": "tatoeba-test"}
ROW |= {"source": "en", "target": "fr", "beam_size": 1, "sentences": 100, "seconds": 2.0, "bleu": 20.04, "chrf": 40.0}
ROW |= {"bleu_signature": "B", "chrf_signature": "C", "tokenised_bleu": 41.2, "tokenised_signature": "T"}
BACK = ROW | {"source": "fr", "target": "en", "bleu": 30.0, "seconds": 8.0}


def report(*rows, **more):
    return WHERE | {"rows": list(rows)} | more


def test_the_short_table_has_a_column_for_each_direction():
    other = ROW | {"model": "b", "bleu": 18.0}
    fp32, beam = ROW | {"precision": "fp32"}, ROW | {"beam_size": 4}
    text = summary(report(ROW, BACK, other, fp32, beam, ROW | {"set": "multi30k-test2016"}))
    assert "| model | set | en-fr | fr-en |" in text
    assert "| t | tatoeba-test | 20.0 | 30.0 |" in text
    assert "| b | tatoeba-test | 18.0 | - |" in text
    assert "multi30k" not in text


def test_int8_is_set_against_fp32():
    text = served_table(report(ROW, BACK, ROW | {"precision": "fp32", "bleu": 20.16}))
    assert "| t | int8 | 1 | tatoeba-test | en-fr | 20.04 | -0.12 | 40.00 | 50 |" in text
    assert "| t | fp32 | 1 | tatoeba-test | en-fr | 20.16 | - | 40.00 | 50 |" in text
    assert "| t | int8 | 1 | tatoeba-test | fr-en | 30.00 | - | 40.00 | 12 |" in text
    assert "`B`; `C`" in text


def test_without_fp32_there_is_no_column_for_it():
    text = served_table(report(ROW, BACK))
    assert "| sentences/s |" in text
    assert "fp32" not in text
    assert "| t | int8 | 1 | tatoeba-test | en-fr | 20.04 | 40.00 | 50 |" in text


def test_a_point_is_a_mean_over_what_all_models_were_measured_in():
    other = [row | {"model": "b", "bleu": row["bleu"] - 2} for row in (ROW, BACK)]
    alone = ROW | {"target": "de", "bleu": 90.0}
    found = points(report(ROW, BACK, alone, *other))
    assert [(point.model, point.sentences_per_s) for point in found] == [("t", 20.0), ("b", 20.0)]
    assert [point.bleu for point in found] == pytest.approx([25.02, 23.02])
    assert found[0].directions == ("en-fr", "fr-en")
    assert "| tatoeba-test | t | int8 | 1 | 25.02 | 40.00 | 20 | en-fr, fr-en |" in speed_table(
        report(ROW, BACK, *other)
    )


def test_the_load_is_that_of_the_moment_that_is_named():
    assert "Load of the machine when it ended: 0.5." in speed_table(report(ROW))
    assert "Load of the machine when it began: 0.25." in speed_table(report(ROW, load_before=0.25))


def test_the_picture_is_of_every_set(tmp_path):
    both = report(ROW, BACK, ROW | {"precision": "fp32", "set": "newstest2014"}, ROW | {"beam_size": 4})
    draw(both, tmp_path / "quality.png")
    assert (tmp_path / "quality.png").read_bytes().startswith(b"\x89PNG")


def test_alignment_error_rates_stand_beside_aligners():
    score = {"set": "hansards-dev", "precision": "int8", "metric": "AER", "signature": "s"}
    rows = [
        {"model": "t", "links": links, "scores": [score | {"direction": way, "value": value - less}]}
        for links, less in (("every word", 0.0), ("weight 0.4 and more", 5.0))
        for way, value in ((["en", "fr"], 25.6), (["fr", "en"], 28.0), (["en", "fr"], 17.0))
    ]
    text = alignment_table(report(alignment=rows))
    assert "| model | precision | set | links | en-fr | fr-en | symmetrised |" in text
    assert "| t | int8 | hansards-dev | every word | 25.6 | 28.0 | 17.0 |" in text
    assert "| t | int8 | hansards-dev | weight 0.4 and more | 20.6 | 23.0 | 12.0 |" in text
    assert "| GIZA++ | - | Hansards test | its own | 8.0 | 9.8 | 5.9 |" in text
    assert "Not measured" in alignment_table(report(ROW))


def test_alignments_of_other_languages_stand_in_a_table_of_their_own():
    score = {"precision": "int8", "metric": "AER", "signature": "s"}
    rows = [
        {"model": "t", "links": "every word", "scores": [score | {"set": name, "direction": way, "value": value}]}
        for name, first, second in (("europarl", "en", "de"), ("hansards", "en", "fr"))
        for way, value in (([first, second], 1.0), ([second, first], 2.0), ([first, second], 3.0))
    ]
    german, french, _ = alignment_table(report(alignment=rows)).split("\n\n")
    assert "| links | en-de | de-en | symmetrised |" in german
    assert "| t | int8 | europarl | every word | 1.0 | 2.0 | 3.0 |" in german
    assert "| links | en-fr | fr-en | symmetrised |" in french
    assert "| t | int8 | hansards | every word | 1.0 | 2.0 | 3.0 |" in french
    assert ("GIZA++" in german, "GIZA++" in french) == (False, True)
    assert "GIZA++" not in alignment_table(report(alignment=rows[:3]))


def test_multi30k_stands_beside_what_was_published():
    text = multi30k_table(report(ROW | {"target": "de"}, BACK | {"architecture": "bahdanau", "source": "de"}))
    assert "| t | en-de | int8 | 1 | 41.2 | 20.0 | 40.0 | 41.0 (Transformer-Tiny;" in text
    assert "33.5 (GRU with additive attention" in text
    assert "`T`" in text


def test_newstest_stands_beside_the_papers():
    text = newstest_table(report(ROW | {"set": "newstest2014"}, ROW))
    assert text.count("| t |") == 1
    assert "| RNNsearch-50, trained longer | en-fr | 28.45 |" in text


def test_robustness_by_kind_and_check():
    failure = {"kind": "names", "text": "x", "translation": "y", "failed": ["kept", "loop"]}
    row: dict[str, Any] = {"model": "m", "precision": "int8", "inputs": 4, "passed": 3, "failures": [failure]}
    row["kinds"] = {"names": {"inputs": 1, "passed": 0}, "words": {"inputs": 3, "passed": 3}}
    text = robustness_table(json.loads(json.dumps(report(row))))
    assert "| names | 0.0 |" in text
    assert "| all | 75.0 |" in text
    assert "| kept | 1 |" in text
    assert "4 translations in all" in text
