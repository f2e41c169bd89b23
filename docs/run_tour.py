"""Runs tour.ipynb beside it and keeps what it shows: `python docs/run_tour.py`. Needs nbclient and ipykernel."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

TOUR = Path(__file__).parent / "tour.ipynb"
LIMIT_S = 300  # of a cell, on a slow machine with nothing compiled yet


def main() -> int:
    """The command; its exit code."""
    import nbformat

    nbformat.write(executed(TOUR.parent), TOUR)
    print(f"wrote {TOUR}")
    return 0


def executed(folder: Path) -> Any:
    """The notebook with all its cells run in a folder, and what they show; of pictures only the JPEG, which is smaller.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(TOUR, as_version=4)
    NotebookClient(notebook, timeout=LIMIT_S, resources={"metadata": {"path": str(folder)}}).execute()
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", []):
            shown = output.get("data", {})
            if "image/jpeg" in shown:
                shown.pop("image/png", None)
    notebook.metadata.pop("language_info", None)
    return notebook


if __name__ == "__main__":
    sys.exit(main())
