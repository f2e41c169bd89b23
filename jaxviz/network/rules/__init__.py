"""How single operations are computed, where there is a faster or another way than the operation itself.

A rule is a function `rule(graph, equation, settings) -> Replayed | None` in one of the files here, and stands in
`RULES` under the name of its primitive. The first that gives something is taken; an operation without a rule runs as
it is. What is slow for want of a rule is named by `slow_convolutions`.
"""

from __future__ import annotations

from jaxviz.network.rules import convolution, elementwise, pooling, relu, shapes
from jaxviz.network.rules.base import Replayed, Rule, Settings

__all__ = ["RULES", "Replayed", "Rule", "Settings"]

RULES: dict[str, tuple[Rule, ...]] = {
    "conv_general_dilated": (convolution.depthwise, convolution.fast),
    "custom_jvp_call": (relu.named,),
    "dot_general": (convolution.product,),
    "max": (relu.maximum,),
    "min": (relu.clipped,),
    "clamp": (relu.clamped,),
    "reduce_window_max": (pooling.maximum, pooling.as_it_is),
    "reduce_window_min": (pooling.as_it_is,),
    "reduce_window_sum": (pooling.total, pooling.as_it_is),
    **shapes.RULES,
}
ELEMENTWISE_RULE = elementwise.elementwise
