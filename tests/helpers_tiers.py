"""Which cases of a large table stand in the default set, and which only in the long one."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest


def thinned(names: str, *axes: Iterable[Any], every: int, ids: Any = None) -> pytest.MarkDecorator:
    """`parametrize` over all combinations of the axes: one in so many by default, the others in the long set.

    Where `every` divides no axis's length, each value of each axis comes up among those by default.
    """
    cases = [
        pytest.param(*values, marks=[] if place % every == 0 else [pytest.mark.long])
        for place, values in enumerate(itertools.product(*axes))
    ]
    return pytest.mark.parametrize(names.split(", "), cases, ids=ids)
