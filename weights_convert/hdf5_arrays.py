"""The arrays and attributes of an HDF5 file, bounded: nothing leads out of the file, nothing grows while it is read."""

from __future__ import annotations

import errno
import io
import math
import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from jaxviz.errors import WeightsError

MAX_ATTRIBUTE_BYTES = 2**26  # the configuration of ResNet152V2 has 250 kB; an attribute can claim any size
MAX_NAMES = 50_000  # in a list of them; Keras writes 64 kB at most
MAX_CHUNK_BYTES = 2**26
MAX_DEPTH = 100  # of groups in groups; Keras writes three for each network around another
HEAP_START = b"GCOL\x01\0\0\0"  # signature, version, reserved
# Two opaque bytes: bfloat16, which HDF5 has no name for. One opaque byte would be float8, of which there are several
# kinds, and nothing in the file says which.
BFLOAT16 = np.dtype("V2")
IN_USE = (errno.EAGAIN, errno.EDEADLK, errno.ENOLCK)  # 11, 35, 37: what a lock, or a disk without locks, answers
IN_USE_TEXT = ("already open", "unable to lock file", "locking flag")  # what HDF5 itself says then

# What h5py raises on a file that is damaged inside; it has no exception type of its own.
HDF5_ERRORS = (
    *(OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError, AttributeError),
    *(IndexError, NotImplementedError),
)


class Hdf5Array:
    """A dataset as `match` takes it: checked before it is read, bfloat16 widened to float32."""

    def __init__(self, dataset: h5py.Dataset, path: str, origin: str) -> None:
        self._dataset, self._path, self._origin = dataset, path, origin
        self.shape: tuple[int, ...] = tuple(dataset.shape or ())
        self.dtype: np.dtype[Any] = np.dtype(np.float32) if dataset.dtype == BFLOAT16 else dataset.dtype

    def __getitem__(self, key: tuple[()], /) -> NDArray[Any]:
        """The whole array."""
        self._check_storage()
        array = np.asarray(self._dataset[key])
        if array.shape != self.shape:
            raise WeightsError(f"weights file {self._origin} is damaged: {self._path!r} is not {self.shape}")
        return array.view(ml_dtypes.bfloat16).astype(np.float32) if self._dataset.dtype == BFLOAT16 else array

    def _check_storage(self) -> None:
        """Raise where reading could take more memory than the array: Keras compresses nothing."""
        dataset = self._dataset
        if dataset.id.get_create_plist().get_nfilters():
            raise WeightsError(
                f"weights file {self._origin} is refused: {self._path!r} is compressed, which Keras's files are not. "
                f"Unpack it: h5repack -f NONE {self._origin} unpacked.h5"
            )
        if dataset.chunks is not None and math.prod(dataset.chunks) * dataset.dtype.itemsize > MAX_CHUNK_BYTES:
            raise WeightsError(
                f"weights file {self._origin} is refused: {self._path!r} of {self.shape} is kept in chunks of "
                f"{dataset.chunks}, which Keras's files are not. Save it again with Keras"
            )


@contextmanager
def open_hdf5(file: Path | bytes, *, origin: str) -> Iterator[h5py.File]:
    """The file, or its content, open for reading while in the block, whoever else has it open.

    Raises:
        WeightsError: it is truncated or damaged, also when that shows inside the block; another program is writing it.
    """
    if _has_endless_heap(file):
        raise WeightsError(
            f"weights file {origin} is HDF5 but cannot be read, it is damaged (a heap of texts without end). "
            "Copy or download it again"
        )
    try:
        # Without a lock of our own: who writes the file holds one, and some disks have none.
        with h5py.File(file if isinstance(file, Path) else io.BytesIO(file), "r", locking=False) as root:
            yield root
    except HDF5_ERRORS as error:
        if getattr(error, "errno", None) in IN_USE or any(text in str(error) for text in IN_USE_TEXT):
            raise WeightsError(
                f"weights file {origin} cannot be read now: another program has it open, or was stopped while it "
                f"wrote it ({_said(error)}). Wait until it is saved, or give another file"
            ) from error
        raise WeightsError(
            f"weights file {origin} is HDF5 but cannot be read, it is truncated or damaged ({_said(error)}). "
            "Copy or download it again"
        ) from error


def arrays_of(root: h5py.File, origin: str) -> dict[str, Hdf5Array]:
    """Every array of the file by its path; links and arrays that lead out of the file are refused."""
    return {path: Hdf5Array(dataset, path, origin) for path, dataset in _walk(root, origin)}


def text_attribute(holder: Any, name: str) -> str | None:
    """An attribute that is a text, or None."""
    value = _attribute(holder, name)
    return None if value is None or np.ndim(value) else _text(value)


def names_attribute(holder: Any, name: str) -> list[str] | None:
    """A list of names; Keras splits one longer than HDF5's 64 kB limit into `name0`, `name1`, ..."""
    if name in holder.attrs:
        chunks = [_attribute(holder, name)]
    else:
        chunks = []
        while f"{name}{len(chunks)}" in holder.attrs:
            chunks.append(_attribute(holder, f"{name}{len(chunks)}"))
        if not chunks:
            return None
    return [_text(value) for chunk in chunks for value in np.ravel(chunk)]


def _attribute(holder: Any, name: str) -> Any:
    if name not in holder.attrs:
        return None
    attribute = holder.attrs.get_id(name)
    count = math.prod(attribute.shape)
    if count > MAX_NAMES or count * attribute.dtype.itemsize > MAX_ATTRIBUTE_BYTES:
        raise ValueError(f"attribute {name!r} claims {count} values of {attribute.dtype.itemsize} bytes")
    return holder.attrs[name]


def _has_endless_heap(file: Path | bytes) -> bool:
    """Whether a global heap, where texts are kept, has a free object of no size: HDF5 1.14 waits for its end for ever.

    The walk is that of `H5HG__cache_heap_deserialize` (hdf5/src/H5HGcache.c), for addresses of 8 bytes.
    """
    if isinstance(file, bytes):
        return any(_is_endless(file, place) for place in _places(file))
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(_is_endless(content, place) for place in _places(content))


def _places(content: bytes | mmap.mmap) -> Iterator[int]:
    place = content.find(HEAP_START)
    while place >= 0:
        yield place
        place = content.find(HEAP_START, place + 1)


def _is_endless(content: bytes | mmap.mmap, start: int) -> bool:
    (size,) = struct.unpack("<Q", content[start + 8 : start + 16].ljust(8, b"\0"))
    place, end = start + 16, min(start + size, len(content))
    while place + 16 <= end:
        index, length = struct.unpack("<H6xQ", content[place : place + 16])
        if index == 0 and length == 0:
            return True
        place += 16 + (length + 7) // 8 * 8 if index else length
    return False


def _walk(root: h5py.File, origin: str) -> Iterator[tuple[str, h5py.Dataset]]:
    pending = [("", root, 0)]
    seen = {root.id}  # a group can be linked into itself
    while pending:
        prefix, group, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise WeightsError(f"weights file {origin} is refused: groups within groups, over {MAX_DEPTH} deep")
        for name in group:
            path = f"{prefix}{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise WeightsError(f"weights file {origin} is refused: {path!r} is a link, maybe to another file")
            member = group[name]
            if isinstance(member, h5py.Group):
                if member.id not in seen:
                    pending.append((f"{path}/", member, depth + 1))
                seen.add(member.id)
            elif isinstance(member, h5py.Dataset):
                if member.external or member.is_virtual:
                    raise WeightsError(f"weights file {origin} is refused: {path!r} keeps its data in another file")
                yield path, member


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _said(error: BaseException) -> str:
    """An error's own words, on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
