"""The rate of a plain matrix product on the measured device: what the FLOP/s of everything else are a fraction of.

Square products of float32 or bfloat16 operands with a float32 result, at jax's current precision, on the default
device alone; on a CPU with virtual devices that one product spreads over all threads, so it is the whole machine's
rate. A CPU that does not multiply bfloat16 numbers has them as float32, as in a render. Operands are normal noise:
zeros would draw less power, and so run faster, than real work.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp

from jaxviz.bench.figures import in_turns
from jaxviz.machine import multiplies_bfloat16, ran_out_of_memory

SIDES = tuple(2**power for power in range(10, 17))  # 1024 ... 65536, as far as they are quick and fit
ENOUGH_S = 0.05  # a product that takes longer hides every overhead: no larger one is tried
PROBES = 3
TIMINGS = 5


def best_sides(dtypes: Iterable[str]) -> dict[str, int]:
    """For each dtype the side at which products run fastest."""
    return {dtype: _best_side(dtype) for dtype in dtypes}


def interleaved_rates(sides: Mapping[str, int]) -> dict[str, list[float]]:
    """GFLOP/s of some products of each dtype, in turns."""
    products = {dtype: _product(dtype, side) for dtype, side in sides.items()}
    seconds = in_turns(TIMINGS, products)
    return {dtype: [_gflop(side) / each for each in seconds[dtype]] for dtype, side in sides.items()}


def operands(dtype: str) -> str:
    """The dtype of what a render in `dtype` multiplies on the default device."""
    return "float32" if jax.default_backend() == "cpu" and not multiplies_bfloat16() else dtype


def _best_side(dtype: str) -> int:
    rates: dict[int, float] = {}
    for side in SIDES:
        try:
            product = _product(dtype, side)
            seconds = statistics.median(product() for _ in range(PROBES))
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            if rates and ran_out_of_memory(error):
                break
            raise
        rates[side] = _gflop(side) / seconds
        if seconds > ENOUGH_S:
            break
    return max(rates, key=lambda side: rates[side])


def _product(dtype: str, side: int) -> Callable[[], float]:
    """A function that multiplies once and returns the seconds; warmed up."""
    keys = jax.random.split(jax.random.key(0, impl="threefry2x32"))
    a, b = (jax.random.normal(key, (side, side), jnp.float32).astype(operands(dtype)) for key in keys)
    dot = jax.jit(lambda a, b: jnp.dot(a, b, preferred_element_type=jnp.float32))

    def seconds() -> float:
        started = time.perf_counter()
        dot(a, b).block_until_ready()
        return time.perf_counter() - started

    seconds()
    return seconds


def _gflop(side: int) -> float:
    return float(2 * side**3 / 1e9)
