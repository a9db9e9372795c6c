"""PyTorch eager: the trained model itself, in static batches."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from loadtests.peers import BATCH, Search, System, Translation
from models.data import pad
from models.tokenizer import BOS, EOS
from models.translator import Tensors, Translator, greedy


class Recording:
    """A translator that keeps the attention of every step."""

    def __init__(self, model: Translator) -> None:
        self.encode, self._step = model.encode, model.step
        self.attention: list[Tensor] = []

    def step(self, token: Tensor, position: int, memory: Tensors, state: Tensors) -> tuple[Tensor, Tensors, Tensor]:
        logits, state, attention = self._step(token, position, memory, state)
        self.attention.append(attention)
        return logits, state, attention


@torch.inference_mode()
def beam_search(model: Translator, source: Tensor, lengths: Tensor, *, beam: int, max_length: int) -> list[list[int]]:
    """The best target of each row by mean log-probability, EOS included in the mean and left out of the result.

    A sentence ends when ``beam`` of its hypotheses have, each among the ``beam`` best of its step, or after
    ``max_length`` steps, the last of which is for EOS only.
    """
    rows, vocabulary = len(source), model.config.vocab_size
    memory, state = model.encode(source, lengths)
    memory, state = ({name: t.repeat_interleave(beam, 0) for name, t in ts.items()} for ts in (memory, state))
    scores = torch.full((rows, beam), -torch.inf)
    scores[:, 0] = 0.0
    targets = torch.full((rows * beam, 1), BOS)
    finished: list[list[tuple[float, list[int]]]] = [[] for _ in range(rows)]
    for position in range(max_length):
        logits, state, _ = model.step(targets[:, -1], position, memory, state)
        total = scores.reshape(-1, 1) + logits.float().log_softmax(-1)  # [rows * beam, V]
        best, flat = total.view(rows, -1).topk(2 * beam)  # enough for a full beam beside one EOS from each hypothesis
        parent, token = flat // vocabulary + torch.arange(rows)[:, None] * beam, flat % vocabulary
        searching = [len(hypotheses) < beam for hypotheses in finished]
        for row, rank in (token[:, :beam] == EOS).nonzero().tolist():
            if searching[row]:
                ended = targets[parent[row, rank], 1:].tolist()
                finished[row].append((float(best[row, rank]) / (position + 1), ended))
        if position + 1 == max_length or all(len(hypotheses) >= beam for hypotheses in finished):
            break
        going_on = (token == EOS).int().argsort(dim=1, stable=True)[:, :beam]  # the best that are not EOS, in order
        scores = best.gather(1, going_on)
        order = parent.gather(1, going_on).flatten()
        targets = torch.cat([targets[order], token.gather(1, going_on).view(-1, 1)], dim=1)
        state = {name: tensor[order] for name, tensor in state.items()}
    unfinished = targets.view(rows, beam, -1)[:, 0, 1:].tolist()
    return [max(each)[1] if each else rest for each, rest in zip(finished, unfinished, strict=True)]


class PyTorch(System):
    """The model in float32; attention is there for greedy decoding only."""

    name = "pytorch"

    def __init__(self, model: Translator, cores: int, threads: int) -> None:
        """``threads`` of an operator: for small ones fewer than there are cores may be faster."""
        super().__init__("fp32", cores, f"threads={threads}")
        self.model, self.threads = model, threads

    def translate(self, sources: Sequence[Sequence[int]], search: Search) -> list[Translation]:
        """Raises ``ValueError`` for a beam with attention."""
        if search.attention and search.beam_size > 1:
            raise ValueError("attention is recorded for greedy decoding only")
        torch.set_num_threads(self.threads)
        batches = [sources[start : start + BATCH] for start in range(0, len(sources), BATCH)]
        return [translation for batch in batches for translation in self._batch(batch, search)]

    def _batch(self, sources: Sequence[Sequence[int]], search: Search) -> list[Translation]:
        source, lengths = pad([np.array(ids) for ids in sources])
        steps = search.max_length + 1  # the last one may be EOS
        if search.beam_size > 1:
            found = beam_search(self.model, source, lengths, beam=search.beam_size, max_length=steps)
            return [Translation(ids, None) for ids in found]
        recording = Recording(self.model)
        model = cast(Translator, recording) if search.attention else self.model
        tokens, _ = greedy(model, source, lengths, bos=BOS, eos=EOS, max_length=steps)
        ended = [ids[: ids.index(EOS)] if EOS in ids else ids for ids in tokens.tolist()]
        cut = [ids[: search.max_length] for ids in ended]
        if not search.attention:
            return [Translation(ids, None) for ids in cut]
        attention = torch.stack(recording.attention, 1).numpy()  # [B, T, S]
        return [Translation(ids, attention[i, : len(ids), : len(sources[i])]) for i, ids in enumerate(cut)]
