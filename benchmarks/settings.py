"""How much of everything is measured, and by whom: names and numbers only.

No framework is imported here, because the parent process imports this and must stay idle while something is measured.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from jaxviz.bench.settings import DEFAULT_LAYERS, DEFAULT_MODEL

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "facts"  # with the settings below only: of each fact the newest whole one is README's
OLD_RESULTS = (ROOT / "benchmarks" / "results", ROOT / "benchmarks" / "pictures")  # races, pictures, until 2026-11
TRIALS = ROOT / "out" / "facts"  # everything else; git ignores it

MODEL, LAYERS = DEFAULT_MODEL, DEFAULT_LAYERS
REAL_MODEL = "efficientnet_lite0"  # the one whose real weights are installed with jaxviz
CONTESTANTS = (
    "keras",
    "tensorflow_batched",
    "keras_jax",
    "pytorch",
    "plain_jax",
    "jaxviz_float32",
    "tensorflow_bfloat16",
    "pytorch_bfloat16",
    "jaxviz_bfloat16",
)
OURS = ("jaxviz_float32", "jaxviz_bfloat16")
PEERS = {  # whose best ours is held against, by the type of their numbers
    "float32": ("keras", "tensorflow_batched", "pytorch"),
    "bfloat16": ("tensorflow_bfloat16", "pytorch_bfloat16"),
}
FLOAT32_FORMS = {  # of the contestants in bfloat16
    "tensorflow_bfloat16": "tensorflow_batched",
    "pytorch_bfloat16": "pytorch",
    "jaxviz_bfloat16": "jaxviz_float32",
}
BASELINES = ("keras", "tensorflow_batched")  # whom everybody's speed is divided by
REFERENCE = "keras"  # whose scores everybody's are compared with

NORM_EPSILON = 1e-12  # keras.ops.normalize and tf.math.l2_normalize
INITIAL_RANGE = 0.125  # starting pixels are uniform in [-0.125, 0.125), as in the published Keras example
STEP_SIZE = 10.0
STARTS_SEED = 0
PRESET_CROP_PX = 25


class Target(Struct, frozen=True):
    """A layer to render, and the steps where fewer are enough: `few_steps` for timings, not for pictures."""

    model: str
    layer: str
    few_steps: int


CONV2, CONV3, CONV5 = (
    Target(MODEL, layer, steps) for layer, steps in zip(LAYERS, (10, 3, 3), strict=True)
)  # 3 where a step is slow
LITE0 = Target(REAL_MODEL, "block5_2_expand_conv", 10)
PICTURED = tuple(
    f"{block}_expand_{kind}" for block in ("block2_2", "block4_2", "block6_3") for kind in ("relu", "conv")
)
KERAS_NETWORKS = (  # the smallest of each family of keras.applications
    *("VGG16", "ResNet50", "ResNet50V2", "InceptionV3", "InceptionResNetV2", "Xception", "MobileNet", "MobileNetV2"),
    *("MobileNetV3Small", "DenseNet121", "NASNetMobile", "EfficientNetB0", "EfficientNetV2B0", "ConvNeXtTiny"),
)


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run of the facts.

    Attributes:
        size, steps, filters, rounds: of the images in px, of the ascent, of a layer, interleaved, where a fact does not
            say otherwise.
        short: whether this is a short race, which README's table leaves out.
        race_layers, contestants, race_batch: who runs what, in this order, and the images per call of the batched
            contestants other than PyTorch and jaxviz.
        torch_batches, torch_compiled: the images per call that PyTorch's contestants try at every layer, and whether
            they try `torch.compile` too, at the best of them.
        slow_after_s: a contestant that needs longer than this for all filters, by a probe, runs fewer of them.
        targets: of drift and batch.
        drift_batches: N of the reference, which bfloat16 has too, and another N.
        memory: whose memory; memory_counts of its filters, with memory_steps, memory_rounds times.
        start: whose start.
        lite0: jaxviz against plain JAX at lite0_batches images a call.
        batch_image_sizes, batch_dtypes, batch_filters, batch_rounds, sweep: the sides of images, the dtypes, filters
            and rounds of batch, and the N that `auto` is compared with.
        pictured, presets: the layers whose pictures are judged, in these presets; pictured_steps, pictured_size: None
            for a preset's own.
        keras_networks: whose layers are compared with Keras's, at keras_size px, keras_steps and keras_batch images a
            call; keras_traced: whose layers are listed, None for everybody's.
        weights_seed: of ResNet50V2's random weights.
    """

    size: int = 180
    steps: int = 30
    filters: int = 64
    rounds: int = 5
    short: bool = False
    race_layers: tuple[str, ...] = LAYERS
    contestants: tuple[str, ...] = CONTESTANTS
    race_batch: int = 16
    torch_batches: tuple[int, ...] = (4, 16, 32)
    # inductor brought nothing for its 20-40 s a layer. AVX512_BF16, autocast, 16 a call, ms per image-step of the three
    # layers: eager 4.6, 15.7, 31.9; compiled 6.0, 20.4, 35.0.
    torch_compiled: bool = False
    slow_after_s: float = 60.0
    targets: tuple[Target, ...] = (CONV2, CONV3, CONV5, LITE0)
    drift_batches: tuple[int, int] = (4, 8)
    memory: Target = CONV5
    memory_counts: tuple[int, ...] = (64, 128, 256, 512)
    memory_steps: int = 1
    memory_rounds: int = 3
    start: Target = CONV2
    lite0: Target = LITE0
    lite0_batches: tuple[int, ...] = (16, 4)
    batch_image_sizes: tuple[int, ...] = (180, 96, 64)
    batch_dtypes: tuple[str, ...] = ("float32", "bfloat16")
    batch_filters: int = 16
    batch_rounds: int = 3
    sweep: tuple[int, ...] = (1, 2, 4, 8, 16)
    pictured: tuple[str, ...] = PICTURED
    presets: tuple[str, ...] = ("keras", "distill")
    pictured_steps: int | None = None
    pictured_size: int | None = None
    keras_networks: tuple[str, ...] = KERAS_NETWORKS
    keras_size: int = 96
    keras_steps: int = 8
    keras_batch: int = 4
    keras_traced: tuple[str, ...] | None = None
    weights_seed: int = 0


QUICK = Settings(
    size=64,
    steps=2,
    filters=4,
    rounds=1,
    race_layers=LAYERS[:1],
    race_batch=2,
    torch_batches=(2, 4),
    targets=(Target(MODEL, CONV2.layer, 2), Target(REAL_MODEL, LITE0.layer, 2)),
    drift_batches=(2, 4),
    memory=CONV2,
    memory_counts=(2, 4),
    memory_rounds=1,
    lite0_batches=(4, 2),
    batch_image_sizes=(64,),
    batch_dtypes=("float32",),
    batch_filters=4,
    batch_rounds=1,
    sweep=(1, 2),
    pictured=("block2_1_expand_conv",),
    pictured_steps=2,
    pictured_size=48,
    keras_networks=("MobileNetV2",),
    keras_size=64,
    keras_steps=2,
    keras_batch=2,
    keras_traced=("VGG16",),
)
# On the slowest CPU at hand (two cores with AVX2) all contestants together take 0.1, 0.5 and 1.1 s per image and step
# of the three layers. 16 filters each (8 of who takes one at a time) x 6 steps x 3 rounds are 7.5 minutes, probes and
# warm-ups 2, final scores 1, compilation and starts 2: 12 or 13 minutes.
SHORT = Settings(short=True, steps=6, rounds=3, slow_after_s=4.0)


def crop_of(size: int) -> int:
    """The preset's, or what a small image allows."""
    return min(PRESET_CROP_PX, (size - 1) // 2)


class Task(Struct, frozen=True):
    """What every contestant is told: the same weights, the same starting images, the same loop."""

    weights: str  # a .safetensors file of jaxviz, tensors named layer/parameter
    starts: str  # a .npy file: float32 (filters, size, size, 3) in model space
    size: int
    steps: int
    batch: int
    step_size: float = STEP_SIZE
    model: str = MODEL
