"""Who races: one file per framework, all behind one interface, imported only in that contestant's own process.

To add one: a class with the methods of `Contestant`, a row in `ENTRIES`, its name in `settings.CONTESTANTS`.
Images are float32 (n, size, size, 3) in model space; the score of a filter is its mean over the whole activation map
(`activation_border=0`); a step moves each image by `step_size` along its own gradient, scaled to L2 norm 1.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from benchmarks.settings import Task


class UnavailableError(Exception):
    """The contestant cannot take part here; the message is the reason."""


@dataclass(frozen=True)
class Prepared:
    """What `prepare` found.

    Attributes:
        compile_s: tracing and compiling, or whatever the first call cost beyond a later one.
        seconds_per_filter: a guess at the whole ascent's, from the warm-up.
        form: which of several ways of writing it races, where there are several.
        probe: what was measured to decide that.
    """

    compile_s: float
    seconds_per_filter: float
    form: str = ""
    probe: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Climb:
    """After the loop: the score before each step, (filters, steps), and whatever the final scores come from."""

    history: np.ndarray
    final: Any


class Contestant(Protocol):
    """One way of doing the job."""

    images_per_call: int

    def prepare(self, layer: str) -> Prepared:
        """Trace, compile and warm up for this layer; later calls of `climb` concern it."""

    def climb(self, filters: np.ndarray, starts: np.ndarray) -> Climb:
        """The timed part: from starting images on the host to final images and the history on the host."""

    def final_scores(self, climb: Climb) -> np.ndarray:
        """The score of every final image, not timed."""


@dataclass(frozen=True)
class Entry:
    """A row of the table below."""

    home: str  # module.Class
    needs: tuple[str, ...]  # packages
    description: str
    dtype: str = "float32"
    environment: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)


_KERAS_ON_TENSORFLOW = {"KERAS_BACKEND": "tensorflow"}
ENTRIES = {
    "keras": Entry(
        "keras_published.KerasPublished",
        ("keras", "tensorflow"),
        "Keras on TensorFlow as in the published example: tf.function, one filter at a time",
        environment=_KERAS_ON_TENSORFLOW,
    ),
    "tensorflow_batched": Entry(
        "tensorflow_batched.TensorFlowBatched",
        ("keras", "tensorflow"),
        "TensorFlow, 16 images per tf.function call, one-hot target",
        environment=_KERAS_ON_TENSORFLOW,
    ),
    "keras_jax": Entry(
        "keras_jax.KerasJax",
        ("keras", "jax"),
        "Keras on the JAX backend, jitted step over stateless_call; 16 images a call or one, whichever is faster",
        environment={"KERAS_BACKEND": "jax"},
    ),
    "pytorch": Entry(
        "pytorch.PyTorch",
        ("torch",),
        "PyTorch eager, channels_last, weights frozen, 16 images a call",
    ),
    "plain_jax": Entry(
        "plain_jax.PlainJax",
        ("jax",),
        "JAX as one would write it: jit(vmap(scan(step))) over lax.conv_general_dilated, 16 images a call",
    ),
    "jaxviz_float32": Entry("jaxviz_api.Jaxviz", ("jaxviz",), "jaxviz, render_layer"),
    "jaxviz_bfloat16": Entry(
        "jaxviz_api.Jaxviz",
        ("jaxviz",),
        "jaxviz, render_layer, dtype bfloat16",
        dtype="bfloat16",
        arguments={"dtype": "bfloat16"},
    ),
    "dot": Entry("dot.Dot", ("jax",), "the machine's matrix product, no contestant: what speed is compared with"),
}


def build(name: str, task: Task, **arguments: Any) -> Any:
    """A contestant with its model built and its weights set; `arguments` besides those of its row.

    Raises:
        UnavailableError: a package is missing, or this jaxviz lacks what the contestant is about.
    """
    entry = ENTRIES[name]
    for package in entry.needs:
        if importlib.util.find_spec(package) is None:
            raise UnavailableError(f"the package {package} is not installed")
    module, _, kind = entry.home.partition(".")
    return getattr(importlib.import_module(f"{__name__}.{module}"), kind)(task, **entry.arguments, **arguments)
