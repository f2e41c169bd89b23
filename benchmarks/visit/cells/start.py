"""The first cell: is there a GPU for JAX, what is it, and the weights and starting images that all others use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np

from benchmarks.material import starting_images
from benchmarks.visit.cells import RefusedError
from benchmarks.visit.settings import SEED, Settings
from jaxviz import Model, load_model
from jaxviz.bench import machine
from jaxviz.models import architecture
from jaxviz.models.random_weights import random_weights
from jaxviz.render.batch_size import free_bytes
from weights_convert.safetensors_file import write_safetensors

WEIGHTS = "weights.safetensors"


def start(settings: Settings, folder: Path) -> Iterator[dict[str, Any]]:
    """Device, versions, the weights' hash.

    Raises:
        RefusedError: JAX computes on the CPU, and this is no rehearsal.
    """
    if jax.default_backend() == "cpu" and not settings.rehearsal:
        raise RefusedError(
            "JAX computes on the CPU here, and a visit is about a GPU: look at nvidia-smi and at what "
            "`import jax; jax.devices()` says, install jax[cuda13], or rehearse with --rehearse"
        )
    devices = jax.devices()
    free = free_bytes(devices[0])
    found = {
        "device": msgspec.to_builtins(machine.hardware(devices)),
        "versions": machine.versions(),
        "usable_memory_mb": None if free is None else round(free / machine.MIB, 1),
    }
    yield found
    weights = host_weights(settings.model)
    write_safetensors(
        folder / WEIGHTS, weights, {"model": settings.model, "head": "false", "source": f"random, seed {SEED}"}
    )
    for size in (settings.size, settings.large_size):
        np.save(starts_file(folder, size), starting_images(SEED, settings.filters, size))
    yield found | {"weights_sha256": model_of(settings, folder).weights_sha256}


def host_weights(model: str) -> dict[str, dict[str, np.ndarray]]:
    """Seeded noise, drawn on the CPU, whose rounding depends least on the machine."""
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        return random_weights(architecture(model), SEED)


def model_of(settings: Settings, folder: Path) -> Model:
    """The model with the visit's weights."""
    return load_model(settings.model, weights=folder / WEIGHTS)


def starts_file(folder: Path, size: int) -> Path:
    """Where the starting images of a size are."""
    return folder / f"starts-{size}.npy"
