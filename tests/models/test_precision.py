"""bf16 is used where it is faster."""

from types import SimpleNamespace

import pytest
import torch

from models import precision
from models.precision import has_bf16, is_faster_in_bf16


@pytest.mark.parametrize(("seconds", "expected"), [(0.79, True), (0.81, False)])
def test_bf16_is_used_where_it_is_faster(monkeypatch, seconds, expected):
    monkeypatch.setattr(precision, "has_bf16", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(precision, "product_seconds", lambda x: seconds if x.dtype == torch.bfloat16 else 1.0)
    assert is_faster_in_bf16() is expected


def test_a_build_without_onednn_has_no_bf16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    assert has_bf16() is False
