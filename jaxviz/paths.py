"""Where jaxviz keeps files for the user: one cache directory, overridden by JAXVIZ_CACHE."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """The per-user cache directory (not created here)."""
    override = os.environ.get("JAXVIZ_CACHE")
    return Path(override).expanduser() if override else Path(platformdirs.user_cache_dir("jaxviz", appauthor=False))


def weights_dir() -> Path:
    """Where converted weights are kept."""
    return cache_dir() / "weights"


def keras_cache_dir() -> Path:
    """Where Keras itself keeps the weight files that it downloaded (KERAS_HOME, else ~/.keras)."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home).expanduser() if home else Path.home() / ".keras") / "models"
