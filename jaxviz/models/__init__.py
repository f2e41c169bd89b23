"""The registry: which models there are, and how to load one.

Families are imported only when asked for, and none of this imports jax until a model is loaded.
To add a model: one file `models/<family>.py`, one row here, one row in `weights_convert/sources.py`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxviz.errors import UnknownModelError, nearest
from jaxviz.models.graph import Graph

if TYPE_CHECKING:
    from jaxviz.models.model import Model

FAMILIES = {
    "resnet50v2": "resnet_v2",
    "resnet101v2": "resnet_v2",
    "resnet152v2": "resnet_v2",
    "efficientnet_lite0": "efficientnet_lite",
    "efficientnet_lite1": "efficientnet_lite",
    "efficientnet_lite2": "efficientnet_lite",
}


class ModelSize(NamedTuple):
    """How large a model is, its head left out."""

    parameters: int  # numbers in all weight arrays, moving statistics included, as Keras counts them
    layers: int  # that can be rendered


MODEL_SIZES = {  # counted once, so that listing the models builds none of them
    "resnet50v2": ModelSize(parameters=23_564_800, layers=189),
    "resnet101v2": ModelSize(parameters=42_626_560, layers=376),
    "resnet152v2": ModelSize(parameters=58_331_648, layers=563),
    "efficientnet_lite0": ModelSize(parameters=3_413_024, layers=147),
    "efficientnet_lite1": ModelSize(parameters=4_189_344, layers=192),
    "efficientnet_lite2": ModelSize(parameters=4_869_168, layers=192),
}


@dataclass(frozen=True)
class Architecture:
    """What a family knows about one model: its table and its preprocessing, no weights."""

    name: str
    graph: Graph
    preprocess: Callable[[Any], Any]


def list_models() -> tuple[str, ...]:
    """Names that `load_model` takes."""
    return tuple(FAMILIES)


def architecture(name: str, *, head: bool = False) -> Architecture:
    """A model's table, without weights and without importing jax.

    Raises:
        UnknownModelError: no model of that name.
    """
    if name not in FAMILIES:
        raise UnknownModelError(f"MODEL {name!r} is unknown; {nearest(name, FAMILIES)}. See: jaxviz models")
    family = importlib.import_module(f"jaxviz.models.{FAMILIES[name]}")
    return Architecture(name, family.build(name, head=head), family.preprocess)


def where_weights(name: str) -> str:
    """One line: where a model's published weights are on this machine, or how to get them."""
    from weights_convert.locate import describe

    return describe(name).text


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
        name: one of `list_models()`.
        weights: a weights file: Keras `.h5`, `.weights.h5` or `.keras`, an EfficientNet-Lite `.pth`, or a
            `.safetensors` file that `python -m weights_convert` wrote. None: the published weights, from the
            cache, an installed package, Keras's own cache, or by download.
        head: whether the classifier (`avg_pool`, `predictions`) belongs to the model.
        download: whether published weights may be fetched when they are not on this machine.
        progress: whether a download shows a progress bar on stderr.

    Raises:
        UnknownModelError: no model of that name.
        WeightsError: the file is broken, belongs to another model, or lacks the head that was asked for.
        WeightsUnavailableError: the published weights are not here and could not be fetched.
    """
    wanted = architecture(name, head=head)
    from weights_convert.locate import obtain_weights
    from weights_convert.progress import DownloadBar
    from weights_convert.read import read_weights

    found = (
        obtain_weights(name, head=head, download=download, progress=DownloadBar(name) if progress else None)
        if weights is None
        else read_weights(Path(weights), name).for_head(head=head)
    )
    import jax

    from jaxviz.models.layers import GraphForward
    from jaxviz.models.model import Model

    return Model(
        name=name,
        layers=wanted.graph.targets,
        weights=jax.tree.map(jax.numpy.asarray, found.arrays),
        forward=GraphForward(wanted.graph),
        preprocess=wanted.preprocess,
    )
