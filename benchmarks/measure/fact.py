"""What a fact is: a question, how it is measured, its figures, and the claims that they are held against.

Raw measurements become figures, {case: {figure: value}}, by a pure function, and figures become verdicts here. So a
verdict can be computed again from a file, and nobody types one in.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from benchmarks.measure.bench import Bench

Figures = Mapping[str, Any]  # of one case: JSON values; a figure that does not concern the case is absent
Cases = Mapping[str, Figures]
_COMPARE = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}


@dataclass(frozen=True)
class Claim:
    """A number that a figure must not pass, in every case that has this figure."""

    text: str
    figure: str
    comparison: Literal["<=", "<", ">=", ">"]
    limit: float
    style: str = "{:.3g}"  # how the measured number is written

    def verdict(self, cases: Cases) -> dict[str, Any]:
        """The claim, the case that is nearest to breaking it or breaks it most, and whether it holds there.

        `holds` is None where no case has the figure.
        """
        found = {name: figures[self.figure] for name, figures in cases.items() if figures.get(self.figure) is not None}
        verdict: dict[str, Any] = {**asdict(self), "measured": None, "case": None, "holds": None}
        if found:
            case = (min if self.comparison in (">=", ">") else max)(found, key=lambda name: found[name])
            holds = bool(_COMPARE[self.comparison](found[case], self.limit))
            verdict |= {"measured": found[case], "case": case, "holds": holds}
        return verdict


@dataclass(frozen=True)
class Column:
    """A column of a fact's table: its heading, the figure, how that is written (or a function that writes it)."""

    heading: str
    figure: str
    style: str | Callable[[Any], str] = ".3g"

    def cell(self, figures: Figures) -> str:
        """Empty where the case has no such figure."""
        value = figures.get(self.figure)
        if value is None:
            return ""
        return format(value, self.style) if isinstance(self.style, str) else self.style(value)


@dataclass(frozen=True)
class Fact:
    """One question.

    Attributes:
        title: the heading.
        work: a sentence on what was run; `{...}` are fields of the settings.
        cases: what the rows of the table are.
        columns, claims: see above; without claims the fact is reported only.
        measure: starts the processes; its answer is JSON.
        figures: from that answer to the figures of every case; pure.
    """

    title: str
    work: str
    cases: str
    columns: tuple[Column, ...]
    claims: tuple[Claim, ...]
    measure: Callable[[Bench], dict[str, Any]]
    figures: Callable[[dict[str, Any]], dict[str, dict[str, Any]]]

    def table(self, cases: Cases) -> list[list[str]]:
        """Heading and rows, as texts."""
        rows = [[name, *(column.cell(figures) for column in self.columns)] for name, figures in cases.items()]
        return [[self.cases, *(column.heading for column in self.columns)], *rows]


def together(verdicts: list[dict[str, Any]]) -> bool | None:
    """Whether all claims hold; None where there is none, or where one could not be checked and none is broken."""
    found = [verdict["holds"] for verdict in verdicts]
    if False in found:
        return False
    return True if found and None not in found else None
