"""The numbers of a package's graphs in one precision: one file that both graphs refer to, each array in it once."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SMALL = 256
"""Bytes up to which an array stays in the graph itself."""
PAGE = 4096
"""Arrays begin at a page of their own, so that the runtime can map the file."""


class Weights:
    """Writes ``path`` as arrays come in; equal ones share their bytes, tied embeddings among them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        self._offsets: dict[bytes, int] = {}

    def tensor(self, name: str, array: np.ndarray) -> onnx.TensorProto:
        """An initializer with the array in it or, if it is not small, with its place in the file."""
        array = np.asarray(array, order="C")  # ascontiguousarray would make a vector of a scalar
        if array.nbytes <= SMALL:
            return numpy_helper.from_array(array, name)
        tensor = TensorProto(
            name=name,
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            dims=array.shape,
            data_location=TensorProto.EXTERNAL,
        )
        place = {"location": self.path.name, "offset": self._offset(array.tobytes()), "length": array.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        return tensor

    def _offset(self, content: bytes) -> int:
        digest = hashlib.sha256(content).digest()
        if digest not in self._offsets:
            with self.path.open("ab") as file:
                file.write(bytes(-file.tell() % PAGE))
                self._offsets[digest] = file.tell()
                file.write(content)
        return self._offsets[digest]
