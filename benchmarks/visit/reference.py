"""What a CPU computed in float32, which section `correct` is held against: reference.json beside this file.

python -m benchmarks.visit.reference            some minutes on two cores; nothing is timed
python -m benchmarks.visit.reference --scores   the scores anew, the presets as they are
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.visit.settings import CONV2, CONV5, VISIT
from jaxviz.bench import machine
from jaxviz.bench.records import to_json

FILE = Path(__file__).with_name("reference.json")
PRESETS = ("distill", "maco")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.visit.reference", description="writes reference.json")
    parser.add_argument("--scores", action="store_true", help="keep the presets' values")
    options = parser.parse_args(arguments)
    made = scores() | {"made_with": machine.versions() | {"cpu": machine.cpu_name()}}
    made["presets"] = read()["presets"] if options.scores else presets()
    FILE.write_text(to_json(made, indent=1) + "\n")
    print(f"wrote {FILE}", file=sys.stderr)
    return 0


def read() -> dict[str, Any]:
    """The committed values."""
    reference: dict[str, Any] = json.loads(FILE.read_text())
    return reference


def scores() -> dict[str, Any]:
    """The weights' hash, and first and second scores of both layers."""
    import jax

    from benchmarks.visit.cells.correct import scores_in
    from benchmarks.visit.cells.start import host_weights
    from jaxviz.models import architecture

    weights = jax.tree.map(jax.numpy.asarray, host_weights(VISIT.model))
    model = architecture(VISIT.model).with_weights(weights)
    layers = {layer: scores_in(VISIT, model, layer, dtype="float32", precision="highest") for layer in (CONV2, CONV5)}
    return {"weights_sha256": model.weights_sha256, "scores": layers}


def presets() -> dict[str, Any]:
    """The facts of each preset at its own size and steps."""
    from benchmarks.visit.cells.correct import preset_facts

    return {preset: preset_facts(VISIT, preset) for preset in PRESETS}


if __name__ == "__main__":
    sys.exit(main())
