import json
from pathlib import Path
from typing import Any

import pytest

from loadtests.heatmap import write
from tests.loadtests.stub import stub

SPAN = {"text": "a", "start": 0, "end": 1}
SENTENCE = {
    "source": SPAN,
    "target": SPAN,
    "score": -0.5,
    "source_tokens": [SPAN],
    "target_tokens": [SPAN],
    "alignment": [{"source": 0, "target": 0, "weight": 1}],
    "weights": [[1]],
}


def known(name: str, *directions: tuple[str, str]) -> dict[str, Any]:
    alignment = {"shift": 0, "layer": 1, "heads": "mean"}
    rest = {
        "architecture": "a",
        "precision": "int8",
        "provider": "CPU",
        "alignment": alignment,
        "version": "1",
        "memory_bytes": 1,
    }
    return {"name": name, "directions": directions} | rest


def test_every_model_with_the_direction_is_drawn(tmp_path: Path) -> None:
    asked = []

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        asked.append(body)
        found = {"text": "a", "source": "en", "target": "fr", "score": 0, "truncated": False, "warnings": []}
        found |= {"alternatives": [], "sentences": [SENTENCE]}
        return 200, {"model": body["model"], "translations": [found]}

    models = [known("one", ("en", "fr")), known("two", ("fr", "en")), known("three", ("fr", "en"), ("en", "fr"))]
    output = tmp_path / "new" / "seen.png"
    with stub(answer, models=models) as url:
        write(url, "a", "en", "fr", output)
        with pytest.raises(ValueError, match="from fr to de"):
            write(url, "a", "fr", "de", output)
    assert [body["model"] for body in asked] == ["one", "three"]
    assert output.read_bytes().startswith(b"\x89PNG")
    report = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
    assert report["text"] == "a"
    assert report["sentences"] == [SENTENCE | {"model": "one"}, SENTENCE | {"model": "three"}]
