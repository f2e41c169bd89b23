"""What a rule gives, and what rules are told: the words that the files beside this one share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from jaxviz.network.graph import Graph
from jaxviz.network.jaxprs import Equation, Operand
from jaxviz.network.rules.kernels import LAX, SETS


@dataclass(frozen=True)
class Settings:
    """What rules choose by.

    Attributes:
        platform: "cpu", "gpu" or "tpu".
        dtype: of the operands of convolutions, "float32" or "bfloat16".
        rules: whether there are any; without, every operation runs as it is, differentiable in everything.
        multiplies_bfloat16: whether a CPU does; else the operands are float32 numbers that bfloat16 has.
        kernels: the set of kernels that computes products on a CPU (kernels.py).
    """

    platform: str = "cpu"
    dtype: str = "float32"
    multiplies_bfloat16: bool = True
    rules: bool = True
    kernels: str = LAX

    @property
    def keeps_bfloat16(self) -> bool:
        """Whether activations are bfloat16 between layers."""
        if self.dtype != "bfloat16":
            return False
        return self.platform != "cpu" or (self.multiplies_bfloat16 and SETS[self.kernels].keeps_bfloat16)


@dataclass(frozen=True)
class Fixed:
    """An operand that does not depend on the image, in the form in which a rule takes it.

    `form` names what `make` does, for whoever compares two of them.
    """

    operand: Operand
    form: str = ""
    make: Callable[[Any], jax.Array] | None = None


@dataclass(frozen=True)
class Replayed:
    """An operation as a rule runs it.

    Attributes:
        inputs: what `run` is given, in this order: values, numbers and `Fixed` ones.
        run: `run(arguments, redirected) -> results`; arguments may be `Turned`, and so may results. `redirected`:
            whether ReLUs pass gradients back to where they are dead.
        said: all that decides `run`, in words: equal words are equal computations.
        keeps_bfloat16: whether bfloat16 numbers may go in and come out where the network says float32.
    """

    inputs: tuple[Operand | Fixed, ...]
    run: Callable[[list[Any], bool], list[Any]]
    said: str
    keeps_bfloat16: bool = True


Rule = Callable[[Graph, Equation, Settings], Replayed | None]
