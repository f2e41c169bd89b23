"""Keras's applications through the door: fast against plain autodiff, all layers found. Right: keras_parity.py.

The smallest member of each family with random weights, three of its convolutions; of all other members what a trace
says. Both ways of a cell run in one process, the same loop with and without fast rules, in interleaved rounds.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.measure.fact import Claim, Column, Fact
from jaxviz.bench.figures import rounded

if TYPE_CHECKING:
    from benchmarks.measure.bench import Bench

KERAS_ON_JAX = {"KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}
CELLS = "measure.keras_cells"


def measure(bench: Bench) -> dict[str, Any]:
    """A process for each family, and one that traces everybody."""
    settings = bench.settings
    how = {name: getattr(settings, f"keras_{name}") for name in ("size", "batch", "steps")}
    cells = []
    for name in settings.keras_networks:
        with bench.worker(f"keras-{name}", KERAS_ON_JAX) as worker:
            cells += worker.ask(f"{CELLS}.timed", name=name, rounds=settings.rounds, **how)
    with bench.worker("keras-traced", KERAS_ON_JAX) as worker:
        names = worker.ask(f"{CELLS}.networks") if settings.keras_traced is None else settings.keras_traced
        traced = [worker.ask(f"{CELLS}.traced", name=name) for name in names]
    return {"cells": cells, "traced": traced}


def figures(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Of every cell milliseconds an image-step, the median of the paired ratios; of all, what is found."""
    cases: dict[str, dict[str, Any]] = {}
    for cell in raw["cells"]:
        seconds, work = cell["seconds"], cell["steps"] * cell["batch"]
        ratios = [slow / fast for fast, slow in zip(seconds["rules"], seconds["autodiff"], strict=True)]
        cases[f"{cell['network']} | `{cell['layer']}`"] = {
            "ms": rounded(statistics.median(seconds["rules"]) / work * 1e3),
            "autodiff_ms": rounded(statistics.median(seconds["autodiff"]) / work * 1e3),
            "times_as_fast": rounded(statistics.median(ratios)),
        }
    times = [case["times_as_fast"] for case in cases.values()]
    cases["all of these | median"] = {"median_times": rounded(statistics.median(times))}
    for found in raw["traced"]:
        cases[f"{found['network']} | every layer"] = {
            "layers": found["layers"],
            "convolutions": found["convolutions"],
            "slow": len(found["slow"]),
        }
    return cases


FACT = Fact(
    title="Keras's applications through `keras:NAME`: speed",
    work="The smallest member of each family, random weights, a shallow, a middle and a deep convolution: {keras_size} "
    "px, {keras_steps} steps, {keras_batch} images a call, medians of {rounds} interleaved rounds of the same loop "
    "with and without fast rules. Of all members what a trace finds",
    cases="network | layer",
    columns=(
        Column("ms an image-step", "ms", ".3g"),
        Column("by autodiff", "autodiff_ms", ".3g"),
        Column("times as fast", "times_as_fast", ".2f"),
        Column("median", "median_times", ".2f"),
        Column("layers", "layers", "d"),
        Column("convolutions", "convolutions", "d"),
        Column("without a fast rule", "slow", "d"),
    ),
    claims=(
        Claim("at least 2 times as fast as autodiff in the median", "median_times", ">=", 2.0, "{:.2f} times"),
        Claim("nowhere slower than autodiff", "times_as_fast", ">=", 1.0, "{:.2f} times"),
        Claim("no convolution is without a fast rule", "slow", "<=", 0, "{:.0f}"),
    ),
    measure=measure,
    figures=figures,
)
