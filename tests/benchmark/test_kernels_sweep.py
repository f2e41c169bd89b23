"""Sets of kernels against the sweeps that they rest on."""

from __future__ import annotations

import math
import statistics

import pytest

from benchmarks.kernels import RESULTS, Cell, read
from jaxviz.network.rules.kernels import SETS, Product, kernel_of

pytestmark = pytest.mark.quick

MEAN_LOSS = 1.10  # of the geometric mean of times against the best kernel of each cell: noise alone is some 5 %
SWEPT = sorted(name for name, found in SETS.items() if found.sweep)


def product_of(cell: Cell) -> Product:
    return Product(
        window=(cell.window, cell.window),
        channels_in=cell.channels_in,
        channels_out=cell.channels_out,
        cells=cell.side**2 // cell.stride**2,
        overhangs=cell.side < cell.window,
        bfloat16=cell.dtype == "bfloat16",
        is_plain=True,
    )


def loss(name: str, cell: Cell) -> float:
    """How many times as long as the best kernel's time a set's choice takes."""
    rates = {kernel: statistics.median(each) for kernel, each in cell.gflops.items()}
    return max(rates.values()) / rates[kernel_of(name, product_of(cell))]


@pytest.mark.parametrize("name", SWEPT)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_set_is_near_the_best_kernels_of_its_sweep(name, dtype):
    cells = [cell for cell in read(RESULTS / f"{SETS[name].sweep}.json").cells if cell.dtype == dtype]
    assert len(cells) >= 60
    assert math.exp(statistics.fmean(math.log(loss(name, cell)) for cell in cells)) <= MEAN_LOSS


@pytest.mark.parametrize("name", SWEPT)
def test_set_beats_xlas_own_kernels_in_its_sweep(name):
    cells = read(RESULTS / f"{SETS[name].sweep}.json").cells
    ours, xlas = (statistics.fmean(math.log(loss(which, cell)) for cell in cells) for which in (name, "lax"))
    assert ours < xlas


@pytest.mark.parametrize("name", SWEPT)
def test_sweep_was_run_on_the_cpu_that_its_set_is_named_after(name):
    sweep = read(RESULTS / f"{SETS[name].sweep}.json")
    assert name in sweep.instruction_sets
    assert sweep.onednn is None
