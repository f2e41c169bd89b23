"""Any weights file that jaxviz understands, told apart by its content, never by its name.

Keras formats are read for the ResNets, PyTorch checkpoints for EfficientNet-Lite, jaxviz's own `.safetensors`
for all models.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxviz.errors import WeightsError, nearest
from jaxviz.models import check_model
from weights_convert import digests
from weights_convert.archives import open_zip
from weights_convert.keras_hdf5 import ZIP_MEMBER, read_keras_hdf5, read_keras_zip
from weights_convert.match import MatchedWeights, Weights, without_head
from weights_convert.safetensors_file import read_safetensors
from weights_convert.sources import KERAS_FILES, PACKAGE_FILES
from weights_convert.torch_checkpoint import read_torch_checkpoint

Format = Literal["keras_hdf5", "keras_zip", "torch", "safetensors"]

FORMAT_NAMES: dict[Format, str] = {
    "keras_hdf5": "a Keras .h5 file",
    "keras_zip": "a .keras file",
    "torch": "a PyTorch checkpoint",
    "safetensors": "a .safetensors file",
}
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
ZIP_SIGNATURE = b"PK\x03\x04"
PICKLE_PROTO = b"\x80"  # first opcode of every pickle since protocol 2
UNKNOWN_LICENCE = "unknown (a file of your own)"


@dataclass(frozen=True)
class ConvertedWeights:
    """Weights as a model takes them, and where they came from.

    `metadata` has `model`, `head` ("true" or "false"), `source` (a file name or URL), `source_format`,
    `source_sha256`, `source_md5` (Keras only) and `licence`.
    """

    arrays: Weights
    has_head: bool
    metadata: dict[str, str]

    def for_head(self, *, head: bool) -> ConvertedWeights:
        """The same weights with or without the head.

        Raises:
            WeightsError: the head is wanted and not there.
        """
        if head == self.has_head:
            return self
        if head:
            raise WeightsError(
                f"weights from {self.metadata['source']} have no head (layer 'predictions'). "
                "Give a file that has it, or leave the head out"
            )
        arrays = without_head(self.arrays, self.metadata["model"])
        return ConvertedWeights(arrays, has_head=False, metadata=self.metadata | {"head": "false"})


def read_weights(path: Path, model_name: str, *, source: str | None = None) -> ConvertedWeights:
    """The weights of `model_name` from the file at `path`; `source` is what the metadata calls it.

    Raises:
        UnknownModelError: no model of that name.
        WeightsError: no such file, an unreadable one, or one that does not fit the model.
    """
    check_model(model_name)
    origin = str(path)
    try:
        kind = _format(path, origin)
        _refuse_unsuited(kind, model_name, origin)
        if kind == "safetensors":
            weights, metadata = read_safetensors(path, model_name, origin=origin)
            return ConvertedWeights(weights.arrays, weights.has_head, metadata)
        weights = _read_foreign(kind, path, model_name, origin)
        metadata = _metadata(kind, path, model_name, weights.has_head, source or path.name)
    except OSError as error:
        raise WeightsError(_why_not_readable(path, error)) from error
    return ConvertedWeights(weights.arrays, weights.has_head, metadata)


def _format(path: Path, origin: str) -> Format:
    with path.open("rb") as file:
        start = file.read(9)
    if start.startswith(HDF5_SIGNATURE):
        return "keras_hdf5"
    if start.startswith(ZIP_SIGNATURE):
        with open_zip(path, origin=origin) as archive:
            return _zip_format(archive, origin)
    if start.startswith(PICKLE_PROTO):
        return "torch"
    if len(start) == 9 and start[8:] == b"{":  # the header's length in 8 bytes, then its JSON
        return "safetensors"
    raise WeightsError(
        f"weights file {origin} is of no known kind (it starts with {start[:8]!r}). "
        f"Give one of: {', '.join(FORMAT_NAMES.values())}"
    )


def _zip_format(archive: zipfile.ZipFile, origin: str) -> Format:
    names = archive.namelist()
    if ZIP_MEMBER in names:
        return "keras_zip"
    if any(name.split("/")[1:] == ["data.pkl"] for name in names):
        return "torch"
    raise WeightsError(
        f"weights file {origin} is a zip file, but neither a .keras file (no {ZIP_MEMBER!r}) nor a PyTorch "
        "checkpoint (no 'data.pkl'). Give one of them"
    )


def _refuse_unsuited(kind: Format, model_name: str, origin: str) -> None:
    suited: tuple[Format, ...] = ("keras_hdf5", "keras_zip") if model_name in KERAS_FILES else ("torch",)
    suited = (*suited, "safetensors")
    if kind not in suited:
        raise WeightsError(
            f"weights file {origin} is {FORMAT_NAMES[kind]}; MODEL {model_name} is read from "
            f"{' or '.join(FORMAT_NAMES[one] for one in suited)}. Give such a file, or the MODEL that it is of"
        )


def _read_foreign(kind: Format, path: Path, model_name: str, origin: str) -> MatchedWeights:
    if kind == "torch":
        return read_torch_checkpoint(path, model_name, origin=origin)
    if kind == "keras_zip":
        return read_keras_zip(path, model_name, origin=origin)
    return read_keras_hdf5(path, model_name, origin=origin)


def _metadata(kind: Format, path: Path, model_name: str, has_head: bool, source: str) -> dict[str, str]:
    metadata = {
        "model": model_name,
        "head": "true" if has_head else "false",
        "source": source,
        "source_format": kind,
        "source_sha256": digests.sha256(path),
        "licence": UNKNOWN_LICENCE,
    }
    if model_name in KERAS_FILES:
        metadata["source_md5"] = digests.md5(path)
        published = KERAS_FILES[model_name][has_head]
        if metadata["source_md5"] == published.md5:
            metadata["licence"] = published.licence
    elif metadata["source_sha256"] == PACKAGE_FILES[model_name].sha256:
        metadata["licence"] = PACKAGE_FILES[model_name].licence
    return metadata


def _why_not_readable(path: Path, error: OSError) -> str:
    if path.is_dir():
        return f"weights file {path} is a folder; give the file in it"
    if path.exists():
        return f"weights file {path} cannot be read: {error.strerror or error}"
    folder = path.parent
    if not folder.is_dir():
        return f"weights file {path} does not exist, nor does its folder"
    neighbours = sorted(member.name for member in folder.iterdir() if member.is_file())
    hint = f"; {nearest(path.name, neighbours)}" if neighbours else ""
    return f"weights file {path} does not exist in {folder.resolve()}{hint}"
