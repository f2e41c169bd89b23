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

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # `benchmarks` is not installed

from benchmarks import machine, race, report, results  # noqa: E402
from benchmarks.chart import svg  # noqa: E402
from benchmarks.contestants import ENTRIES  # noqa: E402
from benchmarks.settings import BASELINES, CONTESTANTS, LAYERS, RESULTS, Settings  # noqa: E402
from benchmarks.workers import Worker, WorkerError  # noqa: E402

FLOAT32 = ("keras", "tensorflow_batched", "plain_jax", "pytorch", "jaxviz_float32")
README = (ROOT / "README.md").read_text()
RESULT_FILES = sorted(RESULTS.glob("*.json"))


# A real race, tiny


@pytest.fixture(scope="module")
def tiny():
    for package in ("tensorflow", "torch"):
        pytest.importorskip(package, reason=f"the race needs {package}: pip install -e '.[dev]'")
    settings = Settings(
        layers=("conv2_block1_1_conv",), contestants=FLOAT32, repeats=1, filters=2, steps=1, size=64, batch=2
    )
    return race.run(settings)


def tiny_entry(result, name):
    assert result["contestants"][name]["available"], result["contestants"][name]["reason"]
    return result["layers"]["conv2_block1_1_conv"]["contestants"][name]


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
    assert [doubt for doubt in results.problems(tiny) if "while others used" not in doubt] == []


@pytest.mark.long
def test_result_file_holds_the_result_and_is_never_replaced(tiny, tmp_path):
    path = race.write(tiny, tmp_path)
    assert json.loads(path.read_text()) == tiny
    with pytest.raises(FileExistsError):
        race.write(tiny, tmp_path)


def test_worker_that_dies_says_why(tmp_path):
    worker = Worker("keras", tmp_path / "nowhere.json", folder=tmp_path, extra_environment={})
    try:
        with pytest.raises(WorkerError, match=r"(?s)keras ended with exit code 1.*nowhere\.json"):
            worker.wait_until_ready()
    finally:
        worker.close()


# Figures, from made-up seconds


def raw_result():
    """What a whole race measures, with plausible numbers; bfloat16 could not take part."""
    settings = Settings()
    base_s = dict(zip(LAYERS, (17.0, 84.0, 195.0), strict=True))
    shares = dict(zip(CONTESTANTS, (1.0, 0.7, 0.9, 0.95, 1.9, 0.43), strict=False))

    def entry(name, layer, count):
        seconds = [base_s[layer] * shares[name] * count / 64 * (1 + 0.01 * i) for i in (0, 2, 1, 4, 3)]
        scores = [0.1 * (i % 5) + 0.01 for i in range(count)]
        return {
            "compile_s": 2.5,
            "seconds_per_filter": 1.0,
            "images_per_call": 16,
            "form": "filter index as tf.constant",
            "probe": {"python int": {"retrace_s_per_filter": 0.3}},
            "filters_measured": count,
            "scores": {"first": scores, "last": scores, "final": scores},
            "scores_repeat": True,
            "runs": [
                {"seconds": s, "own_cpu_s": 1.9 * s, "others_cpu_s": 0.01 * s, "peak_memory_mb": 900.0} for s in seconds
            ],
        }

    return {
        "schema": results.SCHEMA,
        "started": "2026-11-24T21:00:00+00:00",
        "finished": "2026-11-24T22:00:00+00:00",
        "git": {"hash": "0123456789abcdef", "dirty": False},
        "hardware": {"cpu": "A <CPU> & more", "cores": 2, "memory_gb": 23.5, "system": "Linux"},
        "versions": {**dict.fromkeys(machine.PACKAGES, "1.2.3"), "python": "3.11.0"},
        "environment": {},
        "load_average_at_start": 0.1,
        "forced": False,
        "settings": settings.to_json(),
        "material": {},
        "dot_gflops": {"float32": [200.0, 210.0, 220.0], "bfloat16": [400.0]},
        "contestants": {
            name: {
                "available": name in shares,
                "reason": None if name in shares else "dtype 'bfloat16' is unknown",
                "description": ENTRIES[name].description,
                "dtype": ENTRIES[name].dtype,
                "environment": {},
            }
            for name in CONTESTANTS
        },
        "layers": {
            layer: {
                "macs_per_image": 10**9,
                "contestants": {name: entry(name, layer, 64 if layer == LAYERS[0] else 16) for name in shares},
            }
            for layer in LAYERS
        },
    }


@pytest.fixture
def made_up():
    return results.summarise(raw_result())


def test_made_up_result_has_no_problems(made_up):
    assert results.problems(made_up) == []


def test_fewer_filters_are_scaled_to_all(made_up):
    entry = made_up["layers"][LAYERS[1]]["contestants"]["keras"]
    assert (entry["filters_measured"], entry["scaled"]) == (16, True)
    assert entry["median_s"] == pytest.approx(4 * statistics.median(run["seconds"] for run in entry["runs"]), rel=1e-5)


def test_flops_are_four_per_multiply_add(made_up):
    entry = made_up["layers"][LAYERS[0]]["contestants"]["keras"]
    assert entry["gflops"] == pytest.approx(4 * 64 * 30 / entry["median_s"], rel=1e-5)
    assert entry["fraction_of_dot_rate"] == pytest.approx(entry["gflops"] / 210, rel=1e-5)


def edit_seconds(result):
    result["layers"][LAYERS[0]]["contestants"]["jaxviz_float32"]["median_s"] = 1.0


def edit_ratio(result):
    result["layers"][LAYERS[0]]["contestants"]["jaxviz_float32"]["times_as_fast_as"]["keras"] = 9.0


def drop_a_run(result):
    result["layers"][LAYERS[2]]["contestants"]["plain_jax"]["runs"].pop()


def drop_versions(result):
    del result["versions"]


def fail(result):
    result["contestants"]["pytorch"] |= {"available": False, "reason": "failed: out of memory"}


def force(result):
    result["forced"] = True


@pytest.mark.parametrize("spoil", [edit_seconds, edit_ratio, drop_a_run, drop_versions, fail, force])
def test_problems_notice(made_up, spoil):
    spoil(made_up)
    assert results.problems(made_up)


def test_problems_notice_other_work():
    raw = raw_result()
    entry = raw["layers"][LAYERS[2]]["contestants"]["plain_jax"]
    entry["scores"] = copy.deepcopy(entry["scores"])
    entry["scores"]["first"][3] += 0.001
    (problem,) = results.problems(results.summarise(raw))
    assert "plain_jax does other work" in problem


def test_problems_notice_a_busy_machine():
    raw = raw_result()
    for run in raw["layers"][LAYERS[2]]["contestants"]["plain_jax"]["runs"]:
        run["others_cpu_s"] = 0.3 * run["seconds"]
    (problem,) = results.problems(results.summarise(raw))
    assert "others used 15%" in problem


def test_slow_contestants_run_fewer_filters():
    settings = Settings()
    assert settings.filters_measured(0.5, 1) == 64
    assert settings.filters_measured(2.0, 1) == 8
    assert settings.filters_measured(2.0, 8) == 16
    assert settings.filters_measured(2.0, 32) == 32


def test_compile_clock_counts_nested_events_once():
    from benchmarks.contestants.compile_clock import CompileClock

    clock = CompileClock()
    clock._spans = [(3.0, 4.0), (1.0, 2.0), (0.0, 2.0)]
    assert clock.seconds() == 3.0


# The command


def test_race_refuses_a_busy_machine(monkeypatch, capsys):
    monkeypatch.setattr(machine, "load_average", lambda: 0.9)
    assert race.main(["--quick"]) == race.EXIT_REFUSED
    assert "load average is 0.90" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--layers", "conv9"), "'conv9'"), (("--filters", "65"), "more than the 64"), (("--repeats", "0"), "1 or more")],
)
def test_race_refuses_what_cannot_be_raced(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(machine, "load_average", lambda: 0.0)
    assert race.main(arguments) == race.EXIT_REFUSED
    assert message in capsys.readouterr().err


def test_only_whole_races_are_the_readmes():
    assert Settings().is_whole()
    assert Settings(repeats=7).is_whole()
    assert not Settings(repeats=4).is_whole()
    assert not Settings(steps=2).is_whole()
    assert not Settings(contestants=CONTESTANTS[1:]).is_whole()


# The report


def test_report_is_deterministic(made_up):
    again = json.loads(json.dumps(made_up))
    assert report.block(made_up, "a.json") == report.block(again, "a.json")
    assert report.notes(made_up, "a.json") == report.notes(again, "a.json")
    assert svg(made_up) == svg(again)


def table_ratios(block, result):
    """{(contestant, layer): (against keras, against tensorflow_batched)} as texts, read from the Markdown table."""
    labels = {label: name for name, label in report.LABELS.items()}
    header, _, *rows = [line for line in block.splitlines() if line.startswith("|")]
    layers = re.findall(r"`(\w+)`", header)
    assert layers == list(result["layers"])
    found = {}
    for row in rows:
        label, *cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        for layer, cell in zip(layers, cells, strict=True):
            found[labels[label], layer] = tuple(re.findall(r"([\d.]+)x", cell))
    return found


def ratios_of_the_seconds(result):
    def seconds(layer, name):
        entry = result["layers"][layer]["contestants"][name]
        median = statistics.median(run["seconds"] for run in entry["runs"])
        return median * result["settings"]["filters"] / entry["filters_measured"]

    return {
        (name, layer): tuple(f"{seconds(layer, base) / seconds(layer, name):.2f}" for base in BASELINES)
        for layer, values in result["layers"].items()
        for name in values["contestants"]
    }


def test_ratios_in_the_table_are_those_of_the_seconds(made_up):
    assert table_ratios(report.block(made_up, "a.json"), made_up) == ratios_of_the_seconds(made_up)


def test_report_names_who_is_absent_and_why(made_up):
    assert "Not in this race: **jaxviz**, bfloat16 (dtype 'bfloat16' is unknown)" in report.notes(made_up, "a.json")


def test_report_needs_its_baselines(made_up):
    del made_up["layers"][LAYERS[0]]["contestants"]["keras"]
    with pytest.raises(report.ReportError, match="has no keras"):
        report.block(made_up, "a.json")


def test_chart_has_a_bar_for_each_contestant_and_layer(made_up):
    root = ElementTree.fromstring(svg(made_up))
    bars = [rect for rect in root.iter("{http://www.w3.org/2000/svg}rect") if rect.get("class") != "paper"]
    assert len(bars) == sum(len(layer["contestants"]) for layer in made_up["layers"].values())


def test_races_on_other_cpus_get_a_line(made_up, monkeypatch, tmp_path):
    """Of each other CPU the newest, and none of this one's own."""
    monkeypatch.setattr(report, "README", tmp_path / "README.md")
    monkeypatch.setattr(report, "SPEED", tmp_path / "speed.md")
    for page in (report.README, report.SPEED):
        page.write_text(f"{report.BEGIN}\n{report.END}\n")
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(report, "CHART", tmp_path / "race.svg")
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    files = {"1.json": "Older", "2.json": "Other", "3.json": "Other", "4.json": made_up["hardware"]["cpu"]}
    for name, cpu in files.items():
        (tmp_path / name).write_text(json.dumps(made_up | {"hardware": made_up["hardware"] | {"cpu": cpu}}))
    (text,) = [text for file, text in report._of_the_race(tmp_path / "4.json").items() if file == report.SPEED]
    ours = [layer["contestants"]["jaxviz_float32"] for layer in made_up["layers"].values()]
    lines = [line for line in text.splitlines() if line.startswith("On ")]
    assert [line.split("](")[1] for line in lines] == [
        "../benchmarks/results/1.json).",
        "../benchmarks/results/3.json).",
    ]
    ratios = ", ".join(f"{entry['times_as_fast_as']['keras']:.2f}x" for entry in ours)
    assert all(f"float32 {ratios} and" in line for line in lines)


def test_block_replaces_what_was_between_the_markers():
    readme = f"above\n{report.BEGIN}\nold\n{report.END}\nbelow\n"
    once = report.with_block(readme, "new")
    assert once == f"above\n{report.BEGIN}\nnew\n{report.END}\nbelow\n"
    assert report.with_block(once, "new") == once


@pytest.mark.parametrize("readme", ["", report.BEGIN, f"{report.END}{report.BEGIN}", f"{report.BEGIN}{report.END}" * 2])
def test_block_needs_both_markers_once(readme):
    with pytest.raises(report.ReportError, match="once each"):
        report.with_block(readme, "new")


# What is committed


def test_readme_and_chart_are_the_newest_results():
    if not RESULT_FILES:
        assert report.BEGIN not in README, "the README has a race table, and there is no result"
        return
    assert report.main(["--check"]) == 0


def test_ratios_in_the_readme_are_those_of_the_newest_seconds():
    if not RESULT_FILES:
        pytest.skip("there is no result yet: python -m benchmarks.race")
    result = json.loads(report.newest().read_text())
    shown = README.split(report.BEGIN)[1].split(report.END)[0]
    assert table_ratios(shown, result) == ratios_of_the_seconds(result)


@pytest.mark.parametrize("path", RESULT_FILES, ids=lambda path: path.name)
def test_result_can_be_trusted(path):
    assert results.problems(json.loads(path.read_text())) == []
