"""Arithmetic that results share: medians, relative differences, grey levels. Rounding: `jaxviz.bench.figures`."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxviz.bench.figures import rounded

TINY = 1e-30  # keeps a division by a score of exactly zero finite


def median(values: Sequence[float]) -> float:
    """The median to six digits."""
    return rounded(statistics.median(values))


def relative(ours: float, reference: float) -> float:
    """(ours - reference) / |reference|."""
    return rounded((ours - reference) / max(abs(reference), TINY))


def differences(ours: Sequence[float | None], reference: Sequence[float]) -> list[float]:
    """How far each score is off, relative to its reference or to the mean size where that is larger; None: infinitely.

    Before the first step scores are near zero, some by accident very near.
    """
    typical = statistics.fmean(map(abs, reference))
    return [
        float("inf") if a is None else rounded(abs(a - b) / max(abs(b), typical, TINY))
        for a, b in zip(ours, reference, strict=True)
    ]


def mean_difference(ours: Sequence[float], reference: Sequence[float]) -> float:
    """How far the mean score is off, relative as above."""
    mean, typical = statistics.fmean(reference), statistics.fmean(map(abs, reference))
    return rounded((statistics.fmean(ours) - mean) / max(abs(mean), typical, TINY))


def floats(scores: Iterable[float]) -> list[float | None]:
    """float32 as the shortest text that gives it back; None where it is not finite, which JSON cannot say."""
    return [float(str(np.float32(score))) if np.isfinite(score) else None for score in scores]


def finite_floats(scores: Iterable[float]) -> list[float]:
    """The same, of scores that are finite. A worker that finds others ends, and with it what is measured."""
    found = floats(scores)
    if None in found:
        raise ValueError(f"scores that are not finite: {scores}")
    return found  # type: ignore[return-value]


def grey_levels(ours: np.ndarray, reference: np.ndarray) -> dict[str, list[Any]]:
    """For each of two times n uint8 pictures the mean and the largest difference of a pixel's colour."""
    off = np.abs(ours.astype(np.int16) - reference.astype(np.int16)).reshape(len(ours), -1)
    return {"mean": [rounded(value) for value in off.mean(axis=1).tolist()], "largest": off.max(axis=1).tolist()}
