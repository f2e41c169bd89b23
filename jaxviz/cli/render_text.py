"""What `jaxviz render` says of its pictures when they are done."""

from __future__ import annotations

import statistics
from typing import Any

from jaxviz.cli.terminal import printable


def judged_summary(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """How pictures stand beside natural images, over those that were judged."""
    percentiles = [entry["percentile"] for entry in entries if entry["percentile"] is not None]
    ranks = [entry["rank"] for entry in entries if entry["rank"] is not None]
    return {
        "pictures": len(entries),
        "median_percentile": statistics.median(percentiles) if percentiles else None,
        "ranked": len(ranks),
        "rank_1": sum(rank == 1 for rank in ranks),
        "rank_5": sum(rank <= 5 for rank in ranks),
    }


def summary_text(summary: dict[str, Any]) -> str:
    """The summary of a run as lines."""
    counts = ", ".join(f"{count} {status}" for status, count in summary["counts"].items())
    each = f", {summary['replicas']} pictures each" if summary["replicas"] > 1 else ""
    lines = [f"{summary['model']} {summary['layer']}: {len(summary['filters'])} filters{each} ({counts})"]
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
