"""What `python -m benchmarks.facts` measures: one file a fact, all behind one interface (`fact.Fact`).

To add one: a file with a `FACT`, a row below. Reading order: `fact.py`, `bench.py`, then any fact; `summary.py` makes
figures and verdicts of raw measurements. The results are in `benchmarks/facts/`.
"""

from __future__ import annotations

from benchmarks.measure import batch, devices, drift, lite0, memory, start
from benchmarks.measure.fact import Fact

FACTS: dict[str, Fact] = {
    "drift": drift.FACT,
    "memory": memory.FACT,
    "start": start.FACT,
    "lite0": lite0.FACT,
    "batch": batch.FACT,
    "devices": devices.FACT,
}
# A whole run: what somebody claims. `devices` is for deciding a default, and takes as long as half of the others.
WHOLE = tuple(name for name in FACTS if name != "devices")
