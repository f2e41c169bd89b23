"""The contestants in bfloat16, each in its own process, beside their float32 forms."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest
from helpers_cli import run_python
from helpers_tiers import needs

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # `benchmarks` is not installed

from benchmarks import material  # noqa: E402
from benchmarks.contestants import ENTRIES  # noqa: E402
from benchmarks.measure import race  # noqa: E402
from benchmarks.numbers import differences  # noqa: E402
from benchmarks.processes import Worker  # noqa: E402
from benchmarks.settings import FLOAT32_FORMS, LAYERS, MODEL, Settings, Task  # noqa: E402

FILTERS, SIZE = 4, 64
SETTINGS = Settings(torch_batches=(2, 4, 8))


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    material.make(folder=str(folder), model=MODEL, weights_seed=0, filters=FILTERS, size=SIZE)
    files = {"weights": str(folder / material.WEIGHTS), "starts": str(folder / material.STARTS)}
    return msgspec.to_builtins(Task(**files, size=SIZE, steps=2, batch=2))


@pytest.fixture(scope="module")
def raced(task, tmp_path_factory):
    """What a contestant prepared and measured at the first layer, once."""

    @cache
    def race_once(name):
        told = {"kind": name, "task": task, "arguments": race._told(name, SETTINGS)}
        with Worker(name, tmp_path_factory.mktemp(name), ENTRIES[name].environment) as worker:
            reason = worker.ask("contestants.timed.build", **told)["unavailable"]
            if reason is not None:
                pytest.skip(f"{name}: {reason}")
            prepared = worker.ask("contestants.timed.prepare", **told, layer=LAYERS[0])
            return prepared, worker.ask("contestants.timed.measure", **told, filters=list(range(FILTERS)))

    return race_once


@pytest.fixture(params=["tensorflow_bfloat16", "pytorch_bfloat16"])
def pair(request, raced):
    """Both forms of a contestant: float32, bfloat16."""
    return raced(FLOAT32_FORMS[request.param]), raced(request.param)


@needs("tensorflow", "torch")
def test_bfloat16_starts_near_the_scores_of_float32_and_not_at_them(pair):
    (_, float32), (_, bfloat16) = pair
    worst = max(differences(bfloat16["first_scores"], float32["first_scores"]))
    assert 1e-5 < worst < 5e-2


@needs("tensorflow", "torch")
def test_bfloat16_raises_the_scores_as_float32_does(pair):
    (_, float32), (_, bfloat16) = pair
    assert np.all(np.array(bfloat16["final_scores"]) > bfloat16["first_scores"])
    assert max(differences(bfloat16["final_scores"], float32["final_scores"])) < 5e-2


@needs("torch")
def test_torch_races_with_the_fastest_of_its_sizes(raced):
    prepared, _ = raced("pytorch")
    probe = prepared["probe"]
    assert list(probe) == ["2 a call", "4 a call"], "8 a call is more than there are filters"
    best = min(probe, key=lambda form: probe[form]["image_step_s"])
    assert prepared["form"] == best.replace("a call", "images a call")
    assert prepared["images_per_call"] == int(best.split()[0])


@needs("keras")
def test_dtype_policy_ends_with_the_network_that_has_it():
    said = run_python(
        "import os; os.environ['KERAS_BACKEND'] = 'jax'\n"
        "import keras\n"
        "from benchmarks.contestants.keras_network import _dtype_policy\n"
        "with _dtype_policy('mixed_bfloat16'):\n"
        "    layer = keras.layers.Dense(1)\n"
        "print(layer.compute_dtype, layer.variable_dtype, keras.config.dtype_policy().name)",
        cwd=ROOT,
    )
    assert said.split() == ["bfloat16", "float32", "float32"]
