"""What the layers between the input of a Keras model and the known network in it do to an image.

Scales and offsets become the model's `preprocess`. What changes an image in training only, and what cuts or resizes
it (images come at the size that is asked for), is left out and named. Everything else that computes is refused by
name: the network would be fed with what it was not trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, NoReturn

from jaxviz.errors import WeightsError
from weights_convert.keras_config import Step, Tensor
from weights_convert.match import shortened
from weights_convert.preprocessing import Preprocessing

# Active in training only, or such as leaves the image as it is.
TRAINING_ONLY = {
    *("Dropout", "SpatialDropout2D", "AlphaDropout", "GaussianDropout", "GaussianNoise", "ActivityRegularization"),
    *("AugMix", "RandAugment", "MixUp", "CutMix", "Solarization", "MaxNumBoundingBoxes", "Identity"),
}
SIZE_ONLY = {"CenterCrop", "Resizing"}
CASTS = {"Cast", "cast"}
# An operation on a tensor is a layer in Keras 3, and in Keras 2 a `TFOpLambda` that names its function.
OPERATIONS = {
    **dict.fromkeys(("TrueDivide", "Divide", "truediv", "divide"), "/"),
    **dict.fromkeys(("Multiply", "multiply", "mul"), "*"),
    **dict.fromkeys(("Subtract", "subtract", "sub"), "-"),
    **dict.fromkeys(("Add", "add"), "+"),
}
EPSILON = 1e-7  # keras.config.epsilon(), the least standard deviation of `Normalization`

Numbers = tuple[float, ...]  # one, or one for each channel
Statistics = Callable[[Step], tuple[Any, Any] | None]  # mean and variance that the file keeps for a Normalization layer


class Surroundings(NamedTuple):
    """What stands before a network: its preprocessing, None without any, and what is left out, in words."""

    preprocessing: Preprocessing | None = None
    left_out: tuple[str, ...] = ()


def understood(steps: Iterable[Step], statistics: Statistics, *, origin: str, alone: str) -> Surroundings:
    """What the layers in front of a network do.

    Raises:
        WeightsError: a layer computes something else than a scale and an offset for each channel.
    """
    found: Preprocessing | None = None
    left_out = []
    for step in steps:
        if step.class_name in TRAINING_ONLY | SIZE_ONLY or step.class_name.startswith("Random"):
            left_out.append(str(step))
        elif step.class_name not in CASTS and _function(step) not in CASTS:
            try:
                found = _scaled(step, found or Preprocessing(), statistics)
            except (ValueError, TypeError, OverflowError, ZeroDivisionError) as error:
                _refuse(step, str(error), origin, alone)
    return Surroundings(found, tuple(left_out))


def refuse_statistics(layers: Iterable[str], *, origin: str, why: str) -> NoReturn:
    """Raise WeightsError: the file has the arrays of a Normalization, but not where it stands."""
    raise WeightsError(
        f"weights file {origin} is refused: it holds a Normalization ({shortened(layers)}), which decides what the "
        f"network is fed with, and {why}. Save the whole model as model.keras: model.save('model.keras')"
    )


def _scaled(step: Step, before: Preprocessing, statistics: Statistics) -> Preprocessing:
    """`before` and the step behind it. Raises ValueError, in words, where it is no scale and offset."""
    config = step.config
    if step.class_name == "Rescaling":
        return before.then(_numbers(config.get("scale")), _numbers(config.get("offset", 0.0)))
    if step.class_name == "Normalization":
        return before.then(*_normalization(step, statistics))
    operation = OPERATIONS.get(_function(step) or step.class_name)
    operands = [value for key, value in step.arguments.items() if key in (0, 1, "x", "y", "x1", "x2")]
    if operation is None or len(operands) != 2 or sum(isinstance(one, Tensor) for one in operands) != 1:
        raise ValueError("what it computes is not known here")
    return before.then(*_arithmetic(operation, operands))


def _arithmetic(operation: str, operands: list[Any]) -> tuple[Numbers, Numbers]:
    """(scale, offset) of an operation on the image and a constant."""
    image_first = isinstance(operands[0], Tensor)
    numbers = _numbers(operands[1] if image_first else operands[0])
    ones, zeros = (1.0,) * len(numbers), (0.0,) * len(numbers)
    if operation == "*":
        return numbers, zeros
    if operation == "+":
        return ones, numbers
    if operation == "-":
        return (ones, tuple(-one for one in numbers)) if image_first else (tuple(-one for one in ones), numbers)
    if not image_first:
        raise ValueError("it divides by the image")
    return tuple(1.0 / one for one in numbers), zeros


def _normalization(step: Step, statistics: Statistics) -> tuple[Numbers, Numbers]:
    """(scale, offset) of `(x - mean) / max(sqrt(variance), epsilon)`, or of its inverse."""
    mean, variance = step.config.get("mean"), step.config.get("variance")
    if mean is None or variance is None:
        kept = statistics(step)
        if kept is None:
            raise ValueError("its mean and variance are not in the file")
        mean, variance = kept
    means = _numbers(mean)
    deviations = tuple(max(math.sqrt(one), EPSILON) for one in _numbers(variance))
    if len(means) != len(deviations):
        raise ValueError("its mean and variance have not the same length")
    if step.config.get("invert"):
        return deviations, means
    scale = tuple(1.0 / deviation for deviation in deviations)
    return scale, tuple(-one * factor for one, factor in zip(means, scale, strict=True))


def _numbers(constant: Any) -> Numbers:
    """A constant as one number or one for each channel; raises ValueError for one for each pixel."""
    if isinstance(constant, dict):  # Keras writes an array as {"class_name": "__numpy__", "config": {"value": ...}}
        config = constant.get("config")
        constant = config.get("value") if isinstance(config, dict) else None
    while isinstance(constant, (list, tuple)) and len(constant) == 1:
        constant = constant[0]
    numbers = constant if isinstance(constant, (list, tuple)) else [constant]
    if not all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in numbers):
        raise ValueError("its constant is not one number, or one for each channel")
    return tuple(float(number) for number in numbers)


def _function(step: Step) -> str | None:
    """The function of a `TFOpLambda`, less its module: `truediv` of `math.truediv`."""
    function = step.config.get("function")
    return function.rpartition(".")[2] if step.class_name == "TFOpLambda" and isinstance(function, str) else None


def _refuse(step: Step, why: str, origin: str, alone: str) -> NoReturn:
    raise WeightsError(
        f"weights file {origin} is refused: the layer {step} stands before the network, and {why}. Honored are "
        f"Rescaling, Normalization and constants that are added or multiplied, left out is augmentation. Save the "
        f"network without what stands before it, and feed it what that gave: {alone}"
    )
