"""Two layers side by side: which ones are meant (`find_layer`), what is known and measured of each (`describe`).

What is known comes from layer.json, what is measured from the pictures (measures.py). NumPy; no jax.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxviz.errors import RequestError, UnknownLayerError, nearest
from jaxviz.render.recipe import LayerFacts
from jaxviz.store.catalogue import Catalogue, LayerPictures
from jaxviz.view.measures import Row, layer_rows, measure_layer


@dataclass(frozen=True)
class Description:
    """A layer's pictures, what the network says of it (None where that was not recorded), and what was measured."""

    pictures: LayerPictures
    facts: LayerFacts | None
    rows: tuple[Row, ...]


def find_layer(catalogue: Catalogue, text: str, *, model: str | None = None, label: str | None = None) -> LayerPictures:
    """The layer that LAYER, LAYER/LABEL, MODEL/LAYER or MODEL/LAYER/LABEL means, among those of a model and label.

    Raises:
        UnknownLayerError: there is none.
        RequestError: there are several.
    """
    named = [layer for layer in catalogue.layers if text in _names(layer)]
    wanted = [layer for layer in named if model in (None, layer.model) and label in (None, layer.label)]
    if len(wanted) == 1:
        return wanted[0]
    if wanted:
        raise RequestError(
            f"LAYER {text!r} is there {len(wanted)} times: {_listed(wanted)}. Type one of these instead of {text}, or "
            "choose with `model` MODEL and `label` LABEL"
        )
    if named:
        asked = " and ".join(f"`{key}` {value!r}" for key, value in (("model", model), ("label", label)) if value)
        raise UnknownLayerError(
            f"LAYER {text!r} is not in DIR {catalogue.folder} with {asked}, but as {_listed(named)}"
        )
    known = [layer.name if "/" in text else layer.layer for layer in catalogue.layers]
    raise UnknownLayerError(
        f"DIR {catalogue.folder} has no pictures of LAYER {text!r}; {nearest(text, dict.fromkeys(known))}. "
        f"Make them with: jaxviz render MODEL LAYER --out {catalogue.folder}"
    )


def describe(layer: LayerPictures, *, progress: Callable[[], None] = lambda: None) -> Description:
    """What is known of a layer, and what is measured of its pictures; `progress` is called before each of them.

    Raises:
        StorageError: a picture has gone since the folder was read.
    """
    return Description(layer, layer.network, layer_rows(layer, measure_layer(layer, progress=progress)))


def differing_settings(first: LayerPictures, second: LayerPictures) -> dict[str, tuple[Any, Any]]:
    """What else than the layer was not alike when the pictures were made: setting -> its two values.

    The batch size is left out: it shows in the pictures as rounding only.
    """
    one, other = (each.recipe.settings() for each in (first, second))
    if first.model == second.model:
        one["weights"], other["weights"] = (each.recipe.weights_sha256[:12] for each in (first, second))
    names = [*one, *(name for name in other if name not in one)]
    return {name: (one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)}


def _names(layer: LayerPictures) -> tuple[str, ...]:
    return (layer.layer, f"{layer.layer}/{layer.label}", f"{layer.model}/{layer.layer}", layer.name)


def _listed(layers: list[LayerPictures]) -> str:
    return ", ".join(layer.name for layer in layers)
