"""Weights of a finished run as the start of one with another vocabulary: what was learnt about language is kept.

The body is copied. A piece of both vocabularies keeps its embedding; one that is new starts as the mean of the old
pieces that spell it, and a new target tag as the mean of the old ones.
"""

import torch

from models.checkpoint import Run
from models.tokenizer import UNK, Tokenizer
from models.translator import Translator


def spelling(piece: str, old: Tokenizer) -> list[int]:
    """Ids of the old pieces that make up a new one."""
    known = old.model.piece_to_id(piece)
    if known != UNK or piece == old.model.id_to_piece(UNK):
        return [known]
    if piece.startswith("<2"):
        pieces = map(old.model.id_to_piece, range(len(old)))
        return [old.model.piece_to_id(tag) for tag in pieces if tag.startswith("<2") and tag.endswith(">")]
    ids = old.encode(piece.replace("▁", " ")) or [UNK]
    starts_word = piece.startswith("▁") or old.model.id_to_piece(ids[0]) != "▁"
    return ids if starts_word else ids[1:] or ids


def transplant(run: Run, model: Translator, tokenizer: Tokenizer) -> None:
    """Overwrite the weights of ``model``. Raises ``ValueError`` where the run's model has another shape."""
    old_weights, old = run.model().state_dict(), Tokenizer(run.tokenizer)
    spelled = [spelling(tokenizer.model.id_to_piece(i), old) for i in range(len(tokenizer))]
    of_pieces = {name for name, weight in model.named_parameters() if weight is model.output_bias}
    of_pieces.add("embedding.weight")
    weights = model.state_dict()
    for name, tensor in weights.items():
        found = old_weights.get(name)
        if found is not None and name in of_pieces:
            rows = torch.stack([found[ids].mean(0) for ids in spelled])
            found = torch.cat([rows, tensor[len(rows) :]])  # a model may have room for more pieces than there are
        if found is None or found.shape != tensor.shape:
            raise ValueError(f"{run.config.name} has no {name} of shape {tuple(tensor.shape)}")
        weights[name] = found
    model.load_state_dict(weights)
