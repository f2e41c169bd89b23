"""An atlas that is killed at any moment goes on with the same command and ends with the same files."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from helpers_atlas import ATLAS, Running, lasting
from helpers_cli import left_overs

PICTURES = 116  # of `tiny`: 8 + 8 + 100
LONGEST_DELAY_S = 0.03  # after the event that a kill waits for
# What may be computed twice at a kill: a batch at work, one being written, and what waits to be written.
LARGEST_LOSS = 2 * 2 + 128


def killed_until_done(command: tuple[str, ...], tmp_path: Path, *, kills: int, seed: int) -> list[Running]:
    """Runs of one command, each killed but the last."""
    draw = random.Random(seed)
    runs: list[Running] = []
    for number in range(kills):
        run = Running(*command, "--out", "killed", cwd=tmp_path, cache=tmp_path / "cache")
        runs.append(run)
        # Two of three kills wait for pictures to be written; the others come at any event, mostly of the start.
        patience = draw.randint(1, 9)
        awaited = ("written",) if number % 3 else ("start", "layer", "compiled", "rendered", "written", "done")
        heard = 0
        for event in run.listen():
            heard += event["event"] in awaited
            if heard == patience:
                time.sleep(draw.random() * LONGEST_DELAY_S)
                break
        run.kill()
    last = Running(*command, "--out", "killed", cwd=tmp_path, cache=tmp_path / "cache")
    assert last.finish() == 0
    return [*runs, last]


@pytest.mark.parametrize(
    ("kills", "replicas"),
    [(3, 1), pytest.param(10, 1, marks=pytest.mark.long), pytest.param(50, 5, marks=pytest.mark.long)],
)
def test_killed_atlas_ends_as_an_uninterrupted_one(tmp_path: Path, kills: int, replicas: int) -> None:
    command = (*ATLAS, "--replicas", str(replicas))
    whole = Running(*command, "--out", "whole", cwd=tmp_path, cache=tmp_path / "cache")
    assert whole.finish() == 0
    runs = killed_until_done(command, tmp_path, kills=kills, seed=kills)
    assert sum(bool(run.named("written")) for run in runs[:-1]) >= kills // 2, "kills after the first picture"
    assert lasting(tmp_path / "killed") == lasting(tmp_path / "whole")
    assert left_overs(tmp_path / "killed") == []
    written: set[tuple[str, int, int]] = set()
    for run in runs:
        assert written.isdisjoint(run.named("rendered")), "a finished picture was rendered again"
        assert len(run.named("rendered")) - len(run.named("written")) <= LARGEST_LOSS
        written |= set(run.named("written"))
    assert len(whole.named("rendered")) == PICTURES * replicas
