"""What decides a picture (`Recipe`) and the finished picture with its numbers (`Picture`). No jax here.

Two pictures of one filter with equal recipes are equal bit for bit on one machine and software. The list of
filters, the number of devices, timings and versions are not part of a recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float32, UInt8

Status = Literal["ok", "dead", "nan"]
STATUSES: tuple[str, ...] = get_args(Status)


@dataclass(frozen=True)
class Recipe:
    """All that decides a picture, as JSON values."""

    model: str
    weights_sha256: str
    layer: str
    objective: str
    config: dict[str, Any]
    batch_size: int
    replicas: int = 1  # that ascend together; more than 1 only where the objective couples them
    initial_images_sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Recipe:
        """The inverse of `to_json`.

        Raises:
            TypeError: missing or unknown fields, or values of the wrong type.
        """
        recipe = cls(**values)
        texts = (
            recipe.model,
            recipe.weights_sha256,
            recipe.layer,
            recipe.objective,
            recipe.initial_images_sha256 or "",
        )
        if not (all(isinstance(text, str) for text in texts) and isinstance(recipe.config, dict)):
            raise TypeError("a recipe's names are texts and its config is a table")
        if not all(isinstance(count, int) and count > 0 for count in (recipe.batch_size, recipe.replicas)):
            raise TypeError("a recipe's batch size and replicas are numbers above 0")
        return recipe

    def differences(self, other: Recipe) -> list[str]:
        """Texts such as "steps is 30 there, 64 here" for every field in which `other` (there) differs."""
        here, there = _flat(self.to_json()), _flat(other.to_json())
        names = sorted(here.keys() | there.keys())
        return [
            f"{name} is {_short(there.get(name))} there, {_short(here.get(name))} here"
            for name in names
            if here.get(name) != there.get(name)
        ]


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


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "config"} | dict(values["config"])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 24 else text[:16] + "...'"
