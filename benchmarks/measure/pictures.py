"""What the presets' pictures are worth, on EfficientNet-Lite0 with its real weights; README.md explains the columns.

Every filter's saved 8-bit picture is judged beside natural images (jaxviz/judge). Every share counts all filters, dead
ones too: a filter without a percentile or a rank has not reached any. Nothing here is about time.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from benchmarks.measure.fact import Column, Fact
from benchmarks.records import Result, link, when
from benchmarks.settings import REAL_MODEL

if TYPE_CHECKING:
    from benchmarks.measure.bench import Bench


def measure(bench: Bench) -> dict[str, Any]:
    """Layer by layer and preset by preset, all in one process."""
    settings = bench.settings
    config: dict[str, Any] = {} if settings.pictured_steps is None else {"steps": settings.pictured_steps}
    if settings.pictured_size is not None:
        config |= {"image_size": settings.pictured_size, "crop": 0}
    natural: dict[str, Any] = {}
    entries = []
    with bench.worker("pictures") as worker:
        for layer in settings.pictured:
            for preset in settings.presets:
                of_it = {"model": REAL_MODEL, "layer": layer, "preset": preset, "filters": settings.filters}
                answer = worker.ask("measure.renderer.judge", **of_it, config=config)
                natural = answer.pop("natural_images")
                entries.append({"layer": layer, "preset": preset, **answer})
    return {"natural_images": natural, "entries": entries}


def figures(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Shares and medians of every layer and preset."""
    return {f"`{entry['layer']}` | {entry['preset']}": _of(entry["filters"]) for entry in raw["entries"]}


def _of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    high = [row["high_frequency_share"] for row in rows if row["status"] == "ok"]
    return {
        "filters": len(rows),
        "ok": _share(row["status"] == "ok" for row in rows),
        "dead": _share(row["status"] == "dead" for row in rows),
        "rank_1": _share(row["rank"] == 1 for row in rows),
        "rank_5": _share(row["rank"] is not None and row["rank"] <= 5 for row in rows),
        "robust_rank_5": _share(row["robust_rank"] is not None and row["robust_rank"] <= 5 for row in rows),
        "median_percentile": statistics.median(row["percentile"] or 0.0 for row in rows),
        "median_high_frequency_share": round(statistics.median(high), 4) if high else None,
    }


def _share(values: Iterable[bool]) -> float:
    return round(statistics.mean(map(float, values)), 4)


def block(result: Result, source: str) -> str:
    """The figures as text for the README beside the results."""
    entry = result.facts["pictures"]
    natural, last = entry.raw["natural_images"], len(entry.raw["entries"][0]["filters"]) - 1
    return "\n".join(
        [
            f"{when(result)}; EfficientNet-Lite0, filters 0-{last}, beside "
            f"{natural['count']} natural images ({natural['source']}); every filter: {link(source)}.",
            "",
            *FACT.markdown_table(entry.figures),
        ]
    )


FACT = Fact(
    title="The presets' pictures",
    work="{filters} filters, real weights, beside natural images",
    cases="layer | preset",
    columns=(
        Column("ok", "ok", ".0%"),
        Column("rank 1", "rank_1", ".0%"),
        Column("rank <= 5", "rank_5", ".0%"),
        Column("robust rank <= 5", "robust_rank_5", ".0%"),
        Column("median percentile", "median_percentile", ".1f"),
        Column("high-frequency share", "median_high_frequency_share", ".1%"),
    ),
    claims=(),
    measure=measure,
    figures=figures,
    text=block,
    place="pictures",
)
