"""Made-up raw measurements of every fact."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # `benchmarks` is not installed

from benchmarks import machine  # noqa: E402
from benchmarks.measure import (  # noqa: E402
    FACTS,
    memory,
    summary,
)
from benchmarks.measure.settings import CONV2, QUICK, Settings  # noqa: E402

TINY = dataclasses.replace(
    QUICK,
    targets=(CONV2._replace(few_steps=1),),
    size=48,
    filters=2,
    drift_batches=(1, 2),
    lite0_batches=(2,),
    sweep=(),
)


# Figures, from made-up numbers

QUIET = {"own_cpu_s": 2.0, "others_cpu_s": 0.01}


def drift_raw():
    def run(dtype, scores, grey):
        return {**QUIET, "seconds": 2.0, "dtype": dtype, "final_scores": scores, "grey": grey}

    same = {"mean": [0.0, 0.0], "largest": [0, 0]}
    return {
        "targets": [
            {
                "layer": "a_conv",
                "runs": {
                    "float32, N = 4": run("float32", [1.0, 3.0], same),
                    "float32, N = 8": run("float32", [1.0, 3.2], {"mean": [0.0, 0.5], "largest": [0, 9]}),
                    "bfloat16, N = 4": run("bfloat16", [1.0, 2.8], {"mean": [1.0, 2.0], "largest": [10, 20]}),
                },
            }
        ]
    }


def memory_raw(*, peak_mb=1000.0, superlinear=1.0):
    runs = [
        {
            **QUIET,
            "way": way,
            "filters": count,
            "steps": 3,
            "seconds": 5.0 + 0.1 * count**superlinear,
            "compile_s": 4.0,
            "peak_memory_mb": 1000.0 if count < 512 else peak_mb,
            **({"render_s": 4.5 + 0.1 * count} if way == "jaxviz render" else {}),
        }
        for way in memory.WAYS
        for count in (64, 128, 256, 512)
    ]
    more = {**runs[0], "steps": 30, "seconds": 60.0}
    return {"layer": "a_conv", "usual_steps": 3, "runs": [*runs, more]}


def start_raw():
    def runs(*first):
        return [
            {**QUIET, "first_batch_s": s, "seconds": s + 5, "compile_s": s / 2, "peak_memory_mb": 9.0} for s in first
        ]

    return {"layer": "a_conv", "filters": 64, "runs": {"empty": runs(4.0, 6.0, 5.0), "warm": runs(2.0, 2.5, 3.0)}}


def lite0_raw():
    def entry(seconds, count, *, plain):
        return {
            "plain": plain,
            "compile_s": 3.0,
            "filters_measured": count,
            "scores": {"first": [0.1 + 0.01 * i for i in range(count)]},
            "runs": [{**QUIET, "seconds": seconds * factor, "peak_memory_mb": 9.0} for factor in (1.0, 1.5, 0.5)],
        }

    return {
        "layer": "a_conv",
        "filters": 64,
        "contestants": {
            "jaxviz": entry(8.0, 64, plain=False),
            "plain 16": entry(20.0, 16, plain=True),
            "plain 4": entry(16.0, 16, plain=True),
        },
    }


def batch_raw():
    def runs(*seconds):
        return [{**QUIET, "filters": 64, "steps": 6, "seconds": s, "compile_s": 0.0} for s in seconds]

    sizes = {"1": runs(6.4, 9.0, 6.0), "4": runs(7.04, 7.04, 7.04), "16": runs(12.8, 12.8, 12.8)}
    return {"targets": [{"layer": "a_conv", "image_size": 180, "auto": 4, "runs": sizes}]}


# A whole result


def presets_raw(*, distill=(3.0, 2.0, 3.0)):
    def runs(*seconds):
        return [{**QUIET, "batch_size": 8, "seconds": s} for s in seconds]

    return {"targets": [{"layer": "a_conv", "runs": {"keras": runs(2.0, 1.0, 4.0), "distill": runs(*distill)}}]}


def writing_raw(*, written=(2.06, 1.03, 4.2)):
    def runs(*seconds):
        return [{**QUIET, "seconds": s} for s in seconds]

    return {"layer": "a_conv", "runs": {"alone": runs(2.0, 1.0, 4.0), "written": runs(*written)}}


RAW = {
    "drift": drift_raw,
    "memory": memory_raw,
    "start": start_raw,
    "lite0": lite0_raw,
    "batch": batch_raw,
    "presets": presets_raw,
    "writing": writing_raw,
}


def raw_result():
    return {
        "schema": summary.SCHEMA,
        "started": "2026-11-24T21:00:00+00:00",
        "finished": "2026-11-24T22:00:00+00:00",
        "git": {"hash": "0123456789abcdef", "dirty": False},
        "hardware": {"cpu": "A CPU", "cores": 2, "memory_gb": 23.5, "system": "Linux"},
        "versions": {**dict.fromkeys(machine.PACKAGES, "1.2.3"), "python": "3.11.0"},
        "environment": {},
        "load_average_at_start": 0.1,
        "forced": False,
        "settings": Settings().to_json(),
        "material": {},
        "facts": {name: {"failed": None, "raw": RAW[name](), "took_s": 60.0} for name in FACTS},
    }


def failed_result():
    raw = raw_result()
    raw["facts"]["drift"] |= {"failed": "renderer ended with exit code 1:\na traceback", "raw": None}
    return summary.summarise(raw)
