"""The text of a visit for README.md: what holds, the main job, the sweep of N, the race, where the time goes."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from benchmarks.visit.program import CONTESTANTS, LARGE_CONTESTANTS
from benchmarks.visit.settings import CONV2, CONV5
from benchmarks.visit.verdicts import result_of, verdicts, why_not

NOTHING_YET = "Not measured on a GPU yet; `benchmarks/gpu_visit.sh` does it in seven minutes."
JOBS = ("job_conv5", "job_conv2", "job_conv3", "job_conv5_large", "job_conv2_large")
NEAR_BEST = 0.97  # of the highest throughput: a larger N is not worth its memory
MOST_OPERATIONS = 10
LABELS = {
    "jaxviz_bfloat16": "**jaxviz**, bfloat16",
    "jaxviz_float32": "**jaxviz**, float32",
    "pytorch_float32": "PyTorch eager, TF32",
    "pytorch_bfloat16": "PyTorch eager, bfloat16 autocast",
    "plain_jax_float32": "JAX, `jit(vmap(scan))`, float32",
    "plain_jax_bfloat16": "JAX, `jit(vmap(scan))`, bfloat16",
    "keras_jax": "Keras on JAX, its published loop, one filter at a time",
    "pytorch_bfloat16_compiled": "PyTorch, `torch.compile`, bfloat16 autocast",
    "pytorch_float32_compiled": "PyTorch, `torch.compile`, TF32",
}


def block(record: dict[str, Any], source: str) -> str:
    """The text between the markers."""
    cells = {cell["name"]: cell for cell in record["cells"]}
    start = result_of(cells, "start") or {"device": {"device_kind": "unknown GPU"}, "versions": {}}
    versions = record["versions"] | start["versions"]
    day = datetime.fromisoformat(record["started"]).date()
    commit = f"commit {(record['git']['hash'] or 'unknown')[:7]}"
    shown = {"jax": "JAX", "jaxlib": "jaxlib", "torch": "PyTorch", "keras": "Keras"}
    software = ", ".join(f"{label} {versions[name]}" for name, label in shown.items() if versions.get(name))
    gpu = "; ".join(record["hardware"]["gpus"]) or start["device"]["device_kind"]
    return "\n".join(
        [
            *(["**A rehearsal on a CPU: no figure of a GPU.**", ""] if record["rehearsal"] else []),
            f"{start['device']['device_kind']} ({gpu}), {day}, {commit}, {software}; everything: "
            f"[{source}](gpu/{source}).",
            "",
            *_verdicts(record),
            *_jobs(record, cells),
            *_batch_sizes(cells),
            *_files(cells),
            *_race(record, cells),
            *_profile(cells),
            *_left_out(record),
        ]
    )


def _verdicts(record: dict[str, Any]) -> Iterator[str]:
    yield from ("### What holds", "")
    words = {True: "holds", False: "**does not hold**", None: "not measured"}
    for verdict in verdicts(record):
        yield f"- {verdict.fact}: {words[verdict.holds]} ({verdict.words})."
    yield ""


def _jobs(record: dict[str, Any], cells: dict[str, Any]) -> Iterator[str]:
    settings = record["settings"]
    yield from (
        "### The main job",
        "",
        f"{settings['filters']} filters x {settings['steps']} steps in one call, medians of {settings['repeats']}; the "
        "share is of the rate of square matrix products in the same process. What an earlier cell has compiled or "
        "tuned shortens compilation.",
        "",
        "| layer, image | dtype | s | image-steps/s | TFLOP/s | share of the dot rate | compilation, s | mean score |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    )
    for name in JOBS:
        result = result_of(cells, name)
        if result is None:
            continue
        for row in result["rows"]:
            figures = row["figures"]
            if figures is None:
                yield f"| `{row['layer']}`, {result['size']} px | {row['dtype']} | out of memory | | | | | |"
                continue
            share = figures["fraction_of_dot_rate"]
            compile_s = f"{row['compile_s']:.1f}" + (" (cached)" if row.get("compiled_before") else "")
            yield (
                f"| `{row['layer']}`, {result['size']} px | {row['dtype']} | {figures['median_s']:.4g} | "
                f"{figures['image_steps_per_s']:,.0f} | {figures['gflops'] / 1000:.4g} | "
                f"{'' if share is None else f'{share:.0%}'} | {compile_s} | {_score(row['mean_score'])} |"
            )
    yield ""


def _batch_sizes(cells: dict[str, Any]) -> Iterator[str]:
    result = result_of(cells, "batch_sizes")
    measured = [row for row in (result or {"rows": []})["rows"] if row["figures"]]
    if result is None or not measured:
        return
    best = max(row["figures"]["images_per_s"] for row in measured)
    near = min(row["batch_size"] for row in measured if row["figures"]["images_per_s"] >= NEAR_BEST * best)
    yield from (
        "### N on this GPU",
        "",
        f"`{result['layer']}`, {result['size']} px, bfloat16, doubled until nothing is gained; the smallest N within "
        f"{1 - NEAR_BEST:.0%} of the best is {near}.",
        "",
        "| N | finished images/s | s a call | program memory, GiB |",
        "| ---: | ---: | ---: | ---: |",
    )
    for row in result["rows"]:
        figures = row["figures"]
        if figures is None:
            yield f"| {row['batch_size']} | out of memory | | |"
            continue
        memory = "" if row["program_memory_mb"] is None else f"{row['program_memory_mb'] / 1024:.2f}"
        yield f"| {row['batch_size']} | {figures['images_per_s']:,.1f} | {figures['median_s']:.4g} | {memory} |"
    yield ""


def _files(cells: dict[str, Any]) -> Iterator[str]:
    result = result_of(cells, "files")
    if result and "summary" in result:
        count = sum(result["summary"]["counts"].values())
        yield from (
            f"`{result['command']}`: {count} filters in {result['seconds']:.1f} s from the start of the process to "
            f"{result['files']} pictures of {result['mib']:.1f} MiB, {result['summary']['render_s']:.1f} s of it "
            "rendering and writing.",
            "",
        )


def _race(record: dict[str, Any], cells: dict[str, Any]) -> Iterator[str]:
    settings = record["settings"]
    yield from (
        "### The race on this GPU",
        "",
        f"Image-steps per second of the whole ascent, {settings['steps']} steps, from starting images to final images "
        f"on the host; medians of {settings['race_repeats']} warm runs. jaxviz through `render_layer`, pictures "
        "included.",
        "",
        f"| contestant | `{CONV5}`, {settings['size']} px | `{CONV2}`, {settings['size']} px | `{CONV5}`, "
        f"{settings['large_size']} px |",
        "| --- | ---: | ---: | ---: |",
    )
    for name, _, _ in CONTESTANTS:
        places = [(f"race_{name}", CONV5), (f"race_{name}", CONV2), (f"race_large_{name}", CONV5)]
        shown = [_speed(cells, cell, layer) for cell, layer in places[: 3 if name in LARGE_CONTESTANTS else 2]]
        yield f"| {LABELS[name]} | {' | '.join([*shown, ''][:3])} |"
    yield ""


def _speed(cells: dict[str, Any], name: str, layer: str) -> str:
    values = (result_of(cells, name) or {"layers": {}})["layers"].get(layer)
    if values is None:
        return str(cells.get(name, {}).get("status", "not run"))
    return f"{values['image_steps_per_s']:,.0f} ({statistics.median(values['seconds']):.4g} s)"


def _profile(cells: dict[str, Any]) -> Iterator[str]:
    result = result_of(cells, "profile")
    if not result or not result["operations"]:
        return
    yield from (
        "### Where the time goes",
        "",
        f"One call of `{result['layer']}`, {result['size']} px, {result['dtype']}, N = {result['batch_size']}: "
        f"operations took {result['busy_s']:.4g} s within {result['span_s']:.4g} s.",
        "",
        "| operation | share | times |",
        "| --- | ---: | ---: |",
    )
    for operation in result["operations"][:MOST_OPERATIONS]:
        name = operation["name"].replace("|", "/")
        yield f"| `{name}` | {operation['share']:.1%} | {operation['count']} |"
    yield ""


def _left_out(record: dict[str, Any]) -> Iterator[str]:
    left = [cell for cell in record["cells"] if cell["status"] != "complete"]
    if left:
        yield "Not complete: " + "; ".join(f"{cell['name']} ({why_not(cell)})" for cell in left) + "."


def _score(score: float | None) -> str:
    return "" if score is None else f"{score:.4f}"
