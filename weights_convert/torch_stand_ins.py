"""What stands for PyTorch's own things in a checkpoint: tensors, storages, types of numbers, and everything else.

All of it is inert: descriptions of arrays, which are checked against the bytes that the file really has when they
are read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

MAX_NAME = 200  # letters of a name that a message shows


class CheckpointError(Exception):
    """What is wrong with the checkpoint, without the file's name."""


class StorageType(NamedTuple):
    """Stands for `torch.FloatStorage` and its like: the type of the numbers in a run of bytes."""

    name: str
    dtype: np.dtype[Any]


class Storage(NamedTuple):
    """A run of numbers that the file keeps under `key`."""

    key: str
    type: StorageType
    length: int

    @property
    def size(self) -> int:
        """In bytes."""
        return self.length * self.type.dtype.itemsize


class Tensor(NamedTuple):
    """A view into a storage, in numbers of its type, not bytes."""

    storage: Storage
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Foreign:
    """Stands for any other thing of a pickle; `state` is what it was given as its attributes."""

    __slots__ = ("name", "state")

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: Any = None


# NumPy has no such types: what reads them widens them, exactly.
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
NUMBER_TYPES = {
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "float8_e4m3fnuz": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "float8_e5m2fnuz": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "uint16": np.dtype("<u2"),
    "uint32": np.dtype("<u4"),
    "uint64": np.dtype("<u8"),
}
WIDENED = {BFLOAT16, *(dtype for name, dtype in NUMBER_TYPES.items() if name.startswith("float8"))}
# torch/storage.py; of the quantized ones only the size of a number counts.
STORAGE_DTYPES = {
    "BFloat16Storage": BFLOAT16,
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
    "ComplexFloatStorage": np.dtype("<c8"),
    "ComplexDoubleStorage": np.dtype("<c16"),
    "QInt8Storage": np.dtype("i1"),
    "QUInt8Storage": np.dtype("u1"),
    "QInt32Storage": np.dtype("<i4"),
    "QUInt4x2Storage": np.dtype("u1"),
    "QUInt2x4Storage": np.dtype("u1"),
}
UNTYPED = StorageType("UntypedStorage", np.dtype("u1"))


class Builder:
    """A function of PyTorch that may be called; has no attributes that a pickle could set."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_unused: Any) -> Any:
    """`torch._utils._rebuild_tensor_v2`."""
    return _viewed(storage, None, offset, shape, strides)


def _typed_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, _grad: Any, _hooks: Any, dtype: Any, *_unused: Any
) -> Any:
    """`torch._utils._rebuild_tensor_v3`, of the types that have no storage of their own."""
    return _viewed(storage, dtype, offset, shape, strides)


def _viewed(storage: Any, dtype: Any, offset: Any, shape: Any, strides: Any) -> Any:
    if isinstance(storage, Foreign) or isinstance(dtype, Foreign):
        return Foreign("a tensor of an unknown type")
    if not isinstance(storage, Storage) or not (dtype is None or isinstance(dtype, np.dtype)):
        raise CheckpointError("a tensor in it has no storage")
    for axes in ((offset,), shape, strides):
        if not isinstance(axes, tuple) or not all(type(n) is int and n >= 0 for n in axes):
            raise CheckpointError(
                f"a tensor in it has offset {said(offset)}, shape {said(shape)}, strides {said(strides)}"
            )
    return Tensor(storage, storage.type.dtype if dtype is None else dtype, offset, shape, strides)


GLOBALS: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Builder(lambda *_unused: OrderedDict()),
    ("torch._utils", "_rebuild_tensor_v2"): Builder(_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): Builder(_typed_tensor),
    ("torch._utils", "_rebuild_parameter"): Builder(lambda data, *_unused: data),  # a parameter is its tensor
    ("torch._utils", "_rebuild_parameter_with_state"): Builder(lambda data, *_unused: data),
    ("torch.storage", "UntypedStorage"): UNTYPED,
    **{("torch", name): StorageType(name, dtype) for name, dtype in STORAGE_DTYPES.items()},
    **{("torch", name): dtype for name, dtype in NUMBER_TYPES.items()},
}


def said(value: Any) -> str:
    """A name or number of the file, for a message; of what may be endless only its type."""
    if isinstance(value, str):
        return value[:MAX_NAME].encode("unicode_escape").decode()
    if isinstance(value, tuple) and len(value) <= 8 and all(type(one) in (int, bool, float) for one in value):
        return str(value) if all(abs(one) < 1e30 for one in value) else "of huge numbers"
    return str(value) if type(value) is int and abs(value) < 1e30 else type(value).__name__
