"""Every spelling of MODEL, and how it becomes a `Model`: the only place that asks for weights.

    resnet50v2               one of jaxviz's own (models/)
    keras:MobileNetV2        one of keras.applications, by Keras on its JAX backend (doors/)
    folder/file.keras        a whole Keras model in a file, also .h5; no code from it is run
    package.module:function  a function without arguments that returns a `Model`: your own network
    folder/file.py:function  the same in a file, which can import what lies beside it

The last two run your code, and so does a module of custom objects.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from jaxviz import models as registry
from jaxviz.errors import ConfigError, UnknownModelError, nearest
from jaxviz.files import current_folder, looking_at
from jaxviz.models import KERAS_PREFIX

if TYPE_CHECKING:
    from jaxviz.doors.keras_network import KerasNetwork
    from jaxviz.network.model import Model

KERAS_ENDINGS = (".keras", ".h5", ".hdf5")
log = logging.getLogger("jaxviz")


def load_model(
    name: str,
    *,
    weights: str | Path | None = None,
    head: bool = False,
    download: bool = True,
    progress: bool = False,
    custom_objects: str | None = None,
) -> Model:
    """A model with its published weights, or with your own.

    Args:
        name: one of `list_models()`; `keras:NAME` for one of `keras.applications`; `FILE.keras` or `FILE.h5`, a whole
            Keras model; `MODULE:FUNCTION` or `FILE.py:FUNCTION` for a network of your own.
        weights: a weights file: Keras `.h5`, `.weights.h5` or `.keras`, an EfficientNet-Lite `.pth`, or a
            `.safetensors` file that `python -m weights_convert` wrote. What stands around the network in it is left
            out, and named in a warning; what a whole Keras model does to pixels before the network becomes the
            model's `preprocess`. None: the published weights, from the cache, an installed package, Keras's own
            cache, or by download.
        head: whether the classifier (`avg_pool`, `predictions`) belongs to the model.
        download: whether published weights may be fetched when they are not on this machine.
        progress: whether a download shows a progress bar on stderr.
        custom_objects: a module, or a file, with the classes that a Keras file needs. Its code is run.

    Raises:
        UnknownModelError: no model of that name.
        WeightsError: the file is broken, belongs to another model, or lacks the head that was asked for.
        WeightsUnavailableError: the published weights are not here and could not be fetched.
        ConfigError: your function fails, or returns something else.
        EnvironmentFailure: Keras is needed and not installed, or JAX has no device to start on.
    """
    if name.startswith(KERAS_PREFIX):
        if not download and weights is None:
            raise ConfigError(
                f"{name} is fetched by Keras, which downloads what is not in its cache",
                argument="download",
                value=False,
                try_next="give your own file with `weights`",
            )
        return _application(name, head=head, weights=None if weights is None else Path(weights))
    if is_own(name):
        if weights is not None:
            raise ConfigError(
                f"is for jaxviz's own networks; {name} brings its own",
                argument="weights",
                value=str(weights),
                try_next="leave `weights` out",
            )
        return own_model(name, custom_objects)
    _refuse_custom_objects(name, custom_objects)
    wanted = registry.architecture(name, head=head)
    from weights_convert.locate import obtain_weights
    from weights_convert.progress import DownloadBar
    from weights_convert.read import read_weights

    found = (
        obtain_weights(name, head=head, download=download, progress=DownloadBar(name) if progress else None)
        if weights is None
        else read_weights(Path(weights), name).for_head(head=head)
    )
    if found.notice:
        log.warning("%s", found.notice)
    import jax

    from jaxviz.machine import check_backend

    check_backend()
    model = wanted.with_weights(jax.tree.map(jax.numpy.asarray, found.arrays))
    if found.preprocessing is None:
        return model
    from jaxviz.doors.scaled_pixels import ScaledPixels

    # The name does not say any more what it computes, so recipes have to.
    preprocess = ScaledPixels(found.preprocessing.scale, found.preprocessing.offset)
    return replace(model, preprocess=preprocess, is_known=False)


def describe_model(name: str, *, head: bool = False, custom_objects: str | None = None) -> Model:
    """The network that MODEL means; where it has a name, without weights, and without its head unless asked for.

    Raises:
        UnknownModelError, ConfigError, WeightsError, EnvironmentFailure: as `load_model`.
    """
    if is_own(name):
        return own_model(name, custom_objects)
    _refuse_custom_objects(name, custom_objects)
    return (
        _described_application(name, head) if name.startswith(KERAS_PREFIX) else registry.architecture(name, head=head)
    )


def where_weights(name: str) -> str:
    """One line: where a model's published weights are on this machine, or how to get them."""
    from weights_convert.locate import describe

    return describe(name).text


def is_own(name: str) -> bool:
    """Whether MODEL is spelled as a file or function of the user's, which bring their weights."""
    return not name.startswith(KERAS_PREFIX) and (":" in name or name.endswith(KERAS_ENDINGS))


@lru_cache(maxsize=16)
def own_model(text: str, custom_objects: str | None = None) -> Model:
    """The network in a Keras file, or what the function returns that is named; opened, or called, once a process.

    Raises:
        UnknownModelError: no such module, file or function.
        WeightsError: the file is damaged, or needs what it does not bring.
        StorageError: the file's folder cannot be looked into.
        ConfigError: the function does not return a `Model`.
        EnvironmentFailure: JAX has no device to start on.
    """
    if text.endswith(KERAS_ENDINGS):
        return _keras_file(Path(text), custom_objects)
    _refuse_custom_objects(text, custom_objects)
    from jaxviz.machine import check_backend
    from jaxviz.network.model import Model

    check_backend()
    place, _, function = text.rpartition(":")
    module = _file_module(text, Path(place)) if place.endswith(".py") else _named_module(text, place)
    found = getattr(module, function, None)
    if not callable(found):
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise UnknownModelError(f"MODEL {text!r}: {place} has no function {function!r}; {nearest(function, names)}")
    model: Any = found()
    if not isinstance(model, Model):
        raise ConfigError(
            f"MODEL {text!r}: {function}() returned {type(model).__name__}; return a jaxviz.Model, for example "
            "jaxviz.Model.from_flax(module, variables, preprocess=...)"
        )
    return model


def _refuse_custom_objects(name: str, custom_objects: str | None) -> None:
    if custom_objects is not None:
        raise ConfigError(
            f"is for Keras files, and MODEL {name} is none",
            argument="custom_objects",
            value=custom_objects,
            try_next="leave `custom_objects` out",
        )


@lru_cache(maxsize=8)
def _described_application(name: str, head: bool) -> Model:
    from jaxviz.doors.keras_models import open_application

    found = open_application(name.removeprefix(KERAS_PREFIX), head=head, abstract=True)
    if head:
        return _of_keras(found, name)
    with_head = open_application(name.removeprefix(KERAS_PREFIX), head=True, abstract=True)
    return _of_keras(found, name, tuple(layer for layer in with_head.layers if layer not in found.layers))


def _application(name: str, *, head: bool, weights: Path | None) -> Model:
    from jaxviz.doors.keras_models import open_application
    from jaxviz.network.weights import checked_weights

    described = _described_application(name, head)
    found = open_application(name.removeprefix(KERAS_PREFIX), head=head, weights=weights)
    return _of_keras(replace(found, weights=checked_weights(found.weights)), name, described.head)


def _keras_file(path: Path, custom_objects: str | None) -> Model:
    from jaxviz.doors.keras_backend import keras_on_jax
    from jaxviz.doors.keras_models import open_file
    from jaxviz.network.weights import checked_weights

    if custom_objects is not None:
        keras_on_jax()  # before their module, which imports Keras as it finds it
    found = open_file(path, {} if custom_objects is None else _classes_of(custom_objects))
    for left_out in found.left_out:
        log.warning("%s: left out %s", path, left_out)
    return _of_keras(replace(found, weights=checked_weights(found.weights)), path.name)


def _of_keras(found: KerasNetwork, name: str, head: tuple[str, ...] = ()) -> Model:
    from jaxviz.network.model import Model

    return Model(name, found.weights, found.forward, found.preprocess, None, found.channels, found.size, head=head)


def _classes_of(text: str) -> Mapping[str, Any]:
    """What a module or file defines, by name."""
    try:
        module = _file_module(text, Path(text)) if text.endswith(".py") else _named_module(text, text)
    except UnknownModelError as error:
        raise ConfigError(
            "is no module, and no file, that can be imported",
            argument="custom_objects",
            value=text,
            try_next="give the name of an installed module, or a path such as my_layers.py",
        ) from error
    return {name: value for name, value in vars(module).items() if callable(value) and not name.startswith("_")}


def _file_module(text: str, path: Path) -> ModuleType:
    """A file as a module, with its own folder to import from, as when it is run."""
    with looking_at(path):
        is_there = path.is_file()
    if not is_there:
        raise UnknownModelError(
            f"MODEL {text!r}: there is no file {str(path)!r}; paths are relative to the current folder, "
            f"{current_folder()}"
        )
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = f"_jaxviz_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _named_module(text: str, name: str) -> ModuleType:
    """A module by its name, the current folder among the places to look."""
    if "" not in sys.path and current_folder() not in sys.path:
        sys.path.insert(0, current_folder())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        raise UnknownModelError(
            f"MODEL {text!r}: there is no module {name!r}; give MODULE:FUNCTION, FILE.py:FUNCTION or a name of "
            f"jaxviz models ({', '.join(registry.list_models())})"
        ) from error
