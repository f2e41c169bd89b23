"""The report of the race: tables and chart are those of the seconds, README and docs those of the newest results."""

from __future__ import annotations

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

from benchmarks import old, report  # noqa: E402
from benchmarks.contestants import ENTRIES  # noqa: E402
from benchmarks.measure import race_table, race_text, summary  # noqa: E402
from benchmarks.measure.chart import svg  # noqa: E402
from benchmarks.records import plain  # noqa: E402
from benchmarks.settings import LAYERS, OLD_RESULTS, REFERENCE, SHORT  # noqa: E402
from jaxviz.bench.records import to_json  # noqa: E402

README = (ROOT / "README.md").read_text()
OLD_FILES = [path for path in summary.every_file() if path.parent in OLD_RESULTS]
BEGIN, END = "<!-- race:begin -->", "<!-- race:end -->"


@pytest.fixture
def made_up():
    return result_of("race", race_raw())


def test_race_text_is_deterministic(made_up):
    again = summary.summarise(result_of("race", race_raw()))
    assert race_text.block(made_up, "a.json") == race_text.block(again, "a.json")
    assert race_text.notes(made_up, "a.json") == race_text.notes(again, "a.json")
    assert svg(made_up) == svg(again)


def table_ratios(block):
    """{(contestant, layer): times as fast as Keras} as texts, read from the Markdown table."""
    labels = {entry.label: name for name, entry in ENTRIES.items()}
    header, _, *rows = [line for line in block.splitlines() if line.startswith("|")]
    layers = re.findall(r"`(\w+)`", header)
    found = {}
    for row in rows:
        label, *cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        if label in labels:
            for layer, cell in zip(layers, cells, strict=True):
                found[labels[label], layer] = (re.findall(r"\(([\d.]+)x\)", cell) or ["1.00"])[0]
    return found


def ratios_of_the_seconds(result):
    layers = result.facts["race"].raw["layers"]

    def seconds(layer, name):
        entry = layers[layer]["contestants"][name]
        median = statistics.median(run["seconds"] for run in entry["runs"])
        return median * result.settings["filters"] / entry["filters_measured"]

    return {
        (name, layer): f"{seconds(layer, REFERENCE) / seconds(layer, name):.2f}"
        for layer, values in layers.items()
        for name in values["contestants"]
    }


def rows_of(lines):
    """First cells and the others of the rows of a table."""
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]
    return [(first, others) for first, *others in cells]


def test_ratios_in_the_table_are_those_of_the_seconds(made_up):
    assert table_ratios(race_text.block(made_up, "a.json")) == ratios_of_the_seconds(made_up)


def test_table_has_float32_first_and_ours_against_the_best_peer_of_its_type(made_up):
    header, _, *rows = rows_of(race_text.block(made_up, "a.json").splitlines())
    names = {entry.label: name for name, entry in ENTRIES.items()}
    assert [names.get(first, first) for first, _ in rows] == [
        "*float32*",
        *("keras", "tensorflow_batched", "keras_jax", "pytorch", "plain_jax", "jaxviz_float32"),
        "against the best of TensorFlow and PyTorch in float32",
        "*bfloat16*",
        *("tensorflow_bfloat16", "pytorch_bfloat16", "jaxviz_bfloat16"),
        "against the best of TensorFlow and PyTorch in bfloat16",
    ]
    assert rows[7][1] == ["**2.33x** TensorFlow, batched"] * 3
    assert rows[-1][1] == ["**1.60x** PyTorch"] * 3
    assert header[1] == [f"`{layer}`" for layer in LAYERS]


def test_goals_stand_where_the_kind_of_cpu_has_some(made_up):
    goals = [others for first, others in rows_of(race_table.table(made_up, goals=True)) if "goal" in first]
    assert goals == [["1.17 of 2.00x", "1.94 of 1.20x", "2.03 of 1.15x"], ["1.60 of 1.00x"] * 3]
    raw = race_raw(instructions=())
    assert not [first for first, _ in rows_of(race_table.table(result_of("race", raw), goals=True)) if "goal" in first]


def test_failed_contestant_has_no_seconds():
    raw = race_raw()
    del raw["layers"][LAYERS[1]]["contestants"]["jaxviz_bfloat16"]
    rows = dict(rows_of(race_table.table(result_of("race", raw))))
    assert [cell == "failed" for cell in rows[ENTRIES["jaxviz_bfloat16"].label]] == [False, True, False]
    assert rows["against the best of TensorFlow and PyTorch in bfloat16"][1] == ""


def test_report_names_who_is_absent_and_why():
    text = race_text.notes(result_of("race", race_raw(absent=["jaxviz_bfloat16"])), "a.json")
    assert "Not in this race: **jaxviz**, bfloat16 (dtype 'bfloat16' is unknown)" in text


def test_report_needs_its_baselines():
    raw = race_raw()
    del raw["layers"][LAYERS[0]]["contestants"]["keras"]
    with pytest.raises(report.ReportError, match="has no keras"):
        race_text.block(result_of("race", raw), "a.json")


def test_chart_has_a_bar_for_each_contestant_and_layer(made_up):
    root = ElementTree.fromstring(svg(made_up))
    bars = [rect for rect in root.iter("{http://www.w3.org/2000/svg}rect") if rect.get("class") != "paper"]
    assert len(bars) == sum(map(len, race_table.at_layers(made_up).values()))
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in texts if text in ("float32", "bfloat16")] == ["float32", "bfloat16"] * len(LAYERS)


def race_on(made_up, day, cpu, **changes):
    """A race of a day in November on a model of CPU, and its file."""
    hardware = replace(made_up.hardware, cpu=cpu)
    return replace(made_up, started=f"2026-11-{day:02d}T00:00:00+00:00", hardware=hardware, **changes), f"{day}.json"


def test_every_cpu_shows_its_newest_race_whole_or_short(made_up):
    short = made_up.settings | {"short": True, "steps": 6, "rounds": 3}
    races = [
        race_on(made_up, 1, "One"),
        race_on(made_up, 2, "Two"),
        race_on(made_up, 3, "One", settings=short),
    ]
    lines = list(race_table.races_on_every_cpu(races))
    assert [line for line in lines if line.startswith("###")] == ["### 2 cores of One", "### 2 cores of Two"]
    about = [line for line in lines if line.startswith("AVX512_BF16 (avx2, avx512_bf16, avx512f, fma); 2026-11-0")]
    assert ["a **short** race" in line for line in about] == [True, False]
    assert ["3.json" in line for line in about] == [True, False]
    heads = [first for first, others in rows_of(lines) if others == [f"`{layer}`" for layer in LAYERS]]
    assert heads == ["64 filters x 6 steps at 180 px", "64 filters x 30 steps at 180 px"]


def test_race_of_before_has_what_its_file_has():
    """Without bfloat16 of the others, and without instruction sets."""
    raw = race_raw(absent=["tensorflow_bfloat16", "pytorch_bfloat16"])
    del raw["instructions"]
    for name in ("tensorflow_bfloat16", "pytorch_bfloat16"):
        del raw["contestants"][name]
    result = result_of("race", raw)
    old_settings = {name: value for name, value in result.settings.items() if name != "short"}
    result = replace(result, settings=old_settings)
    assert summary.problems(result) == []
    case = race_table.at_layers(result)[LAYERS[0]]["jaxviz_bfloat16"]
    assert not {"best_peer", "times_as_fast_as_best_peer", "goal", "of_goal"} & case.keys()
    lines = list(race_table.races_on_every_cpu([(result, "a.json")]))
    assert any(line.startswith("Instruction sets not recorded; ") for line in lines)
    assert not [first for first, _ in rows_of(lines) if "bfloat16" in first and "against" in first]
    assert "Not in this race" not in race_text.notes(result, "a.json")


def test_readme_has_the_newest_whole_race_and_speed_md_a_newer_short_one(made_up, monkeypatch, tmp_path):
    short = replace(made_up, settings=made_up.settings | {"short": True})
    for day, result in ((1, made_up), (2, short)):
        (tmp_path / f"2026-11-0{day}.json").write_text(to_json(race_on(result, day, "One")[0]))
    monkeypatch.setattr(summary, "RESULTS", tmp_path)
    monkeypatch.setattr(summary, "OLD_RESULTS", ())
    found = summary.recorded()
    assert found["race"][1].name == "2026-11-01.json"
    speed = report.texts(found)[report.SPEED].split(BEGIN)[1].split(END)[0]
    notes, _, tables = speed.partition("### ")
    assert "2026-11-01.json" in notes
    assert "2026-11-02.json" in tables


def test_short_race_alone_is_no_race_of_the_readme(made_up, monkeypatch, tmp_path):
    (tmp_path / "2026-11-01.json").write_text(to_json(replace(made_up, settings=plain(SHORT))))
    monkeypatch.setattr(summary, "RESULTS", tmp_path)
    monkeypatch.setattr(summary, "OLD_RESULTS", ())
    assert summary.recorded() == {}
    assert report.README not in report.texts(summary.recorded())


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
    assert table_ratios(README.split(BEGIN)[1].split(END)[0]) == ratios_of_the_seconds(result)


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
