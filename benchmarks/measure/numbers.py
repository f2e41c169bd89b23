"""Arithmetic that the facts share: relative differences, grey levels, rounding."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

TINY = 1e-30  # keeps a division by a score of exactly zero finite


def six_digits(value: float) -> float:
    """Six significant digits: more are noise."""
    return float(f"{value:.6g}")


def median(values: Sequence[float]) -> float:
    """The median to six digits."""
    return six_digits(statistics.median(values))


def relative(ours: float, reference: float) -> float:
    """(ours - reference) / |reference|."""
    return six_digits((ours - reference) / max(abs(reference), TINY))


def differences(ours: Sequence[float], reference: Sequence[float]) -> list[float]:
    """How far each score is off, relative to its reference or to the mean size where that is larger.

    Before the first step scores are near zero, some by accident very near.
    """
    typical = statistics.fmean(map(abs, reference))
    pairs = zip(ours, reference, strict=True)
    return [six_digits(abs(a - b) / max(abs(b), typical, TINY)) for a, b in pairs]


def grey_levels(ours: np.ndarray, reference: np.ndarray) -> dict[str, list[Any]]:
    """For each of two times n uint8 pictures the mean and the largest difference of a pixel's colour."""
    off = np.abs(ours.astype(np.int16) - reference.astype(np.int16)).reshape(len(ours), -1)
    return {"mean": [six_digits(value) for value in off.mean(axis=1).tolist()], "largest": off.max(axis=1).tolist()}
