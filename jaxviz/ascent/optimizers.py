"""Optimisers: one image's gradient -> the direction of ascent.

Each is an optax `GradientTransformation` for one image's parameters, a pytree; its updates are to be multiplied by the
step size and added: parameters + step_size * update. Nothing here knows of batches: under vmap over images every image
has its own norm, moments and count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxviz.errors import ConfigError

# Keras's l2_normalize: g * rsqrt(max(sum(g * g), epsilon)), keras/src/backend/tensorflow/nn.py
NORM_EPSILON = 1e-12
# Kingma & Ba 2015 (arXiv:1412.6980), Algorithm 1, and the defaults of PyTorch; Keras has the epsilon 1e-7. Nearly no
# gradient is as small: of those to a spectrum, EfficientNet-Lite0 at 224 px, at the start, 99 % were above 1e-7.
ADAM = {"b1": 0.9, "b2": 0.999, "eps": 1e-8}


def make_optimizer(name: str) -> optax.GradientTransformation:
    """The optimiser of that name, one of `OPTIMIZERS`.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in OPTIMIZERS:
        raise ConfigError(f"optimizer is {name!r}; choose one of {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name]()


def _normalized() -> optax.GradientTransformation:
    """The gradient divided by its L2 norm over all parameters of the image (the Keras example's step)."""

    def update(gradient: Any, state: optax.EmptyState, parameters: Any = None) -> tuple[Any, optax.EmptyState]:  # noqa: ARG001
        squares = [jnp.sum(leaf * leaf) for leaf in jax.tree.leaves(gradient)]
        inverse_norm = jax.lax.rsqrt(jnp.maximum(sum(squares[1:], start=squares[0]), NORM_EPSILON))
        return jax.tree.map(lambda leaf: leaf * inverse_norm, gradient), state

    return optax.GradientTransformation(lambda _: optax.EmptyState(), update)


def _adam() -> optax.GradientTransformation:
    """Adam. Epsilon is added to the root of the corrected second moment, as in PyTorch; in Keras of the uncorrected."""
    return _own_promotion(optax.scale_by_adam(**ADAM))


def _nadam() -> optax.GradientTransformation:
    """Adam with Nesterov momentum (Dozat 2016), b1 the same at every step.

    PyTorch and Keras, so also Xplique, let b1 rise from about half its value: b1 * (1 - 0.5 * 0.96 ** step), PyTorch
    with step * 0.004.
    """
    return _own_promotion(optax.scale_by_adam(**ADAM, nesterov=True))


def _own_promotion(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Traced under JAX's usual rules for dtypes, whatever the caller's: optax raises floats to integer powers."""

    def update(gradient: Any, state: Any, parameters: Any = None) -> Any:
        with jax.numpy_dtype_promotion("standard"), jax.enable_x64(False):
            return optimizer.update(gradient, state, parameters)

    return optax.GradientTransformation(optimizer.init, update)


OPTIMIZERS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "normalized": _normalized,
    "adam": _adam,
    "nadam": _nadam,
}
