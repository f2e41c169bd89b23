"""Real measurements of the facts, tiny."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # `benchmarks` is not installed

from helpers_facts import TINY  # noqa: E402

from benchmarks import facts  # noqa: E402
from benchmarks.measure import summary  # noqa: E402

pytestmark = pytest.mark.long


def measured(name):
    result = facts.run([name], TINY)
    entry = result.facts[name]
    assert entry.failed is None
    assert [doubt for doubt in summary.problems(result) if "others used" not in doubt] == []
    return entry.raw, entry.figures


def test_drift_compares_dtype_and_batch_size_with_one_reference():
    raw, figures = measured("drift")
    runs = raw["targets"][0]["runs"]
    assert [(run["dtype"], run["batch_size"]) for run in runs.values()] == [
        ("float32", 1),
        ("float32", 2),
        ("bfloat16", 1),
    ]
    assert runs["float32, N = 1"]["final_scores"] != runs["bfloat16, N = 1"]["final_scores"]
    bfloat16 = figures["`conv2_block1_1_conv`, bfloat16, N = 1"]
    assert 0 < bfloat16["filter_worst"] < 0.1
    assert bfloat16["bfloat16_off"] == abs(bfloat16["off"])


def test_batch_measures_the_automatic_choice_among_the_others():
    raw, figures = measured("batch")
    (target,) = raw["targets"]
    assert list(target["runs"]) == [str(target["auto"])]
    (run,) = target["runs"][str(target["auto"])]
    assert run["filters"] % target["auto"] == 0
    assert run["compile_s"] < 0.5 * run["seconds"], "compiled during a measurement"
    assert figures["`conv2_block1_1_conv`, 64 px"]["over_best"] == 1.0


def test_pictures_of_both_presets_are_judged():
    raw, figures = measured("pictures")
    assert [entry["preset"] for entry in raw["entries"]] == ["keras", "distill"]
    assert all(row["percentile"] is not None for entry in raw["entries"] for row in entry["filters"])
    assert list(figures) == ["`block2_1_expand_conv` | keras", "`block2_1_expand_conv` | distill"]


def test_start_finds_the_first_picture_sooner_than_the_end():
    raw, figures = measured("start")
    assert list(figures) == ["empty cache", "warm cache"]
    assert all(0 < run["first_batch_s"] < run["seconds"] for runs in raw["runs"].values() for run in runs)


def test_lite0_contestants_do_the_same_work():
    raw, figures = measured("lite0")
    assert list(figures) == ["jaxviz", "plain JAX, 2 images a call"]
    assert max(case["first_off"] for case in figures.values()) <= 1e-4
    for entry in raw["contestants"].values():
        assert all(a < b for a, b in zip(entry["scores"]["first"], entry["scores"]["final"], strict=True))
