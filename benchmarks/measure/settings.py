"""How much of everything is measured: names and numbers only."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.settings import LAYERS, MODEL, ROOT

RESULTS = ROOT / "benchmarks" / "facts"  # with the settings below only: of each fact the newest is README's
TRIALS = ROOT / "out" / "facts"  # everything else; git ignores it
REAL_MODEL = "efficientnet_lite0"  # the one whose real weights are installed with jaxviz


class Target(NamedTuple):
    """A layer to render, and the steps where fewer are enough: `few_steps` for timings, not for pictures."""

    model: str
    layer: str
    few_steps: int


CONV2, CONV3, CONV5 = (
    Target(MODEL, layer, steps) for layer, steps in zip(LAYERS, (10, 3, 3), strict=True)
)  # 3 where a step is slow
LITE0 = Target(REAL_MODEL, "block5_2_expand_conv", 10)
PRESET_TARGETS = tuple(
    Target(REAL_MODEL, f"{block}_expand_{kind}", 30) for block in ("block2_2", "block4_2") for kind in ("conv", "relu")
)


@dataclass(frozen=True)
class Settings:
    """One run of the facts.

    Attributes:
        targets: of drift and batch.
        size, steps, filters: of the images, of the ascent, of a layer, where a fact does not say otherwise.
        rounds: interleaved, of lite0 and batch; cold and warm starts.
        drift_batches: N of the reference, which bfloat16 has too, and another N.
        memory: whose memory; memory_counts of its filters, with memory_steps, memory_rounds times.
        start: whose start.
        lite0: jaxviz against plain JAX at lite0_batches images a call; slow_after_s as in the race.
        batch_image_sizes, batch_filters, sweep: the sides of images and the filters of batch, and the N that `auto` is
            compared with.
        presets, presets_size: whose cost in both presets, of images of that size.
        writing_rounds: of writing the layer of `start`.
        weights_seed: of ResNet50V2's random weights.
    """

    targets: tuple[Target, ...] = (CONV2, CONV3, CONV5, LITE0)
    size: int = 180
    steps: int = 30
    filters: int = 64
    rounds: int = 5
    drift_batches: tuple[int, int] = (4, 8)
    memory: Target = CONV5
    memory_counts: tuple[int, ...] = (64, 128, 256, 512)
    memory_steps: int = 1
    memory_rounds: int = 3
    start: Target = CONV2
    lite0: Target = LITE0
    lite0_batches: tuple[int, ...] = (16, 4)
    slow_after_s: float = 60.0
    batch_image_sizes: tuple[int, ...] = (180, 96)
    batch_filters: int = 32
    sweep: tuple[int, ...] = (1, 2, 4, 8)
    presets: tuple[Target, ...] = PRESET_TARGETS
    presets_size: int = 224
    writing_rounds: int = 9
    weights_seed: int = 0

    @property
    def crop(self) -> int:
        """The preset's, or what a small image allows."""
        return self.crop_of(self.size)

    @staticmethod
    def crop_of(size: int) -> int:
        """The same for images of another size."""
        return min(25, (size - 1) // 2)

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON values."""
        values = asdict(self) | {name: getattr(self, name)._asdict() for name in ("memory", "start", "lite0")}
        for name in ("targets", "presets"):
            values[name] = [target._asdict() for target in getattr(self, name)]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


QUICK = Settings(
    targets=(CONV2._replace(few_steps=2), LITE0._replace(few_steps=2)),
    size=64,
    steps=2,
    filters=4,
    rounds=1,
    drift_batches=(2, 4),
    memory=CONV2,
    memory_counts=(2, 4),
    memory_rounds=1,
    lite0_batches=(4, 2),
    batch_image_sizes=(64,),
    batch_filters=4,
    sweep=(1, 2),
    presets=PRESET_TARGETS[:1],
    presets_size=64,
    writing_rounds=1,
)


def newest(name: str, folder: Path = RESULTS) -> Path | None:
    """The newest result that has the fact; file names begin with the time."""
    having = (path for path in folder.glob("*.json") if name in json.loads(path.read_text())["facts"])
    return max(having, key=lambda path: path.name, default=None)
