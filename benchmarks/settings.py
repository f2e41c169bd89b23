"""What a race is made of: its settings, its defaults, and the task that every worker reads.

Names and numbers only: no framework is imported here, because the parent process imports this and must stay idle
while a contestant runs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"  # whole races only: the newest one is the README's
TRIALS = ROOT / "out" / "race"  # everything else; git ignores it

MODEL = "resnet50v2"
LAYERS = ("conv2_block1_1_conv", "conv3_block4_out", "conv5_block3_3_conv")
CONTESTANTS = (
    "keras",
    "tensorflow_batched",
    "keras_jax",
    "pytorch",
    "plain_jax",
    "jaxviz_float32",
    "jaxviz_bfloat16",
)
BASELINES = ("keras", "tensorflow_batched")  # whom everybody's speed is divided by
REFERENCE = "keras"  # whose scores everybody's are compared with

NORM_EPSILON = 1e-12  # keras.ops.normalize and tf.math.l2_normalize
INITIAL_RANGE = 0.125  # starting pixels are uniform in [-0.125, 0.125), as in the published Keras example
ONE_AT_A_TIME_SLOW_FILTERS = 8
BATCHED_SLOW_FILTERS = 16


@dataclass(frozen=True)
class Settings:
    """One race.

    Attributes:
        layers, contestants: who runs what, in this order.
        repeats: interleaved rounds.
        filters: the first so many of each layer.
        steps, step_size: of the ascent.
        size: side of the images in pixels.
        batch: images per call of the batched contestants other than jaxviz, which chooses for itself.
        slow_after_s: whoever needs longer than this for all filters, by a probe, runs fewer of them.
        weights_seed, starts_seed: of the random weights and of the starting images.
    """

    layers: tuple[str, ...] = LAYERS
    contestants: tuple[str, ...] = CONTESTANTS
    repeats: int = 5
    filters: int = 64
    steps: int = 30
    step_size: float = 10.0
    size: int = 180
    batch: int = 16
    slow_after_s: float = 60.0
    weights_seed: int = 0
    starts_seed: int = 0

    def is_whole(self) -> bool:
        """Whether this is the race that the README reports: the defaults, or more repeats of them."""
        return Settings(repeats=self.repeats, slow_after_s=self.slow_after_s) == self and self.repeats >= 5

    def filters_measured(self, seconds_per_filter: float, images_per_call: int) -> int:
        """All filters, or for a slow contestant 8 of them, 16 where it takes several images a call."""
        if seconds_per_filter * self.filters <= self.slow_after_s:
            return self.filters
        fewer = ONE_AT_A_TIME_SLOW_FILTERS if images_per_call == 1 else max(BATCHED_SLOW_FILTERS, images_per_call)
        return min(fewer, self.filters)

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON values."""
        return asdict(self) | {"layers": list(self.layers), "contestants": list(self.contestants)}


QUICK = Settings(layers=LAYERS[:1], repeats=2, filters=2, steps=2, size=64, batch=2)


@dataclass(frozen=True)
class Task:
    """What every worker is told: the same weights, the same starting images, the same loop."""

    weights: str  # a .safetensors file of jaxviz, tensors named layer/parameter
    starts: str  # a .npy file: float32 (filters, size, size, 3) in model space
    size: int
    steps: int
    step_size: float
    batch: int
    model: str = MODEL

    @classmethod
    def read(cls, path: Path) -> Task:
        """The inverse of `write`."""
        return cls(**json.loads(path.read_text()))

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self)))
