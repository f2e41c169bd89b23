"""One CPU device against `use_all_cores()`: time, and whether the pictures are the same.

XLA cuts sums differently for another number of threads, and `use_all_cores` asks for two threads a core; so a third
process has one device and as many threads, to tell the devices' share of any difference from the threads'.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import machine
from benchmarks.measure.fact import Claim, Column, Fact
from benchmarks.measure.numbers import grey_levels, median, six_digits

if TYPE_CHECKING:
    from benchmarks.measure.bench import Bench

ONE, THREADS, ALL = "one device", "one device, two threads a core", "`use_all_cores()`"


def measure(bench: Bench) -> dict[str, Any]:
    """Three processes that stay alive; on every target interleaved rounds, the first of which only warms up."""
    settings = bench.settings
    threads = {"PJRT_NPROC": str(2 * machine.cores())}
    ways: dict[str, dict[str, Any]] = {ONE: {}, THREADS: {"environment": threads}, ALL: {"all_cores": True}}
    found = []
    with ExitStack() as stack:
        renderers = {way: stack.enter_context(bench.renderer("devices", **how)) for way, how in ways.items()}
        for target in settings.targets:
            folder = bench.new_folder("pictures")
            runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
            for again in range(1 + settings.rounds):
                for place, (way, renderer) in enumerate(renderers.items()):
                    answer = renderer.render(
                        target,
                        settings.devices_filters,
                        steps=settings.steps,
                        pictures=folder / f"{place}.npy",
                    )
                    if again > 0:
                        runs[way].append(answer)
            found.append({"layer": target.layer, "runs": runs, "grey": _against(folder, list(ways))})
    return {"targets": found}


def _against(folder: Path, ways: list[str]) -> dict[str, Any]:
    pictures = {way: np.load(folder / f"{place}.npy") for place, way in enumerate(ways)}
    return {
        reference: {way: grey_levels(pictures[way], pictures[reference]) for way in ways if way != reference}
        for reference in (ONE, THREADS)
    }


def figures(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Medians; pictures and scores against both single devices."""
    cases: dict[str, dict[str, Any]] = {}
    for target in raw["targets"]:
        runs, grey = target["runs"], target["grey"]
        seconds = {way: median([run["seconds"] for run in found]) for way, found in runs.items()}
        for way, found in runs.items():
            case = {
                "batch_size": found[0]["batch_size"],
                "devices": found[0]["devices"],
                "seconds": seconds[way],
                "times_as_fast": six_digits(seconds[ONE] / seconds[way]),
            }
            for reference, name in ((ONE, "one"), (THREADS, "threads")):
                if way != reference:
                    case |= _pictures(name, grey[reference][way], found[0], runs[reference][0])
            if way == ALL:
                case["all_cores_differing"] = case["differing_threads"]
            cases[f"`{target['layer']}`, {way}"] = case
    return cases


def _pictures(name: str, grey: dict[str, list[Any]], ours: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    scores = zip(ours["final_scores"], reference["final_scores"], strict=True)
    differing = sum(largest > 0 or a != b for largest, (a, b) in zip(grey["largest"], scores, strict=True))
    return {
        f"differing_{name}": differing,
        f"grey_median_{name}": median(grey["largest"]),
        f"grey_worst_{name}": max(grey["largest"]),
    }


FACT = Fact(
    title="One device against all cores",
    work="{devices_filters} filters, {steps} steps, {size} px, the automatic batch size; medians of {rounds} "
    "interleaved runs; a picture differs if it or its score is not equal bit for bit",
    cases="process",
    columns=(
        Column("N", "batch_size", "d"),
        Column("s", "seconds", ".2f"),
        Column("times as fast as one device", "times_as_fast", ".2f"),
        Column("pictures unlike one device's", "differing_one", "d"),
        Column("their largest grey difference: median", "grey_median_one", ".0f"),
        Column("worst", "grey_worst_one", ".0f"),
        Column("unlike those of two threads a core", "differing_threads", "d"),
    ),
    claims=(
        Claim(
            "its pictures are those of one device with as many threads, bit for bit",
            "all_cores_differing",
            "<=",
            0,
            "{} differ",
        ),
    ),
    measure=measure,
    figures=figures,
)
