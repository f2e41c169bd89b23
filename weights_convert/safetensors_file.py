"""jaxviz's own weight files: `.safetensors`, tensors named `layer/parameter`, with where they came from.

All metadata is one JSON text under one key: safetensors writes several keys in random order, and the same
weights should give the same bytes, so that the SHA-256 means something. Reading is as strict as converting.
"""

from __future__ import annotations

import json
from pathlib import Path

import safetensors
import safetensors.numpy

from jaxviz.errors import WeightsError
from jaxviz.files import weights_dir, write_atomically
from jaxviz.models import weight_shapes
from weights_convert.match import MatchedWeights, Weights, match_exactly

METADATA_KEY = "weights_convert"
FORMAT_VERSION = "1"


def cache_path(model_name: str, *, head: bool) -> Path:
    """Where the converted weights of a model are kept."""
    return weights_dir() / f"{model_name}{'_head' if head else ''}.safetensors"


def write_safetensors(path: Path, arrays: Weights, metadata: dict[str, str]) -> None:
    """Writes the file whole or not at all.

    Raises:
        StorageError: the disk is full or read-only.
    """
    tensors = {f"{layer}/{name}": array for layer, parameters in arrays.items() for name, array in parameters.items()}
    described = json.dumps({"format_version": FORMAT_VERSION, **metadata}, sort_keys=True)
    write_atomically(path, safetensors.numpy.save(tensors, {METADATA_KEY: described}))


def read_safetensors(path: Path, model_name: str, *, origin: str) -> tuple[MatchedWeights, dict[str, str]]:
    """The weights of `model_name`, and the metadata they were written with.

    Raises:
        WeightsError: truncated, written by something else, for another model, or not all of its weights.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            described = (file.metadata() or {}).get(METADATA_KEY)
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    except (safetensors.SafetensorError, TypeError, ValueError) as error:
        raise WeightsError(
            f"weights file {origin} is safetensors but cannot be read, it is truncated or damaged ({error}). "
            "Copy or convert it again"
        ) from error
    metadata = _metadata(described, model_name, origin)
    weights = weight_shapes(model_name, head=True)
    targets = {f"{layer}/{name}": (layer, name) for layer, parameters in weights.items() for name in parameters}
    alone = f"python -m weights_convert convert {model_name} FILE"
    return match_exactly(found, targets, model_name, origin=origin, alone=alone), metadata


def _metadata(described: str | None, model_name: str, origin: str) -> dict[str, str]:
    try:
        metadata = json.loads(described or "")
    except ValueError:
        metadata = None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise WeightsError(
            f"weights file {origin} is safetensors, but not of jaxviz: it does not say which model it is for. "
            f"Convert the original file: python -m weights_convert convert {model_name} FILE"
        )
    if metadata.get("format_version") != FORMAT_VERSION:
        raise WeightsError(
            f"weights file {origin} has format version {metadata.get('format_version')!r}, this jaxviz reads "
            f"{FORMAT_VERSION!r}. Convert the original file again: python -m weights_convert convert {model_name} FILE"
        )
    if metadata.get("model") != model_name:
        raise WeightsError(
            f"weights file {origin} is for MODEL {metadata.get('model')!r}, not {model_name!r}. "
            "Give that MODEL or another file"
        )
    return metadata
