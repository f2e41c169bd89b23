"""The facts: figures and verdicts are those of the raw values, the tables in benchmarks/README.md are the newest."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # `benchmarks` is not installed

from helpers_facts import (  # noqa: E402
    batch_raw,
    drift_raw,
    failed_result,
    keras_parity_raw,
    keras_raw,
    lite0_raw,
    memory_raw,
    raw_result,
    result_of,
    start_raw,
)
from msgspec.structs import replace  # noqa: E402

from benchmarks import numbers  # noqa: E402
from benchmarks.measure import batch, drift, keras_networks, keras_parity, lite0, memory, start, summary  # noqa: E402
from benchmarks.measure.fact import Claim  # noqa: E402
from benchmarks.records import Result, Verdict, write_new  # noqa: E402

pytestmark = pytest.mark.quick


def test_drift_is_relative_to_the_first_run():
    figures = drift.figures(drift_raw())
    assert figures["`a_conv`, float32, N = 4"] == {"mean_score": 2.0}
    assert figures["`a_conv`, float32, N = 8"] == {
        "mean_score": 2.1,
        "off": 0.05,
        "filter_median": pytest.approx(0.1 / 3, rel=1e-5),
        "filter_worst": pytest.approx(0.2 / 3, rel=1e-5),
        "grey_mean": 0.25,
        "grey_median": 4.5,
        "grey_worst": 9,
    }
    assert figures["`a_conv`, bfloat16, N = 4"]["off"] == -0.05
    assert figures["`a_conv`, bfloat16, N = 4"]["bfloat16_off"] == 0.05


def test_memory_leaves_compilation_out_of_the_seconds():
    figures = memory.figures(memory_raw())
    assert figures["`iter_render`, 64 filters"]["loop_s"] == pytest.approx(5.0 + 6.4 - 4.0)
    assert figures["`jaxviz render`, 64 filters"]["loop_s"] == pytest.approx(4.5 + 6.4 - 4.0)
    assert figures["`iter_render`, 512 filters"]["peak_gb"] == pytest.approx(1000 * 2**20 / 1e9, rel=1e-5)


def test_memory_of_more_steps_is_held_against_that_of_few():
    raw = memory_raw()
    raw["runs"][-1]["peak_memory_mb"] = 1200.0
    case = memory.figures(raw)["`iter_render`, 64 filters, 30 steps"]
    assert case["peak_rise"] == pytest.approx(0.2)
    assert "time_off" not in case


def test_memory_takes_the_largest_peak_and_the_median_time_of_all_rounds():
    raw = memory_raw()
    first = raw["runs"][0]
    raw["runs"] += [first | {"seconds": 90.0}, first | {"seconds": first["seconds"] + 1.0, "peak_memory_mb": 1100.0}]
    case = memory.figures(raw)["`iter_render`, 64 filters"]
    assert case["loop_s"] == pytest.approx(5.0 + 6.4 - 4.0 + 1.0)
    assert case["peak_gb"] == pytest.approx(1100 * 2**20 / 1e9, rel=1e-5)


@pytest.mark.parametrize(("exponent", "holds"), [(1.0, True), (1.2, False)])
def test_memory_notices_time_that_is_not_linear(exponent, holds):
    figures = memory.figures(memory_raw(superlinear=exponent))
    assert memory.FACT.claims[2].verdict(figures).holds is holds


@pytest.mark.parametrize(
    ("peak_mb", "flat", "small"), [(1100.0, True, True), (1101.0, False, True), (2e9 / 2**20, False, False)]
)
def test_memory_claims_at_their_borders(peak_mb, flat, small):
    figures = memory.figures(memory_raw(peak_mb=peak_mb))
    assert [claim.verdict(figures).holds for claim in memory.FACT.claims[:2]] == [flat, small]


def test_start_takes_medians_and_the_share_of_the_cold_time():
    figures = start.figures(start_raw())
    assert figures["empty cache"] == {"first_batch_s": 5.0, "compile_s": 2.5, "end_s": 10.0}
    assert figures["warm cache"]["of_cold"] == 0.5


def test_keras_networks_are_compared_round_by_round():
    figures = keras_networks.figures(keras_raw())
    assert figures["ANet | `a_conv`"]["times_as_fast"] == 3.0
    assert figures["ANet | `a_conv`"]["ms"] == 100.0
    assert figures["all of these | median"] == {"median_times": 3.0}
    assert figures["BNet | every layer"] == {"layers": 7, "convolutions": 3, "slow": 0}


def test_keras_networks_notice_a_slow_layer_and_a_missing_rule():
    figures = keras_networks.figures(keras_raw(slow=["a_conv: dilated"], autodiff=(0.9, 0.9, 0.9)))
    held = {claim.figure: claim.verdict(figures).holds for claim in keras_networks.FACT.claims}
    assert held == {
        "median_times": False, "times_as_fast": False, "slow": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("gradient_off", "rounding_off", "holds"), [(9e-3, 0, True), (2e-2, 0, False), (2e-2, 1e-2, True)]
)
def test_gradient_may_differ_as_much_as_keras_own_moves_by_rounding(gradient_off, rounding_off, holds):
    figures = keras_parity.figures(keras_parity_raw(gradient_off=gradient_off, rounding_off=rounding_off))
    assert [claim.verdict(figures).holds for claim in keras_parity.FACT.claims] == [True, holds]


def test_lite0_is_compared_with_the_better_plain_one_and_scaled():
    figures = lite0.figures(lite0_raw())
    assert figures["plain 16"]["seconds"] == 80.0
    assert figures["plain 4"]["seconds"] == 64.0
    assert figures["jaxviz"]["times_as_fast"] == 8.0
    assert "times_as_fast" not in figures["plain 16"]


def test_lite0_notices_other_work():
    raw = lite0_raw()
    raw["contestants"]["jaxviz"]["scores"]["first"][3] += 0.001
    assert lite0.FACT.claims[1].verdict(lite0.figures(raw)).holds is False


def test_batch_shows_medians_per_filter():
    case = batch.figures(batch_raw())["`a_conv`, 180 px"]
    assert case["s_per_filter"] == {"1": 0.1, "4": 0.11, "16": 0.2}
    assert (case["auto"], case["best"], case["over_best"]) == (4, 1, 1.1)


def test_batch_compares_within_rounds_on_a_machine_that_drifts():
    raw = batch_raw()
    runs = raw["targets"][0]["runs"]
    for run_1, run_4, seconds in zip(runs["1"], runs["4"], (6.0, 12.0, 18.0), strict=True):
        run_1["seconds"], run_4["seconds"] = seconds, 1.05 * seconds
    runs["4"][2]["seconds"] = 9.0
    assert batch.figures(raw)["`a_conv`, 180 px"]["over_best"] == 1.05


@pytest.mark.parametrize(("seconds", "holds"), [(7.04, True), (7.05, False)])
def test_batch_claim_at_its_border(seconds, holds):
    raw = batch_raw()
    for run in raw["targets"][0]["runs"]["4"]:
        run["seconds"] = seconds
    assert batch.FACT.claims[0].verdict(batch.figures(raw)).holds is holds


def test_differences_of_scores_near_zero_are_relative_to_the_mean_size():
    assert numbers.differences([0.1, 4.4, None], [0.0, 4.0, 2.0]) == [0.05, 0.1, float("inf")]


def test_grey_levels_are_per_picture_and_signless():
    reference = np.array([[[[0, 10, 255]]], [[[7, 7, 7]]]], np.uint8)
    ours = np.array([[[[255, 10, 249]]], [[[7, 7, 7]]]], np.uint8)
    assert numbers.grey_levels(ours, reference) == {"mean": [87.0, 0.0], "largest": [255, 0]}


# Verdicts


@pytest.mark.parametrize(
    ("comparison", "value", "holds"),
    [
        ("<=", 2.0, True),
        ("<=", 2.1, False),
        ("<", 2.0, False),
        ("<", 1.9, True),
        (">=", 2.0, True),
        (">=", 1.9, False),
        (">", 2.0, False),
    ],
)
def test_claim_at_its_border(comparison, value, holds):
    assert Claim("a claim", "x", comparison, 2.0).verdict({"case": {"x": value}}).holds is holds


@pytest.mark.parametrize(("comparison", "case"), [("<=", "high"), ("<", "high"), (">=", "low"), (">", "low")])
def test_claim_is_judged_by_its_worst_case(comparison, case):
    verdict = Claim("a claim", "x", comparison, 5).verdict({"low": {"x": 1}, "high": {"x": 9}, "other": {"y": 0}})
    assert (verdict.case, verdict.holds) == (case, False)


def test_claim_without_a_case_is_not_measured():
    verdict = Claim("a claim", "x", "<=", 5).verdict({"other": {"y": 0}})
    assert verdict.holds is None
    assert summary.claim_text(verdict) == "a claim: not measured"


@pytest.mark.parametrize(
    ("holds", "together_hold"),
    [([True, True], True), ([True, None], None), ([None, False], False), ([], None)],
)
def test_fact_holds_if_all_its_claims_do(holds, together_hold):
    verdicts = tuple(Verdict(text="", figure="", comparison="<", limit=0, style="", holds=value) for value in holds)
    assert summary.together(verdicts) is together_hold


@pytest.fixture
def made_up():
    return summary.summarise(raw_result())


def test_made_up_result_has_no_problems_and_survives_its_file(made_up, tmp_path):
    path = write_new(tmp_path, made_up, started=made_up.started, commit_hash=made_up.git.hash)
    assert path.name == "2026-11-24T21-00-00Z-0123456.json"
    read = summary.read(path)
    assert read == made_up
    assert summary.problems(read) == []
    assert summary.broken(made_up) == []
    undecided = {name for name, entry in made_up.facts.items() if entry.holds is not True}
    assert undecided == {"pictures"}  # without claims
    with pytest.raises(FileExistsError):
        write_new(tmp_path, made_up, started=made_up.started, commit_hash=made_up.git.hash)


def test_result_without_its_settings_is_none(made_up):
    values = msgspec.to_builtins(made_up)
    del values["settings"]
    with pytest.raises(msgspec.ValidationError, match="settings"):
        msgspec.convert(values, Result)


def edit_figure(facts):
    facts["batch"]["figures"]["`a_conv`, 180 px"]["over_best"] = 1.0


def edit_verdict(facts):
    facts["drift"]["claims"][0]["measured"] = 0.01


def edit_limit(facts):
    facts["drift"]["claims"][0]["limit"] = 0.5


@pytest.mark.parametrize("spoil", [edit_figure, edit_verdict, edit_limit])
def test_problems_notice(made_up, spoil):
    values = msgspec.to_builtins(made_up)
    spoil(values["facts"])
    (problem,) = summary.problems(msgspec.convert(values, Result))
    assert problem == "figures or verdicts are not those of the raw values"


def test_problems_notice_a_result_that_was_forced(made_up):
    (problem,) = summary.problems(replace(made_up, forced=True))
    assert problem.startswith("the machine was busy at the start")


def test_problems_notice_a_busy_machine():
    raw = batch_raw()
    for run in raw["targets"][0]["runs"]["1"]:
        run["others_cpu_s"] = run["seconds"]
    (problem,) = summary.problems(result_of("batch", raw))
    assert problem.startswith("batch was measured while others used")


def test_failed_fact_is_a_problem_and_holds_nothing():
    result = failed_result()
    assert summary.problems(result) == ["drift failed: worker ended with exit code 1:\na traceback"]
    assert result.facts["drift"].holds is None


def test_broken_claims_are_named():
    (broken,) = summary.broken(result_of("memory", memory_raw(peak_mb=1500.0)))
    assert broken.startswith("memory: peak memory is flat")
    assert "does NOT hold (+50.0%: `iter_render`, 512 filters)" in broken
