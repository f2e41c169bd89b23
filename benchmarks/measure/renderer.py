"""What a worker is asked that is no contestant: to render through the public API, as a script would, and to judge."""

from __future__ import annotations

import gc
from functools import lru_cache
from typing import Any

import numpy as np
from msgspec import structs, to_builtins

import jaxviz
from benchmarks.clock import Clock, CompileClock
from benchmarks.numbers import finite_floats
from jaxviz.bench import dot, machine
from jaxviz.judge.plan_judge import entries as entries_of
from jaxviz.view.measures import high_frequency_share

DOT_SIDE = 2048  # fixed, so that rates compare between races
COMMON_PX = 128  # the pictures of all presets are brought to this side before their spectra are compared


def render(
    *, model: str, weights: str, layer: str, filters: int, config: dict[str, Any], pictures: str | None
) -> dict[str, Any]:
    """Times, scores before the first step and of the final images, and the process's peak memory since it began.

    The first so many filters as a stream (`iter_render`); pictures are dropped, or saved after the clock has stopped.
    """
    network, recipe = _model(model, weights), jaxviz.RenderConfig.keras(**config)
    gc.collect()
    compiling = _compile_clock()
    compiling.reset()
    clock = Clock()
    first, final, kept, batch_size = [], [], [], 0
    for item in jaxviz.iter_render(network, layer, range(filters), recipe):
        first.append(item.history[0])
        final.append(item.score)
        batch_size = item.recipe.batch_size
        if pictures is not None:
            kept.append(item.picture)
    times = clock.read()
    if pictures is not None:
        np.save(pictures, np.stack(kept))
    return {
        "filters": filters,
        "steps": recipe.steps,
        "batch_size": batch_size,
        "compile_s": compiling.seconds(),
        **times,
        "peak_memory_mb": machine.peak_resident_mb(),
        "first_scores": finite_floats(first),
        "final_scores": finite_floats(final),
    }


def judge(*, model: str, layer: str, preset: str, filters: int, config: dict[str, Any]) -> dict[str, Any]:
    """Pictures of a preset with a model's own weights: the recipe, the natural images, and a row for each filter.

    `robust_rank` is the rank with no filter's spread taken as smaller than the layer's median: filters that hardly
    answer to natural images win no ranks by that. A filter without a percentile or a rank has not reached any.
    """
    recipe = jaxviz.RenderConfig.from_preset(preset, **config)
    result = jaxviz.render_layer(_model(model, None), layer, range(filters), recipe)
    judgement = result.judge()
    assert judgement.robust_rank is not None
    rows = [
        {
            "filter_index": item.filter_index,
            "status": item.status,
            "attempt": item.attempt,
            "score": round(float(item.score), 6) if np.isfinite(item.score) else None,
            **structs.asdict(judged),
            "robust_rank": int(robust) or None,
            "high_frequency_share": round(high_frequency_share(item.picture, side_px=COMMON_PX), 5),
        }
        for item, judged, robust in zip(result.items, entries_of(judgement), judgement.robust_rank, strict=True)
    ]
    natural = {
        "source": judgement.natural_source,
        "sha256": judgement.natural_sha256,
        "count": judgement.natural_count,
    }
    return {"recipe": to_builtins(result.recipe), "natural_images": natural, "filters": rows}


def rates() -> dict[str, list[float]]:
    """GFLOP/s of matrix products: what everybody's FLOP/s are a fraction of."""
    return dot.interleaved_rates({"float32": DOT_SIDE, "bfloat16": DOT_SIDE})


@lru_cache
def _model(name: str, weights: str | None) -> Any:
    return jaxviz.load_model(name, weights=weights, download=False)


@lru_cache
def _compile_clock() -> CompileClock:
    return CompileClock()
