"""READ FIRST: what a visit does, in this order, most valuable first.

    correct   does the GPU compute what a CPU computes, and keep the contract on batches?
    job       how fast is the main job, and at which N?
    race      how fast are others on the same GPU?
    profile   where does the time go?
    later     what time is left for

Budgets are those of a visit of 7 minutes and shrink or grow with it. A program compiled by one cell comes from the
compilation cache in the next, so cells of the same layer help each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from benchmarks.contestants import ENTRIES
from benchmarks.visit.schedule import Cell, Section
from benchmarks.visit.settings import CONV2, CONV3, CONV5, Settings

MINUTES = 7.0
DETERMINISTIC = {"XLA_FLAGS": "--xla_gpu_exclude_nondeterministic_ops=true"}
REHEARSAL_LIMIT_S, REHEARSAL_BUDGET_S = 240.0, 1800.0

# Of the race: (name of the cell, entry in the table of contestants, arguments besides the entry's)
CONTESTANTS: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("jaxviz_bfloat16", "jaxviz_bfloat16", {}),
    ("jaxviz_float32", "jaxviz_float32", {}),
    ("pytorch_float32", "pytorch", {}),
    ("pytorch_bfloat16", "pytorch", {"autocast": True}),
    ("plain_jax_float32", "plain_jax", {}),
    ("keras_jax", "keras_jax", {"sizes": (1,)}),
    ("plain_jax_bfloat16", "plain_jax", {"dtype": "bfloat16"}),
    ("pytorch_bfloat16_compiled", "pytorch", {"autocast": True, "compiled": True}),
    ("pytorch_float32_compiled", "pytorch", {"compiled": True}),
)
LARGE_CONTESTANTS = ("jaxviz_bfloat16", "pytorch_bfloat16")  # who also races at the larger size, if time is left


def sections(settings: Settings, minutes: float = MINUTES) -> tuple[Section, ...]:
    """The program, with budgets for a visit of so many minutes."""
    chosen = (
        Section("correct", 90, _correct()),
        Section("job", 150, _job(settings)),
        Section("race", 120, _race(settings)),
        Section("profile", 20, (Cell("profile", "profile.profile", 10, 45, {"layer": CONV5, "size": settings.size}),)),
        Section("later", 0, _later(settings)),
    )
    if settings.rehearsal:
        return tuple(_at_leisure(section) for section in chosen)
    return tuple(replace(section, budget_s=section.budget_s * minutes / MINUTES) for section in chosen)


def by_name(settings: Settings) -> dict[str, Cell]:
    """Every cell of the program."""
    return {cell.name: cell for section in sections(settings) for cell in section.cells}


def _correct() -> tuple[Cell, ...]:
    return (
        Cell("start", "start.start", 0, 85),
        Cell("scores_conv2", "correct.scores", 8, 45, {"layer": CONV2}),
        Cell("scores_conv5", "correct.scores", 15, 80, {"layer": CONV5}),
        Cell("contract_conv2", "correct.contract", 8, 45, {"layer": CONV2}),
        Cell("contract_conv5", "correct.contract", 15, 80, {"layer": CONV5}),
        Cell("distill", "correct.preset", 12, 60, {"preset": "distill"}),
        Cell("maco", "correct.preset", 12, 60, {"preset": "maco"}),
    )


def _job(settings: Settings) -> tuple[Cell, ...]:
    both = ("bfloat16", "float32")

    def job(name: str, layer: str, size: int, least_s: float, limit_s: float) -> Cell:
        arguments = {"layer": layer, "size": size, "batch_sizes": (settings.filters,), "dtypes": both}
        return Cell(name, "job.job", least_s, limit_s, arguments)

    sweep = {"layer": CONV5, "size": settings.size, "dtypes": ("bfloat16",)}
    return (
        job("job_conv5", CONV5, settings.size, 15, 120),
        job("job_conv2", CONV2, settings.size, 8, 45),
        job("job_conv3", CONV3, settings.size, 12, 75),
        job("job_conv5_large", CONV5, settings.large_size, 15, 100),
        job("job_conv2_large", CONV2, settings.large_size, 8, 45),
        Cell(
            "batch_sizes", "job.job", 20, 120, sweep | {"batch_sizes": (settings.filters, *settings.batch_sizes)}
        ),
        Cell("files", "job.files", 15, 120, {"layer": CONV5}),
    )  # fmt: skip


def _race(settings: Settings) -> tuple[Cell, ...]:
    return tuple(
        _contest(f"race_{name}", name, (CONV5, CONV2), settings.size, 60 if "compiled" not in name else 100)
        for name, _, _ in CONTESTANTS
    )


def _later(settings: Settings) -> tuple[Cell, ...]:
    return (
        Cell("deterministic", "correct.deterministic", 20, 100, {"layer": CONV5}, DETERMINISTIC),
        *(_contest(f"race_large_{name}", name, (CONV5,), settings.large_size, 60) for name in LARGE_CONTESTANTS),
    )


def _contest(cell: str, name: str, layers: tuple[str, ...], size: int, limit_s: float) -> Cell:
    entry, arguments = next((entry, arguments) for known, entry, arguments in CONTESTANTS if known == name)
    return Cell(
        cell,
        "race.contest",
        12,
        limit_s,
        {"contestant": entry, "layers": layers, "size": size, "arguments": arguments},
        ENTRIES[entry].environment,
    )


def _at_leisure(section: Section) -> Section:
    """On a CPU nothing is known of how long a cell takes."""
    cells = tuple(replace(cell, least_s=0.0, limit_s=REHEARSAL_LIMIT_S) for cell in section.cells)
    return replace(section, budget_s=REHEARSAL_BUDGET_S, cells=cells)
