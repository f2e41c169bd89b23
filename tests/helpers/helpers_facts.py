"""Made-up raw measurements of every fact."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # `benchmarks` is not installed

from msgspec.structs import replace  # noqa: E402

from benchmarks.contestants import ENTRIES  # noqa: E402
from benchmarks.measure import FACTS, memory, summary  # noqa: E402
from benchmarks.records import Commit, Entry, Result, plain  # noqa: E402
from benchmarks.settings import CONTESTANTS, LAYERS, QUICK, Settings  # noqa: E402
from jaxviz.bench.records import Host  # noqa: E402

TINY = replace(QUICK, targets=QUICK.targets[:1], size=48, filters=2, drift_batches=(1, 2), lite0_batches=(2,), sweep=())


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


def pictures_raw(*rows):
    made = {"status": "ok", "rank": 1, "robust_rank": 1, "percentile": 100.0, "high_frequency_share": 0.1}
    filters = [made | row for row in rows or ({},)]
    entry = {"layer": "a_conv", "preset": "keras", "recipe": {}, "filters": filters}
    return {"natural_images": {"source": "made up", "sha256": "0", "count": 9}, "entries": [entry]}


def race_raw(*, absent=(), drift=0.0, instructions=("avx2", "avx512_bf16", "avx512f", "fma")):
    """What a race measures, with plausible numbers; `absent` could not take part, bfloat16 drifts by a share."""
    base_s = dict(zip(LAYERS, (17.0, 84.0, 195.0), strict=True))
    shares = dict(zip(CONTESTANTS, (1.0, 0.7, 0.9, 0.95, 1.9, 0.3, 0.5, 0.4, 0.25), strict=True))
    shares = {name: share for name, share in shares.items() if name not in absent}

    def entry(name, layer, count):
        seconds = [base_s[layer] * shares[name] * count / 64 * (1 + 0.01 * i) for i in (0, 2, 1, 4, 3)]
        scores = [0.1 * (i % 5) + 0.01 for i in range(count)]
        final = [score * (1 + drift * ("bfloat16" in name)) for score in scores]
        return {
            "compile_s": 2.5,
            "seconds_per_filter": 1.0,
            "images_per_call": 16,
            "form": "filter index as tf.constant",
            "probe": {"python int": {"retrace_s_per_filter": 0.3}},
            "filters_measured": count,
            "scores": {"first": scores, "last": scores, "final": final},
            "scores_repeat": True,
            "runs": [
                {"seconds": s, "own_cpu_s": 1.9 * s, "others_cpu_s": 0.01 * s, "peak_memory_mb": 900.0} for s in seconds
            ],
        }

    return {
        "filters": 64,
        "steps": 30,
        "rounds": 5,
        "cores": 2,
        "instructions": list(instructions),
        "dot_gflops": {"float32": [200.0, 210.0, 220.0], "bfloat16": [400.0]},
        "contestants": {
            name: {
                "available": name in shares,
                "reason": None if name in shares else "dtype 'bfloat16' is unknown",
                "label": ENTRIES[name].label,
                "dtype": ENTRIES[name].dtype,
                "environment": {},
            }
            for name in CONTESTANTS
        },
        "layers": {
            layer: {
                "macs_per_image": 10**9,
                "contestants": {name: entry(name, layer, 64 if layer == LAYERS[0] else 16) for name in shares},
            }
            for layer in LAYERS
        },
    }


def keras_raw(*, slow=(), autodiff=(3.0, 2.0, 4.0)):
    cell = {
        "network": "ANet",
        "layer": "a_conv",
        "steps": 2,
        "batch": 5,
        "seconds": {"rules": [1.0, 1.0, 1.0], "autodiff": list(autodiff)},
    }
    traced = {"network": "BNet", "layers": 7, "convolutions": 3, "slow": list(slow), "seconds": 1.0}
    return {"cells": [cell], "traced": [traced]}


def keras_parity_raw(*, gradient_off=1e-4, rounding_off=2e-3):
    cell = {
        "network": "ANet",
        "layer": "a_conv",
        "activation_off": 1e-6,
        "gradient_off": gradient_off,
        "rounding_off": rounding_off,
        "activation_size": 0.7,
    }
    return {"cells": [cell]}


# A whole result


RAW = {
    "race": race_raw,
    "drift": drift_raw,
    "memory": memory_raw,
    "start": start_raw,
    "lite0": lite0_raw,
    "batch": batch_raw,
    "keras": keras_raw,
    "keras_parity": keras_parity_raw,
    "pictures": pictures_raw,
}


def raw_result(**raw):
    """A result without figures; of the facts that are named with other raw values, those."""
    return Result(
        started="2026-11-24T21:00:00+00:00",
        finished="2026-11-24T22:00:00+00:00",
        git=Commit("0123456789abcdef", False),
        hardware=Host(cpu="A <CPU> & more", cores=2, memory_gb=23.5, system="Linux"),
        versions=dict.fromkeys(("python", "jaxviz", "jax", "jaxlib", "tensorflow", "keras", "torch"), "1.2.3"),
        environment={},
        load_average_at_start=0.1,
        forced=False,
        settings=plain(Settings()),
        material={},
        facts={name: Entry(failed=None, raw=raw.get(name, RAW[name]()), took_s=60.0) for name in FACTS},
    )


def result_of(name, raw):
    """A whole result, of one fact."""
    result = raw_result(**{name: raw})
    return summary.summarise(replace(result, facts={name: result.facts[name]}))


def failed_result():
    failed = Entry(failed="worker ended with exit code 1:\na traceback")
    result = raw_result()
    return summary.summarise(replace(result, facts=result.facts | {"drift": failed}))
