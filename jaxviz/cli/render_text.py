"""What `jaxviz render` says of its pictures when they are done."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from jaxviz.cli.terminal import printable
from jaxviz.layer_record import Judged


def judged_summary(entries: Sequence[Judged]) -> dict[str, Any]:
    """How pictures stand beside natural images, over those that were judged."""
    percentiles = [entry.percentile for entry in entries if entry.percentile is not None]
    ranks = [entry.rank for entry in entries if entry.rank is not None]
    return {
        "pictures": len(entries),
        "median_percentile": statistics.median(percentiles) if percentiles else None,
        "ranked": len(ranks),
        "rank_1": sum(rank == 1 for rank in ranks),
        "rank_5": sum(rank <= 5 for rank in ranks),
    }


def summary_text(summary: dict[str, Any]) -> str:
    """The summary of a run as lines."""
    each = f", {summary['replicas']} pictures each" if summary["replicas"] > 1 else ""
    lines = [
        f"{summary['model']} {summary['layer']}: {len(summary['filters'])} filters{each} ({_counts(summary['counts'])})"
    ]
    if summary["rendered"]:
        speed = summary["rendered"] / summary["render_s"]
        lines.append(
            f"rendered {summary['rendered']} in {summary['render_s']:.1f} s, {summary['compile_s']:.1f} s of it "
            f"compilation ({speed:.2f} images/s), {summary['batch_size']} images per device and call on "
            f"{summary['device']}"
        )
    if summary["already_there"]:
        lines.append(f"{summary['already_there']} were already there")
    judged = summary["judged"]
    if judged and judged["median_percentile"] is not None:
        lines.append(
            f"beside natural images: median percentile {judged['median_percentile']:.0f}; of {judged['ranked']} "
            f"pictures {judged['rank_1']} excite their own filter most of all the layer's, {judged['rank_5']} are "
            "among its 5"
        )
    lines.append(f"pictures: {summary['folder']}")
    lines.append(f"grid:     {summary['grid']}")
    if summary["animation"]:
        lines.append(f"animated: {summary['animation']}")
    return printable("\n".join(lines))


def totals(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """What a run of many layers amounts to."""
    summed = ("rendered", "already_there", "missing", "render_s")
    counts = {status: sum(summary["counts"][status] for summary in summaries) for status in summaries[0]["counts"]}
    return {name: round(sum(summary[name] for summary in summaries), 3) for name in summed} | {"counts": counts}


def total_text(summaries: list[dict[str, Any]], whole: dict[str, Any]) -> str:
    """The summary of a run of many layers: a line each, then all of them."""
    lines = [
        f"{summary['model']} {summary['layer']}: {_counts(summary['counts'])}, {summary['rendered']} rendered in "
        f"{summary['render_s']:.1f} s{_left_to_others(summary)}: {summary['folder']}"
        for summary in summaries
    ]
    lines.append(
        f"{len(summaries)} layers: {_counts(whole['counts'])}; {whole['rendered']} rendered in "
        f"{whole['render_s']:.1f} s, {whole['already_there']} were already there{_left_to_others(whole)}"
    )
    return printable("\n".join(lines))


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def _left_to_others(summary: dict[str, Any]) -> str:
    return f", {summary['missing']} left to other shards" if summary["missing"] else ""
