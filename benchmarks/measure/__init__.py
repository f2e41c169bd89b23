"""What `python -m benchmarks.facts` measures: one file a fact, all behind one interface (`fact.Fact`).

To add one: a file with a `FACT`, a row below. Reading order: `fact.py`, `bench.py`, then any fact; `summary.py` makes
figures and verdicts of raw measurements. The results are in `benchmarks/facts/`.
"""

from __future__ import annotations

from benchmarks.measure import batch, drift, keras_networks, keras_parity, lite0, memory, pictures, race, start
from benchmarks.measure.fact import Fact

FACTS: dict[str, Fact] = {
    "race": race.FACT,
    "drift": drift.FACT,
    "memory": memory.FACT,
    "start": start.FACT,
    "lite0": lite0.FACT,
    "batch": batch.FACT,
    "keras": keras_networks.FACT,
    "keras_parity": keras_parity.FACT,
    "pictures": pictures.FACT,
}
