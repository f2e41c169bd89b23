"""Which tests run when: cases of large tables, and what needs a framework that may not be there."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterable
from typing import Any

import pytest


def thinned(names: str, *axes: Iterable[Any], every: int) -> pytest.MarkDecorator:
    """`parametrize` over all combinations of the axes: one in so many by default, the others in the long set.

    A value of an axis that none of those by default has brings its first combination in too.
    """
    cases = list(itertools.product(*map(list, axes)))
    chosen = set(range(0, len(cases), every))
    for axis in range(len(cases[0])):
        for place, case in enumerate(cases):
            if not any(cases[other][axis] == case[axis] for other in chosen):
                chosen.add(place)
    params = [
        pytest.param(*case, marks=[] if place in chosen else [pytest.mark.long]) for place, case in enumerate(cases)
    ]
    return pytest.mark.parametrize(names.split(", "), params)


def needs(*packages: str) -> pytest.MarkDecorator:
    """Skip, and say so, where a framework that is compared with is not installed; it is not imported for that."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}: pip install -e '.[dev]'")
