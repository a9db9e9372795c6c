"""The ``attentive`` command, also as ``python -m attentive``; in the checkout it is ``python -m service.client``."""

import sys


def main() -> None:
    try:
        from .cli import app  # noqa: PLC0415 - the library alone needs neither typer nor rich
    except ModuleNotFoundError as error:
        sys.exit(f"attentive: {error.name} is missing; pip install '.[client]' in the project's checkout brings it")
    app(prog_name="attentive")


if __name__ == "__main__":
    main()
