import json

from service import openapi


def test_the_file_is_up_to_date() -> None:
    """``python -m service.openapi`` writes it."""
    assert openapi.FILE.read_text(encoding="utf-8") == openapi.document()


def test_examples_and_errors_are_described() -> None:
    document = json.loads(openapi.document())
    assert document["components"]["schemas"]["TranslateRequest"]["examples"]
    answers = document["paths"]["/v1/translate"]["post"]["responses"]
    assert set(answers) == {"200", "400", "404", "413", "422", "429", "503", "504"}
    assert all("ErrorReply" in json.dumps(answer) for status, answer in answers.items() if status != "200")
