"""Names and kinds of a network's layers, whoever wrote it.

Names, in this order: (1) those of the pytree of activations that the function returns; (2) those that
`jax.ad_checkpoint.checkpoint_name` gives inside it; (3) where the weights live: the path of a convolution's or dense
layer's kernel among the weights, which is its name in every framework, and for what follows such a layer its kind,
`block1.c1/relu`. Whoever names layers by (1) or (2) has named all that there are. What is named twice gets counters.
"""

from __future__ import annotations

import itertools
from functools import cached_property

from jaxviz.network.geometry import ELEMENTWISE, is_number
from jaxviz.network.graph import Graph
from jaxviz.network.jaxprs import Equation, Literal, Operand, Trace, Value, counted, part_name

CONVOLUTIONS = ("conv", "depthwise_conv", "grouped_conv", "transposed_conv")
WITH_KERNEL = (*CONVOLUTIONS, "dense")
NORMS = ("group_norm", "layer_norm")
SHAPES = ("reshape", "squeeze", "transpose")
ACTIVATIONS = {  # jitted functions and those with a derivative of their own -> kind
    **{name: name for name in ("celu", "elu", "gelu", "glu", "leaky_relu", "log_sigmoid", "mish", "relu", "relu6")},
    **{name: name for name in ("selu", "sigmoid", "silu", "soft_sign", "softplus", "softmax", "log_softmax")},
    "swish": "silu",
    "hard_silu": "hard_swish",
    "hard_swish": "hard_swish",
    "hard_sigmoid": "hard_sigmoid",
    "hard_tanh": "hard_tanh",
    "_softmax": "softmax",
}
LAYERS = {  # other jitted functions that are layers -> kind
    "adaptive_avg_pool": "avg_pool",
    "global_avg_pool": "global_avg_pool",
    "group_norm": "group_norm",
    "layer_norm": "layer_norm",
    "prelu": "prelu",
    "upsample": "upsample",
}
GATES = {"erf": "gelu", "erfc": "gelu", "tanh": "gelu", "logistic": "silu"}  # what a gate holds -> its activation
LONGEST_GATE = 12  # operations
PARAMETERS = ("kernel", "weight", "weights", "w", "W", "embedding", "value", "0")  # last parts of a kernel's path
COLLECTIONS = ("params", "intermediates")  # first parts of a path, of linen
WITHOUT_NAME = ("__call__",)  # parts that say nothing
PLAIN_KINDS = {
    "concatenate": "concat",
    "logistic": "sigmoid",
    "reduce_window_max": "max_pool",
    "reduce_window_sum": "avg_pool",
    "tanh": "tanh",
}
FOLLOWERS = frozenset(  # kinds without a kernel that are layers where nobody names any
    {
        *ACTIVATIONS.values(),
        *PLAIN_KINDS.values(),
        "add",
        "batch_norm",
        "global_avg_pool",
        "global_max_pool",
        "multiply",
    }
)


class NamedGraph(Graph):
    """A graph that knows its layers."""

    def __init__(self, trace: Trace, name: str | None = None) -> None:
        super().__init__(trace)
        self._name = name

    @cached_property
    def layers(self) -> dict[str, Value]:
        """Every layer's value by its name, in the network's own order; what is returned where it has a name."""
        if self._name is None:
            return layers_of(self)
        output = self.trace.outputs.get("")
        return {self._name: output} if isinstance(output, Value) and self.depends(output) else {}

    @property
    def knows_others(self) -> bool:
        """Whether the layers are all that there are, not the one that a function was asked for."""
        return self._name is None

    @cached_property
    def kinds(self) -> Kinds:
        """What its values are."""
        return Kinds(self)


def layers_of(graph: Graph) -> dict[str, Value]:
    """Every layer's value by its name, in the network's own order."""
    outputs = graph.trace.outputs
    if list(outputs) != [""]:
        named = {_cleaned(name): operand for name, operand in outputs.items()}
    elif graph.trace.taps:
        named = graph.trace.taps
    else:
        return _derived(graph)
    found = {name: value for name, value in named.items() if isinstance(value, Value) and graph.depends(value)}
    if list(outputs) == [""]:
        found = {name: value for name, value in found.items() if _is_map(graph, value)}
    else:  # a loss among the activations is none
        found = {name: value for name, value in found.items() if len(value.shape) > 1}
    return dict(sorted(found.items(), key=lambda item: graph.places[item[1]]))


def _is_map(graph: Graph, value: Value) -> bool:
    """Whether a tapped value has channels, and beside them rows and columns at most: tokens and scores have others.

    Where axes are not known they are (batch, height, width, channels), unless convolutions have their channels first.
    """
    own = graph.geometry.get(value)
    if own is None or own.channels is None:
        return len(value.shape) in (2, 4) and not graph.is_channels_first
    return all(length == 1 for axis, length in enumerate(value.shape) if axis not in own[:3])


class Kinds:
    """What every value is, in the words of layers."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.named: dict[Operand, str] = {}
        for name, operand in graph.trace.results:  # the outermost comes last and wins
            if name in ACTIVATIONS or name in LAYERS:
                self.named[operand] = (ACTIVATIONS | LAYERS)[name]
        self.inner: set[Operand] = set()  # of an activation that is written out, such as x * sigmoid(x)
        for equation in graph.trace.equations:
            if equation.name == "mul" and len(graph.depending_inputs(equation)) == 2:
                self._read_gate(equation)

    def of(self, value: Value) -> str:
        """Such as "conv", "batch_norm", "relu", "add"; the primitive's own name where there is no better one."""
        if value is self.graph.trace.image:
            return "input"
        if value in self.named:
            return self.named[value]
        equation = self.graph.makers[value]
        name = equation.name
        if name in ("conv_general_dilated", "dot_general"):
            return _product_kind(self.graph, equation)
        if name in ("add", "sub", "mul", "div"):
            return self._arithmetic(equation)
        if name in ("max", "min"):
            return clipped_kind(self.graph, equation) or name
        if name in ("reduce_sum", "reduce_max"):
            return self._reduced(equation)
        if name in SHAPES:  # between a convolution and its bias, or behind one that was vectorised
            below = self.of(self.graph.depending_inputs(equation)[0])
            is_turned_back = name == "transpose" and below in NORMS  # one of channels, which it works on last
            return below if below in WITH_KERNEL or is_turned_back else name
        return PLAIN_KINDS.get(name, name)

    def kernel_below(self, value: Value, layers: set[Value]) -> Value | None:
        """The convolution or dense layer whose own activation a layer is, `relu(conv(x))`, where it is no layer itself.

        None for all else, and for a softmax, which is looked for by its kind.
        """
        if self.of(value) not in ACTIVATIONS.values() or "softmax" in self.of(value):
            return None
        waiting, seen, kernels = [value], {value}, set()
        while waiting:
            equation = self.graph.maker(waiting.pop())
            if equation is None:
                return None
            for below in self.graph.depending_inputs(equation):
                if below in layers or below is self.graph.trace.image or len(seen) > LONGEST_GATE:
                    return None
                if self.of(below) in WITH_KERNEL:
                    kernels.add(below)
                elif below not in seen:
                    waiting.append(below)
                seen.add(below)
        return kernels.pop() if len(kernels) == 1 else None

    def finished(self, value: Value) -> Value:
        """The last value of the layer that this one begins."""
        while (more := self.continues(value)) is not None:
            value = more
        return value

    def continues(self, value: Value) -> Value | None:
        """The value that goes on with the layer that this one begins: with a bias, a norm, the division of a mean."""
        users = self.graph.users.get(value, [])
        if len(users) != 1 or len(self.graph.depending_inputs(users[0])) != 1 or len(users[0].outputs) != 1:
            return None
        (output,) = users[0].outputs
        if output in self.named and value not in self.named:
            return None
        if users[0].name in SHAPES:
            is_flattened = _long_lengths(output) != _long_lengths(value)
            return output if self.of(value) in WITH_KERNEL and not is_flattened else None
        same = users[0].name in ("add", "sub", "mul", "div", "max", "min") and self.of(output) == self.of(value)
        return output if same else None

    def _read_gate(self, equation: Equation) -> None:
        """Know x * gate(x) for the activation that it is; x may be halved."""
        for x, gate in itertools.permutations(self.graph.depending_inputs(equation)):
            inside: list[Equation] = []
            maker = self.graph.maker(x)
            if maker is not None and maker.name == "mul" and any(isinstance(item, Literal) for item in maker.inputs):
                inside, (x,) = [maker], self.graph.depending_inputs(maker)
            waiting = [gate]
            while waiting and len(inside) <= LONGEST_GATE:
                value = waiting.pop()
                maker = self.graph.maker(value)
                if value is x or (maker is not None and maker in inside):
                    continue
                if maker is None or maker.name not in ELEMENTWISE:
                    break
                inside.append(maker)
                waiting += self.graph.depending_inputs(maker)
            else:
                kind = next((GATES[step.name] for step in inside if step.name in GATES), None)
                if kind is not None and not waiting and len(inside) <= LONGEST_GATE:
                    self.named.setdefault(equation.outputs[0], kind)
                    self.inner.update(output for step in inside for output in step.outputs)
                return

    def _arithmetic(self, equation: Equation) -> str:
        depending = self.graph.depending_inputs(equation)
        if len(depending) > 1 or len(equation.inputs) > len(depending) == 2:
            if equation.name == "div" and _is_softmax(self.graph, equation):
                return "softmax"
            return {"add": "add", "mul": "multiply"}.get(equation.name, equation.name)
        below = depending[0]
        kind = self.of(below)
        fixed = [operand for operand in equation.inputs if operand is not below]
        if equation.name == "div" and kind in ("avg_pool", "global_avg_pool"):
            return kind
        if equation.name == "mul" and kind == "global_avg_pool" and isinstance(fixed[0], Literal):
            return kind
        if equation.name in ("add", "sub") and kind in WITH_KERNEL and not _is_norm_shift(self.graph, equation, below):
            return kind
        if all(isinstance(operand, Value) for operand in fixed):
            return "batch_norm" if _in_norm(self.graph, equation) else "scale"
        return kind if kind == "batch_norm" else {"add": "shift", "mul": "scale"}.get(equation.name, equation.name)

    def _reduced(self, equation: Equation) -> str:
        (below,) = self.graph.depending_inputs(equation)
        own = self.graph.geometry.get(below)
        axes = set(equation.params["axes"])
        spatial = set() if own is None else {own.rows, own.columns} - {None}
        if own is not None and spatial and spatial <= axes and own.channels not in axes:
            return "global_avg_pool" if equation.name == "reduce_sum" else "global_max_pool"
        return equation.name


def _long_lengths(value: Value) -> list[int]:
    return sorted(length for length in value.shape if length != 1)


def _derived(graph: Graph) -> dict[str, Value]:
    """The layers of a network in which nobody named any."""
    kinds = Kinds(graph)
    found: dict[str, Value] = {}
    bases: dict[Value, str] = {}  # of every value the nearest layer with a kernel below it
    for equation in graph.trace.equations:
        if not graph.depends(equation.outputs[0]):
            continue
        base = bases.get(graph.depending_inputs(equation)[-1], "")
        bases |= dict.fromkeys(equation.outputs, base)
        (output, *others) = equation.outputs
        if others or output not in graph.geometry or graph.geometry[output].channels is None:
            continue
        kernel = _kernel_name(graph, equation)
        if kernel is not None:
            bases[output] = counted(kernel, found)
            found[bases[output]] = kinds.finished(output)
        elif _is_follower(kinds, equation, output):
            kind = kinds.of(output)
            found[counted(f"{base}/{kind}" if base else kind, found)] = output
    return found


def _is_follower(kinds: Kinds, equation: Equation, output: Value) -> bool:
    """Whether a value is a layer of its own, and no part of one."""
    return (
        kinds.of(output) in FOLLOWERS
        and kinds.continues(output) is None
        and not _inside_activation(equation, output, kinds)
        and not _is_intermediate(kinds.graph, output, kinds)
    )


def _is_intermediate(graph: Graph, value: Value, kinds: Kinds) -> bool:
    """Whether a value is only what a clipped ReLU is made of."""
    users = graph.users.get(value, [])
    return kinds.of(value) == "relu" and len(users) == 1 and clipped_kind(graph, users[0]) == "relu6"


def _inside_activation(equation: Equation, output: Value, kinds: Kinds) -> bool:
    """Whether a value is only a part of an activation."""
    outermost = next((ACTIVATIONS[name] for name in equation.calls if name in ACTIVATIONS), None)
    return output in kinds.inner or (outermost is not None and kinds.named.get(output) != outermost)


def _kernel_name(graph: Graph, equation: Equation) -> str | None:
    """The name of a convolution or dense layer by its kernel's path; its kind where the kernel is no weight."""
    if equation.name not in ("conv_general_dilated", "dot_general"):
        return None
    fixed = [operand for operand in equation.inputs if not graph.depends(operand)]
    if len(fixed) != 1:
        return None
    leaf = graph.leaf_behind(fixed[0])
    kind = _product_kind(graph, equation)
    return kind if leaf is None else leaf_name(graph.trace.leaf_paths[leaf]) or kind


def leaf_name(path: tuple[object, ...]) -> str:
    """A layer's name from the path of its kernel: without the collection, and without what the kernel is called."""
    parts = [str(part_name(part)) for part in path]
    if len(parts) > 1 and parts[-1] == "value":
        parts.pop()
    if len(parts) > 1 and parts[0] in COLLECTIONS:
        parts.pop(0)
    if len(parts) > 1 and parts[-1] in PARAMETERS:
        parts.pop()
    return ".".join(parts)


def _cleaned(name: str) -> str:
    """The name of an activation in the pytree that a function returns; linen's own parts say nothing."""
    parts = name.split(".")
    if len(parts) > 1 and parts[0] in COLLECTIONS:
        parts = [part for part in parts[1:] if part not in WITHOUT_NAME]
        if parts[-1] == "0":  # what linen's `sow` makes of it
            parts.pop()
    return ".".join(parts) or "output"


def _product_kind(graph: Graph, equation: Equation) -> str:
    if len(graph.depending_inputs(equation)) > 1:
        return "matmul" if equation.name == "dot_general" else "dynamic_conv"
    if equation.name == "dot_general":
        return "dense"
    params, kernel = equation.params, equation.inputs[1]
    if max(params["lhs_dilation"]) > 1:
        return "transposed_conv"
    groups = params["feature_group_count"]
    if groups == 1:
        return "conv"
    one = kernel.shape[params["dimension_numbers"].rhs_spec[1]] == 1
    return "depthwise_conv" if one else "grouped_conv"


def clipped_kind(graph: Graph, equation: Equation) -> str | None:
    """Such as "relu" for max(x, 0), "relu6" for min(max(x, 0), 6)."""
    if equation.name == "max" and any(is_number(operand, 0) for operand in equation.inputs):
        return "relu"
    if equation.name == "min" and any(is_number(operand, 6) for operand in equation.inputs):
        maker = graph.maker(graph.depending_inputs(equation)[0])
        if maker is not None and maker.name == "max" and clipped_kind(graph, maker) == "relu":
            return "relu6"
    return None


def softmax_input(graph: Graph, value: Value) -> Value | None:
    """The values before the softmax that a value is; None where it is none."""
    equation = graph.maker(value)
    if equation is None:
        return None
    if equation.name in ("custom_jvp_call", "reshape", "squeeze", "convert_element_type", "transpose"):
        (below,) = graph.depending_inputs(equation)[:1]
        if equation.name == "custom_jvp_call":
            return below if equation.function == "_softmax" else None
        return softmax_input(graph, below)
    if equation.name != "div" or not _is_softmax(graph, equation):
        return None
    exponential = graph.maker(equation.inputs[0])
    assert exponential is not None
    shifted = graph.maker(exponential.inputs[0])
    logits = shifted.inputs[0] if shifted is not None and shifted.name == "sub" else exponential.inputs[0]
    return logits if isinstance(logits, Value) else None


def _is_softmax(graph: Graph, equation: Equation) -> bool:
    """Whether a division is that of exp(x - max) by its sum."""
    above, below = (graph.maker(operand) for operand in equation.inputs)
    while below is not None and below.name in ("broadcast_in_dim", "reshape"):
        below = graph.maker(below.inputs[0])
    return (
        above is not None
        and above.name == "exp"
        and below is not None
        and below.name == "reduce_sum"
        and below.inputs[0] is equation.inputs[0]
    )


def _in_norm(graph: Graph, equation: Equation) -> bool:
    """Whether a sum or product with fixed numbers is a part of a batch norm: a root is taken in one of its parts."""
    (below,) = graph.depending_inputs(equation)
    chain = [equation]
    while (maker := graph.maker(below)) is not None and _is_affine_step(graph, maker):
        chain.append(maker)
        (below,) = graph.depending_inputs(maker)
    (output,) = equation.outputs
    while len(users := graph.users.get(output, [])) == 1 and _is_affine_step(graph, users[0]):
        chain.append(users[0])
        (output,) = users[0].outputs
    return any(_takes_root(graph, step) for step in chain)


def _is_norm_shift(graph: Graph, equation: Equation, below: Value) -> bool:
    """Whether what follows a convolution is a norm's mean rather than the layer's bias: another layer's weight."""
    if equation.name == "sub":
        return True
    maker = graph.maker(below)
    while maker is not None and maker.name in SHAPES:
        maker = graph.maker(graph.depending_inputs(maker)[0])
    fixed = [operand for operand in equation.inputs if operand is not below]
    bias = graph.leaf_behind(fixed[0]) if fixed and isinstance(fixed[0], Value) else None
    kernel = None if maker is None else _kernel_leaf(graph, maker)
    if bias is None or kernel is None:
        return False
    paths = graph.trace.leaf_paths
    return _owner(paths[bias]) != _owner(paths[kernel]) and len(_owner(paths[kernel])) > 0


def _kernel_leaf(graph: Graph, equation: Equation) -> int | None:
    fixed = [operand for operand in equation.inputs if not graph.depends(operand)]
    return graph.leaf_behind(fixed[0]) if len(fixed) == 1 else None


def _owner(path: tuple[object, ...]) -> list[str]:
    parts = [str(part_name(part)) for part in path]
    if parts and parts[-1] == "value":
        parts.pop()
    return parts[:-1]


def _is_affine_step(graph: Graph, equation: Equation) -> bool:
    depending = graph.depending_inputs(equation)
    fixed = [operand for operand in equation.inputs if not graph.depends(operand)]
    return (
        equation.name in ("add", "sub", "mul", "div")
        and len(depending) == 1
        and all(isinstance(operand, Value) for operand in fixed)
    )


def _takes_root(graph: Graph, equation: Equation) -> bool:
    fixed = [operand for operand in equation.inputs if not graph.depends(operand)]
    return any(step.name in ("rsqrt", "sqrt") for step in graph.fixed_equations(fixed))
