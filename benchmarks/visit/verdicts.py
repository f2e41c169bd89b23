"""From the raw values of a visit to what holds and what does not; nothing is measured here."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.numbers import differences
from benchmarks.visit import reference as references
from benchmarks.visit.settings import CONV5

# Largest differences of scores from the CPU's in float32, relative to the score or the mean size, whichever is larger.
# Two paths of one CPU differ by 3e-7 before the first step and by 2e-5 after it, where a ReLU or a pool switches.
# The GPU's path, run on a CPU, is off by 0.009 and 0.015 at most in bfloat16, and by 0.0016 with operands cut to TF32.
TOLERANCES = {"highest": 1e-4, "tf32": 5e-3, "bfloat16": 5e-2}
# Of a contestant's first scores from jaxviz's in float32: each rounds in its own way.
RACE_TOLERANCES = {"float32": 2 * TOLERANCES["tf32"], "bfloat16": TOLERANCES["bfloat16"]}
# 256 steps amplify every rounding into another picture, so only medians over the filters compare. On a CPU another N or
# bfloat16 moved the median rank by 1 at most, and the median percentile not at all.
PERCENTILE_POINTS = 5.0  # that the median may be lower
RANKS = 0.02  # of the layer's filters that the median rank may be further behind
GOAL_CELL, GOAL_S = "job_conv5_large", 0.3  # 64 filters x 30 steps in bfloat16


class Verdict(NamedTuple):
    """A fact; `holds` is None where nothing was measured, and `words` say why."""

    fact: str
    holds: bool | None
    words: str


def verdicts(record: dict[str, Any]) -> list[Verdict]:
    """All of them, in the order of the program."""
    known = references.read()
    cells = {cell["name"]: cell for cell in record["cells"]}
    return [
        _weights(cells, known),
        *_scores(cells, known),
        *_contract(cells),
        *_presets(record, cells, known),
        *_products(record, cells),
        _memory(cells),
        _goal(record, cells),
        _files(cells),
        *_race(cells),
    ]


def why_not(cell: dict[str, Any] | None) -> str:
    """Why a cell has no result."""
    if cell is None:
        return "not in this visit"
    return f"{cell['status']}: {cell.get('reason') or 'cut off'}"


def result_of(cells: dict[str, dict[str, Any]], name: str) -> dict[str, Any] | None:
    """The result of a cell, as far as it came."""
    found: dict[str, Any] | None = cells.get(name, {}).get("result")
    return found


def _weights(cells: dict[str, Any], known: dict[str, Any]) -> Verdict:
    fact = "The seeded weights are the CPU's, bit for bit"
    found = (result_of(cells, "start") or {}).get("weights_sha256")
    if found is None:
        return Verdict(fact, None, why_not(cells.get("start")))
    same = found == known["weights_sha256"]
    return Verdict(fact, same, found[:12] if same else f"{found[:12]}, and the CPU's {known['weights_sha256'][:12]}")


def _scores(cells: dict[str, Any], known: dict[str, Any]) -> Iterator[Verdict]:
    for name in ("scores_conv2", "scores_conv5"):
        result = result_of(cells, name)
        for precision, tolerance in TOLERANCES.items():
            fact = f"Scores in {precision} within {tolerance:g} of the CPU's float32 ({name.removeprefix('scores_')})"
            values = (result or {"precisions": {}})["precisions"].get(precision)
            if result is None or values is None:
                yield Verdict(fact, None, why_not(cells.get(name)))
                continue
            wanted = known["scores"][result["layer"]]
            first, second = (max(differences(values[key], wanted[key])) for key in ("first", "second"))
            words = f"{first:.1e} before the first step, {second:.1e} after it"
            yield Verdict(fact, max(first, second) <= tolerance, words)


def _contract(cells: dict[str, Any]) -> Iterator[Verdict]:
    for name in ("contract_conv2", "contract_conv5", "deterministic"):
        result = result_of(cells, name)
        contract = result.get("contract", {}) if result and name == "deterministic" else result
        where = "without nondeterministic kernels" if name == "deterministic" else name.removeprefix("contract_")
        for dtype in ("float32", "bfloat16"):
            fact = f"The contract on batches in {dtype} ({where})"
            facts = (contract or {}).get("dtypes", {}).get(dtype)
            if facts is None:
                yield Verdict(fact, None, why_not(cells.get(name)))
                continue
            broken = [
                f"{what}: {values['filters_off']} of {values['filters']} filters, up to "
                f"{values['largest_grey_levels']} grey levels"
                for what, values in facts.items()
                if not values["same"]
            ]
            yield Verdict(fact, not broken, "; ".join(broken) or f"bit for bit: {', '.join(facts)}")


def _presets(record: dict[str, Any], cells: dict[str, Any], known: dict[str, Any]) -> Iterator[Verdict]:
    for name in references.PRESETS:
        fact = f"The preset {name} makes pictures as good as the CPU's"
        result, wanted = result_of(cells, name), known["presets"][name]
        if result is None:
            yield Verdict(fact, None, why_not(cells.get(name)))
            continue
        ours, theirs = _medians(result), _medians(wanted)
        words = (
            f"{result['ok']} of {result['filters']} ok; median percentile {ours[0]:.1f}, median rank {ours[1]:.0f} of "
            f"{result['ranked']}; the CPU's: {theirs[0]:.1f}, {theirs[1]:.0f}"
        )
        if record["rehearsal"]:
            yield Verdict(fact, None, f"cut down; {words}")
            continue
        good = ours[0] >= theirs[0] - PERCENTILE_POINTS and ours[1] <= theirs[1] + RANKS * wanted["ranked"]
        yield Verdict(fact, good and result["ok"] == result["filters"], words)


def _medians(preset: dict[str, Any]) -> tuple[float, float]:
    """(percentile, rank); a filter without them counts as the worst."""
    percentiles = [value or 0.0 for value in preset["percentiles"]]
    return statistics.median(percentiles), statistics.median(rank or preset["ranked"] for rank in preset["ranks"])


def _products(record: dict[str, Any], cells: dict[str, Any]) -> Iterator[Verdict]:
    for name in ("job_conv5", "job_conv2"):
        fact = f"In bfloat16 no product has float32 operands ({name.removeprefix('job_')})"
        row = first_row(cells, name, "bfloat16")
        products = row and row.get("products")
        if not products:
            yield Verdict(fact, None, why_not(cells.get(name)) if row is None else "the program shows no text")
            continue
        counts = ", ".join(f"{count} {kind}" for kind, count in products["counts"].items())
        if record["rehearsal"]:
            yield Verdict(fact, None, f"a CPU multiplies some in float32; {counts}")
            continue
        wide = f"; {', '.join(products['first_float32'])}" if products["float32_operands"] else ""
        yield Verdict(fact, products["products"] > 0 and not products["float32_operands"], counts + wide)


def _memory(cells: dict[str, Any]) -> Verdict:
    fact = "The program of the goal below fits the memory that JAX may use"
    row = first_row(cells, GOAL_CELL, "bfloat16")
    if row is None or not row.get("program_memory_mb") or not row.get("free_mb"):
        return Verdict(fact, None, why_not(cells.get(GOAL_CELL)) if row is None else "the device does not tell")
    words = f"{row['program_memory_mb'] / 1024:.2f} of {row['free_mb'] / 1024:.1f} GiB, N = {row['batch_size']}"
    return Verdict(fact, row["status"] == "ok" and row["program_memory_mb"] < row["free_mb"], words)


def _goal(record: dict[str, Any], cells: dict[str, Any]) -> Verdict:
    settings = record["settings"]
    fact = (
        f"{settings['filters']} filters x {settings['steps']} steps of `{CONV5}` at {settings['large_size']} px in "
        f"bfloat16 take at most {GOAL_S} s"
    )
    row = first_row(cells, GOAL_CELL, "bfloat16")
    if row is None or not row.get("figures"):
        return Verdict(fact, None, why_not(cells.get(GOAL_CELL)))
    seconds = row["figures"]["median_s"]
    return Verdict(fact, None if record["rehearsal"] else seconds <= GOAL_S, f"{seconds:.3f} s")


def _files(cells: dict[str, Any]) -> Verdict:
    fact = "A whole layer through the command line has a picture of every filter"
    result = result_of(cells, "files")
    if result is None:
        return Verdict(fact, None, why_not(cells.get("files")))
    if "summary" not in result:
        return Verdict(fact, None, f"cut off after {result['files']} files in {result['seconds']} s")
    counts = result["summary"]["counts"]
    return Verdict(fact, counts["nan"] == 0 and result["summary"]["missing"] == 0, f"{counts} in {result['seconds']} s")


def _race(cells: dict[str, Any]) -> Iterator[Verdict]:
    wanted = result_of(cells, "race_jaxviz_float32")
    for name, cell in cells.items():
        if not name.startswith("race_") or name.startswith(("race_large", "race_jaxviz_float32")):
            continue
        dtype = "bfloat16" if "bfloat16" in name else "float32"
        tolerance = RACE_TOLERANCES[dtype]
        fact = f"{name.removeprefix('race_')} starts from jaxviz's float32 scores within {tolerance:g}"
        if wanted is None or not cell.get("result"):
            yield Verdict(fact, None, why_not(cells.get("race_jaxviz_float32") if wanted is None else cell))
            continue
        worst = 0.0
        for layer, values in cell["result"]["layers"].items():
            if layer in wanted["layers"]:
                first = wanted["layers"][layer]["first_scores"][: len(values["first_scores"])]
                worst = max(worst, *differences(values["first_scores"], first))
        yield Verdict(fact, worst <= tolerance, f"{worst:.1e}")


def first_row(cells: dict[str, Any], name: str, dtype: str) -> dict[str, Any] | None:
    """The first row of a job in a dtype."""
    rows = (result_of(cells, name) or {"rows": []})["rows"]
    return next((row for row in rows if row["dtype"] == dtype), None)
