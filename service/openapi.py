"""The OpenAPI description as a file: ``python -m service.openapi`` writes ``service/openapi.json``."""

import json
from pathlib import Path

from service.app import create_app
from service.core import Translator
from service.settings import Settings

FILE = Path(__file__).with_name("openapi.json")


def document() -> str:
    """The description, which depends on no model and on no setting."""
    settings = Settings()
    return json.dumps(create_app(Translator(settings), settings).openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(document(), encoding="utf-8")
