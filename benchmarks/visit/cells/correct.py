"""Does a GPU compute what a CPU computes, keep the contract on batches bit for bit, and make the presets' pictures?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.material import starting_images
from benchmarks.numbers import floats
from benchmarks.visit.cells.job import job
from benchmarks.visit.cells.start import model_of
from benchmarks.visit.settings import LITE0, LITE0_LAYER, SEED, Settings
from jaxviz import LayerResult, Model, RenderConfig, load_model, render_layer
from jaxviz.config import DTYPES

SCORED_STEPS = 2  # scores before the first step and before the second
# (name, dtype, jax's matmul precision; None: its default, which is TF32 on an NVIDIA GPU of today)
PRECISIONS = (("highest", "float32", "highest"), ("tf32", "float32", None), ("bfloat16", "bfloat16", None))
CONTRACT_CROP_PX = 7


def scores(settings: Settings, folder: Path, *, layer: str) -> Iterator[dict[str, Any]]:
    """First scores, and those after one step, in each precision."""
    model = model_of(settings, folder)
    found: dict[str, Any] = {"layer": layer, "weights_sha256": model.weights_sha256, "precisions": {}}
    for name, dtype, precision in PRECISIONS:
        found["precisions"][name] = scores_in(settings, model, layer, dtype=dtype, precision=precision)
        yield found


def scores_in(
    settings: Settings, model: Model, layer: str, *, dtype: str, precision: str | None
) -> dict[str, list[float | None]]:
    """The scores of the first filters, all in one call, from images that NumPy drew."""
    filters, size = settings.scores_filters, settings.scores_size
    starts = starting_images(SEED, filters, size)
    config = RenderConfig.keras(image_size=size, steps=SCORED_STEPS, batch_size=filters, dtype=dtype)
    context: AbstractContextManager[Any] = (
        nullcontext() if precision is None else jax.default_matmul_precision(precision)
    )
    with context:
        result = render_layer(model, layer, range(filters), config, initial_images=starts)
    return {"first": floats(result.history[:, 0]), "second": floats(result.history[:, 1])}


def contract(settings: Settings, folder: Path, *, layer: str) -> Iterator[dict[str, Any]]:
    """Whether a filter's picture, scores and history are the same bits whatever it is rendered with."""
    model = model_of(settings, folder)
    found: dict[str, Any] = {"layer": layer, "dtypes": {}}
    for dtype in DTYPES:
        found["dtypes"][dtype] = contract_facts(settings, model, layer, dtype)
        yield found


def contract_facts(settings: Settings, model: Model, layer: str, dtype: str) -> dict[str, Any]:
    """Each fact: whether it holds, how many filters are off, the largest difference in grey levels."""
    count = settings.contract_filters
    config = RenderConfig.keras(
        image_size=settings.contract_size,
        crop=CONTRACT_CROP_PX,
        steps=settings.contract_steps,
        batch_size=count,
        dtype=dtype,
    )

    def render(filters: Sequence[int]) -> LayerResult:
        return render_layer(model, layer, filters, config)

    mine = list(range(count))
    first = render(mine)
    others = [index if index % 2 == 0 else count + index for index in mine]
    return {
        "rerun": _difference(first, render(mine), mine),
        "place": _difference(first, render(mine[::-1]), mine),
        "neighbours": _difference(first, render(others), mine[::2]),
        "padding": _difference(first, render(mine[-1:]), mine[-1:]),
    }


def _difference(one: LayerResult, other: LayerResult, filters: Sequence[int]) -> dict[str, Any]:
    off, grey_levels, score_difference = 0, 0, 0.0
    for index in filters:
        a, b = (result.items[result.filters.index(index)] for result in (one, other))
        same = a.score == b.score and np.array_equal(a.history, b.history) and np.array_equal(a.picture, b.picture)
        off += not same
        grey_levels = max(grey_levels, int(np.abs(a.picture.astype(int) - b.picture.astype(int)).max()))
        score_difference = max(score_difference, abs(a.score - b.score))
    return {
        "same": off == 0,
        "filters": len(filters),
        "filters_off": off,
        "largest_grey_levels": grey_levels,
        "largest_score_difference": score_difference,
    }


def preset(settings: Settings, folder: Path, *, preset: str) -> Iterator[dict[str, Any]]:  # noqa: ARG001
    """A preset's pictures on real weights, beside natural images."""
    yield preset_facts(settings, preset)


def preset_facts(settings: Settings, preset: str) -> dict[str, Any]:
    """Statuses, final scores, ranks and percentiles."""
    numbers = {"steps": settings.preset_steps, "image_size": settings.preset_size}
    config = RenderConfig.from_preset(preset, **{name: value for name, value in numbers.items() if value is not None})
    model = load_model(LITE0, download=False)
    result = render_layer(model, LITE0_LAYER, range(settings.preset_filters), config)
    judgement = result.judge()
    return {
        "layer": LITE0_LAYER,
        "preset": preset,
        "steps": config.steps,
        "size": list(config.size),
        "ok": sum(status == "ok" for status in result.status),
        "filters": len(result.status),
        "scores": floats(result.scores),
        "ranks": judgement.rank.tolist(),
        "ranked": judgement.ranked,
        "percentiles": floats(judgement.percentile),
    }


def deterministic(settings: Settings, folder: Path, *, layer: str) -> Iterator[dict[str, Any]]:
    """The contract and the main job again, with XLA told to take no nondeterministic kernels."""
    found: dict[str, Any] = {"flags": "XLA_FLAGS of this cell"}
    for part in contract(settings, folder, layer=layer):
        yield (found := found | {"contract": part})
    once = (settings.filters,)
    for part in job(settings, folder, layer=layer, size=settings.size, batch_sizes=once, dtypes=("bfloat16",)):
        yield found | {"job": part}
