"""ONNX Runtime as everything here imports it: telling nobody.

Since 1.29 its wheels for Linux and macOS report to Microsoft what runs on which machine, and leave a number of the
machine in the home directory, unless they are told not to before they are imported.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime  # noqa: TID251

__all__ = ["onnxruntime"]
