"""What DeepL's API for glossaries is asked and answers."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from service import errors
from service.api.deepl import DeepLParameters
from service.api.dialects import Code
from service.glossaries import Kept
from service.schemas.reply import Reply
from service.text.entries import UNFIT, Format

MAX_NAME = 1024
"""Code points of a name, as DeepL has it."""


def _printable(name: str) -> str:
    if UNFIT.search(name):
        raise PydanticCustomError("unprintable", "A name has no control characters")
    return name


Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(_printable)]
Entries = Annotated[str, Field(description="A term and its translation on each line, with a tab or a comma between")]


class Dictionary(BaseModel):
    """Terms of one language, and what each is to be translated as."""

    model_config = ConfigDict(extra="ignore", strict=True)

    source_lang: Code
    target_lang: Code
    entries: Entries
    entries_format: Format = "tsv"


Dictionaries = Annotated[list[Dictionary], Field(fail_fast=True)]


class NewGlossary(DeepLParameters, Dictionary):
    name: Name


class NewMultilingual(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    name: Name
    dictionaries: Annotated[Dictionaries, Field(min_length=1)]


class Change(BaseModel):
    """Terms that are there already get another translation, others are added."""

    model_config = ConfigDict(extra="ignore", strict=True)

    name: Name | None = None
    dictionaries: Dictionaries = []


class Languages(Reply):
    source_lang: str
    target_lang: str


class Supported(Reply):
    supported_languages: list[Languages]


class Glossary(Languages):
    glossary_id: str
    name: str
    ready: bool = True
    creation_time: str
    entry_count: int

    @classmethod
    def of(cls, kept: Kept) -> "Glossary":
        """Raises :class:`service.errors.UnknownGlossary` for one that the first version of the API has no shape for."""
        if len(kept.sizes) != 1:
            raise errors.UnknownGlossary("it has not one dictionary: see /v3/glossaries")
        ((source, target), size), *_ = kept.sizes.items()
        return cls(
            glossary_id=kept.id,
            name=kept.name,
            source_lang=source,
            target_lang=target,
            creation_time=kept.created,
            entry_count=size,
        )


class Listed(Reply):
    glossaries: list[Glossary]


class Size(Languages):
    entry_count: int


class Multilingual(Reply):
    glossary_id: str
    name: str
    creation_time: str
    dictionaries: list[Size]

    @classmethod
    def of(cls, kept: Kept) -> "Multilingual":
        sizes = [
            Size(source_lang=source, target_lang=target, entry_count=size)
            for (source, target), size in kept.sizes.items()
        ]
        return cls(glossary_id=kept.id, name=kept.name, creation_time=kept.created, dictionaries=sizes)


class ListedMultilingual(Reply):
    glossaries: list[Multilingual]


class Written(Languages):
    entries: str
    entries_format: Format = "tsv"


class WrittenDictionaries(Reply):
    dictionaries: list[Written]
