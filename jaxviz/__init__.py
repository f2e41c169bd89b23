"""jaxviz renders what every filter of a convolutional network looks for, a whole layer in one batched call.

    model = jaxviz.load_model("efficientnet_lite0")
    result = jaxviz.render_layer(model, "block5_2_expand_conv", filters=range(64))
    result.save("out")

Importing this package imports nothing heavy: the names below arrive, and jax with them, when first used.
Reading order for the code: `api.py`, `render.py`, `ascent.py`, then `network/`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxviz.api import iter_render, render_atlas, render_layer, visualize_filter
    from jaxviz.config import RenderConfig
    from jaxviz.loading import load_model
    from jaxviz.models import list_models
    from jaxviz.network.model import Model
    from jaxviz.render.recipe import Picture
    from jaxviz.store.result import LayerResult

__version__ = "0.1.0"

_HOMES = {
    "LayerResult": "jaxviz.store.result",
    "Model": "jaxviz.network.model",
    "Picture": "jaxviz.render.recipe",
    "RenderConfig": "jaxviz.config",
    "iter_render": "jaxviz.api",
    "list_models": "jaxviz.models",
    "load_model": "jaxviz.loading",
    "render_atlas": "jaxviz.api",
    "render_layer": "jaxviz.api",
    "visualize_filter": "jaxviz.api",
}
__all__ = [
    "LayerResult",
    "Model",
    "Picture",
    "RenderConfig",
    "__version__",
    "iter_render",
    "list_models",
    "load_model",
    "render_atlas",
    "render_layer",
    "visualize_filter",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'jaxviz' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
