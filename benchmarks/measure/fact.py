"""What a fact is: a question, how it is measured, its figures, and the claims that they are held against.

Raw measurements become figures, {case: {figure: value}}, by a pure function, and figures become verdicts here. So a
verdict can be computed again from a file, and nobody types one in.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.records import Result, Verdict

if TYPE_CHECKING:
    from benchmarks.measure.bench import Bench

Figures = Mapping[str, Any]  # of one case: JSON values; a figure that does not concern the case is absent
Cases = Mapping[str, Figures]
MOST_OTHERS_SHARE = 0.05  # of the machine's time during a measurement
LONG_ENOUGH_S = 1.0  # to say so: the system counts busy time in ticks of 10 ms
_COMPARE = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}


@dataclass(frozen=True)
class Claim:
    """A number that a figure must not pass, in every case that has this figure."""

    text: str
    figure: str
    comparison: Literal["<=", "<", ">=", ">"]
    limit: float
    style: str = "{:.3g}"  # how the measured number is written

    def verdict(self, cases: Cases) -> Verdict:
        """Whether it holds in the case that is nearest to breaking it or breaks it most."""
        found = {name: figures[self.figure] for name, figures in cases.items() if figures.get(self.figure) is not None}
        if not found:
            return Verdict(**asdict(self))
        case = (min if self.comparison in (">=", ">") else max)(found, key=lambda name: found[name])
        holds = bool(_COMPARE[self.comparison](found[case], self.limit))
        return Verdict(**asdict(self), measured=found[case], case=case, holds=holds)


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
        cases: what the rows of the table are; ` | ` where their names are two cells of it.
        columns, claims: see above; without claims the fact is reported only.
        measure: starts the processes; its answer is JSON.
        figures: from that answer to the figures of every case; pure.
        doubts: why that answer cannot be trusted, beside what concerns every fact.
        text: the README's Markdown of a result, with the path of its file, where the usual one will not do.
        place: the markers between which it stands.
    """

    title: str
    work: str
    cases: str
    columns: tuple[Column, ...]
    claims: tuple[Claim, ...]
    measure: Callable[[Bench], dict[str, Any]]
    figures: Callable[[dict[str, Any]], dict[str, dict[str, Any]]]
    doubts: Callable[[dict[str, Any]], list[str]] = lambda _: []
    text: Callable[[Result, str], str] | None = None
    place: str = "facts"

    def table(self, cases: Cases) -> list[list[str]]:
        """Heading and rows, as texts."""
        rows = [[name, *(column.cell(figures) for column in self.columns)] for name, figures in cases.items()]
        return [[self.cases, *(column.heading for column in self.columns)], *rows]

    def markdown_table(self, cases: Cases) -> list[str]:
        """The table as lines of Markdown."""
        heading, *rest = self.table(cases)
        rule = ["---"] * len(self.cases.split(" | ")) + ["---:"] * len(self.columns)
        return [f"| {' | '.join(row)} |" for row in (heading, rule, *rest)]
