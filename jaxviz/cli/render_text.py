"""What `jaxviz render` and `jaxviz atlas` say of their pictures when they are done."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import msgspec

from jaxviz.jobs.events import LayerDone


def summary_json(summary: LayerDone) -> dict[str, Any]:
    """A layer's summary as JSON values; of its judged pictures what holds for all of them."""
    values: dict[str, Any] = msgspec.to_builtins(summary)
    return values | {"judged": _judged(summary)}


def summary_text(summary: LayerDone) -> str:
    """The summary of a layer as lines."""
    each = f", {summary.replicas} pictures each" if summary.replicas > 1 else ""
    lines = [f"{summary.model} {summary.layer}: {len(summary.filters)} filters{each} ({_counts(summary.counts)})"]
    if summary.rendered and summary.compile_s is not None:
        speed = summary.rendered / summary.render_s
        lines.append(
            f"rendered {summary.rendered} in {summary.render_s:.1f} s, {summary.compile_s:.1f} s of it compilation "
            f"({speed:.2f} images/s), {summary.batch_size} images per device and call on {summary.device}"
        )
    if summary.already_there:
        lines.append(f"{summary.already_there} were already there")
    judged = _judged(summary)
    if judged and judged["median_percentile"] is not None:
        lines.append(
            f"beside natural images: median percentile {judged['median_percentile']:.0f}; of {judged['ranked']} "
            f"pictures {judged['rank_1']} excite their own filter most of all the layer's, {judged['rank_5']} are "
            "among its 5"
        )
    lines.append(f"pictures: {summary.folder}")
    lines.append(f"grid:     {summary.grid}")
    if summary.animation:
        lines.append(f"animated: {summary.animation}")
    return "\n".join(lines)


def totals(summaries: Sequence[LayerDone]) -> dict[str, Any]:
    """What a run of many layers amounts to."""
    summed = ("rendered", "already_there", "missing", "render_s")
    counts = {status: sum(summary.counts[status] for summary in summaries) for status in summaries[0].counts}
    return {name: round(sum(getattr(summary, name) for summary in summaries), 3) for name in summed} | {
        "counts": counts
    }


def total_text(summaries: Sequence[LayerDone], whole: dict[str, Any]) -> str:
    """The summary of a run of many layers: a line each, then all of them."""
    lines = [
        f"{summary.model} {summary.layer}: {_counts(summary.counts)}, {summary.rendered} rendered in "
        f"{summary.render_s:.1f} s{_left_to_others(summary.missing)}: {summary.folder}"
        for summary in summaries
    ]
    lines.append(
        f"{len(summaries)} layers: {_counts(whole['counts'])}; {whole['rendered']} rendered in "
        f"{whole['render_s']:.1f} s, {whole['already_there']} were already there{_left_to_others(whole['missing'])}"
    )
    return "\n".join(lines)


def _judged(summary: LayerDone) -> dict[str, Any] | None:
    """How pictures stand beside natural images, over those that were judged; None where none was."""
    if not summary.judged:
        return None
    percentiles = [entry.percentile for entry in summary.judged if entry.percentile is not None]
    ranks = [entry.rank for entry in summary.judged if entry.rank is not None]
    return {
        "pictures": len(summary.judged),
        "median_percentile": statistics.median(percentiles) if percentiles else None,
        "ranked": len(ranks),
        "rank_1": sum(rank == 1 for rank in ranks),
        "rank_5": sum(rank <= 5 for rank in ranks),
    }


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def _left_to_others(missing: int) -> str:
    return f", {missing} left to other shards" if missing else ""
