"""Graphs run as they are meant: on processors without VNNI, sums of 8-bit products would be cut to 16 bits."""

from pathlib import Path

from export.runtime import onnxruntime


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
