"""The recurrent encoder-decoder that learns to align (Bahdanau, Cho and Bengio 2015, arXiv:1409.0473)."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.attention import AdditiveAttention
from models.config import BahdanauConfig
from models.dropout import Dropout
from models.translator import Tensors, Translator, length_mask


class GatedRecurrentUnit(nn.Module):
    """One step of a GRU, gates stacked as reset, update, new.

    ``r = sigma(W_r x + U_r s)``, ``z = sigma(W_z x + U_z s)``, ``n = tanh(W x + r * (U s))``,
    ``s' = (1 - z) * n + z * s`` (section A.1.1, with the reset after the product, as cuDNN and ONNX have it).
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input = nn.Linear(input_size, 3 * hidden_size)
        self.hidden = nn.Linear(hidden_size, 3 * hidden_size)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """``x [B, I], hidden [B, H] -> [B, H]``."""
        x_reset, x_update, x_new = self.input(x).chunk(3, -1)
        h_reset, h_update, h_new = self.hidden(hidden).chunk(3, -1)
        reset, update = torch.sigmoid(x_reset + h_reset), torch.sigmoid(x_update + h_update)
        new = torch.tanh(x_new + reset * h_new)
        return new + update * (hidden - new)


class Encoder(nn.Module):
    """Bidirectional GRU: an annotation ``h_j`` sums up the sentence with a focus on word ``j`` (section 3.2)."""

    def __init__(self, config: BahdanauConfig) -> None:
        super().__init__()
        self.gru = nn.GRU(config.embedding_size, config.encoder_size, bidirectional=True, batch_first=True)

    def forward(self, embedded: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``embedded [B, S, E], lengths [B] -> annotations [B, S, 2 H], last states of both directions [B, 2 H]``."""
        packed = pack_padded_sequence(embedded.float(), lengths.cpu(), batch_first=True, enforce_sorted=False)
        output, last = self.gru(packed)  # last [2, B, H]
        annotations, _ = pad_packed_sequence(output, batch_first=True, total_length=embedded.shape[1])
        return annotations, torch.cat([last[0], last[1]], dim=-1)


class DeepOutput(nn.Module):
    """``maxout(U s_i + V E y_(i-1) + C c_i)`` (section A.2.2), of which ``W_o``, the embedding, makes logits."""

    def __init__(self, config: BahdanauConfig, dropout: Dropout) -> None:
        super().__init__()
        size = config.decoder_size + config.embedding_size + 2 * config.encoder_size
        self.maxout = nn.Linear(size, 2 * config.embedding_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.dropout = dropout

    def forward(self, state: Tensor, embedded: Tensor, context: Tensor) -> Tensor:
        """``state [..., H], embedded [..., E], context [..., C] -> [..., E]``."""
        pieces = self.maxout(torch.cat([state, embedded, context], dim=-1)).unflatten(-1, (2, -1))
        return self.dropout(pieces.amax(dim=-2))


class Bahdanau(Translator):
    config: BahdanauConfig

    def __init__(self, config: BahdanauConfig) -> None:
        super().__init__()
        self.config = config
        annotation_size = 2 * config.encoder_size
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad)
        self.dropout = Dropout(config.dropout)
        self.encoder = Encoder(config)
        self.initial = nn.Linear(annotation_size, config.decoder_size)
        query_size = config.decoder_size + config.embedding_size
        self.attention = AdditiveAttention(query_size, annotation_size, config.attention_size)
        self.cell = GatedRecurrentUnit(config.embedding_size + annotation_size, config.decoder_size)
        self.output = DeepOutput(config, self.dropout)
        nn.init.normal_(self.embedding.weight, std=config.embedding_size**-0.5)

    @property
    def output_bias(self) -> nn.Parameter:
        return self.output.bias

    def encode(self, source: Tensor, source_lengths: Tensor) -> tuple[Tensors, Tensors]:
        annotations, last = self.encoder(self.dropout(self.embedding(source)), source_lengths)
        annotations = self.dropout(annotations)
        memory = {
            "memory.annotations": annotations,  # h_j [B, S, 2 H]
            "memory.projected": self.attention.project(annotations),  # U h_j [B, S, A]
            "memory.mask": length_mask(source_lengths, source.shape[1]),
        }
        return memory, {"state.hidden": torch.tanh(self.initial(last))}  # s_0

    def advance(self, embedded: Tensor, memory: Tensors, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From ``s_(i-1)`` and ``E y_(i-1)`` to ``s_i``, ``c_i`` and the alignment ``alpha_i`` (section 3.1).

        In the paper only ``s_(i-1)`` looks for the next word, which knows the words up to ``y_(i-2)``; ours knows
        ``y_(i-1)`` too, as in the authors' later conditional GRU (Firat and Cho 2016).
        """
        query = torch.cat([hidden, embedded], dim=-1)
        context, weights = self.attention(
            query, memory["memory.projected"], memory["memory.annotations"], memory["memory.mask"]
        )
        return self.cell(torch.cat([embedded, context], dim=-1), hidden), context, weights

    def step(self, token: Tensor, position: int, memory: Tensors, state: Tensors) -> tuple[Tensor, Tensors, Tensor]:
        embedded = self.embedding(token)
        hidden, context, weights = self.advance(embedded, memory, state["state.hidden"])
        logits = self.logits(self.output(hidden, embedded, context))
        return logits, {"state.hidden": hidden}, weights

    def forward(self, source: Tensor, source_lengths: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        memory, state = self.encode(source, source_lengths)
        embedded = self.dropout(self.embedding(target))  # [B, T, E]
        hidden, steps = state["state.hidden"], []
        for y in embedded.unbind(1):
            hidden, context, weights = self.advance(y, memory, hidden)
            steps.append((hidden, context, weights))
        states, contexts, attention = (torch.stack(parts, dim=1) for parts in zip(*steps, strict=True))
        return self.output(self.dropout(states), embedded, contexts), attention
