"""What a visit measures: generator functions of (settings, folder with weights and starts), each in its own process."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


class RefusedError(Exception):
    """The whole visit makes no sense on this machine; the message says what to do."""


def floats(values: Iterable[float]) -> list[float | None]:
    """float32 as the shortest text that gives it back; None where it is not finite, which JSON cannot say."""
    return [float(str(np.float32(value))) if np.isfinite(value) else None for value in values]
