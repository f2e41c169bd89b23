"""How far bfloat16 operands move scores and pictures, beside what another batch size alone does in float32.

Libraries choose other kernels for another N, and the ascent amplifies their rounding: that is the float32 yardstick.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure.fact import Claim, Column, Fact
from benchmarks.numbers import differences, grey_levels, median, relative
from jaxviz.bench.figures import rounded

if TYPE_CHECKING:
    from benchmarks.measure.bench import Bench


def measure(bench: Bench) -> dict[str, Any]:
    """Every target three times, each in a fresh process: the reference first."""
    first, second = bench.settings.drift_batches
    ways = {
        f"float32, N = {first}": {"dtype": "float32", "batch_size": first},
        f"float32, N = {second}": {"dtype": "float32", "batch_size": second},
        f"bfloat16, N = {first}": {"dtype": "bfloat16", "batch_size": first},
    }
    found = []
    for target in bench.settings.targets:
        runs: dict[str, Any] = {}
        reference: np.ndarray | None = None
        for way, config in ways.items():
            folder = bench.new_folder("drift")
            with bench.worker("drift") as worker:
                answer = bench.render(
                    worker,
                    target,
                    bench.settings.filters,
                    steps=bench.settings.steps,
                    pictures=folder / "pictures.npy",
                    **config,
                )
            pictures = np.load(folder / "pictures.npy")
            reference = pictures if reference is None else reference
            runs[way] = {**answer, "dtype": config["dtype"], "grey": grey_levels(pictures, reference)}
        found.append({"layer": target.layer, "runs": runs})
    return {"targets": found}


def figures(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A case for every run but the reference, and the reference's mean score."""
    cases: dict[str, dict[str, Any]] = {}
    for target in raw["targets"]:
        (name, reference), *others = target["runs"].items()
        mean = statistics.fmean(reference["final_scores"])
        cases[f"`{target['layer']}`, {name}"] = {"mean_score": rounded(mean)}
        for way, run in others:
            ours = statistics.fmean(run["final_scores"])
            filters, grey = differences(run["final_scores"], reference["final_scores"]), run["grey"]
            off = relative(ours, mean)
            case = {
                "mean_score": rounded(ours),
                "off": off,
                "filter_median": median(filters),
                "filter_worst": max(filters),
                "grey_mean": median(grey["mean"]),
                "grey_median": median(grey["largest"]),
                "grey_worst": max(grey["largest"]),
            }
            if run["dtype"] == "bfloat16":
                case["bfloat16_off"] = abs(off)
            cases[f"`{target['layer']}`, {way}"] = case
    return cases


FACT = Fact(
    title="Drift of bfloat16 against float32",
    work="{filters} filters, {steps} steps, {size} px; differences from the first row of each layer",
    cases="run",
    columns=(
        Column("mean score", "mean_score", ".4f"),
        Column("off", "off", "+.2%"),
        Column("filters off: median", "filter_median", ".1%"),
        Column("worst", "filter_worst", ".1%"),
        Column("grey levels off: mean", "grey_mean", ".2f"),
        Column("largest of a picture, median", "grey_median", ".0f"),
        Column("worst", "grey_worst", ".0f"),
    ),
    claims=(
        Claim("the mean final score in bfloat16 is within 5 % of float32's", "bfloat16_off", "<=", 0.05, "{:.2%}"),
    ),  # the limit that the race sets bfloat16 before the first step
    measure=measure,
    figures=figures,
)
