"""jaxviz against the best of the others that compute with numbers of its type, and what that should be on each CPU.

Goals are the least number of times that jaxviz is as fast; where a kind of CPU has none for a type, nothing is held
against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.settings import LAYERS, OURS, PEERS
from jaxviz.bench.figures import rounded

GOALS: Mapping[tuple[str, str], tuple[float, ...]] = {  # (`cpu.KINDS`, type): of each of `LAYERS`
    ("AMX", "float32"): (2.0, 1.15, 1.1),
    ("AMX", "bfloat16"): (1.15, 1.15, 1.15),
    ("AVX512_BF16", "float32"): (2.0, 1.2, 1.15),
    ("AVX512_BF16", "bfloat16"): (1.0, 1.0, 1.0),
    ("AVX2", "float32"): (2.5, 1.3, 1.3),  # no instructions for bfloat16, so no goal
}


def against_peers(name: str, dtype: str, seconds: Mapping[str, float]) -> dict[str, Any]:
    """The fastest peer of that type and how many times as fast the contestant is; empty if no peer ran."""
    peers = [peer for peer in PEERS[dtype] if peer in seconds]
    if not peers:
        return {}
    best = min(peers, key=lambda peer: seconds[peer])
    return {"best_peer": best, "times_as_fast_as_best_peer": rounded(seconds[best] / seconds[name])}


def against_goal(name: str, dtype: str, layer: str, kind: str | None, figures: Mapping[str, Any]) -> dict[str, float]:
    """The goal of ours at a layer on that kind of CPU, and the part of it that was reached; empty if there is none."""
    goals = dict(zip(LAYERS, GOALS.get((kind or "", dtype), ()), strict=False))
    ratio = figures.get("times_as_fast_as_best_peer")
    if name not in OURS or layer not in goals or ratio is None:
        return {}
    return {"goal": goals[layer], "of_goal": rounded(ratio / goals[layer])}
