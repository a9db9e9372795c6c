import pytest

from loadtests.docs import README, consistency_table, example, load_table, render, replace
from service.settings import markdown_table


def test_replace_changes_only_its_part() -> None:
    text = "a\n<!-- begin:x -->\nold\n<!-- end:x -->\nb\n<!-- begin:y -->\n<!-- end:y -->\n"
    assert replace(text, "x", "new\\1\n") == text.replace("old", "new\\1")


def test_replace_needs_its_part() -> None:
    with pytest.raises(ValueError, match="no part z"):
        replace("a", "z", "b")


def test_the_readme_is_as_generated() -> None:
    """Nobody typed a number: what is between the marks is what the command writes from docs/results."""
    assert README.read_text(encoding="utf-8") == render()


def test_the_readme_has_every_setting() -> None:
    assert markdown_table().strip() in README.read_text(encoding="utf-8")


def test_example_keeps_small_objects_on_one_line() -> None:
    text = example({"translations": [{"text": "Je", "tokens": [{"text": "Je", "start": 0}]}]})
    assert '{"text": "Je", "start": 0}' in text
    assert text.startswith("```sh\ncurl ")


def test_load_table_survives_a_kind_without_answers() -> None:
    row = {"requests": 2, "failures": 0, "p50_ms": 1.0, "p95_ms": 2.0, "p97_ms": 2.0, "p99_ms": 2.0}
    report = {"by_kind": {"a": row, "b": {"requests": 0, "failures": 0}}, "total": row, "seconds": 60.0}
    report |= {"offered_per_s": 8.0, "achieved_per_s": 7.9}
    report |= {"client": {"machine": {"cpu": "c", "cores": 2}, "versions": {"locust": "1"}, "commit": "abc"}}
    text = load_table(report)
    assert "| a | 2 | 0 | 1.0 | 2.0 | 2.0 | 2.0 |" in text
    assert "8 requests/s offered, 7.9 achieved" in text


def test_consistency_table_counts() -> None:
    row = {"model": "m", "precision": "int8", "set": "s", "source": "en", "target": "fr", "sentences": 10}
    text = consistency_table({"rows": [row | {"identical": 9}], "list": 65, "clients": 32, "commit": "abc"})
    assert "| m | int8 | s | en-fr | 10 | 9 |" in text
