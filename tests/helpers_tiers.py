"""Which tests run when: cases of large tables, and what needs a framework that may not be there."""

from __future__ import annotations

import importlib.util
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


def needs(*packages: str) -> pytest.MarkDecorator:
    """Skip, and say so, where a framework that is compared with is not installed; it is not imported for that."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}: pip install -e '.[dev]'")
