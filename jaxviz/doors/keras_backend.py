"""Keras on its JAX backend, imported when the first network of Keras's is opened."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

from jaxviz.errors import ConfigError, EnvironmentFailure
from jaxviz.machine import check_backend

# Before it, an .h5 file's Lambda layers ran whatever `safe_mode` said (CVE-2025-9905, mended in 3.11.3).
OLDEST = (3, 12)


def keras_on_jax() -> Any:
    """The module `keras`.

    Raises:
        EnvironmentFailure: it is not installed, or too old, or JAX has no device to start on.
        ConfigError: this process has imported it already, on another backend.
    """
    check_backend()
    if "keras" not in sys.modules:
        if importlib.util.find_spec("keras") is None:
            raise EnvironmentFailure("a network of Keras's needs Keras, which is not installed", try_next=INSTALL)
        before = os.environ.get("KERAS_BACKEND")
        os.environ["KERAS_BACKEND"] = "jax"  # above what ~/.keras/keras.json says
        try:
            import keras
        finally:
            if before is None:
                del os.environ["KERAS_BACKEND"]
            else:
                os.environ["KERAS_BACKEND"] = before
    import keras

    version = getattr(keras, "__version__", "0")
    if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < OLDEST:
        raise EnvironmentFailure(
            f"Keras {version} is too old: networks are opened with {'.'.join(map(str, OLDEST))} and later",
            try_next=INSTALL,
        )
    backend = keras.backend.backend()
    if backend != "jax":
        raise ConfigError(
            f"a network of Keras's is traced by JAX, and this process has imported Keras on the backend {backend!r}",
            try_next="set KERAS_BACKEND=jax in the environment before keras is imported, in a process of its own",
        )
    return keras


INSTALL = "Run: pip install 'jaxviz-atlas[keras]'"
