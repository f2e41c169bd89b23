"""A benchmark's report and a comparison as text of at most 120 columns (longer only for longer names)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jaxviz.bench.compare import BETWEEN_RUNS, Comparison, Pair
from jaxviz.bench.figures import FLOP_PER_MAC, PASSES_PER_STEP
from jaxviz.bench.records import Hardware, Report, Row
from jaxviz.cli.terminal import table_lines

NOTHING = "-"
ENDS = {
    "saturated": "two doublings in a row gained less than 5 %",
    "memory": "the next one ran out of memory",
    "time": "cut for time: the next call would take more than 10 s",
    "cap": "the largest one that is tried",
    "given": "as asked for",
}
RATIOS = ("compile", "program", "peak")
HEADINGS = (
    "dtype",
    "N",
    "median s",
    "IQR",
    "img-steps/s",
    "images/s",
    "GFLOP/s",
    "of dot",
    "compile s",
    "fetch ms",
    "program MB",
    "score",
)


def report_text(report: Report) -> str:
    """Tables by layer, then where throughput saturates, dot rates and what the columns mean."""
    settings, hardware = report.settings, report.hardware
    size = "x".join(map(str, settings.size))
    lines = [
        f"{settings.model}, random weights, {size} px, {settings.steps} steps, {settings.repeats} repeats, "
        f"on {_device(hardware)}"
    ]
    if settings.quick:
        lines.append("A QUICK LOOK: small images, few steps and repeats; not comparable with full runs")
    if not report.complete:
        lines.append("STOPPED EARLY: only the layers that were finished")
    for layer in dict.fromkeys(row.layer for row in report.rows):
        lines += ["", *_layer_lines(report, layer)]
    lines += ["", *_saturation_lines(report), "", *_dot_lines(report), *_peak_line(report), "", *_notes(report)]
    return "\n".join(lines)


def comparison_text(comparison: Comparison, reports: tuple[Report, Report], names: tuple[str, str]) -> str:
    """What differs first, then the fastest of each, then equal batch sizes."""
    settings = reports[0].settings
    lines = [
        f"{letter}: {name} ({report.started[:10]}, jaxviz {report.versions.get('jaxviz')}, {_device(report.hardware)})"
        for letter, name, report in zip("AB", names, reports, strict=True)
    ]
    lines.append("")
    if comparison.differences:
        cells = [["what differs", "A", "B"]]
        cells += [[one.what, one.a or NOTHING, one.b or NOTHING] for one in comparison.differences]
        lines += table_lines(cells)
    else:
        lines.append("Settings, versions and hardware are the same.")
    lines += ["", "dot rate of one device, GFLOP/s, A -> B:"]
    lines += [
        f"  {dtype}: {dot.gflops_a:,.0f} -> {dot.gflops_b:,.0f} ({dot.ratio:.2f})"
        for dtype, dot in comparison.dot_rates.items()
    ]
    size = "x".join(map(str, settings.size))
    lines += ["", f"{settings.model}, {size} px, {settings.steps} steps. Ratios are B / A: above 1 B is faster", ""]
    lines += ["THE FASTEST N OF A AGAINST THE FASTEST OF B", *_pair_lines(comparison.fastest)]
    if comparison.same_batch_size:
        lines += ["", "THE SAME N IN BOTH", *_pair_lines(comparison.same_batch_size)]
    for name, only in (("A", comparison.only_in_a), ("B", comparison.only_in_b)):
        if only:
            lines += ["", f"only in {name}: {'; '.join(only)}"]
    lines += [
        "",
        "range: from quartile to quartile. within noise: the quartiles of A and B overlap, or the difference is below",
        f"{BETWEEN_RUNS:.0%}, as it may be between two runs of one machine. compile, program, peak: B / A of seconds",
        "and of MB, below 1 B takes less. score: B's final mean score against A's, which shows a speed that was bought",
        "with worse pictures.",
    ]
    return "\n".join(lines)


def _layer_lines(report: Report, layer: str) -> list[str]:
    rows = [row for row in report.rows if row.layer == layer]
    saturating = {(one.layer, one.dtype): one.saturating_batch_size for one in report.sweeps}
    gflop = FLOP_PER_MAC * PASSES_PER_STEP * rows[0].macs_per_image / 1e9
    cells = [list(HEADINGS)]
    for row in rows:
        mark = "*" if saturating.get((row.layer, row.dtype)) == row.batch_size else ""
        cells.append([row.dtype, f"{mark}{row.batch_size}", *_row_cells(row)])
    return [f"{layer}: {gflop:.3g} GFLOP per image and step", *table_lines(cells, right_from=1)]


def _row_cells(row: Row) -> list[str]:
    figures = row.figures
    if figures is None:
        return ["no memory", *[NOTHING] * (len(HEADINGS) - 3)]
    first, third = figures.quartiles_s
    return [
        _seconds(figures.median_s),
        f"{(third - first) / figures.median_s:.1%}",
        _significant(figures.image_steps_per_s),
        _significant(figures.images_per_s),
        _significant(figures.gflops),
        _or_nothing(figures.fraction_of_dot_rate, "{:.0%}".format),
        _or_nothing(row.compile_s, "{:.1f}".format),
        f"{figures.transfer_s * 1e3:.2f}",
        _or_nothing(row.program_memory_mb, "{:,.0f}".format),
        _or_nothing(row.mean_score, "{:.5g}".format),
    ]


def _saturation_lines(report: Report) -> list[str]:
    figures = {(row.layer, row.dtype, row.batch_size): row.figures for row in report.rows}
    cells = [["saturates at (*)", "dtype", "N", "img-steps/s", "fastest N", "the batch sizes ended because"]]
    for one in report.sweeps:
        size = one.saturating_batch_size
        found = figures[(one.layer, one.dtype, size)] if size is not None else None
        speed = NOTHING if found is None else _significant(found.image_steps_per_s)
        cells.append(
            [one.layer, one.dtype, str(size or NOTHING), speed, str(one.fastest_batch_size or NOTHING), ENDS[one.ended]]
        )
    return table_lines(cells)


def _peak_line(report: Report) -> list[str]:
    """The last mark is the highest: it never falls."""
    marks = [(row.peak_memory_mb, row.peak_memory_of) for row in report.rows if row.peak_memory_mb is not None]
    if not marks:
        return []
    highest, whose = max(marks, key=lambda mark: mark[0])
    return [f"peak memory of the {'whole process' if whose == 'process' else 'fullest device'}: {highest:,.0f} MB"]


def _dot_lines(report: Report) -> list[str]:
    return (
        [
            f"dot rate of one device, {dtype}: {_significant(rate.gflops)} GFLOP/s ({rate.side} x {rate.side}, "
            f"{rate.precision}; {_significant(min(rate.gflops_each))} to {_significant(max(rate.gflops_each))})"
            for dtype, rate in report.dot_rates.items()
        ]
        + [
            f"precision of {dtype} rows: {words}"
            for dtype, words in {row.dtype: row.precision for row in report.rows}.items()
        ]
        + [f"kernels: {report.kernels}"]
    )


def _notes(report: Report) -> list[str]:
    scored = max((row.scored_filters for row in report.rows), default=0)
    return [
        "N: images per device and call; *: the smallest N within 5 % of the fastest. median s: of one call, all steps,",
        "without compilation and without fetch, the way of its result to the host. GFLOP: forward and input gradient",
        "of convolutions, counted from the network's table. program MB: arguments, results and temporaries on one",
        f"device, as its compiler counts. score: of the final image, mean of the first {scored} filters.",
    ]


def _pair_lines(pairs: Sequence[Pair]) -> list[str]:
    headings = ["dtype", "N", "A img-steps/s", "B img-steps/s", "B / A", "range", "", *RATIOS, "score"]
    lines = []
    for layer in dict.fromkeys(pair.layer for pair in pairs):
        cells = [_pair_cells(pair) for pair in pairs if pair.layer == layer]
        lines += [f"{layer}:", *(f"  {line}" for line in table_lines([headings, *cells], right_from=1))]
    return lines


def _pair_cells(pair: Pair) -> list[str]:
    sizes = dict.fromkeys((pair.batch_size_a, pair.batch_size_b))
    ratios = (pair.compile_ratio, pair.program_memory_ratio, pair.peak_memory_ratio)
    return [
        pair.dtype,
        ", ".join(map(str, sizes)),
        _significant(pair.image_steps_per_s_a),
        _significant(pair.image_steps_per_s_b),
        f"{pair.ratio:.2f}",
        "{:.2f}-{:.2f}".format(*pair.ratio_range),
        pair.verdict,
        *(_or_nothing(ratio, "{:.2f}".format) for ratio in ratios),
        _or_nothing(pair.score_difference, "{:+.2%}".format),
    ]


def _device(hardware: Hardware) -> str:
    host = f"{hardware.cpu}, {hardware.cores} cores"
    several = hardware.devices > 1
    if hardware.platform == "cpu":
        return f"{host} as {hardware.devices} virtual devices" if several else host
    many = f"{hardware.devices} x " if several else ""
    return f"{many}{hardware.device_kind}, host {host}"


def _or_nothing(value: Any, write: Callable[[Any], str]) -> str:
    return NOTHING if value is None else write(value)


def _seconds(value: float) -> str:
    return f"{value:.3f}" if value >= 1 else f"{value:.4g}"


def _significant(value: float) -> str:
    """Three digits or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
