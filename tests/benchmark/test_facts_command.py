"""The command that measures the facts, the report of them, and what is committed."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # `benchmarks` is not installed

from helpers_facts import TINY, batch_raw, failed_result, raw_result  # noqa: E402
from msgspec.structs import replace  # noqa: E402

from benchmarks import facts, report  # noqa: E402
from benchmarks.measure import FACTS, drift, summary  # noqa: E402
from benchmarks.measure.fact import MOST_OTHERS_SHARE  # noqa: E402
from benchmarks.processes import WorkerError  # noqa: E402
from benchmarks.settings import CONTESTANTS, LAYERS, QUICK, RESULTS, SHORT, TRIALS, Settings  # noqa: E402
from jaxviz import RenderConfig  # noqa: E402
from jaxviz.bench import machine  # noqa: E402
from jaxviz.bench.records import to_json  # noqa: E402
from jaxviz.render.plan import plan_render  # noqa: E402

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
        calls.append([settings])
        return replace(result, facts={name: result.facts[name] for name in names})

    monkeypatch.setattr(machine, "load_average", lambda: 0.0)
    monkeypatch.setattr(facts, "run", run)
    monkeypatch.setattr(facts, "write", lambda _, folder: calls[-1].append(folder) or folder / "a.json")
    return calls


@pytest.mark.parametrize(
    ("arguments", "settings", "folder"),
    [
        ([], Settings(), RESULTS),
        (["batch", "race"], Settings(), RESULTS),
        (["race", "--short"], SHORT, RESULTS),
        (["race", "--short", "--set", "steps=5"], replace(SHORT, steps=5), TRIALS),
        (["--quick"], QUICK, TRIALS),
        (["race", "--set", 'contestants=["keras"]'], replace(Settings(), contestants=("keras",)), TRIALS),
    ],
)
def test_only_runs_with_the_usual_settings_are_results(written, arguments, settings, folder):
    assert facts.main(arguments) == 0
    assert written == [[settings, folder]]


def test_short_race_has_everybody_at_every_layer_and_says_that_it_is_short():
    assert (SHORT.contestants, SHORT.race_layers, SHORT.rounds) == (CONTESTANTS, LAYERS, 3)
    assert SHORT.short
    assert not Settings().short


@pytest.mark.parametrize("names", [[], ["batch"], ["race", "batch"]])
def test_short_is_the_race_alone(names, capsys):
    with pytest.raises(SystemExit):
        facts.main([*names, "--short"])
    assert "python -m benchmarks.facts race --short" in capsys.readouterr().err


def test_exit_code_is_1_if_a_claim_does_not_hold(written, monkeypatch):
    monkeypatch.setattr(summary, "broken", lambda _: ["batch: too slow"])
    assert facts.main([]) == facts.EXIT_BROKEN == 1


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ('race_layers=["conv9"]', "'conv9'"),
        ("filters=65", "more than the 64"),
        ("rounds=0", "not a whole number from 1"),
        ("size=0", "size"),
        ("speed=1", "speed"),
        ('steps="many"', "steps"),
        ("steps=many", "Expecting value"),
    ],
)
def test_facts_refuse_what_cannot_be_measured(monkeypatch, capsys, field, message):
    monkeypatch.setattr(machine, "load_average", lambda: 0.0)
    monkeypatch.setattr(facts, "run", None)
    assert facts.main(["--set", field]) == facts.EXIT_REFUSED
    assert message in capsys.readouterr().err


def test_failing_fact_does_not_stop_the_others(monkeypatch):
    def fail(_):
        raise WorkerError("out of memory")

    monkeypatch.setitem(FACTS, "drift", dataclasses.replace(drift.FACT, measure=fail))
    monkeypatch.setitem(FACTS, "batch", dataclasses.replace(FACTS["batch"], measure=lambda _: batch_raw()))
    result = facts.run(["drift", "batch"], TINY)
    assert result.facts["drift"].failed == "out of memory"
    assert result.facts["batch"].holds is True


# The report


def test_section_holds_every_row_and_verdict(made_up):
    for name, entry in made_up.facts.items():
        text = summary.section(name, made_up, "facts/a.json")
        for row in FACTS[name].table(entry.figures):
            assert f"| {' | '.join(row)} |" in text
        for claim in entry.claims:
            assert summary.claim_text(claim)[1:] in text


def test_section_names_its_fact_and_its_source(made_up):
    text = summary.section("drift", made_up, "facts/a.json")
    assert text.startswith(f"### {FACTS['drift'].title}\n")
    assert "[a.json](facts/a.json)" in text


def test_section_says_what_failed():
    assert "\nFailed: worker ended with exit code 1:\n" in summary.section("drift", failed_result(), "a.json")


def test_newest_result_of_a_fact_is_the_last_that_has_it(monkeypatch, tmp_path):
    made_up = raw_result()
    having = {"2026-01.json": ["drift", "batch"], "2026-02.json": ["batch"], "2026-03.json": ["memory"]}
    for file, names in having.items():
        result = replace(made_up, facts={name: made_up.facts[name] for name in names})
        (tmp_path / file).write_text(to_json(result))
    monkeypatch.setattr(summary, "RESULTS", tmp_path)
    monkeypatch.setattr(summary, "OLD_RESULTS", ())
    found = {name: path.name for name, (_, path) in summary.recorded().items()}
    assert found == {"drift": "2026-01.json", "memory": "2026-03.json", "batch": "2026-02.json"}


def test_report_works_without_any_result(monkeypatch, tmp_path):
    readme = tmp_path / "README.md"
    marked = [f"<!-- {place}:begin -->\nold\n<!-- {place}:end -->\n" for place in ("facts", "pictures", "gpu")]
    readme.write_text("above\n" + "".join(marked))
    monkeypatch.setattr(report, "NOTES", readme)
    monkeypatch.setattr(summary, "RESULTS", tmp_path)
    monkeypatch.setattr(summary, "OLD_RESULTS", ())
    assert report.main(["--check"]) == 1
    assert report.main([]) == 0
    assert report.main(["--check"]) == 0
    assert readme.read_text().count(report.NOTHING_YET) == 2


# What is committed


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.name)
def test_facts_file_can_be_trusted(path):
    result = summary.read(path)
    facts = dict(result.facts)
    if "batch" in facts and "image_size" not in facts["batch"].raw["targets"][0]:
        replaced = facts.pop("batch")  # measured otherwise until 2026-11-25: its figures are its commit's
        assert summary.recorded()["batch"][1] != path
        assert (replaced.failed, replaced.others_share <= MOST_OTHERS_SHARE) == (None, True)
    assert summary.problems(replace(result, facts=facts)) == []


@pytest.mark.parametrize(
    "path", [path for path in summary.every_file() if path.parent != RESULTS], ids=lambda p: p.name
)
def test_old_file_can_be_trusted(path):
    assert summary.problems(summary.read(path)) == []


def test_automatic_batch_sizes_of_today_are_near_the_best_of_the_sweep(resnet, lite0):
    """The sweep may be older than the rule; it holds every N."""
    models = {"resnet50v2": resnet, "efficientnet_lite0": lite0}
    result, _ = summary.recorded()["batch"]
    (claim,) = FACTS["batch"].claims
    of_layer = {target["layer"]: models[target["model"]] for target in result.settings["targets"]}
    today = [
        target
        | {"auto": plan_render(of_layer[target["layer"]], target["layer"], None, config_of(target)).recipe.batch_size}
        for target in result.facts["batch"].raw["targets"]
    ]
    for case, found in FACTS["batch"].figures({"targets": today}).items():
        assert found[claim.figure] <= claim.limit, case


def config_of(target):
    return RenderConfig.keras(image_size=target["image_size"], dtype=target["dtype"])


def test_every_fact_is_recorded():
    assert list(summary.recorded()) == list(FACTS)
