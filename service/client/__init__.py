"""Client of the translation server: ``Client("http://127.0.0.1:3000").translate("I drink milk.", "fr").text``.

Installed by itself it is the package ``attentive``. It needs httpx and pydantic, and nothing of the server.
"""

from .client import AsyncClient, Client
from .failure import AttentiveError
from .replies import (
    Alternative,
    Detected,
    Detection,
    HonouredTerm,
    LanguageInfo,
    Link,
    ModelInfo,
    Sentence,
    Span,
    TranslateReply,
    Translation,
)
from .wire import Options, SentenceEvent, TranslationEvent

__all__ = [
    "Alternative",
    "AsyncClient",
    "AttentiveError",
    "Client",
    "Detected",
    "Detection",
    "HonouredTerm",
    "LanguageInfo",
    "Link",
    "ModelInfo",
    "Options",
    "Sentence",
    "SentenceEvent",
    "Span",
    "TranslateReply",
    "Translation",
    "TranslationEvent",
]
