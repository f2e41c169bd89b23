"""Which operations a trace says took longest: made-up planes of a GPU and of a CPU."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace as Made

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # `benchmarks` is not installed

from benchmarks.visit.cells.profile import MOST, operations

pytestmark = pytest.mark.quick


def event(name: str, start_ns: float, duration_ns: float, operation: str | None = None) -> Made:
    stats = [("context", 1)] + ([("hlo_op", operation)] if operation else [])
    return Made(name=name, start_ns=start_ns, duration_ns=duration_ns, stats=stats)


def trace(plane: str, line: str, *events: Made) -> Made:
    others = [
        Made(name="python", events=[event("call", 0, 1e9)]),
        Made(name="XLA Modules", events=[event("m", 0, 1e9)]),
    ]
    host = Made(name="/host:metadata", lines=[])
    return Made(planes=[host, Made(name=plane, lines=[Made(name=line, events=list(events)), *others])])


@pytest.mark.parametrize(("plane", "line"), [("/device:GPU:0", "Stream #7(Compute)"), ("/host:CPU", "tf_XLAEigen/1")])
def test_operations_are_added_up_and_others_left_out(plane, line):
    events = [event("gemm", 0, 60, "dot.1"), event("gemm", 100, 60, "dot.1"), event("fusion.2", 200, 40, "fusion.2")]
    found = operations(trace(plane, line, *events))
    assert found["lines"] == [line]
    assert [(row["name"], row["share"], row["count"]) for row in found["operations"]] == [
        ("dot.1: gemm", 0.75, 2),
        ("fusion.2", 0.25, 1),
    ]


def test_operations_are_no_more_than_thirty():
    found = operations(trace("/device:GPU:0", "Stream #1", *(event(f"kernel {i}", i, 1 + i) for i in range(40))))
    assert len(found["operations"]) == MOST == 30
    assert found["operations"][0]["name"] == "kernel 39"


def test_trace_without_operations_gives_none():
    assert operations(Made(planes=[]))["operations"] == []
