import pytest

from service import plan
from service.core import Translator
from service.schemas.request import TranslateRequest
from service.text.protect import Protected, protect
from service.text.tokens import Tokenizer
from tests.service.fakes import TAGS, EchoEngine, model, run, started, translate

FRENCH = "Le chat boit du lait sur la table."


def test_the_language_that_was_detected_is_told(translator: Translator) -> None:
    found = translate(translator, "The cat drinks milk.", source=None).detected
    assert found is not None
    assert found.language == "en"
    assert 0.9 < found.confidence <= 1
    assert translate(translator, "The cat drinks milk.").detected is None


def test_addresses_say_nothing_of_the_language(translator: Translator) -> None:
    text = f"https://www.the-cat-drinks-milk.com/and/the/cat/sleeps {FRENCH}"
    assert translator.detect(text) == translator.detect(FRENCH)
    assert translator.detect(FRENCH)[0][0] == "fr"
    assert [language for language, _ in translator.detect("\ud800")] == ["en", "fr"]
    assert sum(share for _, share in translator.detect(FRENCH)) == pytest.approx(1)
    assert translate(translator, text, source=None).warnings == [plan.UNCHANGED]


def test_the_language_is_that_of_the_beginning(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a text is, it takes no longer to find its language."""
    looked_at = []

    def spy(text: str) -> list[Protected]:
        looked_at.append(len(text))
        return protect(text)

    monkeypatch.setattr(plan, "protect", spy)
    addresses = "https://example.org/ " * (plan.BEGINNING // 50)
    assert translator.detect(addresses + FRENCH + " {0}" * plan.BEGINNING)[0][0] == "fr"
    assert looked_at == [plan.BEGINNING]


def test_a_language_that_does_not_lead_to_the_target_is_doubted(translator: Translator) -> None:
    found = translate(translator, "le chat", source=None, target="fr").detected
    assert found is not None
    assert (found.language, found.confidence < 0.5) == ("en", True)


def test_what_was_given_stands_in_the_reply(translator: Translator) -> None:
    text = "the x1 cat. \ny2"
    given = [Protected(4, 6, "<code>x</code>", "markup"), Protected(13, 15, "", "markup")]
    for source in ("en", None):
        request = TranslateRequest(text=["", text], target="fr" if source else "en", source=source)
        _, found = run(translator.translate(request, [[], given])).translations
        assert found.text == "the <code>x</code> cat. \n"


def test_words_in_letters_that_the_model_cannot_read_are_kept(translator: Translator, engine: EchoEngine) -> None:
    text = "the cat is called Мурка."
    found = translate(translator, text)
    assert found.text == text
    assert found.warnings == [plan.UNREADABLE]
    seen = translator.registry.models[0].tokenizer.decode(engine.jobs[-1].source_ids[1:-1]).text
    assert "the cat is called" in seen
    assert "Мурка" not in seen


def test_a_text_in_other_letters_is_not_given_to_a_model(translator: Translator, engine: EchoEngine) -> None:
    sent = len(engine.jobs)
    found = translate(translator, "今日はとても暑いです。\n(Сегодня)")
    assert found.text == "今日はとても暑いです。\n(Сегодня)"
    assert found.warnings == [plan.UNREADABLE]
    assert len(engine.jobs) == sent


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("The cat ᰀ1,234.5 drinks.", ["ᰀ1,234.5"]),
        ("The cat 1,234.5ᰀ drinks.", ["1,234.5ᰀ"]),
        ("The cat ᰀ1,234.5ᰀ drinks.", ["ᰀ1,234.5ᰀ"]),
        ("The cat ᰀ 1,234.5 drinks.", ["ᰀ"]),
    ],
)
def test_a_number_that_touches_letters_no_model_reads_is_kept_whole(
    translator: Translator, text: str, kept: list[str]
) -> None:
    found = translator.planner.plan(text, TranslateRequest(text=text, source="en", target="fr"))
    assert [span.text for span in found.spans] == kept


@pytest.mark.parametrize("text", ["", " ", "😀", "---", "12"])
def test_a_text_without_words_needs_no_language_between(tokenizer: Tokenizer, text: str) -> None:
    legs = [("en", "fr"), ("fr", "en"), ("de", "en"), ("en", "de")]
    translator = started([model(tokenizer, EchoEngine(), directions=legs, tags=TAGS | {"de": 4})])
    found = translate(translator, text, source=None, target="fr")
    assert (found.text, found.source, found.pivot) == (text, "en", None)


def test_signs_that_the_model_cannot_read_are_kept_with_their_numbers(
    translator: Translator, engine: EchoEngine
) -> None:
    text = "the cat drinks 5 € of milk. \ue001 the table"
    found = translate(translator, text)
    assert (found.text, found.warnings) == (text, [])
    seen = " ".join(translator.registry.models[0].tokenizer.decode(job.source_ids[1:-1]).text for job in engine.jobs)
    assert "the cat drinks 36 of milk" in seen
    assert "\ue001" not in seen


@pytest.mark.parametrize(("term", "wanted"), [("€", "euros"), ("5 €", "cinq euros")])
def test_a_sign_may_be_a_term(translator: Translator, term: str, wanted: str) -> None:
    found = translate(translator, "the cat drinks 5 € of $7", glossary={term: wanted})
    assert wanted in found.text
    assert "€" not in found.text
    assert found.text.endswith("$7")
