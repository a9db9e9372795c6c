"""Every setting of the server. ``python -m service.settings`` prints them as the README's table."""

import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Literal

from loky import cpu_count
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).resolve().parent.parent
"""The checkout, or the source directory of a bento: relative paths start here, whatever the working directory."""

PREFIX = "ATTENTIVE_"
ORIGINS = r"^\s*((\*|null|[a-z][a-z0-9+.-]*://[^/,\sA-Z]+)\s*(,\s*|$))*$"
"""Browsers tell theirs in small letters and without a path: one with a slash at its end would never be theirs."""
OTHERS = re.compile(r"ATTENTIVE_(URL|API_KEY|SERVICE_.*|PORT(_.*)?)")
"""Variables of the client, and those that Kubernetes sets where a service is called attentive."""


class Settings(BaseSettings):
    """Read from the environment: ``ATTENTIVE_`` and the field's name in capitals."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    models_dir: Path = Field(default=Path("models/trained"), description="Directory that holds the model packages")
    default_model: str = Field(
        default="transformer", description="Name or architecture preferred where a request names none"
    )
    precision: str = Field(default="int8", description="Graphs to run: `int8` or `fp32`")
    provider: str = Field(default="CPUExecutionProvider", description="ONNX Runtime execution provider")
    threads: int = Field(
        default=0,
        ge=0,
        description="Decode loops per package; 0 is one for each core that the system, or a container's limit, leaves",
    )
    slots: int = Field(default=32, ge=8, description="Rows that decode together in one loop")
    queue_size: int = Field(
        default=4096, ge=1, description="Sentences that may wait per package; beyond it 429 `overloaded`"
    )
    latency_objective_ms: int = Field(
        default=300,
        ge=0,
        description="Longest wait behind other work, as estimated from the rate at which work is done; beyond it 429 "
        "`overloaded`. 0: only the queue's size counts",
    )
    cache_bytes: int = Field(
        default=32_000_000, ge=0, description="Memory for translated sentences, which are not translated again; 0: none"
    )
    max_body_bytes: int = Field(default=1_000_000, ge=1, description="Longest request body in bytes")
    body_timeout_s: float = Field(
        default=30.0, gt=0, description="Seconds that a request body may take to come; beyond it 408 `body_timeout`"
    )
    max_texts: int = Field(default=128, ge=1, description="Texts in one request")
    max_text_chars: int = Field(default=100_000, ge=1, description="Code points in one text")
    max_sentences: int = Field(
        default=5000, ge=1, description="Sentences in one request; those of a list or of a page count together"
    )
    max_attention_cells: int = Field(
        default=4_000_000,
        ge=1,
        description="Target tokens times source tokens, over all sentences of a request with `attention: weights`. "
        "Pages need these matrices too, and attention through a third language needs them for each half of the way",
    )
    max_html_depth: int = Field(default=200, ge=1, le=256, description="Elements nested in one another in a page")
    max_glossary_terms: int = Field(
        default=5000, ge=1, description="Terms in the glossary of one request, and in one dictionary of a kept one"
    )
    max_term_chars: int = Field(
        default=100, ge=1, description="Code points in a term of a glossary, and in its translation"
    )
    glossaries_file: str = Field(
        default="", description="SQLite file that glossaries made through DeepL's API are kept in; empty: none are kept"
    )
    max_glossaries: int = Field(
        default=1000, ge=1, description="Glossaries kept for a key, or without keys for all callers together"
    )
    max_beam_size: int = Field(default=8, ge=1, le=8, description="Widest beam; alternatives widen it")
    max_request_sentences: int = Field(
        default=256, ge=1, description="Sentences of one request that are in the engine at once; the rest follow"
    )
    keys_file: str = Field(
        default="",
        description="API keys, as `python -m service.access new NAME` makes them in the serving environment; "
        "empty: all are served",
    )
    rate_limit: str = Field(
        default="",
        description="Requests of a key, or without keys of an address, as `600/minute`; empty: any number",
    )
    cors_origins: str = Field(
        default="",
        pattern=ORIGINS,
        description="Origins, separated by commas, whose pages may call the server from a browser, as "
        "`https://example.org`; `*`: all; empty: none",
    )
    trusted_proxies: str = Field(
        default="", description="Addresses and networks, separated by commas, whose `X-Forwarded-For` is believed"
    )
    request_timeout_s: float = Field(
        default=60.0, gt=0, description="Seconds until 504 `timeout`; `timeout_ms` in a request can only shorten it"
    )
    drain_s: float = Field(
        default=2.0,
        ge=0,
        description="Seconds after SIGTERM in which new work is answered with 503 before the server stops listening",
    )
    drain_deadline_s: float = Field(
        default=25.0, ge=0, description="Seconds after SIGTERM until what is still under way is refused with 503"
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="One line for each request and event, `text` or `json`"
    )
    otlp_endpoint: str = Field(
        default="", description="Collector that traces are sent to, as `http://127.0.0.1:4318`; empty: none"
    )
    detect_confidence: float = Field(
        default=0.9, ge=0, le=1, description="From here on a text found to be in the target language is not translated"
    )
    batch_max_size: int = Field(default=128, ge=1, description="Items in one batch of `/translate_batch`")
    batch_max_latency_ms: int = Field(
        default=2000, ge=1, description="Latency at which BentoML refuses requests to `/translate_batch`"
    )

    @property
    def packages(self) -> Path:
        """``models_dir``, absolute."""
        return ROOT / self.models_dir

    @property
    def keys(self) -> Path | None:
        """``keys_file``, absolute."""
        return _absolute(self.keys_file)

    @property
    def glossaries(self) -> Path | None:
        """``glossaries_file``, absolute."""
        return _absolute(self.glossaries_file)

    @cached_property
    def decode_threads(self) -> int:
        """``threads``, or the cores that this process may use: those it is bound to, or fewer in a container."""
        return self.threads or cpu_count()


def _absolute(path: str) -> Path | None:
    return ROOT / path if path else None


def unknown(environment: Iterable[str]) -> list[str]:
    """Variables that look like settings and are none, in alphabetical order: nobody else would find a misspelt one."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    given = {name for name in environment if name.upper().startswith(PREFIX)}
    return sorted(name for name in given if name.upper() not in known and not OTHERS.fullmatch(name))


def markdown_table() -> str:
    """The settings as a Markdown table, one row for each, in the order of the class."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = f"`{field.default}`" if field.default != "" else ""
        rows.append(f"| `ATTENTIVE_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(markdown_table(), end="")
