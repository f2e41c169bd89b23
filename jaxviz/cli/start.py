"""What every command that computes does before it first uses jax, so that all decide it alike."""

from __future__ import annotations


def start_jax(*, keep_compiled: bool) -> None:
    """Start JAX on the devices that it has; `keep_compiled` is False where compilation itself is measured."""
    import jax

    from jaxviz.machine import start_backend, use_compilation_cache

    if keep_compiled:
        use_compilation_cache()
    else:
        jax.config.update("jax_enable_compilation_cache", False)
    start_backend()
