import json

import pytest

from service import openapi


def test_the_file_is_up_to_date() -> None:
    """``python -m service.openapi`` writes it."""
    assert openapi.FILE.read_text(encoding="utf-8") == openapi.document()


def test_examples_and_errors_are_described() -> None:
    document = json.loads(openapi.document())
    assert document["components"]["schemas"]["TranslateRequest"]["examples"]
    answers = document["paths"]["/v1/translate"]["post"]["responses"]
    assert set(answers) == {"200", "400", "401", "404", "408", "413", "422", "429", "503", "504"}
    assert all("ErrorReply" in json.dumps(answer) for status, answer in answers.items() if status != "200")


@pytest.mark.parametrize(("path", "shape"), [("/v2/translate", "DeepLError"), ("/translate", "LibreTranslateError")])
def test_dialects_describe_json_forms_and_their_own_errors(path: str, shape: str) -> None:
    described = json.loads(openapi.document())["paths"][path]["post"]
    kinds = {"application/json", "application/x-www-form-urlencoded", "multipart/form-data"}
    assert described["requestBody"]["content"].keys() == kinds
    assert all(content["example"] for content in described["requestBody"]["content"].values())
    assert {"400", "403", "413", "429", "503", "504"} < described["responses"].keys()
    assert "422" not in described["responses"]
    assert all(shape in json.dumps(answer) for status, answer in described["responses"].items() if status != "200")
