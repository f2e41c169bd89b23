"""One compilation cache for all tests: both workers, the processes that tests start, and the next run.

A hit still counts as a compilation where tests count them. A test of the cache itself takes `NAMES` out of the
environment again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from importlib import metadata
from pathlib import Path

import jax

from jaxviz import machine as devices

LARGEST_BYTES = 2**30  # of the folder, before it is begun anew


NAMES = (
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES",
)


def share() -> None:
    """Use it here and in the processes that are started from here."""
    folder = _folder()
    is_first = "PYTEST_XDIST_WORKER" not in os.environ
    if is_first and folder.exists() and sum(file.stat().st_size for file in folder.iterdir()) > LARGEST_BYTES:
        shutil.rmtree(folder)
    os.environ["PYTHONWARNINGS"] = "ignore:Error reading persistent compilation cache entry"  # half written
    for name, value in zip(NAMES, (str(folder), 0.0, -1), strict=True):
        os.environ[name] = str(value)
        jax.config.update(name.lower(), value)


def _folder() -> Path:
    """Apart for each jaxlib; code for one CPU may not run on another."""
    digest = hashlib.sha256(devices._cpu_features().encode()).hexdigest()[:12]
    return Path(__file__).parents[2] / ".pytest_cache" / f"jax-{metadata.version('jaxlib')}-{digest}"
