"""What is recorded about the machine and the software, and how quiet the machine was.

Linux first, others as far as the standard library goes: what cannot be found out there is None.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.settings import ROOT

PACKAGES = ("jaxviz-atlas", "jax", "jaxlib", "flax", "tensorflow", "keras", "torch", "numpy")
# Variables by which someone may have tuned a library.
TUNING_PREFIXES = ("JAX_", "XLA_", "TF_", "KERAS_", "OMP_", "KMP_", "MKL_", "OPENBLAS_", "PJRT_", "CUDA_", "MALLOC_")
NO_TUNING = ("TF_CLI_",)  # Terraform's


def hardware() -> dict[str, Any]:
    """CPU, usable cores, memory, system."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu_name(),
        "cores": cores(),
        "memory_gb": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def cores() -> int:
    """Those that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str | None]:
    """Of Python and of every package that races; None: not installed."""
    return {"python": platform.python_version()} | versions_of(PACKAGES)


def versions_of(packages: Sequence[str]) -> dict[str, str | None]:
    """Of these packages; None: not installed."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def tuning(environment: dict[str, str]) -> dict[str, str]:
    """The variables that tune a library."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if name.startswith(TUNING_PREFIXES) and not name.startswith(NO_TUNING)
    }


def git_state() -> dict[str, Any]:
    """Commit, and whether the files differ from it; the folders of results do not count."""
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--", ".", ":!benchmarks/results", ":!benchmarks/facts")
    except (OSError, subprocess.CalledProcessError):
        return {"hash": None, "dirty": None}
    return {"hash": commit, "dirty": bool(changed)}


def load_average() -> float:
    """Processes that wanted a core, over the last minute."""
    return os.getloadavg()[0]


def busy_cpu_s() -> float | None:
    """Seconds that all cores together were not idle since boot; time stolen by a hypervisor counts as busy."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def reset_peak_memory() -> None:
    """Start the count of `peak_memory_mb` anew, where the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # then the peak is the process's, over all layers so far


def peak_memory_mb() -> float:
    """Largest resident size of this process since the last reset."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes elsewhere
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) / 1024, 1)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _cpu_name() -> str:
    """`AMD EPYC`, with family and model, for vendors that hide the name from virtual machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if "model name" not in fields:
        return platform.machine()
    return f"{fields['model name']} (family {fields.get('cpu family')}, model {fields.get('model')})"
