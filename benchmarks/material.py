"""The weights and the starting images of everybody, made once, in a worker: drawing weights starts jax's threads."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from benchmarks.settings import INITIAL_RANGE, STARTS_SEED

WEIGHTS, STARTS = "weights.safetensors", "starts.npy"


def make(*, folder: str, model: str, weights_seed: int | None, filters: int, size: int) -> dict[str, str]:
    """Write both files; their sha256. Without a seed the weights are the published ones."""
    from jaxviz.models import architecture
    from jaxviz.models.random_weights import random_weights
    from weights_convert.locate import obtain_weights
    from weights_convert.safetensors_file import write_safetensors

    weights, starts = Path(folder) / WEIGHTS, Path(folder) / STARTS
    if weights_seed is None:
        published = obtain_weights(model, head=False)
        write_safetensors(weights, published.arrays, published.metadata)
    else:
        arrays = random_weights(architecture(model), weights_seed)
        write_safetensors(weights, arrays, {"model": model, "head": "false", "source": f"random, seed {weights_seed}"})
    np.save(starts, starting_images(STARTS_SEED, filters, size))
    return {
        f"{path.stem}_sha256": hashlib.sha256(path.read_bytes()).hexdigest() for path in (weights, starts)
    }  # fmt: skip


def starting_images(seed: int, filters: int, size: int) -> np.ndarray:
    """float32 (filters, size, size, 3) in model space, drawn by NumPy: the same on every machine."""
    drawn = np.random.default_rng(seed).uniform(-INITIAL_RANGE, INITIAL_RANGE, (filters, size, size, 3))
    return drawn.astype(np.float32)
