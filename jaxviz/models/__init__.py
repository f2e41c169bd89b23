"""The registry: jaxviz's own networks by name, and what is known of each without its weights.

A family is imported, and jax with it, only when one of its networks is asked for. Weights are found and loaded in
loading.py. To add a family: one file `models/<family>.py`, rows here, one row in `weights_convert/sources.py`.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxviz.errors import UnknownModelError, nearest

if TYPE_CHECKING:
    from jaxviz.models.keras_weights import Family, Shapes
    from jaxviz.network.model import Model


class Entry(NamedTuple):
    """Where a network is written, and how large it is without its head, so that listing them builds none."""

    module: str  # of jaxviz.models
    family: str  # the class in it
    parameters: int  # numbers in all weight arrays, moving statistics included, as Keras counts them
    layers: int  # that can be rendered


MODELS = {
    "resnet50v2": Entry("resnet_v2", "ResNet50V2", parameters=23_564_800, layers=189),
    "resnet101v2": Entry("resnet_v2", "ResNet101V2", parameters=42_626_560, layers=376),
    "resnet152v2": Entry("resnet_v2", "ResNet152V2", parameters=58_331_648, layers=563),
    "efficientnet_lite0": Entry("efficientnet_lite", "EfficientNetLite0", parameters=3_413_024, layers=147),
    "efficientnet_lite1": Entry("efficientnet_lite", "EfficientNetLite1", parameters=4_189_344, layers=192),
    "efficientnet_lite2": Entry("efficientnet_lite", "EfficientNetLite2", parameters=4_869_168, layers=192),
}
KERAS_PREFIX = "keras:"  # before the name of a network of keras.applications, where MODEL stands
HEAD_LAYERS = ("avg_pool", "predictions")  # the classifier's, in every family


def list_models() -> tuple[str, ...]:
    """Names of jaxviz's own networks."""
    return tuple(MODELS)


def check_model(name: str) -> None:
    """Raise UnknownModelError, naming the nearest, unless jaxviz has a network of this name."""
    if name not in MODELS:
        raise UnknownModelError(f"MODEL {name!r} is unknown; {nearest(name, MODELS)}. See: jaxviz models")


def family_of(name: str) -> tuple[Family, Any]:
    """The class of a network, and the module that it stands in. Raises UnknownModelError."""
    check_model(name)
    module = importlib.import_module(f"jaxviz.models.{MODELS[name].module}")
    return getattr(module, MODELS[name].family), module


def weight_shapes(name: str, *, head: bool = False) -> Shapes:
    """Shape of every weight array, {layer: {parameter: shape}}, in the network's order. Raises UnknownModelError."""
    from jaxviz.models import keras_weights

    return keras_weights.weight_shapes(family_of(name)[0], head=head)


@lru_cache(maxsize=16)
def architecture(name: str, *, head: bool = False) -> Model:
    """A network with shapes in place of weights: it answers for its layers, and cannot be rendered.

    Raises:
        UnknownModelError: no model of that name.
    """
    family, module = family_of(name)
    from jaxviz.models.family_forward import FamilyForward
    from jaxviz.models.keras_weights import abstract_weights
    from jaxviz.network.model import Model

    weights = abstract_weights(family, head=head)
    forward = FamilyForward(family, head=head)
    return Model(name, weights, forward, module.preprocess, is_known=True, head=() if head else HEAD_LAYERS)
