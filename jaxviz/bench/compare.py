"""Two reports side by side: what differs between the runs, and how much faster B is than A, with the spread.

Rows are matched by layer, dtype and batch size; for each layer and dtype the fastest of A also meets the fastest of
B. A ratio is B's throughput over A's. Where the ranges between the quartiles overlap, or the ratio is nearer to 1 than
two runs of one machine are to each other, the difference is noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from jaxviz.bench.figures import rounded, with_figures
from jaxviz.bench.records import Report, Row
from jaxviz.errors import ResultFileError

FEWEST_REPEATS = 3  # for quartiles to mean anything
# Quartiles show the noise within a run; medians of two quick runs in a row, on a virtual machine, were up to 5 % apart.
BETWEEN_RUNS = 0.06
# Two runs compare only where all of these are equal.
MUST_AGREE = ("quick", "model", "size", "steps")

Verdict = Literal["faster", "slower", "within noise", "too few repeats"]


class Difference(Struct, frozen=True):
    """A setting, version or piece of hardware that is not the same; None: not there."""

    what: str
    a: str | None
    b: str | None


class Pair(Struct, frozen=True, kw_only=True):
    """One program of A and one of B.

    Attributes:
        ratio: image-steps per second, B over A; `ratio_range` from quartile to quartile.
        compile_ratio: of the seconds, B over A, as the memory ratios are of MiB.
        score_difference: B's mean score over A's, less 1; None where they are not of the same starts or filters.
    """

    layer: str
    dtype: str
    batch_size_a: int
    batch_size_b: int
    image_steps_per_s_a: float
    image_steps_per_s_b: float
    ratio: float
    ratio_range: tuple[float, float]
    verdict: Verdict
    compile_ratio: float | None
    program_memory_ratio: float | None
    peak_memory_ratio: float | None
    score_difference: float | None


class DotPair(Struct, frozen=True):
    """The dot rates of the two runs, one device's."""

    gflops_a: float
    gflops_b: float
    ratio: float


class Comparison(Struct, frozen=True, kw_only=True):
    """What differs, and every pair."""

    differences: tuple[Difference, ...]
    dot_rates: dict[str, DotPair]
    fastest: tuple[Pair, ...]  # of each layer and dtype
    same_batch_size: tuple[Pair, ...]
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]


def compare_reports(a: Report, b: Report) -> Comparison:
    """Compare B with A.

    Raises:
        ResultFileError: the runs measured different work: nothing can be compared.
    """
    for name in MUST_AGREE:
        ours, theirs = getattr(a.settings, name), getattr(b.settings, name)
        if ours != theirs:
            raise ResultFileError(
                f"A and B cannot be compared: {name} is {_words(ours)} in A and {_words(theirs)} in B. "
                f"Measure what A did: {a.command}"
            )
    a, b = with_figures(a), with_figures(b)
    rows_a, rows_b = _measured(a), _measured(b)
    fastest_a, fastest_b = _fastest(rows_a.values()), _fastest(rows_b.values())
    both = [key for key in fastest_a if key in fastest_b]
    if not both:
        raise ResultFileError(
            "A and B cannot be compared: no layer and dtype was measured in both. "
            f"A has {_programs(fastest_a)}; B has {_programs(fastest_b)}. Measure what A did: {a.command}"
        )
    same_starts = a.settings.seed == b.settings.seed
    steps = a.settings.steps
    return Comparison(
        differences=tuple(differences(a, b)),
        dot_rates={
            dtype: DotPair(rate.gflops, other.gflops, rounded(other.gflops / rate.gflops))
            for dtype, rate in a.dot_rates.items()
            if (other := b.dot_rates.get(dtype)) is not None
        },
        fastest=tuple(_pair(fastest_a[key], fastest_b[key], steps, same_starts) for key in both),
        same_batch_size=tuple(_pair(rows_a[key], rows_b[key], steps, same_starts) for key in rows_a if key in rows_b),
        only_in_a=tuple(_label(*key) for key in rows_a if key not in rows_b),
        only_in_b=tuple(_label(*key) for key in rows_b if key not in rows_a),
    )


def differences(a: Report, b: Report) -> Iterator[Difference]:
    """Settings, versions, hardware, tuning variables and kernels that differ, and runs that were cut short."""
    for section in ("settings", "hardware", "versions", "environment"):
        ours, theirs = (_strings(getattr(report, section)) for report in (a, b))
        for name in ours | theirs:
            if ours.get(name) != theirs.get(name):
                yield Difference(f"{section} {name}", ours.get(name), theirs.get(name))
    if a.kernels != b.kernels:
        yield Difference("kernels", a.kernels, b.kernels)
    if a.weights_sha256 != b.weights_sha256:
        yield Difference("weights sha256", a.weights_sha256[:12], b.weights_sha256[:12])
    if not (a.complete and b.complete):
        yield Difference("run", *("complete" if report.complete else "stopped early" for report in (a, b)))


def _strings(record: Any) -> dict[str, str | None]:
    fields: Mapping[str, Any] = record if isinstance(record, dict) else msgspec.structs.asdict(record)
    return {name: None if value is None else _words(value) for name, value in fields.items()}


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _measured(report: Report) -> dict[tuple[str, str, int], Row]:
    return {(row.layer, row.dtype, row.batch_size): row for row in report.rows if row.figures is not None}


def _fastest(rows: Any) -> dict[tuple[str, str], Row]:
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = (row.layer, row.dtype)
        if key not in found or row.figures.image_steps_per_s > found[key].figures.image_steps_per_s:  # type: ignore[union-attr]
            found[key] = row
    return found


def _pair(a: Row, b: Row, steps: int, same_starts: bool) -> Pair:
    (low_a, middle_a, high_a), (low_b, middle_b, high_b) = (_throughput(row, steps) for row in (a, b))
    comparable = same_starts and a.scored_filters == b.scored_filters
    return Pair(
        layer=a.layer,
        dtype=a.dtype,
        batch_size_a=a.batch_size,
        batch_size_b=b.batch_size,
        image_steps_per_s_a=middle_a,
        image_steps_per_s_b=middle_b,
        ratio=rounded(middle_b / middle_a),
        ratio_range=(rounded(low_b / high_a), rounded(high_b / low_a)),
        verdict=_verdict(a, b, middle_b / middle_a, (low_a, high_a), (low_b, high_b)),
        compile_ratio=_ratio(b.compile_s, a.compile_s),
        program_memory_ratio=_ratio(b.program_memory_mb, a.program_memory_mb),
        peak_memory_ratio=_ratio(b.peak_memory_mb, a.peak_memory_mb) if a.peak_memory_of == b.peak_memory_of else None,
        score_difference=_relative(b.mean_score, a.mean_score) if comparable else None,
    )


def _throughput(row: Row, steps: int) -> tuple[float, float, float]:
    """Image-steps per second at the third quartile of the seconds, the median, the first quartile."""
    assert row.figures is not None
    first, third = row.figures.quartiles_s
    work = row.images_per_call * steps
    return work / third, row.figures.image_steps_per_s, work / first


def _verdict(a: Row, b: Row, ratio: float, range_a: tuple[float, float], range_b: tuple[float, float]) -> Verdict:
    if min(len(a.seconds), len(b.seconds)) < FEWEST_REPEATS:
        return "too few repeats"
    if abs(ratio - 1) < BETWEEN_RUNS:
        return "within noise"
    if range_b[0] > range_a[1]:
        return "faster"
    return "slower" if range_b[1] < range_a[0] else "within noise"


def _ratio(b: float | None, a: float | None) -> float | None:
    return rounded(b / a) if a and b is not None else None


def _relative(b: float | None, a: float | None) -> float | None:
    return rounded((b - a) / abs(a)) if a and b is not None else None


def _label(layer: str, dtype: str, batch_size: int) -> str:
    return f"{layer} {dtype} N={batch_size}"


def _programs(fastest: Mapping[tuple[str, str], Row]) -> str:
    return ", ".join(f"{layer} {dtype}" for layer, dtype in fastest) or "nothing"
