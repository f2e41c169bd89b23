"""What is found of pictures beside natural images, as records have it. No jax."""

from __future__ import annotations

from msgspec import Struct


class Judged(Struct, frozen=True, kw_only=True):
    """How a picture stands beside natural images; None where that is not known.

    Attributes:
        judged_score: the score of the saved picture.
        percentile: of `judged_score` among the filter's scores on natural images, 0 to 100.
        rank: of the filter among the layer's filters on this picture, from 1.
    """

    judged_score: float | None = None
    percentile: float | None = None
    rank: int | None = None


class Natural(Struct, frozen=True):
    """The natural images that pictures were put beside."""

    source: str
    sha256: str
    count: int
