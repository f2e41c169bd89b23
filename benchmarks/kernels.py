"""The sweep that sets of kernels rest on: `python -m benchmarks.kernels`; a file a kind of CPU in benchmarks/kernels/.

Convolutions as ResNets and EfficientNets have them, by every kernel that can compute them, in turns. Each runs as in
the ascent: in a compiled loop, over several operands, so that kernels come from memory as they do in a network, and
with the norm and ReLU behind it, which pay for the type of the result. A file is never edited; another run on that kind
of CPU replaces it. The sets are in jaxviz/network/rules/kernels.py, and a test holds them against these files.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
from msgspec import Struct

from benchmarks import records
from benchmarks.records import Origin
from benchmarks.settings import ROOT
from jaxviz.bench import machine
from jaxviz.bench.figures import FLOP_PER_MAC, in_turns, rounded
from jaxviz.bench.records import to_json
from jaxviz.machine import instruction_sets, multiplies_bfloat16
from jaxviz.network.rules import onednn
from jaxviz.network.rules.kernels import Kernel

RESULTS = ROOT / "benchmarks" / "kernels"
BUSY_LOAD = 0.5
KERNELS: tuple[Kernel, ...] = get_args(Kernel)
BATCHES = (1, 4, 16)
WINDOWS = (  # side of the map, channels in and out, side of the window, stride
    *((180, 3, 64, 7, 2), (91, 64, 48, 4, 1)),  # a stem, and nearly its gradient
    *((45, 64, 64, 3, 1), (45, 64, 64, 3, 2), (23, 128, 128, 3, 1), (12, 256, 256, 3, 1)),
    *((6, 512, 512, 3, 1), (4, 512, 512, 3, 1), (3, 256, 256, 3, 1), (2, 512, 512, 3, 1)),
    *((7, 256, 1024, 2, 1), (24, 64, 256, 2, 1)),  # gradients of strided convolutions
)
ONE_BY_ONE = (
    *((45, 64, 64, 1, 1), (45, 64, 256, 1, 1), (45, 256, 64, 1, 1), (23, 128, 512, 1, 1), (23, 512, 128, 1, 1)),
    *((12, 256, 1024, 1, 1), (12, 1024, 256, 1, 1), (6, 512, 2048, 1, 1), (6, 2048, 512, 1, 1)),
    *((3, 512, 2048, 1, 1), (2, 2048, 512, 1, 1), (45, 24, 144, 1, 1), (12, 480, 112, 1, 1), (6, 192, 1152, 1, 1)),
)
COLD_BYTES = 24 * 2**20  # of all kernels of a program together
MOST_OPERANDS = 6
CALL_FLOP = 3e9  # of a timed call: some 15 ms
ROUNDS = 3


class Cell(Struct, frozen=True):
    """A convolution, and GFLOP/s of each kernel, one number a round; empty where a kernel cannot compute it."""

    side: int
    channels_in: int
    channels_out: int
    window: int
    stride: int
    images: int
    dtype: str  # of operands and result; sums are float32
    gflops: dict[str, list[float]]


class Sweep(Origin, frozen=True, kw_only=True):
    """A run on a kind of CPU."""

    instruction_sets: list[str]
    onednn: str | None  # in words why it was left out
    cells: list[Cell]


class Shape(NamedTuple):
    """What is swept: without the images of a call, and the type."""

    side: int
    channels_in: int
    channels_out: int
    window: int
    stride: int


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code: 0 done, 2 refused."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernels", description="which kernel wins at which shape"
    )
    parser.add_argument("--force", action="store_true", help="measure although the machine is busy")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder; default benchmarks/kernels")
    options = parser.parse_args(arguments)
    load = machine.load_average() or 0.0
    if load > BUSY_LOAD and not options.force:
        print(
            f"kernels: the load average is {load:.2f}; wait until it is below {BUSY_LOAD}, or --force", file=sys.stderr
        )
        return 2
    cells = []
    origin = records.origin()
    for cell in measured():
        print(f"{time.strftime('%H:%M:%S')} {_line(cell)}", file=sys.stderr, flush=True)
        cells.append(cell)
    sweep = Sweep(
        **msgspec.structs.asdict(origin),
        instruction_sets=sorted(instruction_sets()),
        onednn=onednn.refusal(),
        cells=cells,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{re.sub(r'[^a-z0-9]+', '-', origin.hardware.cpu.lower()).strip('-')}.json"
    path.write_text(to_json(sweep, indent=1) + "\n")
    print(f"wrote {path}")
    return 0


def read(path: Path) -> Sweep:
    """A file."""
    return msgspec.json.decode(path.read_bytes(), type=Sweep)


def measured() -> Iterator[Cell]:
    """Cell by cell."""
    dtypes = ("float32", "bfloat16") if multiplies_bfloat16() else ("float32",)
    for dtype in dtypes:
        for numbers in (*WINDOWS, *ONE_BY_ONE):
            for images in BATCHES:
                yield _measured(Shape(*numbers), images, dtype)


def _measured(shape: Shape, images: int, dtype: str) -> Cell:
    timed = {name: _program(shape, images, dtype, name) for name in KERNELS if _can(name, dtype)}
    flop = next(iter(timed.values()))[1]
    seconds = in_turns(ROUNDS, {name: call for name, (call, _) in timed.items()})
    rates = {name: [rounded(flop / each / 1e9) for each in seconds[name]] for name in timed}
    return Cell(*shape, images, dtype, rates)


def _can(name: Kernel, dtype: str) -> bool:
    if name == "onednn":
        return onednn.refusal() is None
    return name == "rows" or dtype == "float32"


def _program(shape: Shape, images: int, dtype: str, name: Kernel) -> tuple[Any, float]:
    """A function that runs a compiled loop and returns its seconds, and its FLOP."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxviz.machine import compiler_options
    from jaxviz.network.rules import cpu, kernels

    only = f"only {name}"
    kernels.SETS[only] = kernels.KernelSet(lambda _: name, keeps_bfloat16=dtype == "bfloat16")
    side, channels_in, channels_out, window, stride = shape
    pads = ((window // 2, (window - 1) // 2),) * 2
    count = max(2, min(MOST_OPERANDS, COLD_BYTES // (window**2 * channels_in * channels_out * 4)))
    draw = np.random.default_rng(0).normal
    inputs = [jnp.asarray(draw(size=(images, side, side, channels_in)), dtype) for _ in range(count)]
    scale = 1 / np.sqrt(window**2 * channels_in)
    weights = [jnp.asarray(scale * draw(size=(window, window, channels_in, channels_out)), dtype) for _ in range(count)]
    norm = jnp.asarray(draw(size=(2, channels_out)), jnp.float32)

    def step(inputs: list[Any], _: None) -> tuple[list[Any], None]:
        moved = []
        for x, kernel in zip(inputs, weights_given, strict=True):
            y = cpu.conv(x, kernel, kernel, stride=stride, pads=pads, kernels=only)
            y = jnp.maximum(y * norm[0] + norm[1], 0.0).astype(dtype)
            y = jax.lax.optimization_barrier(y)  # all of it
            moved.append(x.at[0, 0, 0, 0].set(y[0, 0, 0, 0]))
        return moved, None

    made = -(-side // stride)
    step_flop = FLOP_PER_MAC * count * images * made**2 * window**2 * channels_in * channels_out
    steps = max(1, round(CALL_FLOP / step_flop))

    weights_given: list[Any] = []

    def run(inputs: list[Any], weights: list[Any]) -> list[Any]:
        weights_given[:] = weights
        return jax.lax.scan(step, inputs, None, length=steps)[0]

    options = compiler_options("cpu", onednn=name == "onednn")
    compiled = jax.jit(run, compiler_options=options).lower(inputs, weights).compile()
    jax.block_until_ready(compiled(inputs, weights))

    def seconds() -> float:
        started = time.perf_counter()
        jax.block_until_ready(compiled(inputs, weights))
        return time.perf_counter() - started

    return seconds, float(step_flop * steps)


def _line(cell: Cell) -> str:
    rates = ", ".join(f"{name} {statistics.median(found):.0f}" for name, found in cell.gflops.items())
    shape = f"{cell.side}px {cell.channels_in}->{cell.channels_out} {cell.window}x{cell.window}/{cell.stride}"
    return f"{cell.dtype} {shape} N={cell.images}: {rates}"


if __name__ == "__main__":
    sys.exit(main())
