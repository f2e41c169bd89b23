"""What decides a picture (`Recipe`) and the finished picture with its numbers (`Picture`). No jax here.

Two pictures of one filter with equal recipes are equal bit for bit on one machine and software. The list of
filters, the number of devices, timings and versions are not part of a recipe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

import msgspec
import numpy as np
from jaxtyping import Float32, UInt8
from msgspec import Meta, Struct

from jaxviz.ascent.terms import Term, objective_text
from jaxviz.config import RecordedConfig

Status = Literal["ok", "dead", "nan"]
STATUSES: tuple[str, ...] = get_args(Status)


Count = Annotated[int, Meta(ge=1)]


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """All that decides a picture.

    Attributes:
        model: the network's name.
        weights_sha256: of its weights.
        layer: the layer's name.
        objective: what was maximised: the terms of a sum, as `Objective.to_data` gives them.
        config: the numbers of its `RenderConfig`.
        batch_size: images per device and call.
        kernels: the name of the set of kernels: which library multiplies on a CPU.
        replicas: that ascend together; more than 1 only where the objective couples them.
        initial_images_sha256: of the starting images; None: they started from noise.
        forward_sha256: of the computation of a network that is not jaxviz's own, and of the constants in it.
    """

    model: str
    weights_sha256: str
    layer: str
    objective: tuple[Term, ...]
    config: RecordedConfig
    batch_size: Count
    kernels: str
    replicas: Count = 1
    initial_images_sha256: str | None = None
    forward_sha256: str | None = None

    def __post_init__(self) -> None:
        for term in self.objective:
            if not (isinstance(term.get("weight"), int | float) and isinstance(term.get("name"), str)):
                raise ValueError(f"objective {term!r} has no weight or no name")

    @property
    def objective_text(self) -> str:
        """The objective in words, see `objective_text`."""
        return objective_text(self.objective)

    def settings(self) -> dict[str, Any]:
        """The objective in words and the numbers of the config: what two layers may share."""
        config: dict[str, Any] = msgspec.to_builtins(self.config)
        return {"objective": self.objective_text} | config

    def flat(self) -> dict[str, Any]:
        """All fields, those of the config last."""
        values = {name: value for name, value in msgspec.to_builtins(self).items() if name != "config"}
        return values | self.settings()

    def differences(self, other: Recipe) -> list[str]:
        """Texts such as "steps is 30 there, 64 here" for every field in which `other` (there) differs."""
        if self == other:
            return []
        here, there = self.flat(), other.flat()
        names = sorted(here.keys() | there.keys())
        return [
            f"{name} is {_short(name, there.get(name))} there, {_short(name, here.get(name))} here"
            for name in names
            if here.get(name) != there.get(name)
        ]


class LayerFacts(Struct, frozen=True):
    """What a network says of one of its layers.

    Attributes:
        kind: what it computes, such as `conv`.
        channels: how many filters it has.
        place: of the layer among the network's, from 1, in the network's own order.
        layers: how many the network has.
        receptive_field: side in pixels of the square that one cell sees; None where it sees the whole image.
    """

    kind: str
    channels: int
    place: int
    layers: int
    receptive_field: int | None


@dataclass(frozen=True)
class Picture:
    """One filter's finished picture.

    Attributes:
        filter_index: the filter.
        picture: uint8 RGB (height, width, 3); for a dead or nan filter a labelled placeholder tile.
        score: the plain objective on the final image.
        history: what was optimised, before each step: float32 (steps,).
        status: `ok`, `dead` (the objective's own gradient was exactly zero at every step) or `nan`.
        recipe: what decided it.
        replica: which of the filter's pictures, from 0.
        attempt: how many attempts from other noise failed before this one.
        snapshots: the picture after so many steps, where it was asked for.
    """

    filter_index: int
    picture: UInt8[np.ndarray, "height width 3"]
    score: float
    history: Float32[np.ndarray, " steps"]
    status: Status
    recipe: Recipe
    replica: int = 0
    attempt: int = 0
    snapshots: Mapping[int, UInt8[np.ndarray, "height width 3"]] = field(default_factory=dict)


def status_counts(statuses: Iterable[str]) -> dict[str, int]:
    """How many there are of each status."""
    found = list(statuses)
    return {status: found.count(status) for status in STATUSES}


def _short(name: str, value: Any) -> str:
    if name == "objective":
        return str(value)
    text = repr(value)
    return text if len(text) <= 24 else text[:16] + "...'"
