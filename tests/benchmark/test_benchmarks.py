"""The race: everybody does the same work, and the figures are those of the seconds."""

from __future__ import annotations

import copy
import statistics
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # `benchmarks` is not installed

from helpers_facts import race_raw, result_of  # noqa: E402

from benchmarks import facts  # noqa: E402
from benchmarks.measure import race, race_table, summary  # noqa: E402
from benchmarks.measure.contest import filters_measured  # noqa: E402
from benchmarks.processes import Worker, WorkerError  # noqa: E402
from benchmarks.settings import LAYERS, Settings  # noqa: E402

FLOAT32 = ("keras", "tensorflow_batched", "plain_jax", "pytorch", "jaxviz_float32")
LAYER = "conv2_block1_1_conv"


# A real race, tiny


@pytest.fixture(scope="module")
def tiny():
    for package in ("tensorflow", "torch"):
        pytest.importorskip(package, reason=f"the race needs {package}: pip install -e '.[dev]'")
    settings = Settings(race_layers=(LAYER,), contestants=FLOAT32, rounds=1, filters=2, steps=1, size=64, race_batch=2)
    return facts.run(["race"], settings)


def tiny_entry(result, name):
    about = result.facts["race"].raw["contestants"][name]
    assert about["available"], about["reason"]
    return race_table.at_layers(result)[LAYER][name]


@pytest.mark.long
@pytest.mark.parametrize("name", FLOAT32)
def test_contestant_starts_from_the_scores_of_keras(tiny, name):
    entry = tiny_entry(tiny, name)
    assert entry["scores_against_keras"]["filters_compared"] == 2
    assert entry["scores_against_keras"]["first_worst"] <= 1e-4


@pytest.mark.long
@pytest.mark.parametrize("name", FLOAT32)
def test_contestant_raises_the_scores_as_keras_does(tiny, name):
    entry = tiny_entry(tiny, name)
    assert all(final > first for first, final in zip(entry["scores"]["first"], entry["scores"]["final"], strict=True))
    assert entry["scores_against_keras"]["final_worst"] <= 1e-3


@pytest.mark.long
def test_tiny_race_is_complete(tiny):
    assert [doubt for doubt in summary.problems(tiny) if "while others used" not in doubt] == []
    assert summary.broken(tiny) == []


def test_worker_that_dies_says_why(tmp_path):
    task = {"weights": "nowhere", "starts": "nowhere", "size": 64, "steps": 1, "batch": 1}
    with (
        Worker("jaxviz_float32", tmp_path) as worker,
        pytest.raises(WorkerError, match=r"(?s)jaxviz_float32 ended with exit code 1.*nowhere"),
    ):
        worker.ask("contestants.timed.build", kind="jaxviz_float32", task=task, arguments={})


def test_contestant_without_its_package_says_so(tmp_path, monkeypatch):
    from benchmarks import contestants
    from benchmarks.contestants import timed

    monkeypatch.setitem(contestants.ENTRIES, "keras", contestants.Entry("", "", "", ("no_such_package",)))
    task = {"weights": "", "starts": "", "size": 64, "steps": 1, "batch": 1}
    answer = timed.build(kind="keras", task=task, arguments={})
    assert answer == {"unavailable": "the package no_such_package is not installed"}


# Figures, from made-up seconds


@pytest.fixture
def made_up():
    return result_of("race", race_raw())


def problems_of(raw):
    return summary.problems(result_of("race", raw))


def test_made_up_race_has_no_problems(made_up):
    assert summary.problems(made_up) == []
    assert summary.broken(made_up) == []


def test_fewer_filters_are_scaled_to_all(made_up):
    entry = race_table.at_layers(made_up)[LAYERS[1]]["keras"]
    assert (entry["filters_measured"], entry["scaled"]) == (16, True)
    assert entry["median_s"] == pytest.approx(4 * statistics.median(run["seconds"] for run in entry["runs"]), rel=1e-5)


def test_flops_are_four_per_multiply_add(made_up):
    entry = race_table.at_layers(made_up)[LAYERS[0]]["keras"]
    assert entry["gflops"] == pytest.approx(4 * 64 * 30 / entry["median_s"], rel=1e-5)
    assert entry["fraction_of_dot_rate"] == pytest.approx(entry["gflops"] / 210, rel=1e-5)


def test_problems_notice_a_run_that_is_missing():
    raw = race_raw()
    raw["layers"][LAYERS[2]]["contestants"]["plain_jax"]["runs"].pop()
    assert problems_of(raw) == [f"race: {LAYERS[2]}: plain_jax was not measured 5 times"]


def test_problems_notice_a_contestant_that_failed():
    raw = race_raw()
    raw["contestants"]["pytorch"] |= {"available": False, "reason": "failed: out of memory"}
    assert problems_of(raw) == ["race: pytorch failed: out of memory"]


def test_other_work_is_no_race():
    raw = race_raw()
    entry = raw["layers"][LAYERS[2]]["contestants"]["plain_jax"]
    entry["scores"] = copy.deepcopy(entry["scores"])
    entry["scores"]["first"][3] += 0.001
    (broken,) = summary.broken(result_of("race", raw))
    assert broken.startswith("race: all do the same work")
    assert f"`{LAYERS[2]}`, plain_jax" in broken


def test_problems_notice_a_busy_machine():
    raw = race_raw()
    for run in raw["layers"][LAYERS[2]]["contestants"]["plain_jax"]["runs"]:
        run["others_cpu_s"] = 0.3 * run["seconds"]
    assert f"race: {LAYERS[2]}: plain_jax was measured while others used 15% of the machine" in problems_of(raw)


def test_slow_contestants_run_fewer_filters():
    settings = Settings()
    assert filters_measured(settings, 0.5, 1) == 64
    assert filters_measured(settings, 2.0, 1) == 8
    assert filters_measured(settings, 2.0, 8) == 16
    assert filters_measured(settings, 2.0, 32) == 32


def test_compile_clock_counts_nested_events_once():
    from benchmarks.clock import CompileClock

    clock = CompileClock()
    clock._spans = [(3.0, 4.0), (1.0, 2.0), (0.0, 2.0)]
    assert clock.seconds() == 3.0


def test_first_scores_of_the_race_are_held_to_tolerances():
    limits = {claim.figure: claim.limit for claim in race.FACT.claims}
    assert (limits["float32_first_off"], limits["bfloat16_first_off"]) == (1e-4, 5e-2)
