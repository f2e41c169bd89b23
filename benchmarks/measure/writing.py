"""What writing costs: a layer rendered and dropped, against the same layer as an atlas's files.

The second clock runs from the layer's first event to its last: pictures, grid.png and layer.json are on the disk then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.measure.fact import Claim, Column, Fact
from benchmarks.measure.numbers import median, six_digits

if TYPE_CHECKING:
    from benchmarks.measure.bench import Bench

ALONE, WRITTEN = "alone", "written"


def measure(bench: Bench) -> dict[str, Any]:
    """One process; both are compiled and warmed up in it, then interleaved rounds."""
    settings = bench.settings
    runs: dict[str, list[dict[str, Any]]] = {ALONE: [], WRITTEN: []}
    with bench.renderer("writing") as renderer:
        for again in range(1 + settings.writing_rounds):
            for name in runs:
                out = bench.new_folder("out") if name == WRITTEN else None
                answer = renderer.write(settings.start, settings.filters, steps=settings.steps, out=out)
                if again > 0:
                    runs[name].append(answer)
    return {"layer": settings.start.layer, "runs": runs}


def figures(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Medians, and the median of the ratios within a round."""
    alone, written = ([run["seconds"] for run in raw["runs"][name]] for name in (ALONE, WRITTEN))
    ratio = median([one / other for one, other in zip(written, alone, strict=True)])
    case = {ALONE: median(alone), WRITTEN: median(written), "over": six_digits(ratio - 1)}
    return {f"`{raw['layer']}`": case}


FACT = Fact(
    title="What writing costs",
    work="{filters} filters, {steps} steps, {size} px, random weights; medians of {writing_rounds} interleaved rounds",
    cases="layer",
    columns=(
        Column("rendered and dropped, s", ALONE, ".2f"),
        Column("rendered and written, s", WRITTEN, ".2f"),
        Column("more", "over", ".1%"),
    ),
    claims=(Claim("writing costs less than 5 % of rendering alone", "over", "<", 0.05, "{:.1%}"),),
    measure=measure,
    figures=figures,
)
