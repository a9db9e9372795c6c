"""What a model file may lack, have too much of, or ask for that is not supported."""

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from export.marian.load import load
from export.marian.reader import FileError
from tests.export.marian import tiny


def written(path: Path, options: dict, values: dict[str, np.ndarray]) -> Path:
    path.write_bytes(tiny.binary({**values, "special:model.yml": tiny.config(options)}))
    return path


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("type", "s2s"),
        ("transformer-postprocess", "dah"),
        ("transformer-preprocess", "x"),
        ("transformer-decoder-autoreg", "average-attention"),
        ("transformer-ffn-activation", "tanh"),
        ("transformer-ffn-depth", 3),
        ("transformer-train-position-embeddings", True),
        ("lemma-dim-emb", 16),
        ("input-types", ["class"]),
        ("dim-emb", "16"),
        ("transformer-decoder-dim-ffn", -24),
    ],
)
def test_an_option_that_is_not_supported_is_named(option: str, value: object, tmp_path: Path) -> None:
    options = tiny.STUDENT | {option: value}
    with pytest.raises(FileError, match=rf"the option {option}: .* is not supported"):
        load(written(tmp_path / "model.bin", options, tiny.tensors(tiny.STUDENT)), 30, start=1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"transformer-heads": 3}, "transformer-heads 3"),
        ({"dec-cell": "gru"}, "dec-cell: 'gru'"),
        ({"transformer-guided-alignment-layer": "7"}, "transformer-guided-alignment-layer 7 is not one of 2"),
        ({"transformer-tied-layers": [1]}, "transformer-tied-layers"),
        ({"dim-vocabs": [30, 40]}, "cannot share their embeddings"),
        ({"dim-vocabs": [10**7, 10**7]}, "fewer numbers than a model of its configuration"),
        ({"enc-depth": 10**6}, "fewer numbers than a model of its configuration"),
    ],
)
def test_options_that_make_no_sense_are_refused(changes: dict, reason: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=reason):
        load(written(tmp_path / "model.bin", tiny.STUDENT | changes, tiny.tensors(tiny.STUDENT)), 30, start=1)


def test_a_missing_option_is_named(tmp_path: Path) -> None:
    options = {name: value for name, value in tiny.STUDENT.items() if name != "enc-depth"}
    with pytest.raises(FileError, match="the option enc-depth is missing"):
        load(written(tmp_path / "model.bin", options, tiny.tensors(tiny.STUDENT)), 30, start=1)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    values = tiny.tensors(tiny.STUDENT)
    del values["decoder_l2_rnn_Wf"]
    with pytest.raises(FileError, match="the tensor decoder_l2_rnn_Wf is missing"):
        load(written(tmp_path / "model.bin", tiny.STUDENT, values), 30, start=1)


def test_a_tensor_that_is_no_part_of_the_model_is_named(tmp_path: Path) -> None:
    values = tiny.tensors(tiny.STUDENT) | {"encoder_l3_self_Wq": np.zeros((16, 16), np.float32)}
    with pytest.raises(FileError, match="the tensor encoder_l3_self_Wq is no part of the architecture"):
        load(written(tmp_path / "model.bin", tiny.STUDENT, values), 30, start=1)


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    values = tiny.tensors(tiny.STUDENT)
    values["encoder_l1_ffn_W1"] = np.ones((16, 20), np.float32)
    with pytest.raises(FileError, match=r"encoder_l1_ffn_W1 has the shape \(16, 20\), not \(16, 24\)"):
        load(written(tmp_path / "model.bin", tiny.STUDENT, values), 30, start=1)


def test_a_file_without_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(tiny.binary(dict(tiny.tensors(tiny.STUDENT))))
    with pytest.raises(FileError, match=r"special:model\.yml, its configuration, is missing"):
        load(tmp_path / "model.bin", 30, start=1)


@pytest.mark.parametrize(
    "text", [b"a: &x [1]\nb: *x", b"[" * 1000, b"!!python/object/apply:os.getcwd []", b"\xff", b"1"]
)
def test_a_configuration_that_is_no_plain_yaml_is_refused(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(tiny.binary({"special:model.yml": np.frombuffer(text, np.uint8)}))
    with pytest.raises(FileError, match="YAML"):
        load(tmp_path / "model.bin", 30, start=1)


def test_multipliers_of_quantised_weights_are_kept(tmp_path: Path) -> None:
    model = load(tiny.write(tmp_path / "model.bin", tiny.STUDENT, "int8"), 30, start=1)
    layers = [part for part in model.multipliers if not isinstance(part, nn.Embedding)]
    assert {model.multipliers[layer].input for layer in layers} == {12.5}
    assert len(layers) == 2 * 6 + 2 * (2 + 4 + 2) + 1
    query = model.encoder[0].self_attention.query
    levels = query.weight.detach().numpy() * model.multipliers[query].weight
    assert np.abs(levels - np.rint(levels)).max() < 1e-3
