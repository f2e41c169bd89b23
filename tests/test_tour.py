"""docs/tour.ipynb: small enough to read in a browser, holds what its cells show, and they run as they stand there."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from helpers_tiers import needs

DOCS = Path(__file__).parents[1] / "docs"
TOUR = DOCS / "tour.ipynb"
LARGEST_BYTES = 1_000_000
CELLS = json.loads(TOUR.read_text())["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]


@pytest.mark.quick
def test_notebook_is_small() -> None:
    assert TOUR.stat().st_size < LARGEST_BYTES


@pytest.mark.quick
def test_every_cell_shows_what_it_gave() -> None:
    assert [index for index, cell in enumerate(CODE) if not cell["outputs"]] == []
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))


@needs("ipykernel", "nbclient", "nbformat")
def test_cells_run(tmp_path: Path) -> None:
    """The texts that they print are those in the notebook but for numbers, which are a machine's."""
    spec = importlib.util.spec_from_file_location("run_tour", DOCS / "run_tour.py")
    assert spec is not None
    assert spec.loader is not None
    run_tour = importlib.util.module_from_spec(spec)
    sys.modules["run_tour"] = run_tour
    spec.loader.exec_module(run_tour)
    now = [cell for cell in run_tour.executed(tmp_path).cells if cell["cell_type"] == "code"]
    assert [words(cell) for cell in now] == [words(cell) for cell in CODE]
    assert list(tmp_path.iterdir()) == [], "the tour leaves files behind"


def words(cell: dict) -> list[str]:
    """What a cell printed, without numbers; and the kinds of what it showed."""
    found = []
    for output in cell["outputs"]:
        text = "".join(output.get("text", ""))
        found += [word for word in text.split() if not any(letter.isdigit() for letter in word)]
        found += sorted(output.get("data", {}))
    return found
