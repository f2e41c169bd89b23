"""A visit's schedule, with a pretended clock: order, budgets, what is set aside, what is skipped and why."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # `benchmarks` is not installed

from benchmarks.visit import program
from benchmarks.visit.schedule import Cell, Section, Skip, Turn, only, turns
from benchmarks.visit.settings import REHEARSAL, VISIT, Settings
from jaxviz.bench.records import to_json

pytestmark = pytest.mark.quick


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def cell(name: str, *, least: float = 1, limit: float = 100) -> Cell:
    return Cell(name, "module.function", least, limit)


def played(sections, takes, *, ends=1000.0):
    """(what came in which order, limits by name) when each cell takes so long, or is killed at its limit."""
    clock, order, limits = Clock(), [], {}
    for turn in turns(sections, ends_s=ends, clock=clock):
        order.append(turn)
        if isinstance(turn, Turn):
            limits[turn.cell.name] = turn.limit_s
            clock.now += min(takes[turn.cell.name], turn.limit_s)
    return order, limits, clock.now


def names(order, kind):
    return [turn.cell.name for turn in order if isinstance(turn, kind)]


def test_cells_come_section_by_section_in_order():
    sections = [Section("a", 10, (cell("one"), cell("two"))), Section("b", 10, (cell("three"),))]
    order, _, _ = played(sections, {"one": 1, "two": 1, "three": 1})
    assert names(order, Turn) == ["one", "two", "three"]


def test_limit_is_the_cells_own_or_what_its_section_has_left():
    sections = [Section("a", 10, (cell("one", limit=6), cell("two", limit=6)))]
    _, limits, _ = played(sections, {"one": 5, "two": 1})
    assert limits == {"one": 6, "two": 5}


def test_unused_time_goes_to_the_next_section():
    sections = [Section("a", 10, (cell("one"),)), Section("b", 20, (cell("two"),)), Section("c", 5, (cell("three"),))]
    _, limits, _ = played(sections, {"one": 4, "two": 6, "three": 1})
    assert limits == {"one": 10, "two": 26, "three": 25}


def test_cell_that_does_not_fit_is_done_after_all_sections():
    sections = [
        Section("a", 10, (cell("slow"), cell("large", least=8), cell("small"))),
        Section("b", 10, (cell("other"),)),
    ]
    order, limits, _ = played(sections, {"slow": 5, "large": 8, "small": 1, "other": 1})
    assert names(order, Turn) == ["slow", "small", "other", "large"]
    assert order[-1].section == "a"
    assert limits["large"] == 100


def test_nothing_runs_past_the_end():
    sections = [Section("a", 50, (cell("one"), cell("two"))), Section("b", 50, (cell("three"),))]
    order, limits, now = played(sections, dict.fromkeys(("one", "two", "three"), 999), ends=30)
    assert limits == {"one": 30}
    assert now == 30
    assert names(order, Skip) == ["two", "three"]


def test_skip_says_what_was_needed_and_what_was_left():
    sections = [Section("a", 10, (cell("one"), cell("two", least=20)))]
    order, _, _ = played(sections, {"one": 4}, ends=15)
    (skip,) = [turn for turn in order if isinstance(turn, Skip)]
    assert skip.reason == "it needs 20 s; its section had 6 s left, and the end of the visit 11 s"


def test_section_without_a_budget_gets_what_is_left():
    sections = [Section("a", 10, (cell("one"),)), Section("later", 0, (cell("two"), cell("three")))]
    order, limits, _ = played(sections, {"one": 10, "two": 5, "three": 5}, ends=40)
    assert names(order, Turn) == ["one", "two", "three"]
    assert limits["two"] == 30


def test_only_keeps_the_cells_that_fit_a_glob():
    sections = [Section("a", 10, (cell("job_conv2"), cell("files"))), Section("b", 10, (cell("race"),))]
    assert [[c.name for c in section.cells] for section in only(sections, ["job_*"])] == [["job_conv2"]]


# The program


@pytest.mark.parametrize("settings", [VISIT, REHEARSAL], ids=["visit", "rehearsal"])
def test_names_are_unique(settings):
    cells = [c.name for section in program.sections(settings) for c in section.cells]
    assert sorted(cells) == sorted(set(cells))


def test_first_cell_looks_for_the_gpu():
    assert program.sections(VISIT)[0].cells[0].name == "start"


def test_budgets_fit_the_visit_and_shrink_with_it():
    whole, half = (sum(s.budget_s for s in program.sections(VISIT, minutes)) for minutes in (7, 3.5))
    assert whole <= 7 * 60
    assert half == whole / 2


def test_every_cell_can_start_within_its_limit():
    for section in program.sections(VISIT):
        assert all(c.least_s < c.limit_s for c in section.cells), section.name


@pytest.mark.parametrize("name", program.by_name(VISIT))
def test_home_of_cell_exists(name):
    module, _, function = program.by_name(VISIT)[name].home.partition(".")
    source = Path(program.__file__).with_name("cells") / f"{module}.py"
    assert f"\ndef {function}(settings: Settings, folder: Path" in source.read_text().replace(
        "\n    settings", "settings"
    )


def test_settings_survive_their_file():
    assert msgspec.json.decode(to_json(REHEARSAL), type=Settings) == REHEARSAL
