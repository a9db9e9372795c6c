import logging
import re

import pytest
from starlette.exceptions import HTTPException

from service import errors


def kinds() -> list[type[errors.ServiceError]]:
    return errors.ServiceError.__subclasses__()


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = re.findall(r"[├└]── (\w+) +(\d+)  (\w+)( +.*Retry-After)?", errors.__doc__ or "")
    assert [(name, int(status), code, bool(retry)) for name, status, code, retry in drawn] == sorted(
        ((kind.__name__, kind.status, kind.code, kind.retry_after is not None) for kind in kinds()),
        key=lambda row: [name for name, *_ in drawn].index(row[0]),
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.TooLarge("x"), "too_large"),
        (TimeoutError(), "timeout"),
        (HTTPException(404), "not_found"),
        (HTTPException(405), "method_not_allowed"),
        (HTTPException(400), "invalid_json"),
        (HTTPException(418), "internal"),
        (KeyError("x"), "internal"),
    ],
)
def test_every_exception_has_its_code(error: Exception, code: str) -> None:
    assert errors.from_exception(error).code == code


def test_a_message_can_always_be_sent() -> None:
    answer = errors.response(errors.InvalidRequest("\ud800" + "x" * 1000, field="\udfff"), "id", "/v1/translate")
    assert len(answer.body) < 500
    assert answer.status_code == 422


def test_the_log_has_the_place_and_not_the_text(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("secret text")

    try:
        fail()
    except ValueError as error:
        with caplog.at_level(logging.ERROR):
            errors.log_unexpected(error, "id-1")
    assert "id-1" in caplog.text
    assert "ValueError" in caplog.text
    assert "in fail" in caplog.text
    assert "secret text" not in caplog.text.replace('raise ValueError("secret text")', "")


def test_bentoml_logs_no_input() -> None:
    from service.schemas.request import BatchItem

    with pytest.raises(ValueError, match="validation error") as caught:
        BatchItem.model_validate_json('{"text": 1}')
    record = logging.LogRecord("x", logging.ERROR, "x", 1, "failed", None, caught._excinfo)
    assert errors.without_input(record)
    assert record.exc_info is None
