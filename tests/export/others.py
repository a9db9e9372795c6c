"""Directories of tiny models as others publish them: Firefox Translations and the transformers library."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import torch
from transformers import MarianConfig, MarianMTModel

from tests.export.marian import tiny
from tests.packages import sentences

VOCABULARY = 220
SPREAD = 4.0
"""Of random weights: what is added to the input of a part outweighs it."""


def train_vocabulary(path: Path, size: int = VOCABULARY, seed: int = 0, **options: object) -> Path:
    """A SentencePiece model whose end of sentence is 0, as Firefox has it, unless ``options`` say otherwise."""
    model = io.BytesIO()
    settings: dict[str, Any] = {"eos_id": 0, "unk_id": 1, "bos_id": -1, "pad_id": -1, "byte_fallback": False} | options
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences(400, seed=seed)),
        model_writer=model,
        vocab_size=size,
        hard_vocab_limit=False,
        minloglevel=2,
        **settings,
    )
    path.write_bytes(model.getvalue())
    return path


def pieces_of(path: Path) -> list[str]:
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return [model.id_to_piece(number) for number in range(model.get_piece_size())]


def firefox(directory: Path, kind: str = "int8", *, sides: int = 1) -> Path:
    """``model.enpt.bin`` and its vocabulary, or one for each of two sides."""
    directory.mkdir(parents=True)
    names = ["vocab.enpt.spm"] if sides == 1 else ["srcvocab.enpt.spm", "trgvocab.enpt.spm"]
    paths = [train_vocabulary(directory / name, seed=seed) for seed, name in enumerate(names)]
    sizes = [len(pieces_of(path)) for path in (paths[0], paths[-1])]
    options = tiny.STUDENT | {"dim-vocabs": sizes, "tied-embeddings-all": sides == 1, "tied-embeddings": sides == 2}
    values = tiny.tensors(options, seed=1)
    text = {"special:model.yml": tiny.config(options)}
    content = tiny.npz(values | text) if kind == "npz" else tiny.binary(
        {**(tiny.quantized(values) if kind == "int8" else values), **text}
    )  # fmt: skip
    (directory / ("model.enpt.npz" if kind == "npz" else "model.enpt.bin")).write_bytes(content)
    return directory


def write_shortlist(directory: Path, content: bytes | None = None) -> Path:
    """Beside the files of :func:`firefox`: five words for each sub-word, unless the ``content`` says otherwise."""
    random = np.random.default_rng(6)
    size = len(pieces_of(next(directory.glob("*.spm"))))
    path = directory / "lex.50.50.enpt.s2t.bin"
    path.write_bytes(content or tiny.shortlist([random.choice(size, 5, replace=False).tolist() for _ in range(size)]))
    return path


def huggingface(directory: Path, tags: tuple[str, ...] = (), ending: float = 2.0, **options: object) -> MarianMTModel:
    """A model with random weights, saved where its vocabularies are; ``ending`` favours the end of a sentence."""
    directory.mkdir(parents=True)
    sides = [
        train_vocabulary(directory / f"{name}.spm", seed=seed, unk_id=0, bos_id=1, eos_id=2)
        for seed, name in enumerate(("source", "target"))
    ]
    usual = {piece: None for path in sides for piece in pieces_of(path)[3:]}
    words = ["</s>", "<unk>", *tags, *usual, "<pad>"]
    (directory / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    settings: dict[str, Any] = {
        "d_model": 24,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 3,
        "decoder_attention_heads": 3,
        "encoder_ffn_dim": 40,
        "decoder_ffn_dim": 40,
        "activation_function": "swish",
        "scale_embedding": True,
        "max_position_embeddings": 64,
    }
    pad = len(words) - 1
    special = {"vocab_size": len(words), "pad_token_id": pad, "decoder_start_token_id": pad, "eos_token_id": 0}
    config = MarianConfig(**(settings | special | options), forced_eos_token_id=None)
    torch.manual_seed(3)
    model = MarianMTModel(config).eval()
    random = np.random.default_rng(3)
    for name, parameter in model.named_parameters():
        if "positions" not in name:
            # Norms without a mean: else what is read were what is likeliest to be written, again and again.
            spread = 0.5 if "shared" in name else SPREAD / np.sqrt(parameter.shape[-1])
            spread = 0.1 if name.endswith("bias") else 1.0 if "norm" in name else spread
            values = random.normal(size=tuple(parameter.shape)) * spread
            parameter.data = torch.tensor(values, dtype=torch.float32)
    model.final_logits_bias[0, 0] = ending
    model.save_pretrained(directory)
    return model
