"""The facts: figures and verdicts are those of the raw values, the tables in benchmarks/README.md are the newest."""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # `benchmarks` is not installed

from benchmarks import facts, machine, pictures, report  # noqa: E402
from benchmarks.measure import FACTS, WHOLE, batch, devices, drift, lite0, memory, numbers, start, summary  # noqa: E402
from benchmarks.measure.block import NOTHING_YET, block  # noqa: E402
from benchmarks.measure.fact import Claim, together  # noqa: E402
from benchmarks.measure.settings import CONV2, QUICK, RESULTS, TRIALS, Settings, newest  # noqa: E402
from benchmarks.workers import WorkerError  # noqa: E402

TINY = dataclasses.replace(
    QUICK,
    targets=(CONV2._replace(few_steps=1),),
    size=48,
    filters=2,
    drift_batches=(1, 2),
    lite0_batches=(2,),
    sweep=(),
)
RESULT_FILES = sorted(RESULTS.glob("*.json"))


# Real measurements, tiny


def measured(name):
    result = facts.run([name], TINY)
    entry = result["facts"][name]
    assert entry["failed"] is None
    assert [doubt for doubt in summary.problems(result) if "others used" not in doubt] == []
    return entry["raw"], entry["figures"]


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
    assert figures["`conv2_block1_1_conv`"]["over_best"] == 1.0


def test_lite0_contestants_do_the_same_work():
    raw, figures = measured("lite0")
    assert list(figures) == ["jaxviz", "plain JAX, 2 images a call"]
    assert max(case["first_off"] for case in figures.values()) <= 1e-4
    for entry in raw["contestants"].values():
        assert all(a < b for a, b in zip(entry["scores"]["first"], entry["scores"]["final"], strict=True))


# Figures, from made-up numbers

QUIET = {"own_cpu_s": 2.0, "others_cpu_s": 0.01}


def drift_raw():
    def run(dtype, scores, grey):
        return {**QUIET, "seconds": 2.0, "dtype": dtype, "final_scores": scores, "grey": grey}

    same = {"mean": [0.0, 0.0], "largest": [0, 0]}
    return {
        "targets": [
            {
                "layer": "a_conv",
                "runs": {
                    "float32, N = 4": run("float32", [1.0, 3.0], same),
                    "float32, N = 8": run("float32", [1.0, 3.2], {"mean": [0.0, 0.5], "largest": [0, 9]}),
                    "bfloat16, N = 4": run("bfloat16", [1.0, 2.8], {"mean": [1.0, 2.0], "largest": [10, 20]}),
                },
            }
        ]
    }


def memory_raw(*, peak_mb=1000.0, superlinear=1.0):
    runs = [
        {
            **QUIET,
            "way": way,
            "filters": count,
            "steps": 3,
            "seconds": 5.0 + 0.1 * count**superlinear,
            "compile_s": 4.0,
            "peak_memory_mb": 1000.0 if count < 512 else peak_mb,
            **({"render_s": 4.5 + 0.1 * count} if way == "jaxviz render" else {}),
        }
        for way in memory.WAYS
        for count in (64, 128, 256, 512)
    ]
    more = {**runs[0], "steps": 30, "seconds": 60.0}
    return {"layer": "a_conv", "usual_steps": 3, "runs": [*runs, more]}


def start_raw():
    def runs(*first):
        return [
            {**QUIET, "first_batch_s": s, "seconds": s + 5, "compile_s": s / 2, "peak_memory_mb": 9.0} for s in first
        ]

    return {"layer": "a_conv", "filters": 64, "runs": {"empty": runs(4.0, 6.0, 5.0), "warm": runs(2.0, 2.5, 3.0)}}


def lite0_raw():
    def entry(seconds, count, *, plain):
        return {
            "plain": plain,
            "compile_s": 3.0,
            "filters_measured": count,
            "scores": {"first": [0.1 + 0.01 * i for i in range(count)]},
            "runs": [{**QUIET, "seconds": seconds * factor, "peak_memory_mb": 9.0} for factor in (1.0, 1.5, 0.5)],
        }

    return {
        "layer": "a_conv",
        "filters": 64,
        "contestants": {
            "jaxviz": entry(8.0, 64, plain=False),
            "plain 16": entry(20.0, 16, plain=True),
            "plain 4": entry(16.0, 16, plain=True),
        },
    }


def batch_raw():
    def runs(*seconds):
        return [{**QUIET, "filters": 64, "steps": 6, "seconds": s, "compile_s": 0.0} for s in seconds]

    sizes = {"1": runs(6.4, 9.0, 6.0), "4": runs(7.04, 7.04, 7.04), "16": runs(12.8, 12.8, 12.8)}
    return {"targets": [{"layer": "a_conv", "auto": 4, "runs": sizes}]}


def devices_raw():
    def runs(count, seconds, scores):
        run = {**QUIET, "batch_size": 4, "devices": count, "final_scores": scores}
        return [{**run, "seconds": seconds * factor} for factor in (1.0, 1.2, 0.9)]

    grey = {"mean": [0.1, 0.0], "largest": [3, 0]}
    same = {"mean": [0.0, 0.0], "largest": [0, 0]}
    return {
        "targets": [
            {
                "layer": "a_conv",
                "runs": {
                    devices.ONE: runs(1, 6.0, [1.0, 2.0]),
                    devices.THREADS: runs(1, 6.6, [1.1, 2.0]),
                    devices.ALL: runs(2, 4.0, [1.1, 2.0]),
                },
                "grey": {
                    devices.ONE: {devices.THREADS: grey, devices.ALL: grey},
                    devices.THREADS: {devices.ONE: grey, devices.ALL: same},
                },
            }
        ]
    }


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


@pytest.mark.parametrize(("exponent", "holds"), [(1.0, True), (1.2, False)])
def test_memory_notices_time_that_is_not_linear(exponent, holds):
    figures = memory.figures(memory_raw(superlinear=exponent))
    assert memory.FACT.claims[2].verdict(figures)["holds"] is holds


@pytest.mark.parametrize(
    ("peak_mb", "flat", "small"), [(1100.0, True, True), (1101.0, False, True), (2e9 / 2**20, False, False)]
)
def test_memory_claims_at_their_borders(peak_mb, flat, small):
    figures = memory.figures(memory_raw(peak_mb=peak_mb))
    assert [claim.verdict(figures)["holds"] for claim in memory.FACT.claims[:2]] == [flat, small]


def test_start_takes_medians_and_the_share_of_the_cold_time():
    figures = start.figures(start_raw())
    assert figures["empty cache"] == {"first_batch_s": 5.0, "compile_s": 2.5, "end_s": 10.0}
    assert figures["warm cache"]["of_cold"] == 0.5


def test_lite0_is_compared_with_the_better_plain_one_and_scaled():
    figures = lite0.figures(lite0_raw())
    assert figures["plain 16"]["seconds"] == 80.0
    assert figures["plain 4"]["seconds"] == 64.0
    assert figures["jaxviz"]["times_as_fast"] == 8.0
    assert "times_as_fast" not in figures["plain 16"]


def test_lite0_notices_other_work():
    raw = lite0_raw()
    raw["contestants"]["jaxviz"]["scores"]["first"][3] += 0.001
    assert lite0.FACT.claims[1].verdict(lite0.figures(raw))["holds"] is False


def test_batch_compares_medians_per_filter():
    case = batch.figures(batch_raw())["`a_conv`"]
    assert case["s_per_filter"] == {"1": 0.1, "4": 0.11, "16": 0.2}
    assert (case["auto"], case["best"], case["over_best"]) == (4, 1, 1.1)


@pytest.mark.parametrize(("seconds", "holds"), [(7.04, True), (7.05, False)])
def test_batch_claim_at_its_border(seconds, holds):
    raw = batch_raw()
    for run in raw["targets"][0]["runs"]["4"]:
        run["seconds"] = seconds
    assert batch.FACT.claims[0].verdict(batch.figures(raw))["holds"] is holds


def test_devices_count_pictures_and_scores_that_differ():
    figures = devices.figures(devices_raw())
    every = figures[f"`a_conv`, {devices.ALL}"]
    assert (every["differing_one"], every["differing_threads"], every["times_as_fast"]) == (1, 0, 1.5)
    assert every["all_cores_differing"] == 0
    assert "differing_one" not in figures[f"`a_conv`, {devices.ONE}"]
    raw = devices_raw()
    raw["targets"][0]["runs"][devices.ALL][0]["final_scores"] = [1.1, 2.0000002]
    assert devices.figures(raw)[f"`a_conv`, {devices.ALL}"]["all_cores_differing"] == 1


def test_differences_of_scores_near_zero_are_relative_to_the_mean_size():
    assert numbers.differences([0.1, 4.4], [0.0, 4.0]) == [0.05, 0.1]


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
    assert Claim("a claim", "x", comparison, 2.0).verdict({"case": {"x": value}})["holds"] is holds


@pytest.mark.parametrize(("comparison", "case"), [("<=", "high"), ("<", "high"), (">=", "low"), (">", "low")])
def test_claim_is_judged_by_its_worst_case(comparison, case):
    verdict = Claim("a claim", "x", comparison, 5).verdict({"low": {"x": 1}, "high": {"x": 9}, "other": {"y": 0}})
    assert (verdict["case"], verdict["holds"]) == (case, False)


def test_claim_without_a_case_is_not_measured():
    verdict = Claim("a claim", "x", "<=", 5).verdict({"other": {"y": 0}})
    assert verdict["holds"] is None
    assert summary.claim_text(verdict) == "a claim: not measured"


@pytest.mark.parametrize(
    ("holds", "together_hold"),
    [([True, True], True), ([True, None], None), ([None, False], False), ([], None)],
)
def test_fact_holds_if_all_its_claims_do(holds, together_hold):
    assert together([{"holds": value} for value in holds]) is together_hold


# A whole result

RAW = {
    "drift": drift_raw,
    "memory": memory_raw,
    "start": start_raw,
    "lite0": lite0_raw,
    "batch": batch_raw,
    "devices": devices_raw,
}


def raw_result():
    return {
        "schema": summary.SCHEMA,
        "started": "2026-11-24T21:00:00+00:00",
        "finished": "2026-11-24T22:00:00+00:00",
        "git": {"hash": "0123456789abcdef", "dirty": False},
        "hardware": {"cpu": "A CPU", "cores": 2, "memory_gb": 23.5, "system": "Linux"},
        "versions": {**dict.fromkeys(machine.PACKAGES, "1.2.3"), "python": "3.11.0"},
        "environment": {},
        "load_average_at_start": 0.1,
        "forced": False,
        "settings": Settings().to_json(),
        "material": {},
        "facts": {name: {"failed": None, "raw": RAW[name](), "took_s": 60.0} for name in FACTS},
    }


@pytest.fixture
def made_up():
    return summary.summarise(raw_result())


def test_made_up_result_has_no_problems_and_survives_json(made_up):
    assert summary.problems(json.loads(json.dumps(made_up))) == []
    assert summary.broken(made_up) == []
    assert all(entry["holds"] is True for entry in made_up["facts"].values())


def edit_figure(result):
    result["facts"]["batch"]["figures"]["`a_conv`"]["over_best"] = 1.0


def edit_verdict(result):
    result["facts"]["drift"]["claims"][0]["measured"] = 0.01


def edit_limit(result):
    result["facts"]["drift"]["claims"][0]["limit"] = 0.5


def drop_settings(result):
    del result["settings"]


def force(result):
    result["forced"] = True


@pytest.mark.parametrize("spoil", [edit_figure, edit_verdict, edit_limit, drop_settings, force])
def test_problems_notice(made_up, spoil):
    spoil(made_up)
    assert len(summary.problems(made_up)) == 1


def test_problems_notice_a_busy_machine():
    raw = raw_result()
    for run in raw["facts"]["batch"]["raw"]["targets"][0]["runs"]["1"]:
        run["others_cpu_s"] = run["seconds"]
    (problem,) = summary.problems(summary.summarise(raw))
    assert problem.startswith("batch was measured while others used")


def failed_result():
    raw = raw_result()
    raw["facts"]["drift"] |= {"failed": "renderer ended with exit code 1:\na traceback", "raw": None}
    return summary.summarise(raw)


def test_failed_fact_is_a_problem_and_holds_nothing():
    result = failed_result()
    assert summary.problems(result) == ["drift failed: renderer ended with exit code 1:\na traceback"]
    assert result["facts"]["drift"]["holds"] is None


def test_text_names_every_fact_and_claim(made_up):
    text = summary.as_text(made_up)
    for fact in FACTS.values():
        assert fact.title in text
        assert all(claim.text in text for claim in fact.claims)


def test_broken_claims_are_named():
    raw = raw_result()
    raw["facts"]["memory"]["raw"] = memory_raw(peak_mb=1500.0)
    (broken,) = summary.broken(summary.summarise(raw))
    assert broken.startswith("memory: peak memory is flat")
    assert "does NOT hold (+50.0%: `iter_render`, 512 filters)" in broken


# The command


def test_facts_refuse_a_busy_machine(monkeypatch, capsys):
    monkeypatch.setattr(machine, "load_average", lambda: 0.9)
    assert facts.main(["--quick"]) == facts.EXIT_REFUSED
    assert "load average is 0.90" in capsys.readouterr().err


def test_facts_refuse_a_name_that_is_none(capsys):
    with pytest.raises(SystemExit) as stop:
        facts.main(["speed"])
    assert stop.value.code == facts.EXIT_REFUSED
    assert "'speed' is no fact" in capsys.readouterr().err


@pytest.fixture
def written(monkeypatch):
    """(settings, folder) of runs whose measurements are made up."""
    calls = []
    result = summary.summarise(raw_result())

    def run(names, settings, *, forced):
        result["facts"] = {name: result["facts"][name] for name in names}
        calls.append([settings])
        return result

    monkeypatch.setattr(machine, "load_average", lambda: 0.0)
    monkeypatch.setattr(facts, "run", run)
    monkeypatch.setattr(facts, "write", lambda _, folder: calls[-1].append(folder))
    return calls


@pytest.mark.parametrize(
    ("arguments", "settings", "folder"),
    [
        ([], Settings(), RESULTS),
        (list(WHOLE), Settings(), RESULTS),
        (["batch"], Settings(), TRIALS),
        (["--quick"], QUICK, TRIALS),
    ],
)
def test_only_whole_runs_are_results(written, arguments, settings, folder):
    assert facts.main(arguments) == 0
    assert written == [[settings, folder]]


def test_exit_code_is_1_if_a_claim_does_not_hold(written, monkeypatch):
    monkeypatch.setattr(summary, "broken", lambda _: ["batch: too slow"])
    assert facts.main([]) == facts.EXIT_BROKEN == 1


def test_failing_fact_does_not_stop_the_others(monkeypatch):
    def fail(_):
        raise WorkerError("out of memory")

    monkeypatch.setitem(FACTS, "drift", dataclasses.replace(drift.FACT, measure=fail))
    monkeypatch.setitem(FACTS, "batch", dataclasses.replace(batch.FACT, measure=lambda _: batch_raw()))
    result = facts.run(["drift", "batch"], TINY)
    assert result["facts"]["drift"]["failed"] == "out of memory"
    assert result["facts"]["batch"]["holds"] is True


# The report


def test_block_holds_every_row_and_verdict(made_up):
    text = block(made_up, "a.json")
    for name, entry in made_up["facts"].items():
        for row in FACTS[name].table(entry["figures"]):
            assert f"| {' | '.join(row)} |" in text
        for claim in entry["claims"]:
            assert summary.claim_text(claim)[1:] in text


def test_block_is_deterministic_and_names_its_source(made_up):
    text = block(json.loads(json.dumps(made_up)), "a.json")
    assert text == block(copy.deepcopy(made_up), "a.json")
    assert "[a.json](facts/a.json)" in text


def test_block_says_what_failed():
    assert "\nFailed: renderer ended with exit code 1:\n" in block(failed_result(), "a.json")


def test_report_works_without_any_result(monkeypatch, tmp_path, capsys):
    readme = tmp_path / "README.md"
    marked = [(report.FACTS_BEGIN, report.FACTS_END), (report.PICTURES_BEGIN, report.PICTURES_END)]
    readme.write_text("above\n" + "".join(f"{begin}\nold\n{end}\n" for begin, end in marked))
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(report, "FACTS_README", readme)
    monkeypatch.setattr(report, "newest", lambda *_: None)
    monkeypatch.setattr(report.facts_settings, "newest", lambda: None)
    assert report.main(["--check"]) == 1
    assert report.main([]) == 0
    assert report.main(["--check"]) == 0
    assert NOTHING_YET in readme.read_text()
    assert pictures.NOTHING_YET in readme.read_text()
    assert "run: python -m benchmarks.race" in capsys.readouterr().err


# What is committed


def test_readme_holds_the_newest_facts():
    path = newest()
    shown = report.FACTS_README.read_text().split(report.FACTS_BEGIN)[1].split(report.FACTS_END)[0].strip()
    assert shown == (NOTHING_YET if path is None else block(json.loads(path.read_text()), path.name))


@pytest.mark.parametrize("path", RESULT_FILES, ids=lambda path: path.name)
def test_facts_file_can_be_trusted(path):
    assert summary.problems(json.loads(path.read_text())) == []


def test_newest_facts_are_all_of_them():
    if not RESULT_FILES:
        pytest.skip("there is no facts file yet: python -m benchmarks.facts")
    assert list(json.loads(newest().read_text())["facts"]) == list(WHOLE)
