"""Sizes of the tiny models, and sentences of two tiny languages."""

import random
from collections.abc import Iterator

WORDS = {
    "the": "le", "a": "un", "cat": "chat", "dog": "chien", "bird": "oiseau", "house": "maison", "garden": "jardin",
    "sees": "voit", "hears": "entend", "likes": "aime", "small": "petit", "big": "grand", "old": "vieux", "and": "et",
    "today": "aujourd'hui", "here": "ici", "slowly": "lentement", "child": "enfant", "window": "fenêtre",
}  # fmt: skip
VOCABULARY = 340
MODELS = {
    "bahdanau": {"embedding_size": 12, "encoder_size": 8, "decoder_size": 10, "attention_size": 6},
    "transformer": {"size": 16, "heads": 2, "feed_forward_size": 24, "encoder_layers": 2, "decoder_layers": 2},
}


def sentences(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Pairs of sentences, translated word by word."""
    draw = random.Random(seed)
    for _ in range(count):
        words = draw.choices(list(WORDS), k=draw.randint(2, 7))
        yield " ".join(words).capitalize() + ".", " ".join(WORDS[word] for word in words).capitalize() + "."
