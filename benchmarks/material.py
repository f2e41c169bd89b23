"""Makes the weights and the starting images of a race, once, in a process of its own.

`python -m benchmarks.material FOLDER WEIGHTS_SEED STARTS_SEED FILTERS SIZE [MODEL]` writes `weights.safetensors` and
`starts.npy` and prints their hashes as JSON; `published` for WEIGHTS_SEED takes the model's own weights. A process of
its own, because drawing the weights starts jax's threads, and nothing but the contestant may be awake while one is
measured.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.settings import INITIAL_RANGE, MODEL


def make(
    folder: Path, *, weights_seed: int | None, starts_seed: int, filters: int, size: int, model: str = MODEL
) -> dict[str, str]:
    """Write both files; their sha256. Without a seed the weights are the published ones."""
    from jaxviz.models import architecture
    from jaxviz.models.random_weights import random_weights
    from weights_convert.locate import obtain_weights
    from weights_convert.safetensors_file import write_safetensors

    weights = folder / "weights.safetensors"
    if weights_seed is None:
        published = obtain_weights(model, head=False)
        write_safetensors(weights, published.arrays, published.metadata)
    else:
        arrays = random_weights(architecture(model), weights_seed)
        write_safetensors(weights, arrays, {"model": model, "head": "false", "source": f"random, seed {weights_seed}"})
    starts = folder / "starts.npy"
    np.save(starts, starting_images(starts_seed, filters, size))
    return {"weights_sha256": _sha256(weights), "starts_sha256": _sha256(starts)}


def starting_images(seed: int, filters: int, size: int) -> np.ndarray:
    """float32 (filters, size, size, 3) in model space, drawn by NumPy: the same on every machine."""
    drawn = np.random.default_rng(seed).uniform(-INITIAL_RANGE, INITIAL_RANGE, (filters, size, size, 3))
    return drawn.astype(np.float32)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _main(folder: str, weights_seed: str, starts_seed: str, filters: str, size: str, model: str = MODEL) -> None:
    seed = None if weights_seed == "published" else int(weights_seed)
    hashes = make(
        Path(folder), weights_seed=seed, starts_seed=int(starts_seed), filters=int(filters), size=int(size), model=model
    )
    print(json.dumps(hashes))


if __name__ == "__main__":
    _main(*sys.argv[1:])
