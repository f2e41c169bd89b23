"""The machine that is measured: what it is, what was tuned, how busy it is, what its numbers are made of.

What a system does not tell is None. Nothing is recorded that names a user or a place: no host name, no paths.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
from msgspec.structs import asdict

import jaxviz
from jaxviz.bench.records import Hardware, Host
from jaxviz.machine import available_cores, cpu_name

PACKAGES = ("jax", "jaxlib", "flax", "numpy")
ACCELERATOR_PACKAGES = ("jax-", "libtpu", "nvidia-cudnn", "nvidia-cublas")  # beginnings of names; recorded if there
# Beginnings of variables that tune JAX, its libraries or a rival, and endings of those that hold places instead.
TUNING = (
    *("JAX_", "XLA_", "PJRT_", "NPROC", "OMP_", "LIBTPU_", "NVIDIA_TF32", "CUDA_VISIBLE", "HIP_", "MALLOC_"),
    *("KMP_", "MKL_", "OPENBLAS_", "KERAS_", "TF_CPP_", "TF_CUDNN", "TF_ENABLE_", "TF_GPU_", "TF_NUM_", "TF_XLA_"),
)
PLACES = ("_DIR", "_HOME", "_PATH", "_ADDRESS", "_FILE", "_DUMP_TO")
BUSY = 0.5  # processes that want a core, per core, from which figures suffer
MIB = 2**20
AMPERE = 8.0  # compute capability from which NVIDIA GPUs have TF32
FULL_PRECISION = ("highest", "float32")
MIDDLE_PRECISION = ("high", "tensorfloat32", "bfloat16_3x")


class PeakMemory(NamedTuple):
    """A high-water mark since the process started, and whose."""

    mb: float | None
    of: Literal["device", "process"] | None


def host() -> Host:
    """The machine around the devices. No device is touched."""
    return Host(
        cpu=cpu_name(),
        cores=available_cores(),
        memory_gb=_memory_gb(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
    )


def hardware(devices: Sequence[jax.Device]) -> Hardware:
    """The devices that a batch is split over, and their host."""
    first = devices[0]
    return Hardware(
        platform=first.platform,
        device_kind=first.device_kind,
        devices=len(devices),
        runtime=" ".join(str(first.client.platform_version).split()),
        **asdict(host()),
    )


def versions(others: Sequence[str] = ()) -> dict[str, str | None]:
    """Of Python, jaxviz, every package that computes, and of `others`, which may not be installed: None."""
    found: dict[str, str | None] = {"python": platform.python_version(), "jaxviz": jaxviz.__version__}
    names = sorted({str(package.name).lower() for package in metadata.distributions()} - found.keys())
    accelerators = [name for name in names if name.startswith(ACCELERATOR_PACKAGES)]
    return found | {name: _version(name) for name in (*PACKAGES, *others, *accelerators)}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def tuning(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that tune JAX and its libraries, without those that name places."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if name.startswith(TUNING) and not name.endswith(PLACES)
    }


def load_average() -> float | None:
    """Processes that wanted a core, over the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def is_busy(load: float | None, cores: int) -> bool:
    """Whether others use so much of the machine that figures will be low."""
    return load is not None and load > BUSY * cores


def precision(device: Any, dtype: str, setting: str | None, *, multiplies_bfloat16: bool = True) -> str:
    """What products are computed in, in words; `setting` is jax's default matmul precision, the last is of a CPU.

    A float32 product is not float32 everywhere: unless told otherwise JAX lets an NVIDIA GPU round operands to TF32
    (10 bits) and a TPU to bfloat16 (7 bits).
    """
    if dtype == "bfloat16":
        if device.platform != "cpu":
            return "bfloat16 weights and activations, float32 sums"
        convolutions = "operands of 1x1 and wide convolutions"
        if multiplies_bfloat16:
            return f"bfloat16 {convolutions}, float32 sums"
        return f"float32; {convolutions} rounded to bfloat16"
    if device.platform == "cpu" or setting in FULL_PRECISION:
        return "float32"
    if device.platform == "tpu":
        return "3 passes of bfloat16" if setting in MIDDLE_PRECISION else "1 pass of bfloat16 (jax's default on a TPU)"
    capability = str(getattr(device, "compute_capability", ""))
    if not capability.replace(".", "", 1).isdigit():  # no NVIDIA GPU
        return f"the device's own choice (jax precision: {setting or 'default'})"
    if float(capability) < AMPERE:
        return "float32"
    return "TF32" if setting in MIDDLE_PRECISION else "TF32 likely (jax's default on this GPU)"


def peak_memory(devices: Sequence[Any]) -> PeakMemory:
    """High-water mark of the fullest device; of the process where devices keep no count, as on a CPU."""
    counts = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in devices]
    known = [count for count in counts if count is not None]
    if known:
        return PeakMemory(round(max(known) / MIB, 1), "device")
    resident = peak_resident_mb()
    return PeakMemory(resident, None if resident is None else "process")


def program_memory_mb(compiled: Any) -> float | None:
    """Arguments, results and temporaries of a compiled program on one device; None if its compiler does not count."""
    counted = compiled.memory_analysis()
    if counted is None:
        return None
    total: int = counted.argument_size_in_bytes + counted.output_size_in_bytes + counted.temp_size_in_bytes
    return round(total / MIB, 1)


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def peak_resident_mb() -> float | None:
    """The largest resident size of this process since it began, or since the kernel was told to count anew."""
    with suppress(OSError):
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) / 1024, 1)
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    unit = MIB if sys.platform == "darwin" else MIB / 1024  # bytes there, kilobytes elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
