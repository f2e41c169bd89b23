"""Makes the random weights and the starting images of a race, once, in a process of its own.

`python -m benchmarks.material FOLDER WEIGHTS_SEED STARTS_SEED FILTERS SIZE` writes `weights.safetensors` and
`starts.npy` and prints their hashes as JSON. A process of its own, because drawing the weights starts jax's threads,
and nothing but the contestant may be awake while one is measured.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.settings import INITIAL_RANGE, MODEL


def make(folder: Path, *, weights_seed: int, starts_seed: int, filters: int, size: int) -> dict[str, str]:
    """Write both files; their sha256."""
    from jaxviz.models import architecture
    from jaxviz.models.random_weights import random_weights
    from weights_convert.safetensors_file import write_safetensors

    weights = folder / "weights.safetensors"
    arrays = random_weights(architecture(MODEL).graph, weights_seed)
    write_safetensors(weights, arrays, {"model": MODEL, "head": "false", "source": f"random, seed {weights_seed}"})
    starts = folder / "starts.npy"
    generator = np.random.default_rng(starts_seed)
    images = generator.uniform(-INITIAL_RANGE, INITIAL_RANGE, (filters, size, size, 3)).astype(np.float32)
    np.save(starts, images)
    return {"weights_sha256": _sha256(weights), "starts_sha256": _sha256(starts)}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[2:]]
    named = dict(zip(("weights_seed", "starts_seed", "filters", "size"), numbers, strict=True))
    print(json.dumps(make(Path(sys.argv[1]), **named)))
