"""What the tests of a dialect's routes have in common."""

from typing import Any


def refused_by_deepl(answer: Any) -> tuple[int, str]:
    """Status and code of an error in DeepL's shape."""
    assert set(answer.json()) == {"message", "detail"}
    assert answer.headers["X-Request-ID"]
    return answer.status_code, answer.json()["detail"]
