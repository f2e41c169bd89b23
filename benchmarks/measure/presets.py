"""What the preset `distill` costs: the same steps, size and layer in `keras` and in `distill`.

The presets' other numbers are their own: image, optimiser, transforms, rescue. A filter that is dead is tried again in
`distill`, and that counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.measure.fact import Claim, Column, Fact
from benchmarks.measure.numbers import median, six_digits

if TYPE_CHECKING:
    from benchmarks.measure.bench import Bench

PRESETS = ("keras", "distill")


def measure(bench: Bench) -> dict[str, Any]:
    """One process a layer; both presets are compiled and warmed up in it, then interleaved rounds."""
    settings = bench.settings
    found = []
    for target in settings.presets:
        with bench.renderer("presets") as renderer:
            runs: dict[str, list[dict[str, Any]]] = {preset: [] for preset in PRESETS}
            for again in range(1 + settings.rounds):
                for preset in PRESETS:
                    answer = renderer.render(
                        target,
                        settings.filters,
                        steps=settings.steps,
                        preset=preset,
                        image_size=settings.presets_size,
                        crop=0,
                    )
                    if again > 0:
                        runs[preset].append(answer)
        found.append({"layer": target.layer, "runs": runs})
    return {"targets": found}


def figures(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Medians, and the median of the ratios within a round."""
    cases: dict[str, dict[str, Any]] = {}
    for target in raw["targets"]:
        seconds = {preset: [run["seconds"] for run in runs] for preset, runs in target["runs"].items()}
        ratios = [distill / keras for keras, distill in zip(seconds["keras"], seconds["distill"], strict=True)]
        cases[f"`{target['layer']}`"] = {
            "batch_size": target["runs"]["distill"][0]["batch_size"],
            "keras": median(seconds["keras"]),
            "distill": median(seconds["distill"]),
            "ratio": six_digits(median(ratios)),
        }
    return cases


FACT = Fact(
    title="The cost of `distill`",
    work="{filters} filters, {steps} steps, {presets_size} px, real weights; medians of {rounds} interleaved rounds",
    cases="layer",
    columns=(
        Column("N", "batch_size", "d"),
        Column("keras, s", "keras", ".1f"),
        Column("distill, s", "distill", ".1f"),
        Column("times keras", "ratio", ".3f"),
    ),
    claims=(Claim("distill costs at most 1.5 times the same steps of keras", "ratio", "<=", 1.5, "{:.3f} times"),),
    measure=measure,
    figures=figures,
)
