"""How much of everything a visit measures: names and numbers only, read by the runner and by every cell."""

from __future__ import annotations

from msgspec import Struct

from benchmarks.settings import LAYERS, MODEL, REAL_MODEL, ROOT

RESULTS = ROOT / "benchmarks" / "gpu"  # finished visits only: the newest one is README's
CONV2, CONV3, CONV5 = LAYERS
LITE0, LITE0_LAYER = REAL_MODEL, "block4_2_expand_conv"
SEED = 0  # of weights and starting images


class Settings(Struct, frozen=True, kw_only=True):
    """One visit.

    Attributes:
        rehearsal: on the CPU, tiny; its figures are no GPU's.
        size, large_size: sides of images in px.
        filters, steps, repeats: of the main job and the profile.
        batch_sizes: N of the sweep, after `filters` itself.
        many_filters: of the layer that is rendered into files; None: all.
        dot_side: of the matrix products beside the main job.
        scores_size, scores_filters: of the comparison with the CPU; these are the reference's.
        contract_size, contract_steps, contract_filters: of the contract on batches.
        preset_filters, preset_steps, preset_size: of the presets; None: the preset's own.
        race_repeats, slow_filters: warm runs of every contestant; filters of the one that takes one at a time.
        torch_device, torch_compiler: where PyTorch computes and the backend of `torch.compile`.
    """

    rehearsal: bool = False
    model: str = MODEL
    size: int = 180
    large_size: int = 224
    filters: int = 64
    steps: int = 30
    repeats: int = 5
    batch_sizes: tuple[int, ...] = (128, 256, 512, 1024)
    many_filters: int | None = None
    dot_side: int = 16384
    scores_size: int = 180
    scores_filters: int = 8
    contract_size: int = 64
    contract_steps: int = 8
    contract_filters: int = 8
    preset_filters: int = 8
    preset_steps: int | None = None
    preset_size: int | None = None
    race_repeats: int = 3
    slow_filters: int = 4
    torch_device: str = "cuda"
    torch_compiler: str = "inductor"


VISIT = Settings()
REHEARSAL = Settings(
    rehearsal=True,
    size=64,
    large_size=72,
    filters=4,
    steps=2,
    repeats=2,
    batch_sizes=(8,),
    many_filters=8,
    dot_side=256,
    scores_filters=8,
    contract_steps=2,
    contract_filters=4,
    preset_filters=2,
    preset_steps=2,
    preset_size=96,
    race_repeats=1,
    slow_filters=2,
    torch_device="cpu",
    torch_compiler="aot_eager",
)
