"""Benchmark reports with known numbers, and a benchmark that is over at once."""

from __future__ import annotations

from typing import Any

import jax
import pytest
from helpers_cli import install_tiny_model
from msgspec.structs import replace

from jaxviz.bench import dot, executable
from jaxviz.bench.figures import with_figures
from jaxviz.bench.records import DotRate, Hardware, Report, Row, Settings, Sweep
from jaxviz.bench.settings import command_of

SETTINGS = Settings(
    model="resnet50v2",
    layers=("conv2_block1_1_conv",),
    batch_sizes=(1, 2),
    dtypes=("float32",),
    size=(180, 180),
    steps=10,
    repeats=5,
    seed=0,
    quick=False,
)
HARDWARE = Hardware(
    platform="gpu",
    device_kind="Test GPU",
    devices=2,
    runtime="cuda 0",
    cpu="Test CPU",
    cores=4,
    memory_gb=8.0,
    system="Linux",
)


def row(batch_size: int = 1, *, seconds: tuple[float, ...] = (2.0, 1.0, 4.0, 3.0, 5.0), **changes: Any) -> Row:
    """A measured row: two devices, a thousand multiply-adds per image."""
    values: dict[str, Any] = {
        "layer": "conv2_block1_1_conv",
        "dtype": "float32",
        "batch_size": batch_size,
        "images_per_call": 2 * batch_size,
        "macs_per_image": 1_000_000_000,
        "precision": "TF32",
        "status": "ok",
        "compile_s": 2.0,
        "seconds": seconds,
        "transfer_seconds": tuple(0.01 for _ in seconds),
        "program_memory_mb": 100.0,
        "peak_memory_mb": 200.0,
        "peak_memory_of": "device",
        "mean_score": 4.0,
        "scored_filters": 8,
    }
    return Row(**values | changes)


def report(*rows: Row, **changes: Any) -> Report:
    """A complete report of these rows, with its figures; `settings_*` and `hardware_*` change single fields."""
    parts = {
        name: {key.removeprefix(f"{name}_"): changes.pop(key) for key in list(changes) if key.startswith(f"{name}_")}
        for name in ("settings", "hardware")
    }
    settings = replace(SETTINGS, **parts["settings"])
    programs = dict.fromkeys((one.layer, one.dtype) for one in rows)
    values: dict[str, Any] = {
        "complete": True,
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:01:00+00:00",
        "command": command_of(settings),
        "settings": settings,
        "hardware": replace(HARDWARE, **parts["hardware"]),
        "versions": {"jaxviz": "0.1.0", "jax": "0.10.2"},
        "environment": {},
        "load_average_at_start": 0.1,
        "weights_sha256": "0" * 64,
        "dot_rates": {"float32": DotRate(side=4096, gflops_each=(40.0, 50.0, 60.0), precision="TF32")},
        "rows": rows,
        "sweeps": tuple(Sweep(layer=layer, dtype=dtype, ended="given") for layer, dtype in programs),
    }
    return with_figures(Report(**values | changes))


def install_tiny_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model `tiny` can be measured, and matrix products are small."""
    install_tiny_model(monkeypatch)
    monkeypatch.setattr(dot, "SIDES", (32,))


def limit_memory(monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    """Programs of more images a call than this run out of memory."""
    whole = executable.arguments_of

    def some(bench: Any, row: Any, filters: Any) -> Any:
        if len(filters) > images:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")
        return whole(bench, row, filters)

    monkeypatch.setattr(executable, "arguments_of", some)
