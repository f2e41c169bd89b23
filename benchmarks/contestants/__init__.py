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

from benchmarks.cpu import instruction_sets
from benchmarks.settings import Task
from jaxviz.machine import BFLOAT16_INSTRUCTIONS


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
    """A row of the table below: its name in tables and, shorter, in the chart, and how it is made."""

    label: str
    name: str
    home: str  # module.Class
    needs: tuple[str, ...]  # packages
    dtype: str = "float32"
    instructions: frozenset[str] = frozenset()  # of which the CPU must have one
    environment: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)


_TENSORFLOW = ("keras", "tensorflow")
_ON_TENSORFLOW = {"KERAS_BACKEND": "tensorflow"}
ENTRIES = {
    "keras": Entry(
        "Keras on TensorFlow, as its example is published",
        "Keras, as published",
        "on_tensorflow.KerasPublished",
        _TENSORFLOW,
        environment=_ON_TENSORFLOW,
    ),
    "tensorflow_batched": Entry(
        "TensorFlow, 16 images a call",
        "TensorFlow, batched",
        "on_tensorflow.TensorFlowBatched",
        _TENSORFLOW,
        environment=_ON_TENSORFLOW,
    ),
    "tensorflow_bfloat16": Entry(
        "TensorFlow, `mixed_bfloat16`, 16 images a call",
        "TensorFlow bfloat16",
        "on_tensorflow.TensorFlowBatched",
        _TENSORFLOW,
        dtype="bfloat16",
        instructions=BFLOAT16_INSTRUCTIONS,
        environment=_ON_TENSORFLOW,
        arguments={"policy": "mixed_bfloat16"},
    ),
    "keras_jax": Entry(
        "Keras on JAX", "Keras on JAX", "keras_jax.KerasJax", ("keras", "jax"), environment={"KERAS_BACKEND": "jax"}
    ),
    "pytorch": Entry("PyTorch, channels_last", "PyTorch", "pytorch.PyTorch", ("torch",)),
    "pytorch_bfloat16": Entry(
        "PyTorch, channels_last, `autocast` to bfloat16",
        "PyTorch bfloat16",
        "pytorch.PyTorch",
        ("torch",),
        dtype="bfloat16",
        instructions=BFLOAT16_INSTRUCTIONS,
        arguments={"autocast": True},
    ),
    "plain_jax": Entry(
        "JAX, `jit(vmap(scan))` over `lax` convolutions", "plain JAX", "plain_jax.PlainJax", ("jax",)
    ),
    "jaxviz_float32": Entry("**jaxviz**, float32", "jaxviz float32", "jaxviz_api.Jaxviz", ("jaxviz",)),
    "jaxviz_bfloat16": Entry(
        "**jaxviz**, bfloat16",
        "jaxviz bfloat16",
        "jaxviz_api.Jaxviz",
        ("jaxviz",),
        dtype="bfloat16",
        arguments={"dtype": "bfloat16"},
    ),
}  # fmt: skip


def build(name: str, task: Task, **arguments: Any) -> Any:
    """A contestant with its model built and its weights set; `arguments` besides those of its row.

    Raises:
        UnavailableError: a package or an instruction set is missing, or this jaxviz lacks what the contestant is about.
    """
    entry = ENTRIES[name]
    for package in entry.needs:
        if importlib.util.find_spec(package) is None:
            raise UnavailableError(f"the package {package} is not installed")
    found = instruction_sets()
    if found and entry.instructions and entry.instructions.isdisjoint(found):
        raise UnavailableError(f"this CPU has none of {', '.join(sorted(entry.instructions))}")
    module, _, kind = entry.home.partition(".")
    return getattr(importlib.import_module(f"{__name__}.{module}"), kind)(task, **entry.arguments, **arguments)
