"""Marian's Transformer once more, as a loop over Marian's names in numpy, to compare with."""

import math

import numpy as np

Tensors = dict[str, np.ndarray]


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "swish": lambda x: x * sigmoid(x),
    "gelu": lambda x: x * sigmoid(1.702 * x),
}


class Reference:
    def __init__(self, options: dict, tensors: Tensors) -> None:
        self.options, self.tensors = options, {name: value.astype(np.float64) for name, value in tensors.items()}
        self.size, self.heads = options["dim-emb"], options["transformer-heads"]

    def norm(self, x: np.ndarray, name: str, suffix: str = "") -> np.ndarray:
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        scale, bias = (self.tensors[f"{name}_ln_{kind}{suffix}"][0] for kind in ("scale", "bias"))
        return scale * (x - mean) / np.sqrt(variance + 1e-6) + bias

    def before(self, x: np.ndarray, ops: str, name: str) -> np.ndarray:
        for op in ops:
            x = self.norm(x, name, "_pre") if op == "n" else x
        return x

    def after(self, y: np.ndarray, x: np.ndarray, ops: str, name: str) -> np.ndarray:
        for op in ops:
            y = y + x if op == "a" else self.norm(y, name) if op == "n" else y
        return y

    def affine(self, x: np.ndarray, weight: str, bias: str | None) -> np.ndarray:
        return x @ self.tensors[weight] + (self.tensors[bias][0] if bias else 0)

    def attention(
        self, x: np.ndarray, memory: np.ndarray | None, name: str, causal: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """``x [T, D], memory [S, D]`` (None: to itself) -> ``[T, D]`` and weights ``[H, T, S]``."""
        before = self.before(x, self.options["transformer-preprocess"], f"{name}_Wo")
        read = before if memory is None else memory
        query, key, value = (
            self.affine(what, f"{name}_W{letter}", f"{name}_b{letter}").reshape(len(what), self.heads, -1)
            for what, letter in ((before, "q"), (read, "k"), (read, "v"))
        )
        scores = np.einsum("thd,shd->hts", query, key) / math.sqrt(self.size // self.heads)
        if causal:
            scores += np.triu(np.full(scores.shape[1:], -1e9), 1)
        weights = softmax(scores)
        context = np.einsum("hts,shd->thd", weights, value).reshape(len(x), self.size)
        output = self.affine(context, f"{name}_Wo", f"{name}_bo")
        return self.after(output, x, self.options["transformer-postprocess"], f"{name}_Wo"), weights

    def feed_forward(self, x: np.ndarray, name: str) -> np.ndarray:
        before = self.before(x, self.options["transformer-preprocess"], f"{name}_ffn")
        activation = ACTIVATIONS[self.options["transformer-ffn-activation"]]
        hidden = activation(self.affine(before, f"{name}_W1", f"{name}_b1"))
        output = self.affine(hidden, f"{name}_W2", f"{name}_b2")
        return self.after(output, x, self.options["transformer-postprocess"], f"{name}_ffn")

    def unit(self, x: np.ndarray, name: str) -> np.ndarray:
        before, cell, outputs = self.before(x, self.options["transformer-preprocess"], name), np.zeros(self.size), []
        for row in before:
            forget = sigmoid(self.affine(row, f"{name}_Wf", f"{name}_bf"))
            cell = forget * cell + (1 - forget) * self.affine(row, f"{name}_W", None)
            outputs.append(np.maximum(cell, 0))
        return self.after(np.stack(outputs), x, self.options["transformer-postprocess"], f"{name}_ffn")

    def positions(self, count: int) -> np.ndarray:
        half = self.size // 2
        angles = np.arange(count)[:, None] * 10000.0 ** (-np.arange(half) / (half - 1))
        return np.concatenate([np.sin(angles), np.cos(angles)], 1)

    def run(self, source: list[int], target: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Logits ``[T + 1, V]`` after none, one, ... all of the target, and the alignment ``[T + 1, S]``."""
        options, root = self.options, math.sqrt(self.size)
        shared = options.get("tied-embeddings-all") or options.get("tied-embeddings-src")
        encoder, decoder = ("Wemb", "Wemb") if shared else ("encoder_Wemb", "decoder_Wemb")
        embedded = self.tensors[encoder][source] * root + self.positions(len(source))
        x = self.before(embedded, options["transformer-postprocess-emb"], "encoder_emb")
        for layer in range(1, options["enc-depth"] + 1):
            x, _ = self.attention(x, None, f"encoder_l{layer}_self", causal=False)
            x = self.feed_forward(x, f"encoder_l{layer}_ffn")
        memory = self.after(x, embedded, options["transformer-postprocess-top"], "encoder_top")

        shifted = np.concatenate([np.zeros((1, self.size)), self.tensors[decoder][target]])
        embedded = shifted * root + self.positions(len(shifted))
        x = self.before(embedded, options["transformer-postprocess-emb"], "decoder_emb")
        aligned = []
        for layer in options["transformer-tied-layers"] or range(1, options["dec-depth"] + 1):
            name = f"decoder_l{layer}"
            if options["transformer-decoder-autoreg"] == "rnn":
                x = self.unit(x, f"{name}_rnn")
            else:
                x, _ = self.attention(x, None, f"{name}_self", causal=True)
            x, weights = self.attention(x, memory, f"{name}_context", causal=False)
            aligned.append(weights[0])
            x = self.feed_forward(x, f"{name}_ffn")
        x = self.after(x, embedded, options["transformer-postprocess-top"], "decoder_top")
        if options.get("tied-embeddings-all") or options.get("tied-embeddings"):
            weight = self.tensors[decoder].T
        else:
            weight = self.tensors["decoder_ff_logit_out_W"]
        bias = self.tensors["decoder_ff_logit_out_b"][0] if not options.get("output-omit-bias") else 0
        layer = options["transformer-guided-alignment-layer"]
        return x @ weight + bias, aligned[-1 if layer == "last" else int(layer) - 1]
