"""The command that measures the facts, the report of them, and what is committed."""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # `benchmarks` is not installed

from helpers_facts import (  # noqa: E402
    TINY,
    batch_raw,
    failed_result,
    raw_result,
)

from benchmarks import facts, machine, pictures, report  # noqa: E402
from benchmarks.measure import (  # noqa: E402
    FACTS,
    USUAL,
    batch,
    drift,
    summary,
)
from benchmarks.measure.block import NOTHING_YET, block  # noqa: E402
from benchmarks.measure.settings import QUICK, RESULTS, TRIALS, Settings, newest  # noqa: E402
from benchmarks.results import MOST_OTHERS_SHARE  # noqa: E402
from benchmarks.workers import WorkerError  # noqa: E402
from jaxviz import RenderConfig, batch_size  # noqa: E402
from jaxviz.plan import plan_render  # noqa: E402

pytestmark = pytest.mark.quick

RESULT_FILES = sorted(RESULTS.glob("*.json"))


@pytest.fixture
def made_up():
    return summary.summarise(raw_result())


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
        (["batch", "writing"], Settings(), RESULTS),
        (["--quick"], QUICK, TRIALS),
    ],
)
def test_only_runs_with_the_usual_settings_are_results(written, arguments, settings, folder):
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
    text = block(dict.fromkeys(FACTS, (made_up, "a.json")))
    for name, entry in made_up["facts"].items():
        for row in FACTS[name].table(entry["figures"]):
            assert f"| {' | '.join(row)} |" in text
        for claim in entry["claims"]:
            assert summary.claim_text(claim)[1:] in text


def test_block_is_deterministic_and_names_each_source(made_up):
    found = {"drift": (made_up, "a.json"), "batch": (copy.deepcopy(made_up), "b.json")}
    text = block(found)
    assert text == block({name: (json.loads(json.dumps(result)), file) for name, (result, file) in found.items()})
    drift_section, batch_section = text.split("### ")[1:]
    assert "[a.json](facts/a.json)" in drift_section
    assert "[b.json](facts/b.json)" in batch_section


def test_block_says_what_failed():
    assert "\nFailed: renderer ended with exit code 1:\n" in block({"drift": (failed_result(), "a.json")})


def test_newest_result_of_a_fact_is_the_last_that_has_it(tmp_path):
    having = {"2026-01.json": ["drift", "batch"], "2026-02.json": ["batch"], "2026-03.json": ["memory"]}
    for file, names in having.items():
        (tmp_path / file).write_text(json.dumps({"facts": {name: {} for name in names}}))
    found = {name: newest(name, tmp_path) for name in ("drift", "batch", "start")}
    assert found == {"drift": tmp_path / "2026-01.json", "batch": tmp_path / "2026-02.json", "start": None}


def test_report_works_without_any_result(monkeypatch, tmp_path, capsys):
    readme = tmp_path / "README.md"
    marked = [
        (report.FACTS_BEGIN, report.FACTS_END),
        (report.PICTURES_BEGIN, report.PICTURES_END),
        (report.GPU_BEGIN, report.GPU_END),
    ]
    readme.write_text("above\n" + "".join(f"{begin}\nold\n{end}\n" for begin, end in marked))
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(report, "FACTS_README", readme)
    monkeypatch.setattr(report, "newest", lambda *_: None)
    monkeypatch.setattr(report.facts_settings, "newest", lambda _: None)
    assert report.main(["--check"]) == 1
    assert report.main([]) == 0
    assert report.main(["--check"]) == 0
    assert NOTHING_YET in readme.read_text()
    assert pictures.NOTHING_YET in readme.read_text()
    assert "run: python -m benchmarks.race" in capsys.readouterr().err


# What is committed


def test_readme_holds_the_newest_facts():
    paths = {name: path for name in FACTS if (path := newest(name)) is not None}
    shown = report.FACTS_README.read_text().split(report.FACTS_BEGIN)[1].split(report.FACTS_END)[0].strip()
    assert shown == block({name: (json.loads(path.read_text()), path.name) for name, path in paths.items()})


@pytest.mark.parametrize("path", RESULT_FILES, ids=lambda path: path.name)
def test_facts_file_can_be_trusted(path):
    result = json.loads(path.read_text())
    facts = dict(result["facts"])
    if "batch" in facts and "image_size" not in facts["batch"]["raw"]["targets"][0]:
        replaced = facts.pop("batch")  # measured otherwise until 2026-11-25: its figures are its commit's
        assert newest("batch") != path
        assert (replaced["failed"], replaced["others_share"] <= MOST_OTHERS_SHARE) == (None, True)
    assert summary.problems(result | {"facts": facts}) == []


def test_automatic_batch_sizes_of_the_sweep_are_those_of_today(resnet, lite0, monkeypatch):
    """The cache of the machine that measured is not known: N is that of a small or a large one."""
    path = newest("batch")
    assert path is not None
    models = {"resnet50v2": resnet, "efficientnet_lite0": lite0}
    result = json.loads(path.read_text())
    of_layer = {target["layer"]: models[target["model"]] for target in result["settings"]["targets"]}
    for target in result["facts"]["batch"]["raw"]["targets"]:
        config = RenderConfig.keras(image_size=target["image_size"])
        today = set()
        for cache in (0, 2**40):
            monkeypatch.setattr(batch_size, "cache_bytes", lambda cache=cache: cache)
            today.add(plan_render(of_layer[target["layer"]], target["layer"], None, config).recipe.batch_size)
        assert target["auto"] in today, target["layer"]


def test_usual_facts_are_recorded():
    assert [name for name in USUAL if newest(name) is None] == []
