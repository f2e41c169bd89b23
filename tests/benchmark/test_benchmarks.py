"""The race: everybody does the same work, the figures are those of the seconds, the README is the newest result's."""

from __future__ import annotations

import copy
import json
import re
import statistics
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # `benchmarks` is not installed

from helpers_facts import race_raw, result_of  # noqa: E402
from msgspec.structs import replace  # noqa: E402

from benchmarks import facts, old, report  # noqa: E402
from benchmarks.contestants import ENTRIES  # noqa: E402
from benchmarks.measure import race, race_text, summary  # noqa: E402
from benchmarks.measure.chart import svg  # noqa: E402
from benchmarks.measure.contest import filters_measured  # noqa: E402
from benchmarks.processes import Worker, WorkerError  # noqa: E402
from benchmarks.settings import BASELINES, LAYERS, OLD_RESULTS, Settings  # noqa: E402

FLOAT32 = ("keras", "tensorflow_batched", "plain_jax", "pytorch", "jaxviz_float32")
LAYER = "conv2_block1_1_conv"
README = (ROOT / "README.md").read_text()
OLD_FILES = [path for path in summary.every_file() if path.parent in OLD_RESULTS]


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
    return race_text.at_layers(result)[LAYER][name]


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
        worker.ask("contestants.timed.build", kind="jaxviz_float32", task=task)


def test_contestant_without_its_package_says_so(tmp_path, monkeypatch):
    from benchmarks import contestants
    from benchmarks.contestants import timed

    monkeypatch.setitem(contestants.ENTRIES, "keras", contestants.Entry("", "", "", ("no_such_package",)))
    task = {"weights": "", "starts": "", "size": 64, "steps": 1, "batch": 1}
    answer = timed.build(kind="keras", task=task)
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
    entry = race_text.at_layers(made_up)[LAYERS[1]]["keras"]
    assert (entry["filters_measured"], entry["scaled"]) == (16, True)
    assert entry["median_s"] == pytest.approx(4 * statistics.median(run["seconds"] for run in entry["runs"]), rel=1e-5)


def test_flops_are_four_per_multiply_add(made_up):
    entry = race_text.at_layers(made_up)[LAYERS[0]]["keras"]
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


# The report


def test_race_text_is_deterministic(made_up):
    again = summary.summarise(result_of("race", race_raw()))
    assert race_text.block(made_up, "a.json") == race_text.block(again, "a.json")
    assert race_text.notes(made_up, "a.json") == race_text.notes(again, "a.json")
    assert svg(made_up) == svg(again)


def table_ratios(block, result):
    """{(contestant, layer): (against keras, against tensorflow_batched)} as texts, read from the Markdown table."""
    labels = {entry.label: name for name, entry in ENTRIES.items()}
    header, _, *rows = [line for line in block.splitlines() if line.startswith("|")]
    layers = re.findall(r"`(\w+)`", header)
    assert layers == list(race_text.at_layers(result))
    found = {}
    for row in rows:
        label, *cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        for layer, cell in zip(layers, cells, strict=True):
            found[labels[label], layer] = tuple(re.findall(r"([\d.]+)x", cell))
    return found


def ratios_of_the_seconds(result):
    layers = result.facts["race"].raw["layers"]

    def seconds(layer, name):
        entry = layers[layer]["contestants"][name]
        median = statistics.median(run["seconds"] for run in entry["runs"])
        return median * result.settings["filters"] / entry["filters_measured"]

    return {
        (name, layer): tuple(f"{seconds(layer, base) / seconds(layer, name):.2f}" for base in BASELINES)
        for layer, values in layers.items()
        for name in values["contestants"]
    }


def test_ratios_in_the_table_are_those_of_the_seconds(made_up):
    assert table_ratios(race_text.block(made_up, "a.json"), made_up) == ratios_of_the_seconds(made_up)


def test_report_names_who_is_absent_and_why(made_up):
    text = race_text.notes(made_up, "a.json")
    assert "Not in this race: **jaxviz**, bfloat16 (dtype 'bfloat16' is unknown)" in text


def test_report_needs_its_baselines():
    raw = race_raw()
    del raw["layers"][LAYERS[0]]["contestants"]["keras"]
    with pytest.raises(report.ReportError, match="has no keras"):
        race_text.block(result_of("race", raw), "a.json")


def test_chart_has_a_bar_for_each_contestant_and_layer(made_up):
    root = ElementTree.fromstring(svg(made_up))
    bars = [rect for rect in root.iter("{http://www.w3.org/2000/svg}rect") if rect.get("class") != "paper"]
    assert len(bars) == sum(map(len, race_text.at_layers(made_up).values()))


def test_races_on_other_cpus_get_a_line(made_up):
    """Of each other CPU the newest, and none of this one's own."""
    cpus = {"1.json": "Older", "2.json": "Other", "3.json": "Other", "4.json": made_up.hardware.cpu}
    others = [(replace(made_up, hardware=replace(made_up.hardware, cpu=cpu)), name) for name, cpu in cpus.items()]
    lines = race_text.elsewhere(made_up, others)
    assert [line.split("](")[1] for line in lines] == ["1.json).", "3.json)."]
    ours = [at_layer["jaxviz_float32"] for at_layer in race_text.at_layers(made_up).values()]
    ratios = ", ".join(f"{entry['times_as_fast_as']['keras']:.2f}x" for entry in ours)
    assert all(f"float32 {ratios} and" in line for line in lines)


BEGIN, END = "<!-- race:begin -->", "<!-- race:end -->"


def test_block_replaces_what_was_between_the_markers():
    readme = f"above\n{BEGIN}\nold\n{END}\nbelow\n"
    once = report.with_block(readme, "new", "race")
    assert once == f"above\n{BEGIN}\nnew\n{END}\nbelow\n"
    assert report.with_block(once, "new", "race") == once


@pytest.mark.parametrize("readme", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{END}" * 2])
def test_block_needs_both_markers_once(readme):
    with pytest.raises(report.ReportError, match="once each"):
        report.with_block(readme, "new", "race")


# What is committed


def test_readmes_and_chart_are_the_newest_results():
    assert report.main(["--check"]) == 0


def test_ratios_in_the_readme_are_those_of_the_newest_seconds():
    result, _ = summary.recorded()["race"]
    assert table_ratios(README.split(BEGIN)[1].split(END)[0], result) == ratios_of_the_seconds(result)


def recorded_figures(values):
    """What an old file says itself that its raw values give."""
    if "layers" in values:
        return {
            f"`{layer}`, {name}": {figure: entry[figure] for figure in entry.keys() - {*old.RAW, "scores_repeat"}}
            for layer, at_layer in values["layers"].items()
            for name, entry in at_layer["contestants"].items()
        }
    return {f"`{entry['layer']}` | {entry['preset']}": entry["figures"] for entry in values["entries"]}


@pytest.mark.parametrize("path", OLD_FILES, ids=lambda path: path.name)
def test_old_file_says_what_its_raw_values_give(path):
    result = summary.read(path)
    (entry,) = result.facts.values()
    for case, figures in recorded_figures(json.loads(path.read_text())).items():
        assert {name: entry.figures[case][name] for name in figures} == figures, case


def test_first_scores_of_the_race_are_held_to_tolerances():
    assert [claim.limit for claim in race.FACT.claims] == [1e-4, 5e-2]
