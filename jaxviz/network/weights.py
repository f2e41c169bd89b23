"""The weights of a user's network: a pytree whose leaves are arrays of finite numbers, or keys."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxviz.errors import ConfigError, WeightsError


def checked_weights(weights: Any) -> Any:
    """Weights as JAX arrays: float64 as float32, keys as they are."""

    def checked(path: Any, leaf: Any) -> Any:
        place = f"weights{jax.tree_util.keystr(path)}"
        try:
            array = leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)
        except TypeError as error:
            raise ConfigError(
                f"{place} is {leaf!r}, which is no array; keep it out of weights: for an Equinox module, "
                "weights, rest = eqx.partition(module, eqx.is_array), and eqx.combine(weights, rest) in forward"
            ) from error
        if jnp.issubdtype(array.dtype, jax.dtypes.extended):
            return array
        if array.dtype == jnp.float64:
            array = array.astype(jnp.float32)
        # A NaN need not show later: XLA's ReLU on a CPU makes it a zero, and the filter would pass for dead.
        is_alike = isinstance(leaf, np.ndarray) and leaf.dtype == array.dtype
        if jnp.issubdtype(array.dtype, jnp.inexact) and not _is_finite(leaf if is_alike else array):
            raise WeightsError(f"{place} hold NaN or infinity; give finite numbers")
        return array

    return jax.tree_util.tree_map_with_path(checked, weights)


def _is_finite(array: Any) -> bool:
    if isinstance(array, np.ndarray) and array.dtype.kind in "fc":  # JAX would compile once for each shape
        return bool(np.isfinite(array).all())
    if not jnp.issubdtype(array.dtype, jnp.complexfloating):
        array = jnp.asarray(array).astype(jnp.float32)  # a float8 cannot be asked itself
    return bool(jnp.isfinite(array).all())
