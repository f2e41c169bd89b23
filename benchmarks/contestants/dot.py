"""The speed that this machine reaches at a plain matrix product: what everybody's FLOP/s is a fraction of."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp

from benchmarks.settings import Task

SIDE = 2048
TIMINGS = 10


class Dot:
    """Not a contestant: it has `rates` only."""

    def __init__(self, task: Task) -> None:
        del task  # the size is fixed, so that rates compare between races
        keys = jax.random.split(jax.random.key(0))
        self._operands = [jax.random.normal(key, (SIDE, SIDE), jnp.float32) for key in keys]

    def rates(self) -> dict[str, list[float]]:
        """GFLOP/s of ten float32 products, and of ten with bfloat16 operands and a float32 result."""
        return {name: self._rates(jnp.dtype(name)) for name in ("float32", "bfloat16")}

    def _rates(self, dtype: jnp.dtype) -> list[float]:
        a, b = (operand.astype(dtype) for operand in self._operands)
        dot = jax.jit(lambda x, y: jnp.dot(x, y, preferred_element_type=jnp.float32))
        dot(a, b).block_until_ready()
        found = []
        for _ in range(TIMINGS):
            started = time.perf_counter()
            dot(a, b).block_until_ready()
            found.append(2 * SIDE**3 / (time.perf_counter() - started) / 1e9)
        return found
