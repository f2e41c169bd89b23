"""A function of weights and one image as a flat list of equations: calls opened, names collected, shapes only.

`trace` runs the function once on abstract values. What it calls under jit, remat and the like is opened, short scans
over blocks are unrolled, and what has a derivative of its own (`custom_jvp`, `custom_vjp`) stays whole, so that
gradients are those of the function. Nothing is computed. Pattern: equinox, `internal/_finalise_jaxpr.py`.

Three things that moved between JAX 0.8 and 0.12 are dealt with here and nowhere else: `Primitive.get_bind_params`, the
class of a closed jaxpr, and how a scan counts its inputs.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

OPENED = {  # primitives that only call -> the parameter that holds what they call
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_lin": "jaxpr",
}
LONGEST_UNROLLED = 64  # steps of a scan
ADDRESS = re.compile(r"0x[0-9a-f]+")  # of an object, in its repr
RELUS = {"relu": jax.nn.relu, "relu6": jax.nn.relu6}
SEPARATE_DERIVATIVE = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")


class Value:
    """Something that an equation makes, or an argument; known by identity."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape, self.dtype = shape, dtype


@dataclass(frozen=True, eq=False)
class Literal:
    """A number that stands in the computation itself."""

    value: Any
    shape: tuple[int, ...]
    dtype: Any


Operand = Value | Literal


@dataclass(frozen=True, eq=False)
class Equation:
    """One operation. `calls` are the names of the jitted functions that it stands in, outermost first."""

    primitive: Any
    params: dict[str, Any]
    inputs: tuple[Operand, ...]
    outputs: tuple[Value, ...]
    calls: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The primitive's name."""
        return str(self.primitive.name)

    @property
    def function(self) -> str:
        """The name of the Python function where it is one with a derivative of its own, such as "relu"; else ""."""
        return self.source.partition(" ")[0]

    @property
    def source(self) -> str:
        """That name and where the function is written: two of the same name may have other derivatives."""
        if self.name not in SEPARATE_DERIVATIVE:
            return ""
        inner = next(inner_jaxprs(self.params))
        return str(getattr(inner, "jaxpr", inner).debug_info.func_src_info)

    @property
    def relu(self) -> str:
        """Which of `RELUS` it is, that of `jax.nn` itself: its name; else ""."""
        return self.function if self.function in RELUS and self.source == _source_in_jax(self.function) else ""

    def said(self, through: tuple[int, ...]) -> str:
        """All that decides what it computes, and what it passes back to the inputs at some places, in words.

        But for shapes; equal words are equal operations.
        """
        if self.relu:
            return self.relu
        if any(inner.primitive.name in SEPARATE_DERIVATIVE for inner in (self, *inner_equations(self.params))):
            return f"{self.name} {_derivative_sha256(self, through)}"
        return f"{self.name} " + ", ".join(f"{name}={value}" for name, value in sorted(self.params.items()))

    @property
    def said_of_values(self) -> str:
        """All that decides what it computes: the same in another process, and whatever its derivative is."""
        params = sorted(self.params.items())
        if self.name in SEPARATE_DERIVATIVE:
            params = [("calls", next(inner_jaxprs(self.params)))]
        return ADDRESS.sub("", f"{self.name} {params}")

    def bind(self, arguments: list[Any]) -> list[Any]:
        """What the operation gives for these arguments."""
        params = self.primitive.get_bind_params(self.params)
        if isinstance(params, tuple):  # before JAX 0.9.2
            functions, params = params
            found = self.primitive.bind(*functions, *arguments, **params)
        else:
            found = self.primitive.bind(*arguments, **params)
        return list(found) if self.primitive.multiple_results else [found]


@dataclass(frozen=True, eq=False)
class Trace:
    """A traced function.

    Attributes:
        equations: in an order in which they can be computed.
        leaves: the weights, as `jax.tree.leaves` orders them; `leaf_paths` are their key paths.
        constants: arrays that the function closes over.
        image: the image, (1, height, width, channels).
        outputs: what the function returns, by its name in the pytree that it returns; "" where that is one array.
        taps: values that `checkpoint_name` names.
        results: (name of a jitted function, what it gives), innermost first.
    """

    equations: tuple[Equation, ...]
    leaves: tuple[Value, ...]
    leaf_paths: tuple[Any, ...]
    constants: dict[Value, Any]
    image: Value
    outputs: dict[str, Operand]
    taps: dict[str, Operand]
    results: tuple[tuple[str, Operand], ...]


def trace(function: Callable[[Any, Any], Any], weights: Any, image_shape: tuple[int, int, int]) -> Trace:
    """`function(weights, images)`, traced for one float32 image of (height, width, channels).

    `weights` may hold shapes in place of arrays. Whatever the function raises on such an image comes through.
    """
    paths_and_leaves, structure = jax.tree_util.tree_flatten_with_path(weights)
    abstract = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for _, leaf in paths_and_leaves]
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)

    def flat(leaves: list[Any], image: Any) -> Any:
        return function(jax.tree.unflatten(structure, leaves), image)

    closed, returned = jax.make_jaxpr(flat, return_shape=True)(abstract, image)
    flattener = _Flattener()
    jaxpr = closed.jaxpr
    avals: list[Any] = [variable.aval for variable in jaxpr.invars]
    arguments: list[Operand] = [Value(aval.shape, aval.dtype) for aval in avals]
    outputs = flattener.run(jaxpr, flattener.constants_of(jaxpr, closed.consts), arguments, ())
    named = [_path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(returned)]
    *leaves, seen = [argument for argument in arguments if isinstance(argument, Value)]
    return Trace(
        equations=tuple(flattener.equations),
        leaves=tuple(leaves),
        leaf_paths=tuple(path for path, _ in paths_and_leaves),
        constants=flattener.constants,
        image=seen,
        outputs=dict(zip(named, outputs, strict=True)),
        taps=flattener.taps,
        results=tuple(flattener.results),
    )


@dataclass(eq=False)
class _Flattener:
    equations: list[Equation] = field(default_factory=list)
    constants: dict[Value, Any] = field(default_factory=dict)
    taps: dict[str, Operand] = field(default_factory=dict)
    results: list[tuple[str, Operand]] = field(default_factory=list)

    def constants_of(self, jaxpr: Any, arrays: Any) -> dict[Any, Operand]:
        """The environment that a jaxpr starts with: what it closes over."""
        found: dict[Any, Operand] = {}
        for variable, array in zip(jaxpr.constvars, arrays, strict=True):
            if np.ndim(array) == 0 and not isinstance(array, jax.core.Tracer) and _is_number(array):
                found[variable] = Literal(np.asarray(array), (), array.dtype)
                continue
            value = Value(np.shape(array), array.dtype)
            self.constants[value] = array
            found[variable] = value
        return found

    def run(
        self, jaxpr: Any, environment: dict[Any, Operand], arguments: list[Operand], calls: tuple[str, ...]
    ) -> list[Operand]:
        """Append a jaxpr's equations; what it returns."""
        environment |= dict(zip(jaxpr.invars, arguments, strict=True))

        def read(variable: Any) -> Operand:
            if not isinstance(variable, core.Literal):
                return environment[variable]
            aval: Any = variable.aval
            return Literal(variable.val, aval.shape, aval.dtype)

        for equation in jaxpr.eqns:
            inputs = [read(variable) for variable in equation.invars]
            outputs = self._equation(equation, inputs, calls)
            environment |= dict(zip(equation.outvars, outputs, strict=True))
        return [read(variable) for variable in jaxpr.outvars]

    def _equation(self, equation: Any, inputs: list[Operand], calls: tuple[str, ...]) -> list[Operand]:
        name, params = equation.primitive.name, equation.params
        if name in OPENED:
            return self._opened(params[OPENED[name]], inputs, calls, params.get("name"))
        if name == "scan" and params["length"] <= LONGEST_UNROLLED and _holds(params["jaxpr"], "conv_general_dilated"):
            return self._unrolled(params, inputs, calls)
        if name == "name":
            self.taps[counted(params["name"], self.taps)] = inputs[0]
            return inputs
        known = _converted(name, params, inputs)
        if known is not None:
            return [known]
        avals: list[Any] = [variable.aval for variable in equation.outvars]
        outputs = tuple(Value(aval.shape, aval.dtype) for aval in avals)
        self.equations.append(Equation(equation.primitive, params, tuple(inputs), outputs, calls))
        if name in SEPARATE_DERIVATIVE and len(outputs) == 1:
            self.results.append((self.equations[-1].function, outputs[0]))
        return list(outputs)

    def _opened(self, inner: Any, inputs: list[Operand], calls: tuple[str, ...], name: str | None) -> list[Operand]:
        jaxpr = getattr(inner, "jaxpr", inner)
        inside = (*calls, name) if name else calls
        outputs = self.run(jaxpr, self.constants_of(jaxpr, getattr(inner, "consts", ())), inputs, inside)
        if name and len(outputs) == 1:
            self.results.append((name, outputs[0]))
        return outputs

    def _unrolled(self, params: dict[str, Any], inputs: list[Operand], calls: tuple[str, ...]) -> list[Operand]:
        """A scan over blocks, a step after the other; its stacked results are made of slices and joined again."""
        (consts, carried), length = _scan_counts(params), params["length"]
        shared, carry, stacked = inputs[:consts], inputs[consts : consts + carried], inputs[consts + carried :]
        rows: dict[int, list[Operand]] = {}
        order = range(length - 1, -1, -1) if params["reverse"] else range(length)
        for number in order:
            slices = [self._call(lambda x, n=number: x[n], [value], calls) for value in stacked]
            found = self._opened(params["jaxpr"], [*shared, *carry, *slices], calls, None)
            carry, rows[number] = found[:carried], found[carried:]
        results = list(carry)
        for place in range(len(rows[0])):
            parts = [rows[number][place] for number in range(length)]
            results.append(self._call(lambda *values: jnp.stack(values), parts, calls))
        return results

    def _call(self, function: Callable[..., Any], inputs: list[Operand], calls: tuple[str, ...]) -> Operand:
        """Append a function of our own, traced for these inputs."""
        abstract = [jax.ShapeDtypeStruct(operand.shape, operand.dtype) for operand in inputs]
        closed = jax.make_jaxpr(function)(*abstract)
        (output,) = self.run(closed.jaxpr, self.constants_of(closed.jaxpr, closed.consts), list(inputs), calls)
        return output


def _derivative_sha256(equation: Equation, through: tuple[int, ...]) -> str:
    """A hash of what an operation and its derivative compute, and of the arrays that the derivative closes over.

    The derivative is a function among the parameters, of which nothing can be said but by tracing it.
    """
    smooth = [place for place in through if _is_floating(equation.inputs[place])]

    def both(arguments: list[Any], gradients: list[Any]) -> Any:
        def values(*some: Any) -> list[Any]:
            found = dict(enumerate(arguments)) | dict(zip(smooth, some, strict=True))
            return equation.bind(list(found.values()))

        results, pull_back = jax.vjp(values, *(arguments[place] for place in smooth))
        known = [
            gradient if _is_floating(output) else np.zeros(output.shape, jax.dtypes.float0)
            for gradient, output in zip(gradients, equation.outputs, strict=True)
        ]
        return results, pull_back(known)

    abstract = [
        [jax.ShapeDtypeStruct(operand.shape, operand.dtype) for operand in operands]
        for operands in (equation.inputs, equation.outputs)
    ]
    closed = jax.make_jaxpr(both)(*abstract)
    digest = hashlib.sha256(ADDRESS.sub("", str(closed)).encode())
    for number, array in enumerate(closed.consts):
        hash_array(digest, f"constant {number}", array)
    return digest.hexdigest()


def _is_floating(operand: Operand) -> bool:
    return bool(jnp.issubdtype(operand.dtype, jnp.floating))


def hash_array(digest: Any, name: str, array: Any) -> None:
    """Tell a hash the name, type, shape and numbers of an array; of a key its implementation and data."""
    kind = ""
    if jnp.issubdtype(array.dtype, jax.dtypes.extended):
        kind, array = f" {jax.random.key_impl(array)}", jax.random.key_data(array)
    numbers = np.asarray(array)
    digest.update(f"{name} {numbers.dtype}{kind} {numbers.shape}\n".encode())
    digest.update(np.ascontiguousarray(numbers).tobytes())


@functools.cache
def _source_in_jax(name: str) -> str:
    return next(
        Equation(equation.primitive, equation.params, (), ()).source
        for equation in every_equation(jax.make_jaxpr(RELUS[name])(jnp.float32(0)))
    )


def _scan_counts(params: dict[str, Any]) -> tuple[int, int]:
    """How many inputs of a scan are the same at every step, and how many are carried on."""
    if "num_consts" in params:  # before JAX 0.12
        return params["num_consts"], params["num_carry"]
    same, carried, _ = params["ft_in"].unpack()
    return len(same), len(carried)


def _converted(name: str, params: dict[str, Any], inputs: list[Operand]) -> Operand | None:
    """What needs no equation: a number that changes its type, an array that keeps it, a copy."""
    if name == "copy":
        return inputs[0]
    if name != "convert_element_type":
        return None
    (operand,), dtype = inputs, params["new_dtype"]
    if operand.dtype == dtype:
        return operand
    if isinstance(operand, Literal) and operand.shape == () and _is_number(operand.value):
        return Literal(np.asarray(operand.value).astype(dtype), (), np.dtype(dtype))
    return None


def _is_number(value: Any) -> bool:
    dtype = getattr(value, "dtype", None)
    return dtype is None or not jnp.issubdtype(dtype, jax.dtypes.extended)


def _holds(closed: Any, name: str) -> bool:
    """Whether a jaxpr or one inside it has such an equation."""
    return any(equation.primitive.name == name for equation in every_equation(closed))


def every_equation(closed: Any) -> Iterator[Any]:
    """The equations of a jaxpr, and of those in its equations' parameters."""
    for equation in getattr(closed, "jaxpr", closed).eqns:
        yield equation
        yield from inner_equations(equation.params)


def inner_equations(params: dict[str, Any]) -> Iterator[Any]:
    """All equations inside an equation."""
    for inner in inner_jaxprs(params):
        yield from every_equation(inner)


def inner_jaxprs(params: dict[str, Any]) -> Iterator[Any]:
    """The jaxprs among an equation's parameters."""
    for value in itertools.chain.from_iterable(
        item if isinstance(item, tuple | list) else (item,) for item in params.values()
    ):
        if hasattr(getattr(value, "jaxpr", value), "eqns"):
            yield value


def counted(name: str, taken: Container[str]) -> str:
    """The name, with a counter where it is taken."""
    names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(1)))
    return next(free for free in names if free not in taken)


def _path_name(path: tuple[Any, ...]) -> str:
    return ".".join(str(part_name(part)) for part in path)


def part_name(part: Any) -> Any:
    """A key path's part, as one writes it."""
    for attribute in ("key", "name", "idx"):
        if hasattr(part, attribute):
            return getattr(part, attribute)
    return part
