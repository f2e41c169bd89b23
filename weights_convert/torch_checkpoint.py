"""EfficientNet-Lite checkpoints of PyTorch to a model's weights; PyTorch itself is never imported.

Read are both containers: the old sequence of pickles (the published files) and the zip of newer `torch.save`. The
network's tensors may stand in them under any prefix (`module.`, `model.backbone.`) and within other dictionaries
(Lightning's `state_dict`); what else is there is left out.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxviz.errors import WeightsError
from jaxviz.models import weight_shapes
from weights_convert.archives import most_bytes, open_zip, read_member
from weights_convert.match import FileArrays, MatchedWeights, Target, is_state, kind_of, match_arrays, shortened
from weights_convert.torch_pickle import Described, describe_pickle, refuse_damaged
from weights_convert.torch_stand_ins import WIDENED, CheckpointError, Foreign, Storage, Tensor, said

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # torch/serialization.py: MAGIC_NUMBER
LEGACY_PROTOCOL = 1001  # torch/serialization.py: PROTOCOL_VERSION
MAX_PICKLE_BYTES = 2**26  # the published ones have 50 kB; a zip can claim any size
MAX_AXES = 8
MAX_NESTING = 20  # of dictionaries in dictionaries
MODULE_PARTS = ("_parameters", "_buffers", "_modules")  # what a pickled module keeps its arrays in
ALONE = "torch.save(network.state_dict(), 'network.pth') of the EfficientNet itself"

BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
# A layer of this family, maybe of a larger network: that one must not be taken for a smaller.
RELATIVE = re.compile(r"(?:(?P<place>.*)\.)?(?P<own>_blocks\.\d+\.[^.]+\.[^.]+)")

Numbers = Callable[[Storage], memoryview]  # what a file has for a storage


class TensorArray:
    """A tensor as `match` takes it: read when asked for, in Keras's layout where it is a kernel of the network."""

    def __init__(self, name: str, tensor: Tensor, numbers: Numbers, *, kind: str = "") -> None:
        _check_view(name, tensor)
        self._name, self._tensor, self._numbers = name, tensor, numbers
        self._is_depthwise = kind == "depthwise_conv" and len(tensor.shape) == 4 and tensor.shape[1] == 1
        self._axes = _keras_axes(len(tensor.shape), kind, is_depthwise=self._is_depthwise)
        shape = (tensor.shape[0], *tensor.shape[2:]) if self._is_depthwise else tensor.shape
        self.shape = tuple(shape[axis] for axis in self._axes)
        self.dtype: np.dtype[Any] = np.dtype(np.float32) if tensor.dtype in WIDENED else tensor.dtype

    def __getitem__(self, key: tuple[()], /) -> NDArray[Any]:
        """The whole array."""
        array = _view(self._name, self._tensor, self._numbers(self._tensor.storage))
        array = (array[:, 0] if self._is_depthwise else array).transpose(self._axes)
        return array.astype(np.float32) if array.dtype in WIDENED else array


def read_torch_checkpoint(path: Path, model_name: str, *, origin: str) -> MatchedWeights:
    """The weights of `model_name` from a `.pth` file of either container.

    Raises:
        WeightsError: truncated, no checkpoint, without the whole network, or with several of them.
    """
    try:
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK"
        if not is_zip:
            return _matched(*_read_legacy(memoryview(path.read_bytes())), model_name, origin)
        with open_zip(path, origin=origin) as archive:
            return _matched(*_read_zip(archive, origin), model_name, origin)
    except CheckpointError as error:
        raise WeightsError(f"weights file {origin} is refused: {error}") from error


def _read_legacy(content: memoryview) -> tuple[Described, Numbers]:
    file = io.BytesIO(content)
    magic = describe_pickle(file)
    if magic.content != LEGACY_MAGIC:
        raise CheckpointError(f"it is a pickle, but no PyTorch checkpoint{_nothing_run(magic)}")
    protocol, system = describe_pickle(file).content, describe_pickle(file).content
    if protocol != LEGACY_PROTOCOL or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise CheckpointError("it is of a PyTorch format that is not known here. Save it again with PyTorch")
    described = describe_pickle(file)
    keys = describe_pickle(file).content
    known = described.storages
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in known for key in keys):
        raise CheckpointError("its list of storages does not agree with its tensors. Save it again with PyTorch")
    position = file.tell()
    runs: dict[str, memoryview] = {}
    for key in keys:  # each: its length in numbers, then the numbers
        if position + 8 > len(content):
            refuse_damaged("the file ends too early")
        (length,) = struct.unpack_from("<q", content, position)
        start, position = position + 8, position + 8 + length * known[key].type.dtype.itemsize
        if length < 0 or position > len(content):
            refuse_damaged("the file ends too early")
        runs[key] = content[start:position]
    return described, lambda storage: runs.get(storage.key, memoryview(b""))


def _read_zip(archive: zipfile.ZipFile, origin: str) -> tuple[Described, Numbers]:
    names = set(archive.namelist())
    pickle_name = next((name for name in archive.namelist() if name.split("/")[1:] == ["data.pkl"]), None)
    if pickle_name is None:
        raise CheckpointError("it is a zip file, but no PyTorch checkpoint")
    folder = pickle_name.removesuffix("data.pkl")
    byte_order = f"{folder}byteorder"
    if byte_order in names and read_member(archive, byte_order, max_bytes=16, origin=origin) != b"little":
        raise CheckpointError("its numbers are not little-endian. Save it on another machine")
    content = read_member(archive, pickle_name, max_bytes=MAX_PICKLE_BYTES, origin=origin)
    runs: dict[str, memoryview] = {}
    left = most_bytes(archive)

    def numbers(storage: Storage) -> memoryview:
        nonlocal left
        if storage.key not in runs:
            most = min(left, storage.size)
            runs[storage.key] = memoryview(
                read_member(archive, f"{folder}data/{storage.key}", max_bytes=most, origin=origin)
            )
            left -= len(runs[storage.key])
        return runs[storage.key]

    return describe_pickle(io.BytesIO(content)), numbers


def _matched(described: Described, numbers: Numbers, model_name: str, origin: str) -> MatchedWeights:
    tensors, others = _named(described.content)
    if not tensors:
        raise CheckpointError(
            f"it holds no named tensors{_nothing_run(described)}. Save model.state_dict() alone: {ALONE}"
        )
    targets = _targets(model_name)
    places: dict[str, dict[str, Target]] = {}
    found: dict[str, TensorArray] = {}
    shapes = weight_shapes(model_name, head=True)
    for name, tensor in tensors.items():
        place, target = _place(name, targets)
        kind = kind_of(shapes[target[0]]) if target is not None and target[1] == "kernel" else ""
        found[name] = TensorArray(name, tensor, numbers, kind=kind)
        if target is not None:
            places.setdefault(place, {})[name] = target
    spelled = {target: name for name, target in targets.items()}
    try:
        return match_arrays(FileArrays(found, places, spelled, others), model_name, origin=origin, alone=ALONE)
    except WeightsError as error:
        raise WeightsError(f"{error}{_nothing_run(described)}") from error


def _named(content: Any) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Every tensor of the dictionaries in a checkpoint by its path, and in words what else the checkpoint has."""
    tensors: dict[str, Tensor] = {}
    others: list[str] = []
    seen: set[int] = set()  # one dictionary may stand in many places

    def walk(holder: Any, path: tuple[str, ...]) -> bool:
        if isinstance(holder, Foreign):  # a module that was pickled whole
            holder = holder.state
        if not isinstance(holder, dict) or id(holder) in seen or len(path) > MAX_NESTING:
            return False
        seen.add(id(holder))
        before = len(tensors)
        has_own = any(isinstance(value, Tensor) for value in holder.values())
        for key, value in holder.items():
            if not isinstance(key, str):
                continue
            name = (*path, key) if key not in MODULE_PARTS else path
            if isinstance(value, Tensor):
                if (joined := ".".join(name)) in tensors:
                    raise CheckpointError(f"it has two tensors of the name {joined[:80]!r}. {ALONE}")
                tensors[joined] = value
            elif not walk(value, name) and (has_own or not path) and key not in MODULE_PARTS:
                what = (
                    f" ({value.name}, which no array needs; nothing of it was run)"
                    if isinstance(value, Foreign)
                    else ""
                )
                others.append(f"{'.'.join(name)!r}{what}")
        return len(tensors) > before

    walk(content, ())
    return tensors, tuple(others)


def _place(name: str, targets: Mapping[str, Target]) -> tuple[str, Target | None]:
    """The prefix under which a tensor stands, and which weight of the network it would be under that."""
    parts = name.split(".")
    relative = RELATIVE.fullmatch(name)
    if relative is not None and relative["own"] not in targets and not is_state(name):
        return relative["place"] or "", (relative["own"], "")
    for start in range(max(0, len(parts) - 4), len(parts)):  # the longest name first: `_bn1.weight` ends others too
        target = targets.get(".".join(parts[start:]))
        if target is not None:
            return ".".join(parts[:start]), target
    return "", None


def _nothing_run(described: Described) -> str:
    if not described.foreign:
        return ""
    return f"; its pickle asks for {shortened(described.foreign)}, which no array needs; nothing of it was run"


def _check_view(name: str, tensor: Tensor) -> None:
    """Raise unless the tensor lies within its storage and is no larger than it."""
    storage, dtype, offset, shape, strides = tensor
    length = storage.size // dtype.itemsize
    count = math.prod(shape) if len(shape) <= MAX_AXES else length + 1
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=False)) if count else 0
    if len(shape) != len(strides) or count > length or last >= max(1, length):
        raise CheckpointError(
            f"tensor {name[:80]!r} (offset {said(offset)}, shape {said(shape)}, strides {said(strides)}) reaches "
            f"beyond the {said(length)} numbers that the file has for it. Save or copy it again"
        )


def _view(name: str, tensor: Tensor, content: memoryview) -> NDArray[Any]:
    """The tensor as an array on the bytes of its storage."""
    storage, dtype, offset, shape, strides = tensor
    if len(content) != storage.size:
        refuse_damaged(f"it has {len(content)} of the {storage.size} bytes of tensor {name[:80]!r}")
    opaque = np.dtype(f"V{dtype.itemsize}")  # NumPy moves what it has no name for, float8, only so
    numbers = np.frombuffer(content[: storage.size // dtype.itemsize * dtype.itemsize], opaque)
    byte_strides = tuple(stride * dtype.itemsize for stride in strides)
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, byte_strides, writeable=False).view(dtype)


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


def _keras_axes(count: int, kind: str, *, is_depthwise: bool) -> tuple[int, ...]:
    """Kernels (out, in, h, w) -> (h, w, in, out), depthwise (C, h, w) -> (h, w, C), dense (out, in) -> (in, out)."""
    if is_depthwise:
        return (1, 2, 0)
    if not kind or kind == "depthwise_conv":
        return tuple(range(count))
    return (2, 3, 1, 0) if count == 4 else tuple(range(count))[::-1]
