"""Small Marian models with random weights, and the files that Marian would keep them in."""

import io
import math
import struct
import zipfile
from pathlib import Path

import numpy as np
import yaml

FLOAT, BYTES, INTGEMM8 = 0x404, 0x101, 0x4101
SIZE, HEADS, HIDDEN, VOCABULARY = 16, 2, 24, 40

BASE = {
    "type": "transformer",
    "version": "v1.9.56",
    "dim-vocabs": [VOCABULARY, VOCABULARY],
    "dim-emb": SIZE,
    "dim-rnn": 1024,
    "enc-cell": "gru",
    "enc-depth": 2,
    "dec-depth": 2,
    "dec-cell": "ssru",
    "transformer-heads": HEADS,
    "transformer-dim-ffn": HIDDEN,
    "transformer-ffn-depth": 2,
    "transformer-ffn-activation": "relu",
    "transformer-preprocess": "",
    "transformer-postprocess": "dan",
    "transformer-postprocess-emb": "d",
    "transformer-postprocess-top": "",
    "transformer-decoder-autoreg": "self-attention",
    "transformer-guided-alignment-layer": "last",
    "transformer-tied-layers": [],
    "tied-embeddings-all": True,
    "transformer-train-position-embeddings": False,
    "lemma-dim-emb": 0,
}
STUDENT = BASE | {"transformer-decoder-autoreg": "rnn"}
VARIANTS = {
    "student": STUDENT,
    "post-norm": BASE,
    "pre-norm": BASE
    | {
        "transformer-preprocess": "n",
        "transformer-postprocess": "da",
        "transformer-postprocess-top": "n",
        "transformer-ffn-activation": "swish",
        "tied-embeddings-all": False,
        "tied-embeddings": True,
        "transformer-guided-alignment-layer": "1",
    },
    "all around": STUDENT
    | {
        "transformer-preprocess": "n",
        "transformer-postprocess": "na",
        "transformer-postprocess-emb": "nd",
        "transformer-postprocess-top": "an",
        "transformer-ffn-activation": "gelu",
        "tied-embeddings-all": False,
        "dim-vocabs": [VOCABULARY - 8, VOCABULARY],
        "transformer-decoder-dim-ffn": HIDDEN + 8,
    },
    "one table": BASE
    | {
        "tied-embeddings-all": False,
        "tied-embeddings-src": True,
        "output-omit-bias": True,
        "dec-depth": 3,
        "transformer-tied-layers": [1, 2, 1],
        "transformer-guided-alignment-layer": 2,
    },
}


class Shapes(dict):
    """Shapes of tensors by the names that Marian gives them."""

    def __init__(self, options: dict) -> None:
        super().__init__()
        self.size = options["dim-emb"]
        self.normed = ["n" in options[f"transformer-{where}process"] for where in ("pre", "post")]
        for side in ("encoder", "decoder"):
            self.norm(f"{side}_emb", "n" in options["transformer-postprocess-emb"], "_pre")
            self.norm(f"{side}_top", "n" in options["transformer-postprocess-top"])
        hidden = options["transformer-dim-ffn"]
        for layer in range(1, options["enc-depth"] + 1):
            self.attention(f"encoder_l{layer}_self")
            self.feed_forward(f"encoder_l{layer}_ffn", hidden)
        for layer in sorted(set(options["transformer-tied-layers"] or range(1, options["dec-depth"] + 1))):
            self.decoder_layer(f"decoder_l{layer}", options["transformer-decoder-autoreg"])
            self.feed_forward(f"decoder_l{layer}_ffn", options.get("transformer-decoder-dim-ffn", hidden))
        self.embeddings(options)

    def matrix(self, name: str, inputs: int, outputs: int, bias: str | None = None) -> None:
        self[name] = (inputs, outputs)
        if bias:
            self[bias] = (1, outputs)

    def norm(self, name: str, wanted: bool, suffix: str = "") -> None:
        if wanted:
            self[f"{name}_ln_scale{suffix}"] = self[f"{name}_ln_bias{suffix}"] = (1, self.size)

    def around(self, before: str, after: str) -> None:
        self.norm(before, self.normed[0], "_pre")
        self.norm(after, self.normed[1])

    def attention(self, name: str) -> None:
        for letter in "qkvo":
            self.matrix(f"{name}_W{letter}", self.size, self.size, f"{name}_b{letter}")
        self.around(f"{name}_Wo", f"{name}_Wo")

    def feed_forward(self, name: str, hidden: int) -> None:
        self.matrix(f"{name}_W1", self.size, hidden, f"{name}_b1")
        self.matrix(f"{name}_W2", hidden, self.size, f"{name}_b2")
        self.around(f"{name}_ffn", f"{name}_ffn")

    def decoder_layer(self, name: str, autoregression: str) -> None:
        if autoregression == "rnn":
            self.matrix(f"{name}_rnn_W", self.size, self.size)
            self.matrix(f"{name}_rnn_Wf", self.size, self.size, f"{name}_rnn_bf")
            self.around(f"{name}_rnn", f"{name}_rnn_ffn")
        else:
            self.attention(f"{name}_self")
        self.attention(f"{name}_context")

    def embeddings(self, options: dict) -> None:
        source, target = options["dim-vocabs"]
        if options.get("tied-embeddings-all") or options.get("tied-embeddings-src"):
            self["Wemb"] = (target, self.size)
        else:
            self["encoder_Wemb"], self["decoder_Wemb"] = (source, self.size), (target, self.size)
        if not (options.get("tied-embeddings-all") or options.get("tied-embeddings")):
            self["decoder_ff_logit_out_W"] = (self.size, target)
        if not options.get("output-omit-bias"):
            self["decoder_ff_logit_out_b"] = (1, target)


def tensors(options: dict, seed: int = 4) -> dict[str, np.ndarray]:
    """What Marian names for such options, with values large enough for outputs to differ."""
    random, size, found = np.random.default_rng(seed), options["dim-emb"], {}
    for name, shape in sorted(Shapes(options).items()):
        spread = 1.0 if "_ln_" in name else 0.5 if "Wemb" in name else 2.5 / math.sqrt(size)
        found[name] = (random.normal(size=shape) * spread + ("_ln_scale" in name)).astype(np.float32)
    return found


def config(options: dict) -> np.ndarray:
    return np.frombuffer(yaml.safe_dump(options).encode() + b"\0", np.uint8)


def quantized(values: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, float] | np.ndarray]:
    """Matrices as levels and a multiplier, with the multipliers of their inputs."""
    found: dict[str, tuple[np.ndarray, float] | np.ndarray] = {}
    for name, array in values.items():
        if min(array.shape) == 1:
            found[name] = array
            continue
        multiplier = float(np.float32(127 / np.abs(array).max()))
        found[name] = np.rint(array * multiplier).astype(np.int8), multiplier
        if name == "Wemb":
            found["none_QuantMultA"] = np.full((1, 1), 12.5, np.float32)
        found[f"{name}_QuantMultA"] = np.full((1, 1), 12.5, np.float32)
    return found


def stored(name: str, value: np.ndarray | tuple[np.ndarray, float]) -> tuple[int, tuple[int, ...], bytes]:
    """Type, shape and data as a binary file has them."""
    if isinstance(value, tuple):
        levels, multiplier = value
        data = levels if "Wemb" in name else levels.T
        return INTGEMM8, levels.shape, data.tobytes() + struct.pack("<f", multiplier)
    if value.dtype == np.uint8:
        return BYTES, value.shape, value.tobytes()
    return FLOAT, value.shape, value.astype("<f4").tobytes()


def binary(values: dict[str, np.ndarray | tuple[np.ndarray, float]]) -> bytes:
    return pack([(name, *stored(name, value)) for name, value in values.items()])


def pack(items: list[tuple[str, int, tuple[int, ...], bytes]]) -> bytes:
    """A binary file of name, type, shape and data of each tensor; data is filled up as Marian does it."""
    items = [(name, kind, shape, data + bytes(-len(data) % 256)) for name, kind, shape, data in items]
    parts = [struct.pack("<QQ", 1, len(items))]
    parts += [struct.pack("<4Q", len(name) + 1, kind, len(shape), len(data)) for name, kind, shape, data in items]
    parts += [name.encode() + b"\0" for name, *_ in items]
    parts += [struct.pack(f"<{len(shape)}i", *shape) for _, _, shape, _ in items]
    head = b"".join(parts)
    gap = -(len(head) + 8) % 256
    return b"".join([head, struct.pack("<Q", gap), bytes(gap), *(data for *_, data in items)])


def npz(values: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in values.items():
            content = io.BytesIO()
            np.save(content, array)
            archive.writestr(f"{name}.npy", content.getvalue())
    return file.getvalue()


def write(path: Path, options: dict, kind: str = "bin", seed: int = 4) -> Path:
    """A model file: ``bin``, ``int8`` or ``npz``."""
    values = tensors(options, seed)
    text = {"special:model.yml": config(options)}
    content = {
        "bin": lambda: binary({**values, **text}),
        "int8": lambda: binary({**quantized(values), **text}),
        "npz": lambda: npz({**values, **text}),
    }[kind]()
    path.write_bytes(content)
    return path


def shortlist(lists: list[list[int]], first: int = 3) -> bytes:
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in lists])]).astype("<u8")
    words = np.array([word for each in lists for word in each], "<u4")
    head = struct.pack("<6Q", 0xF11A48D5013417F5, 0, first, 5, len(offsets), len(words))
    return head + offsets.tobytes() + words.tobytes()
