"""What this CPU multiplies with: its instruction sets, as Linux names them, and the kind of CPU that follows."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

KINDS = {"AMX": "amx_bf16", "AVX512_BF16": "avx512_bf16", "AVX2": "avx2"}  # the first whose instruction set is there
INSTRUCTIONS = frozenset(
    ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8")
)  # fmt: skip


def instruction_sets(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Those of the above that this CPU has, sorted; empty where the system does not tell."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return []
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    return sorted(INSTRUCTIONS.intersection(flags.split()))


def kind_of_cpu(instructions: Collection[str]) -> str | None:
    """The fastest way of multiplying that it has; None: unknown."""
    return next((kind for kind, needed in KINDS.items() if needed in instructions), None)
