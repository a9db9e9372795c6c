from typing import Any

import matplotlib as mpl
import pytest

from loadtests.heatmap import figure


@pytest.fixture(autouse=True)
def headless() -> None:
    mpl.use("agg")


def sentence(weights: list[list[float]]) -> dict[str, Any]:
    def tokens(count: int) -> list[dict[str, Any]]:
        return [{"text": f"w{i}", "start": i, "end": i + 1} for i in range(count)]

    read, written = tokens(len(weights[0])), tokens(len(weights))
    return {"model": "m", "weights": weights, "source_tokens": read, "target_tokens": written}


def test_every_token_has_its_label_and_every_strong_weight_its_number() -> None:
    picture = figure([sentence([[0.9, 0.1, 0.0], [0.01, 0.04, 0.95]])])
    (axes,) = picture.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["w0", "w1", "w2"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["w0", "w1"]
    assert sorted(text.get_text() for text in axes.texts) == ["0.10", "0.90", "0.95"]


def test_models_stand_side_by_side() -> None:
    assert len(figure([sentence([[1.0]]), sentence([[0.5, 0.5]])]).axes) == 2
