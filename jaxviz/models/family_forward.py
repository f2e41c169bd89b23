"""The families' modules as pure functions of weights and images, to be traced, compiled and differentiated."""

from __future__ import annotations

from dataclasses import dataclass

from flax import nnx
from jaxtyping import Array, Float

from jaxviz.models.keras_weights import Family, Weights, abstract_module, to_state


@dataclass(frozen=True)
class FamilyForward:
    """`forward(weights, images)` of a family, in evaluation mode; equal ones are equal functions, so jit compiles once.

    Attributes:
        family: what builds the module, `ResNet50V2`.
        head: whether the classifier belongs to it.
        logits: whether the classifier gives logits in place of class probabilities.

    Example:
        >>> import jax
        >>> from jaxviz.models.efficientnet_lite import EfficientNetLite0
        >>> from jaxviz.models.keras_weights import abstract_weights
        >>> weights, images = abstract_weights(EfficientNetLite0), jax.ShapeDtypeStruct((1, 224, 224, 3), "float32")
        >>> jax.eval_shape(FamilyForward(EfficientNetLite0), weights, images).shape
        (1, 1000)
    """

    family: Family
    head: bool = True
    logits: bool = False

    def __call__(self, weights: Weights, images: Float[Array, "batch height width 3"]) -> Float[Array, "batch ..."]:
        """What the module makes of the images, (batch, classes), or without a head the last map."""
        known = abstract_module(self.family, head=self.head)
        module = nnx.merge(known.definition, to_state(weights, known.state))
        outputs: Array = module(images, logits=self.logits)
        return outputs
