"""Any weights file that jaxviz understands, told apart by its content, never by its name.

Keras formats are read for the ResNets, PyTorch checkpoints for EfficientNet-Lite, jaxviz's own `.safetensors`
for all models.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from jaxviz.errors import WeightsError, nearest
from jaxviz.models import check_model, family_of
from weights_convert import digests
from weights_convert.archives import open_zip
from weights_convert.keras_hdf5 import ZIP_MEMBER, KerasWeights, read_keras_hdf5, read_keras_zip
from weights_convert.keras_preprocessing import Surroundings
from weights_convert.match import Weights, head_layers, shortened, without_head
from weights_convert.preprocessing import Preprocessing
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


PREPROCESS_KEY, LEFT_OUT_KEY = "preprocess", "left_out"  # of the metadata


@dataclass(frozen=True)
class ConvertedWeights:
    """Weights as a model takes them, and where they came from.

    Attributes:
        arrays: {layer: {parameter: array}}.
        has_head: whether the classifier's are among them.
        metadata: `model`, `head` ("true" or "false"), `source` (a file name or URL), `source_format`,
            `source_sha256`, `source_md5` (Keras only) and `licence`; `preprocess` and `left_out` where there is any.
        preprocessing: what the file does to pixels, where that is not what the family does.
        left_out: what else the file holds, in words.
        notice: what a user should be told of the file, one line, or nothing.
    """

    arrays: Weights
    has_head: bool
    metadata: dict[str, str]
    preprocessing: Preprocessing | None = None
    left_out: tuple[str, ...] = ()
    notice: str = ""

    def for_head(self, *, head: bool) -> ConvertedWeights:
        """The same weights with or without the head.

        Raises:
            WeightsError: the head is wanted and not there.
        """
        if head == self.has_head:
            return self
        if head:
            beside = f", but beside the network {shortened(self.left_out)}" if self.left_out else ""
            wanted = ", ".join(sorted(head_layers(self.metadata["model"])))
            raise WeightsError(
                f"weights from {self.metadata['source']} have no head of MODEL {self.metadata['model']} (layer "
                f"{wanted!r} with its 1,000 classes){beside}. Give a file that has it, or leave the head out"
            )
        arrays = without_head(self.arrays, self.metadata["model"])
        return replace(self, arrays=arrays, has_head=False, metadata=self.metadata | {"head": "false"})


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
            return _read_own(path, model_name, origin)
        found, surroundings, unclear = _read_foreign(kind, path, model_name, origin)
        metadata = _metadata(kind, path, model_name, found.has_head, source or path.name)
    except OSError as error:
        raise WeightsError(_why_not_readable(path, error)) from error
    preprocessing = surroundings.preprocessing
    if preprocessing is not None and preprocessing.is_close(_usual(model_name)):
        preprocessing = None
    left_out = (*surroundings.left_out, *found.left_out)
    if preprocessing is not None:
        metadata[PREPROCESS_KEY] = preprocessing.to_text()
    if left_out:
        metadata[LEFT_OUT_KEY] = json.dumps(left_out)
    notice = _notice(origin, model_name, left_out, preprocessing, unclear)
    return ConvertedWeights(found.arrays, found.has_head, metadata, preprocessing, left_out, notice)


def _read_own(path: Path, model_name: str, origin: str) -> ConvertedWeights:
    """A `.safetensors` file with what its metadata keep."""
    weights, metadata = read_safetensors(path, model_name, origin=origin)
    try:
        text = metadata.get(PREPROCESS_KEY)
        preprocessing = None if text is None else Preprocessing.from_text(text)
        left_out = tuple(map(str, json.loads(metadata.get(LEFT_OUT_KEY, "[]"))))
    except (ValueError, TypeError, RecursionError) as error:
        raise WeightsError(
            f"weights file {origin} is damaged: what its metadata say of preprocessing cannot be read ({error}). "
            f"Convert the original file again: python -m weights_convert convert {model_name} FILE"
        ) from error
    return ConvertedWeights(weights.arrays, weights.has_head, metadata, preprocessing, left_out)


def _usual(model_name: str) -> Preprocessing:
    """What the model's family does to pixels."""
    preprocess = family_of(model_name)[1].preprocess
    offset = preprocess(0.0)
    return Preprocessing().then((preprocess(255.0) - offset) / 255.0, offset)


def _notice(
    origin: str, model_name: str, left_out: tuple[str, ...], preprocessing: Preprocessing | None, unclear: str
) -> str:
    """One line of what a user could not know without it."""
    parts = []
    if left_out:
        parts.append(f"left out, because it is no part of MODEL {model_name}: {shortened(left_out)}")
    if preprocessing is not None:
        parts.append(f"fed as the file says: {preprocessing}")
    if unclear:
        usual = _usual(model_name)
        parts.append(
            f"its configuration does not say what stands before the network ({unclear}), so that is fed as "
            f"{model_name} usually is: {usual}"
        )
    return f"weights file {origin}: {'; '.join(parts)}" if parts else ""


def _format(path: Path, origin: str) -> Format:
    with path.open("rb") as file:
        start = file.read(9)
    if start.startswith(HDF5_SIGNATURE):
        return "keras_hdf5"
    if start.startswith(ZIP_SIGNATURE):
        with open_zip(path, origin=origin) as archive:
            return _zip_format(archive, origin)
    if len(start) == 9 and start[8:] == b"{" and start[4:8] == bytes(4):  # the header's length, then its JSON
        return "safetensors"  # a length can begin as a pickle does
    if start.startswith(PICKLE_PROTO):
        return "torch"
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


def _read_foreign(kind: Format, path: Path, model_name: str, origin: str) -> KerasWeights:
    if kind == "torch":
        return KerasWeights(read_torch_checkpoint(path, model_name, origin=origin), Surroundings())
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
    unreadable = f"weights file {path} cannot be read: {error.strerror or error}"
    try:
        if path.is_dir():
            return f"weights file {path} is a folder; give the file in it"
        if path.exists():
            return unreadable
        folder = path.parent
        if not folder.is_dir():
            return f"weights file {path} does not exist, nor does its folder"
        neighbours = sorted(member.name for member in folder.iterdir() if member.is_file())
        hint = f"; {nearest(path.name, neighbours)}" if neighbours else ""
        return f"weights file {path} does not exist in {folder.resolve()}{hint}"
    except OSError:  # nor can its surroundings be looked at
        return unreadable
