"""From raw seconds to figures. Every figure of a report is computed here, and nowhere else.

FLOP are counted from the network's table: 2 per multiply-add of convolutions and dense layers; a step is a forward
pass and an input gradient of the same cost, and one more forward pass scores the final image. Batch norms, pools and
the update are not counted, and what a compiler or a shortcut saves is not deducted.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from msgspec.structs import replace

from jaxviz.bench.records import DotRate, Figures, Report, Row, Sweep, SweepEnd

FLOP_PER_MAC = 2
PASSES_PER_STEP = 2  # forward, and the gradient at the image
NEAR_BEST = 0.95  # of the highest throughput: a larger batch is not worth its memory
SMALLEST_GAIN = 1.05  # of a doubling over the best so far
FLAT_DOUBLINGS = 2  # in a row, and throughput has saturated
LARGEST_AUTO_BATCH = 1024
MOST_CALL_S = 10.0  # that a sweep lets one call take: a laptop should not be held for hours


Key = TypeVar("Key")
Answer = TypeVar("Answer")


def with_figures(report: Report) -> Report:
    """The report with all that can be computed from its raw values."""
    dots = {
        dtype: replace(rate, gflops=rounded(statistics.median(rate.gflops_each)))
        for dtype, rate in report.dot_rates.items()
    }
    separate = 1 if report.hardware.platform == "cpu" else report.hardware.devices
    rows = tuple(
        replace(row, figures=row_figures(row, report.settings.steps, dots.get(row.dtype), separate))
        for row in report.rows
    )
    return replace(report, dot_rates=dots, rows=rows, sweeps=tuple(_with_sizes(sweep, rows) for sweep in report.sweeps))


def row_figures(row: Row, steps: int, dot: DotRate | None, separate_devices: int) -> Figures | None:
    """The figures of one row; None if it was not measured.

    A dot rate is one device's. Virtual devices of one CPU share its cores, which a single product fills, so they
    count as one.
    """
    if row.status != "ok":
        return None
    median = statistics.median(row.seconds)
    first, third = quartiles(row.seconds)
    gflops = row.images_per_call * flop_per_image(row.macs_per_image, steps) / median / 1e9
    rate = dot.gflops if dot is not None else 0.0
    return Figures(
        median_s=rounded(median),
        quartiles_s=(rounded(first), rounded(third)),
        image_steps_per_s=rounded(row.images_per_call * steps / median),
        images_per_s=rounded(row.images_per_call / median),
        gflops=rounded(gflops),
        fraction_of_dot_rate=None if not rate else rounded(gflops / (rate * separate_devices)),
        transfer_s=rounded(statistics.median(row.transfer_seconds)),
    )


def flop_per_image(macs: int, steps: int) -> int:
    """FLOP of one whole ascent: `steps` forward passes and gradients, and the final forward pass."""
    return FLOP_PER_MAC * macs * (PASSES_PER_STEP * steps + 1)


def saturating_batch_size(throughputs: Mapping[int, float]) -> int | None:
    """The smallest batch size whose throughput is within 5 % of the highest; None without any."""
    best = max(throughputs.values(), default=0.0)
    return min((size for size, rate in throughputs.items() if rate >= NEAR_BEST * best), default=None)


def sweep_end(throughputs: Sequence[float], batch_size: int, call_s: float) -> SweepEnd | None:
    """Why a sweep of doubling batch sizes ends after `batch_size`, whose call took `call_s`; None: it goes on."""
    flat = 0
    for place in range(1, len(throughputs)):
        flat = flat + 1 if throughputs[place] < SMALLEST_GAIN * max(throughputs[:place]) else 0
    if flat >= FLAT_DOUBLINGS:
        return "saturated"
    if 2 * batch_size > LARGEST_AUTO_BATCH:
        return "cap"
    return "time" if 2 * call_s > MOST_CALL_S else None


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """First and third quartile."""
    if len(values) == 1:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third


def in_turns(rounds: int, actions: Mapping[Key, Callable[[], Answer]]) -> dict[Key, list[Answer]]:
    """What each action answers when they take turns, A B C A B C: a machine that drifts drifts for all of them."""
    answers: dict[Key, list[Answer]] = {key: [] for key in actions}
    for _ in range(rounds):
        for key, action in actions.items():
            answers[key].append(action())
    return answers


def _with_sizes(sweep: Sweep, rows: Sequence[Row]) -> Sweep:
    rates = {
        row.batch_size: row.figures.image_steps_per_s
        for row in rows
        if (row.layer, row.dtype) == (sweep.layer, sweep.dtype) and row.figures is not None
    }
    fastest = max(rates, key=lambda size: rates[size], default=None)
    return replace(sweep, saturating_batch_size=saturating_batch_size(rates), fastest_batch_size=fastest)


def rounded(value: float) -> float:
    """Six significant digits: more are noise."""
    return float(f"{value:.6g}")
