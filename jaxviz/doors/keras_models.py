"""Keras models by name and from files: `keras:MobileNetV2`, `FILE.keras`, whole-model `FILE.h5`.

Opened without computing initial weights: variables are made in a stateless scope, where Keras only notes them, and what
a file or a download has for them is taken from there.
"""

from __future__ import annotations

import contextlib
import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxviz.doors.keras_backend import keras_on_jax
from jaxviz.doors.keras_network import USUAL_SIDE, KerasNetwork, keras_network
from jaxviz.errors import UnknownModelError, WeightsError, WeightsUnavailableError, nearest
from jaxviz.files import current_folder, looking_at

BUILT_BY_SIZE = "NASNet"  # it pads and crops by the size that it is built for
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"

# What Keras and h5py raise on files that are damaged, of another kind, or of other classes.
FILE_ERRORS = (
    *(ValueError, TypeError, KeyError, AttributeError, IndexError, ImportError, OSError, RuntimeError),
    *(NotImplementedError, EOFError, zipfile.BadZipFile),
)


def application_names() -> list[str]:
    """The networks of `keras.applications`, as their functions are called."""
    applications = keras_on_jax().applications
    return [name for name in dir(applications) if name[0].isupper() and callable(getattr(applications, name))]


def open_application(name: str, *, head: bool, weights: Path | None = None, abstract: bool = False) -> KerasNetwork:
    """A network of `keras.applications`, with the ImageNet weights that Keras itself downloads and keeps.

    Args:
        name: such as "MobileNetV2".
        head: with the classifier; its layers may take one image size only.
        weights: a file of it; None: the published ones.
        abstract: with shapes in place of weights; nothing is downloaded or read.

    Raises:
        UnknownModelError: no such network.
        WeightsError: the file does not fit.
        WeightsUnavailableError: they are not here and could not be downloaded.
    """
    keras = keras_on_jax()
    if name not in application_names():
        raise UnknownModelError(
            f"MODEL {'keras:' + name!r} is unknown; {nearest(name, application_names())}, as in keras.applications"
        )
    build = getattr(keras.applications, name)
    source = None if abstract else "imagenet" if weights is None else str(weights)
    is_by_size = name.startswith(BUILT_BY_SIZE)

    def built_for(size: tuple[int, int]) -> Any:
        with _channels_last(keras), _opened(keras):
            return build(weights=None, include_top=False, input_shape=(*size, 3))

    shape = {} if head else {"input_shape": (USUAL_SIDE, USUAL_SIDE, 3) if is_by_size else (None, None, 3)}
    with _channels_last(keras), _opened(keras) as values, _quiet():
        try:
            model = build(weights=source, include_top=head, **shape)
        except FILE_ERRORS as error:
            if weights is None:
                raise _not_downloaded(name, error) from error
            raise WeightsError(
                f"weights file {weights} does not fit MODEL keras:{name} "
                f"({'with' if head else 'without'} its classifier): {_first_line(error)}. Give a file that "
                f"keras.applications.{name}(include_top={head}) wrote with save_weights()"
            ) from error
        except Exception as error:
            if type(error) is not Exception:  # what keras.utils.get_file raises where a download fails
                raise
            raise _not_downloaded(name, error) from error
    return keras_network(
        model,
        values=_shape if abstract else values,
        before=sys.modules[build.__module__].preprocess_input,
        names=_fresh_names,
        built_for=built_for if is_by_size and not head else None,
    )


def open_file(path: Path, custom_objects: Mapping[str, Any]) -> KerasNetwork:
    """The network in a `.keras` or whole-model `.h5` file; no code from it is run.

    Raises:
        UnknownModelError: no such file.
        WeightsError: it is damaged, holds weights only, or needs classes that are not known.
    """
    _check_whole_model(path)
    keras = keras_on_jax()
    arguments = {"compile": False, "safe_mode": True, "custom_objects": dict(custom_objects)}
    with _opened(keras) as values, _quiet():
        try:
            model = keras.models.load_model(str(path), **arguments)
        except FILE_ERRORS as error:
            raise _not_loaded(path, error) from error
    return keras_network(model, values=values)


@contextlib.contextmanager
def _opened(keras: Any) -> Iterator[Callable[[Any], Any]]:
    """In it Keras opens models without computing initial values; gives what variables hold then."""
    with keras.StatelessScope(initialize_variables=False) as scope:

        def value_of(variable: Any) -> Any:
            value = scope.get_current_value(variable)
            with keras.StatelessScope(initialize_variables=False):
                return jnp.asarray(variable.value if value is None else value)

        yield value_of


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keras's download bar on stderr, and none of its warnings: they are about sizes, which do not count here."""
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _shape(variable: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(tuple(variable.shape), jnp.dtype(variable.dtype))


@contextlib.contextmanager
def _channels_last(keras: Any) -> Iterator[None]:
    """Applications in the order of their published weights, whatever the user's settings of Keras say."""
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_last")
    try:
        yield
    finally:
        keras.config.set_image_data_format(before)


def _fresh_names(model: Any) -> dict[int, str]:
    """Names that Keras counted, as they are in a fresh session: `conv2d_94` of a second model is `conv2d` there."""
    counted: dict[str, list[tuple[int, Any]]] = {}
    for layer in model._flatten_layers(include_self=False):
        kind = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)).lower()
        found = re.fullmatch(rf"{kind}(?:_(\d+))?", layer.name)
        if found:
            counted.setdefault(kind, []).append((int(found[1] or 0), layer))
    names: dict[int, str] = {}
    for kind, layers in counted.items():
        first = min(number for number, _ in layers)
        names |= {id(layer): f"{kind}_{number - first}" if number > first else kind for number, layer in layers}
    return names


def _check_whole_model(path: Path) -> None:
    """Raise unless a file looks like one with a network in it."""
    with looking_at(path):
        is_there = path.is_file()
    if not is_there:
        raise UnknownModelError(
            f"MODEL {str(path)!r}: there is no such file; paths are relative to the current folder, {current_folder()}"
        )
    try:
        with path.open("rb") as file:
            start = file.read(8)
        if start == HDF5_SIGNATURE:
            import h5py

            with h5py.File(path, "r", locking=False) as root:
                is_whole = "model_config" in root.attrs
        elif start.startswith(b"PK"):
            with zipfile.ZipFile(path) as archive:
                is_whole = {"config.json", "metadata.json"} <= set(archive.namelist())
        else:
            raise WeightsError(
                f"MODEL {str(path)!r} is no Keras file: it starts with {start!r}. Give one that save() wrote"
            )
    except FILE_ERRORS as error:
        raise WeightsError(
            f"MODEL {str(path)!r} cannot be read: {_first_line(error)}. Copy or save it again"
        ) from error
    if not is_whole:
        raise WeightsError(
            f"MODEL {str(path)!r} holds weights and no network; give the network's name and `--weights {path}`, or a "
            "file that model.save() wrote"
        )


def _not_loaded(path: Path, error: Exception) -> WeightsError:
    said = str(error)
    if "lock file" in said:
        advice = "Another program has it open; wait until that has closed it, or give a copy"
    elif "safe_mode" in said or "unsafe" in said or "lambda" in said.lower():
        advice = (
            "It holds Python code, which jaxviz runs from no file; load it in a file of your own, "
            "keras.models.load_model(..., safe_mode=False), and give FILE.py:FUNCTION that returns "
            "jaxviz.Model.from_keras(model)"
        )
    elif "custom" in said or "Could not locate" in said or "Unknown layer" in said:
        advice = "Give the module that defines its classes: --custom-objects MODULE or FILE.py"
    else:
        advice = "Copy or save it again; MODEL_NAME with `--weights FILE` reads a known network out of a larger file"
    unknown = re.search(r"Could not locate [^.]*", said)
    reason = unknown[0] if unknown else _first_line(error)
    return WeightsError(f"MODEL {str(path)!r} cannot be opened: {reason}. {advice}")


def _not_downloaded(name: str, error: Exception) -> WeightsUnavailableError:
    return WeightsUnavailableError(
        f"no weights for MODEL keras:{name}: Keras could not download them ({_first_line(error)}). Put the file "
        "that it names into ~/.keras/models (KERAS_HOME), or give your own with `weights`"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
