"""What a benchmark records, as typed and versioned records that go into JSON as they are.

Raw values (`seconds`, memory, scores) come from `measure.py`. What is computed from them comes from `figures.py`, and
is computed anew whenever a file is read. Times are in seconds, memory in MiB, GFLOP are 1e9; a batch size is images
per device and call. `from_json` checks types, ranges and the few rules that hold between fields.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

SCHEMA = 1  # of the file; another number is another, incompatible file
KIND = "jaxviz bench"

# Ranges that leave room for arithmetic: a foreign file must not overflow it.
Positive = Annotated[float, Meta(ge=1e-9, le=1e12)]
NotNegative = Annotated[float, Meta(ge=0, le=1e12)]
Count = Annotated[int, Meta(ge=1, le=2**53)]
NUMBERS = re.compile(r"\[\n[\d\s.,eE+nul-]*\]")  # a list of numbers and nulls in indented JSON; no string has a newline
SweepEnd = Literal["saturated", "memory", "time", "cap", "given"]


class Settings(Struct, frozen=True, kw_only=True):
    """What was asked for; `command` in the report types it again."""

    model: str
    layers: tuple[str, ...]
    batch_sizes: tuple[Count, ...] | Literal["auto"]
    dtypes: tuple[str, ...]
    size: tuple[Count, Count]  # height, width in px
    steps: Count
    repeats: Count
    seed: Annotated[int, Meta(ge=0, le=2**53)]
    quick: bool
    kernels: str = "lax"  # or "auto"; files without it were measured before there was another set


class Host(Struct, frozen=True, kw_only=True):
    """A machine without its accelerators; None: the system does not tell."""

    cpu: str
    cores: Count  # that this process may run on
    memory_gb: float | None
    system: str


class Hardware(Host, frozen=True, kw_only=True):
    """The device that computed and the machine around it."""

    platform: str  # jax's: cpu, gpu, tpu
    device_kind: str
    devices: Count  # that a call was split over
    runtime: str  # of the platform, such as its CUDA version


class DotRate(Struct, frozen=True, kw_only=True):
    """The rate of square matrix products on one device, half of them timed before the layers, half after."""

    side: Count
    gflops_each: Annotated[tuple[Positive, ...], Meta(min_length=1)]
    precision: str
    gflops: float = 0.0  # their median


class Figures(Struct, frozen=True, kw_only=True):
    """What the raw values of one row say."""

    median_s: float
    quartiles_s: tuple[float, float]
    image_steps_per_s: float
    images_per_s: float  # finished, at the settings' steps
    gflops: float
    fraction_of_dot_rate: float | None
    transfer_s: float


class Row(Struct, frozen=True, kw_only=True):
    """One compiled program: a layer, a dtype, a batch size.

    Attributes:
        images_per_call: batch size x devices.
        macs_per_image: multiply-adds of one forward pass to the layer: convolutions and dense layers.
        precision: what the products were computed in, in words.
        compile_s: tracing, lowering and compiling, without a compilation cache.
        seconds: of each repeat, from image parameters on the device to images, scores and history there.
        transfer_seconds: of each repeat, from there to the host.
        program_memory_mb: arguments, results and temporaries of the program on one device, as its compiler counts.
        peak_memory_mb: high-water mark since the process started, right after the row's first call: of the
            fullest device, or of the whole process where `peak_memory_of` says so.
        mean_score: final score, mean over the first `scored_filters` filters of the layer; None if not finite.
    """

    layer: str
    dtype: str
    batch_size: Count
    images_per_call: Count
    macs_per_image: Annotated[int, Meta(ge=0, le=2**53)]
    precision: str
    status: Literal["ok", "out of memory"]
    compile_s: NotNegative | None = None
    seconds: tuple[Positive, ...] = ()
    transfer_seconds: tuple[NotNegative, ...] = ()
    program_memory_mb: NotNegative | None = None
    peak_memory_mb: NotNegative | None = None
    peak_memory_of: Literal["device", "process"] | None = None
    mean_score: float | None = None
    scored_filters: Annotated[int, Meta(ge=0)] = 0
    figures: Figures | None = None

    def __post_init__(self) -> None:
        if self.status == "ok" and not len(self.seconds) == len(self.transfer_seconds) > 0:
            raise ValueError(f"a row with status 'ok' has as many transfer_seconds as seconds, not {self.layer!r}'s")


class Sweep(Struct, frozen=True, kw_only=True):
    """The batch sizes of one layer and dtype: why they ended, and the smallest within reach of the fastest."""

    layer: str
    dtype: str
    ended: SweepEnd
    saturating_batch_size: int | None = None
    fastest_batch_size: int | None = None


class Header(Struct, frozen=True):
    """What tells a result file from other JSON."""

    kind: str
    schema: int


class Report(Struct, frozen=True, kw_only=True):
    """A whole run, or with `complete` False the layers that were done when it was stopped."""

    kind: str = KIND
    schema: int = SCHEMA
    complete: bool
    started: str  # UTC, ISO 8601
    finished: str
    command: str
    settings: Settings
    hardware: Hardware
    versions: dict[str, str | None]
    environment: dict[str, str]
    load_average_at_start: float | None
    weights_sha256: str
    kernels: str = "lax"  # the set that multiplied, by name
    dot_rates: dict[str, DotRate]
    rows: tuple[Row, ...]
    sweeps: tuple[Sweep, ...]


def to_json(record: Any, *, indent: int | None = None) -> str:
    """JSON text; one line without `indent`, and with it each list of numbers on one."""
    line = msgspec.json.encode(record)
    if indent is None:
        return line.decode()
    return NUMBERS.sub(lambda found: " ".join(found[0].split()), msgspec.json.format(line, indent=indent).decode())
