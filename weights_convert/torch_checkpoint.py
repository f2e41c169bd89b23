"""EfficientNet-Lite checkpoints of PyTorch to a model's weights; PyTorch itself is never imported.

A checkpoint is a pickle, and a pickle is a program. The unpickler here knows four names, each bound to an inert
stand-in of our own that describes a tensor; every other name is refused before anything is called. So a file can
describe arrays and nothing else. What it describes is checked against the bytes it really has.
Read are both containers: the old sequence of pickles (the published files) and the zip of newer `torch.save`.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from jaxviz.errors import WeightsError
from jaxviz.models import weight_shapes
from weights_convert.archives import open_zip, read_member
from weights_convert.match import MatchedWeights, Target, kind_of, match_arrays

IGNORED = ("*.num_batches_tracked",)  # counts training steps; inference has no use for it

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # torch/serialization.py: MAGIC_NUMBER
LEGACY_PROTOCOL = 1001  # torch/serialization.py: PROTOCOL_VERSION
MAX_PICKLE_BYTES = 2**26  # the published ones have 50 kB; a zip can claim any size
MAX_AXES = 8

# What the opcodes of a pickle raise on operands that do not suit them.
PICKLE_ERRORS = (
    pickle.UnpicklingError,
    *(EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError, OverflowError, MemoryError),
    *(RecursionError, struct.error),
)

BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


class _StorageType(NamedTuple):
    """Stands for `torch.FloatStorage` and its like: the type of the numbers in a run of bytes."""

    name: str
    dtype: np.dtype[Any]


class _Storage(NamedTuple):
    """A run of numbers that the file keeps under `key`."""

    key: str
    type: _StorageType
    length: int


class _Tensor(NamedTuple):
    """A view into a storage, in numbers, not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


BFLOAT16 = _StorageType("BFloat16Storage", np.dtype("<u2"))  # NumPy has no such type: widened in `_view`
STORAGE_TYPES = {
    kind.name: kind
    for kind in (
        BFLOAT16,
        _StorageType("DoubleStorage", np.dtype("<f8")),
        _StorageType("FloatStorage", np.dtype("<f4")),
        _StorageType("HalfStorage", np.dtype("<f2")),
        _StorageType("LongStorage", np.dtype("<i8")),
        _StorageType("IntStorage", np.dtype("<i4")),
    )
}


def read_torch_checkpoint(path: Path, model_name: str, *, origin: str) -> MatchedWeights:
    """The weights of `model_name` from a `.pth` file, that is a saved `state_dict()`, of either container.

    Raises:
        WeightsError: truncated, no checkpoint, asks for more than arrays, or another network's weights.
    """
    try:
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK"
        if is_zip:
            tensors, storages = _read_zip(path, origin)
        else:
            tensors, storages = _read_legacy(memoryview(path.read_bytes()))
        found = {name: _view(name, tensor, storages) for name, tensor in tensors.items()}
    except _CheckpointError as error:
        raise WeightsError(f"weights file {origin} is refused: {error}") from error
    targets = _targets(model_name)
    depthwise = {layer for layer, arrays in weight_shapes(model_name).items() if kind_of(arrays) == "depthwise_conv"}
    kernels = {name: layer for name, (layer, parameter) in targets.items() if parameter == "kernel" and name in found}
    for name, layer in kernels.items():
        found[name] = _in_keras_layout(found[name], depthwise=layer in depthwise)
    return match_arrays(found, targets, model_name, origin=origin, ignored=IGNORED)


class _CheckpointError(Exception):
    """What is wrong with the checkpoint, without the file's name."""


class _TensorBuilder:
    """Stands for `torch._utils._rebuild_tensor_v2`; has no attributes that a pickle could set."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_unused: Any) -> _Tensor:
        if not isinstance(storage, _Storage):
            raise _CheckpointError("a tensor in it has no storage")
        for axes in ((offset,), shape, strides):
            if not isinstance(axes, tuple) or not all(type(n) is int and n >= 0 for n in axes):
                raise _CheckpointError(f"a tensor in it has offset {offset!r}, shape {shape!r}, strides {strides!r}")
        return _Tensor(storage, offset, shape, strides)


class _ParameterBuilder:
    """Stands for `torch._utils._rebuild_parameter`: a parameter is its tensor."""

    __slots__ = ()

    def __call__(self, data: Any, *_unused: Any) -> Any:
        return data


GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _TensorBuilder(),
    ("torch._utils", "_rebuild_parameter"): _ParameterBuilder(),
} | {("torch", name): kind for name, kind in STORAGE_TYPES.items()}


class _ArraysOnly(pickle._Unpickler):
    """Builds descriptions of arrays and nothing else.

    The one written in Python: the one in C makes room for as many references as a damaged file claims to have.
    """

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return GLOBALS[module_name, global_name]
        except KeyError:
            raise _CheckpointError(
                f"its pickle asks for {module_name}.{global_name}, which no array needs; nothing of it was run. "
                "Give a file that holds a state_dict() and nothing else"
            ) from None

    def persistent_load(self, pid: Any) -> _Storage:
        if isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and not any(pid[5:]):
            _, kind, key, _, length = pid[:5]
            if isinstance(kind, _StorageType) and isinstance(key, str) and type(length) is int and length >= 0:
                return _Storage(key, kind, length)
        raise _CheckpointError(f"it keeps data in a way that is not known here: {str(pid)[:80]}")


def _unpickle(file: io.BytesIO) -> Any:
    try:
        return _ArraysOnly(file).load()
    except PICKLE_ERRORS as error:
        _refuse_damaged(error)


def _read_legacy(content: memoryview) -> tuple[dict[str, _Tensor], dict[str, memoryview]]:
    file = io.BytesIO(content)
    if _unpickle(file) != LEGACY_MAGIC:
        raise _CheckpointError("it is a pickle, but no PyTorch checkpoint")
    protocol, system = _unpickle(file), _unpickle(file)
    if protocol != LEGACY_PROTOCOL or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _CheckpointError(f"its PyTorch format (protocol {protocol!r}, {system!r}) is not known here")
    tensors = _state_dict(_unpickle(file))
    types = {tensor.storage.key: tensor.storage.type for tensor in tensors.values()}
    keys = _unpickle(file)
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in types for key in keys):
        raise _CheckpointError("its list of storages does not agree with its tensors")
    position = file.tell()
    storages = {}
    for key in keys:  # each: its length in numbers, then the numbers
        if position + 8 > len(content):
            _refuse_damaged("the file ends too early")
        (length,) = struct.unpack_from("<q", content, position)
        start, position = position + 8, position + 8 + length * types[key].dtype.itemsize
        if length < 0 or position > len(content):
            _refuse_damaged("the file ends too early")
        storages[key] = content[start:position]
    return tensors, storages


def _read_zip(path: Path, origin: str) -> tuple[dict[str, _Tensor], dict[str, memoryview]]:
    with open_zip(path, origin=origin) as archive:
        names = archive.namelist()
        pickle_name = next((name for name in names if name.split("/")[1:] == ["data.pkl"]), None)
        if pickle_name is None:
            raise _CheckpointError("it is a zip file, but no PyTorch checkpoint")
        folder = pickle_name.removesuffix("data.pkl")
        byte_order = f"{folder}byteorder"
        if byte_order in names and read_member(archive, byte_order, max_bytes=16, origin=origin) != b"little":
            raise _CheckpointError("its numbers are not little-endian")
        content = read_member(archive, pickle_name, max_bytes=MAX_PICKLE_BYTES, origin=origin)
        tensors = _state_dict(_unpickle(io.BytesIO(content)))
        storages = {}
        for storage in {tensor.storage for tensor in tensors.values()}:
            size = storage.length * storage.type.dtype.itemsize
            numbers = read_member(archive, f"{folder}data/{storage.key}", max_bytes=size, origin=origin)
            storages[storage.key] = memoryview(numbers)
    return tensors, storages


def _state_dict(content: Any) -> dict[str, _Tensor]:
    if isinstance(content, dict) and all(
        isinstance(name, str) and isinstance(tensor, _Tensor) for name, tensor in content.items()
    ):
        return dict(content)
    raise _CheckpointError("it holds something other than named tensors. Save model.state_dict() alone")


def _refuse_damaged(why: object) -> NoReturn:
    raise _CheckpointError(f"it is truncated or damaged ({why}). Copy or download it again")


def _view(name: str, tensor: _Tensor, storages: Mapping[str, memoryview]) -> NDArray[Any]:
    """The tensor as an array that lies within its storage and is no larger than it."""
    storage, offset, shape, strides = tensor
    content = storages.get(storage.key, b"")
    numbers = np.frombuffer(content[: storage.length * storage.type.dtype.itemsize], storage.type.dtype)
    count = math.prod(shape)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=False)) if count else 0
    if (
        len(shape) != len(strides)
        or len(shape) > MAX_AXES
        or len(numbers) != storage.length
        or count > len(numbers)
        or last >= max(1, len(numbers))
    ):
        raise _CheckpointError(
            f"tensor {name!r} (offset {offset}, shape {shape}, strides {strides}) reaches beyond the {len(numbers)} "
            "numbers that the file has for it"
        )
    if storage.type == BFLOAT16:
        numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
    byte_strides = tuple(stride * numbers.itemsize for stride in strides)
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, byte_strides, writeable=False)


def _targets(model_name: str) -> dict[str, Target]:
    """Which weight each array of the published checkpoints is meant for."""
    from jaxviz.models.efficientnet_lite import block_settings  # imports jax

    layers = {"_conv_stem": "stem_conv", "_bn0": "stem_bn", "_conv_head": "head_conv", "_bn1": "head_bn"}
    layers["_fc"] = "predictions"
    for index, (stage, repeat, _, _, expansion, _) in enumerate(block_settings(model_name)):
        block, name = f"_blocks.{index}", f"block{stage}_{repeat}"
        if expansion != 1:
            layers |= {f"{block}._expand_conv": f"{name}_expand_conv", f"{block}._bn0": f"{name}_expand_bn"}
        layers |= {f"{block}._depthwise_conv": f"{name}_depthwise_conv", f"{block}._bn1": f"{name}_depthwise_bn"}
        layers |= {f"{block}._project_conv": f"{name}_project_conv", f"{block}._bn2": f"{name}_project_bn"}
    shapes = weight_shapes(model_name, head=True)
    targets: dict[str, Target] = {}
    for module, layer in layers.items():
        torch_names = BATCH_NORM if "gamma" in shapes[layer] else {"kernel": "weight", "bias": "bias"}
        targets |= {f"{module}.{torch_names[parameter]}": (layer, parameter) for parameter in shapes[layer]}
    return targets


def _in_keras_layout(kernel: NDArray[Any], *, depthwise: bool) -> NDArray[Any]:
    """Convolutions (out, in, h, w) -> (h, w, in, out), depthwise (C, 1, h, w) -> (h, w, C), dense -> (in, out)."""
    if depthwise:
        return kernel[:, 0].transpose(1, 2, 0) if kernel.ndim == 4 and kernel.shape[1] == 1 else kernel
    return kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.transpose()
