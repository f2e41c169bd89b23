"""Settings of JAX that a user may have made for the rest of their program do not change a bit of a picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import helpers_settings
import pytest


def hashes(**settings: str) -> dict[str, str]:
    """`helpers_settings.hashes` in a process of its own."""
    command = [sys.executable, helpers_settings.__file__]
    root = Path(__file__).parents[2]
    paths = os.pathsep.join(map(str, (root, root / "tests", root / "tests" / "helpers")))
    environment = os.environ | {"PYTHONPATH": paths} | settings
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def usual() -> dict[str, str]:
    return hashes()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JAX_ENABLE_X64", "1"),
        ("JAX_NUMPY_RANK_PROMOTION", "raise"),
        ("JAX_THREEFRY_PARTITIONABLE", "0"),
    ],
)
def test_pictures_do_not_depend_on_a_setting(usual, name, value):
    assert hashes(**{name: value}) == usual


def test_every_parameterization_optimizer_and_transform_is_among_the_cases():
    from jaxviz.ascent.optimizers import OPTIMIZERS
    from jaxviz.ascent.parameterizations import PARAMETERIZATIONS
    from jaxviz.ascent.transforms import BY_NAME

    configs = [config for config, _ in helpers_settings.CASES.values()]
    assert {config.parameterization for config in configs} == set(PARAMETERIZATIONS)
    assert {config.optimizer for config in configs} == set(OPTIMIZERS)
    assert {name for config in configs for name, *_ in config.transforms} == set(BY_NAME)
