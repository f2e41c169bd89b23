"""Every spelling of MODEL, and how it becomes a `Model`: the only place that asks for weights.

    resnet50v2               one of jaxviz's own (models/)
    package.module:function  a function without arguments that returns a `Model`: your own network
    folder/file.py:function  the same in a file, which can import what lies beside it

The last two run your code.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from jaxviz import models as registry
from jaxviz.errors import ConfigError, UnknownModelError, nearest

if TYPE_CHECKING:
    from jaxviz.network.model import Model

log = logging.getLogger("jaxviz")


@dataclass(frozen=True)
class ScaledPixels:
    """The `preprocess` of a weights file: `pixels * scale + offset`; equal ones are one function to jit.

    Attributes:
        scale: a factor for red, green and blue.
        offset: a term for each.
    """

    scale: tuple[float, ...]
    offset: tuple[float, ...]

    def __call__(self, rgb: Any) -> Any:
        """Pixels in [0, 255], (..., 3), to model space, float32."""
        import jax.numpy as jnp

        scale, offset = jnp.asarray(self.scale, jnp.float32), jnp.asarray(self.offset, jnp.float32)
        shape = (1,) * (jnp.ndim(rgb) - 1) + scale.shape  # also where JAX does not promote ranks
        return jnp.asarray(rgb, jnp.float32) * scale.reshape(shape) + offset.reshape(shape)


def load_model(
    name: str,
    *,
    weights: str | Path | None = None,
    head: bool = False,
    download: bool = True,
    progress: bool = False,
) -> Model:
    """A model with its published weights, or with your own.

    Args:
        name: one of `list_models()`, or `MODULE:FUNCTION` or `FILE.py:FUNCTION` for a network of your own.
        weights: a weights file: Keras `.h5`, `.weights.h5` or `.keras`, an EfficientNet-Lite `.pth`, or a
            `.safetensors` file that `python -m weights_convert` wrote. What stands around the network in it is left
            out, and named in a warning; what a whole Keras model does to pixels before the network becomes the
            model's `preprocess`. None: the published weights, from the cache, an installed package, Keras's own
            cache, or by download.
        head: whether the classifier (`avg_pool`, `predictions`) belongs to the model.
        download: whether published weights may be fetched when they are not on this machine.
        progress: whether a download shows a progress bar on stderr.

    Raises:
        UnknownModelError: no model of that name.
        WeightsError: the file is broken, belongs to another model, or lacks the head that was asked for.
        WeightsUnavailableError: the published weights are not here and could not be fetched.
        ConfigError: your function fails, or returns something else.
    """
    if is_own(name):
        if weights is not None:
            raise ConfigError(
                f"is for jaxviz's own networks; {name} brings its own",
                argument="weights",
                value=str(weights),
                try_next="leave `weights` out",
            )
        return own_model(name)
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

    model = wanted.with_weights(jax.tree.map(jax.numpy.asarray, found.arrays))
    if found.preprocessing is None:
        return model
    # The name does not say any more what it computes, so recipes have to.
    preprocess = ScaledPixels(found.preprocessing.scale, found.preprocessing.offset)
    return replace(model, preprocess=preprocess, is_known=False)


def describe_model(name: str, *, head: bool = False) -> Model:
    """The network that MODEL means; of jaxviz's own without weights, and without its head unless that is asked for.

    Raises:
        UnknownModelError, ConfigError: as `load_model`.
    """
    return own_model(name) if is_own(name) else registry.architecture(name, head=head)


def where_weights(name: str) -> str:
    """One line: where a model's published weights are on this machine, or how to get them."""
    from weights_convert.locate import describe

    return describe(name).text


def is_own(name: str) -> bool:
    """Whether MODEL is spelled as a function of the user's."""
    return ":" in name


@lru_cache(maxsize=16)
def own_model(text: str) -> Model:
    """What the function returns that `MODULE:FUNCTION` or `FILE.py:FUNCTION` names; called once a process.

    Raises:
        UnknownModelError: no such module, file or function.
        ConfigError: the function does not return a `Model`.
    """
    from jaxviz.network.model import Model

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


def _file_module(text: str, path: Path) -> ModuleType:
    """A file as a module, with its own folder to import from, as when it is run."""
    if not path.is_file():
        raise UnknownModelError(
            f"MODEL {text!r}: there is no file {str(path)!r}; paths are relative to the current folder, {Path.cwd()}"
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
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        raise UnknownModelError(
            f"MODEL {text!r}: there is no module {name!r}; give MODULE:FUNCTION, FILE.py:FUNCTION or a name of "
            f"jaxviz models ({', '.join(registry.list_models())})"
        ) from error
