"""Whose turn it is and how long it may last: pure, the clock is an argument.

Sections come in order, each with a budget; what one leaves unused goes to the next. A cell for which its section has
too little left is set aside, and gets what time is left when all sections are through. Nothing runs past the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any


@dataclass(frozen=True)
class Cell:
    """One measurement, in a process of its own.

    Attributes:
        name: unique in a visit.
        home: module.function in `cells`.
        arguments: of that function, after the settings.
        environment: variables that are set for it.
        least_s: with less than this it is not started.
        limit_s: its process is killed after this.
    """

    name: str
    home: str
    least_s: float
    limit_s: float
    arguments: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """Cells that share a budget."""

    name: str
    budget_s: float
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Turn:
    """A cell to run now, for at most so long."""

    section: str
    cell: Cell
    limit_s: float


@dataclass(frozen=True)
class Skip:
    """A cell that is not run, and why."""

    section: str
    cell: Cell
    reason: str


def turns(sections: Sequence[Section], *, ends_s: float, clock: Callable[[], float]) -> Iterator[Turn | Skip]:
    """Every cell once, as a turn or a skip; the clock, in seconds, must go on while a turn is taken."""
    spare, aside = 0.0, []
    for section in sections:
        section_ends = min(clock() + section.budget_s + spare, ends_s)
        for cell in section.cells:
            left = section_ends - clock()
            if left >= cell.least_s:
                yield Turn(section.name, cell, min(cell.limit_s, left))
            else:
                aside.append((section.name, cell, left))
        spare = max(0.0, section_ends - clock())
    for name, cell, before in aside:
        left = ends_s - clock()
        if left >= cell.least_s:
            yield Turn(name, cell, min(cell.limit_s, left))
        else:
            yield Skip(
                name,
                cell,
                f"it needs {cell.least_s:.0f} s; its section had {max(before, 0.0):.0f} s left, "
                f"and the end of the visit {max(left, 0.0):.0f} s",
            )


def only(sections: Sequence[Section], patterns: Sequence[str], *, without: Sequence[str] = ()) -> tuple[Section, ...]:
    """The sections with those cells alone whose names fit a glob, less some."""
    chosen = [
        replace(
            section,
            cells=tuple(
                cell
                for cell in section.cells
                if any(fnmatchcase(cell.name, glob) for glob in patterns) and cell.name not in without
            ),
        )
        for section in sections
    ]
    return tuple(section for section in chosen if section.cells)
