"""Which devices a batch is split over, GPUs that are there and not used, and what XLA is told.

On a GPU host: all local GPUs. On a CPU XLA has one device that uses all cores. Users can make more of it
(`jax_num_cpu_devices`, or `--xla_force_host_platform_device_count` in XLA_FLAGS); they bring no speed.

A trap, seen with jaxlib 0.10.2: when as many virtual devices compute as XLA has worker threads, images at the ends of
a device's share are silently wrong after some dozens of steps. The likely cause, not confirmed, is queues that fill up
because no thread is left to empty them. It was not seen with one thread more, so at most one device fewer than there
are threads is used here.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

import jax

from jaxviz.errors import EnvironmentFailure, StorageError
from jaxviz.files import cache_dir, warn_once

log = logging.getLogger("jaxviz")

# Experimental options of XLA: Eigen's convolutions instead of YNNPACK's, which are slower at most shapes here.
COMPILER_OPTIONS = {
    "cpu": {
        "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE",
    }
}
# For programs that call oneDNN's kernels (network/rules/onednn.py).
ONEDNN_OPTIONS = {"xla_cpu_use_onednn": True, "xla_cpu_experimental_onednn_custom_call": True}
# Those that kernels are chosen by, as Linux names them.
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
BFLOAT16_INSTRUCTIONS = frozenset({"avx512_bf16", "amx_bf16"})
SLOW_COMPILATION_S = 0.3  # what compiles faster is not kept
# Read by XLA when its CPU backend starts: worker threads; the first that is set counts.
THREAD_VARIABLES = ("PJRT_NPROC", "NPROC")
# Any of these is there where NVIDIA's driver is: on Linux, in a container, in the Linux of Windows.
NVIDIA_FILES = (
    Path("/proc/driver/nvidia/version"),
    Path("/dev/nvidiactl"),
    Path("/dev/nvidia0"),
    Path("/usr/lib/wsl/lib/libcuda.so.1"),
)
CUDA_PLUGINS = ("jax-cuda13-plugin", "jax-cuda12-plugin")  # packages


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_backend() -> None:
    """Let JAX find its devices: to be called before the first array is made.

    Raises:
        EnvironmentFailure: there is no device of the kind that JAX_PLATFORMS asks for, or a setting of JAX forbids what
            every ascent does.
    """
    if getattr(jax.config, "jax_disable_jit", False):
        raise EnvironmentFailure("JAX_DISABLE_JIT is set, and nothing would be compiled; unset it")
    guard = getattr(jax.config, "jax_transfer_guard", None) or ""
    if guard.startswith("disallow"):
        raise EnvironmentFailure(
            f"JAX_TRANSFER_GUARD={guard!r} forbids to bring weights to the device; unset it, or set it to log"
        )
    try:
        jax.default_backend()
    except (RuntimeError, AssertionError) as error:  # for cuda without a GPU an assertion of JAX's, which says nothing
        reason = str(error).partition(" (set JAX_PLATFORMS")[0].partition("\n")[0].rstrip(".")
        raise EnvironmentFailure(
            f"JAX cannot start on JAX_PLATFORMS={_asked_platforms()!r}: {reason or 'no such device is here'}. JAX has "
            f"here: {', '.join(_installed_platforms())}. Unset JAX_PLATFORMS, or set it to cpu"
        ) from error


def start_backend() -> None:
    """`check_backend`, and say in the log, as a warning, if a GPU is left unused."""
    check_backend()
    message = unused_gpu()
    if message is not None:
        log.warning("%s", message)


def unused_gpu() -> str | None:
    """What to say where an NVIDIA GPU or JAX's plugin for it is there, and JAX computes on the CPU all the same.

    None where all is well, or JAX_PLATFORMS asks for the CPU.
    """
    if jax.default_backend() != "cpu" or _asked_platforms().split(",")[0] == "cpu":
        return None
    gpu = next((file for file in NVIDIA_FILES if file.exists()), None)
    plugins = {name: found for name in CUDA_PLUGINS if (found := _version(name)) is not None}
    if gpu is None and not plugins:
        return None
    seen = "an NVIDIA GPU is here" if gpu is not None else "JAX's plugin for NVIDIA GPUs is installed"
    install = f"pip install --upgrade 'jax[cuda13]=={version('jax')}'"
    if not plugins:
        cure = f"JAX's plugin for it is not installed: {install}"
    elif version("jaxlib") not in plugins.values():
        name, found = next(iter(plugins.items()))
        cure = f"{name} {found} does not match jaxlib {version('jaxlib')}: {install}"
    else:
        cure = f"the plugin found no GPU that it can use: see nvidia-smi and CUDA_VISIBLE_DEVICES, or {install}"
    return (
        f"{seen}, but JAX COMPUTES ON THE CPU, many times slower; {cure}. If the CPU is what you want, "
        "set JAX_PLATFORMS=cpu"
    )


def _installed_platforms() -> list[str]:
    """The CPU, and what plugins of JAX are installed for: asking JAX would start them."""
    plugins = {re.sub(r"^xla_|\d+$", "", found.name) for found in entry_points(group="jax_plugins")}
    return ["cpu", *sorted(plugins)]


def _asked_platforms() -> str:
    """JAX_PLATFORMS, or what the configuration of jax has instead."""
    return getattr(jax.config, "jax_platforms", None) or ""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def batch_devices(calls: int) -> list[jax.Device]:
    """The local devices to split a batch over: no more than there are calls' worth of images for."""
    devices: list[jax.Device] = jax.local_devices()
    if devices[0].platform == "cpu":
        devices = devices[: max(1, _worker_threads(len(devices)) - 1)]
    return devices[: max(1, calls)]


def _worker_threads(devices: int) -> int:
    """Threads of XLA's CPU backend: what the environment says, else one per core, but at least one per device."""
    said = next((os.environ[name] for name in THREAD_VARIABLES if os.environ.get(name)), "")
    return max(int(said) if said.isdecimal() else available_cores(), devices)


@lru_cache(maxsize=8)
def compiler_options(platform: str, *, onednn: bool = False) -> dict[str, str | bool]:
    """The options to compile with on a platform: those of `COMPILER_OPTIONS` that this XLA takes.

    `onednn`: with `ONEDNN_OPTIONS`, for programs that call it.

    One that it does not know is left out, and the log (logger `jaxviz`, level INFO) says so.
    """
    known: dict[str, str | bool] = {}
    for name, value in COMPILER_OPTIONS.get(platform, {}).items():
        try:
            jax.jit(lambda x: x, compiler_options={name: value}).lower(0.0).compile()
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            log.info("this XLA does not take the option %s=%s and goes without: %s", name, value, error)
        else:
            known[name] = value
    return known | (ONEDNN_OPTIONS if onednn else {})


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an exception is the device's or the host's way to say that something did not fit."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def use_compilation_cache() -> None:
    """Keep compiled programs in the user's cache directory, apart for each jaxlib and each model of CPU.

    A folder that the user has chosen (JAX_COMPILATION_CACHE_DIR) is left alone. Where there can be none, the log says
    so, as a warning.
    """
    if getattr(jax.config, "jax_compilation_cache_dir", None) is not None:
        return
    machine = hashlib.sha256(_cpu_features().encode()).hexdigest()[:12]
    try:
        folder = cache_dir() / "compiled" / f"jaxlib-{version('jaxlib')}-{machine}"
        folder.mkdir(parents=True, exist_ok=True)
        next(folder.iterdir(), None)  # JAX would end with a traceback; where it cannot write, it warns
    except StorageError as error:
        warn_once(f"{error}. Until then compiled programs are not kept")
    except OSError as error:
        warn_once(
            f"compiled programs are not kept in {folder}: {error.strerror or error}; JAXVIZ_CACHE names another folder"
        )
    else:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", SLOW_COMPILATION_S)


@contextmanager
def not_kept() -> Iterator[None]:
    """For compiling what calls oneDNN: XLA cannot write such programs to the compilation cache, and JAX would warn."""
    name = "jax_persistent_cache_min_compile_time_secs"
    usual = getattr(jax.config, name)
    jax.config.update(name, math.inf)
    try:
        yield
    finally:
        jax.config.update(name, usual)


def multiplies_bfloat16() -> bool:
    """Whether this CPU has products of bfloat16 numbers that XLA uses: tried on x86 alone, so nowhere else."""
    return not BFLOAT16_INSTRUCTIONS.isdisjoint(instruction_sets())


def instruction_sets() -> frozenset[str]:
    """Those of `INSTRUCTION_SETS` that this CPU has; none where the system does not tell."""
    return frozenset(INSTRUCTION_SETS).intersection(_cpu_features().split())


def cpu_name() -> str:
    """`AMD EPYC (family 25, model 1)`: vendors hide the full name from virtual machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if "model name" not in fields:
        return platform.machine()
    return f"{fields['model name']} (family {fields.get('cpu family')}, model {fields.get('model')})"


def _cpu_features() -> str:
    """Model and instruction sets of this CPU, as far as the system tells: code for one may not run on another."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
