"""Judges EfficientNet-Lite0's pictures in the presets keras and distill: `python -m benchmarks.pictures`.

    main -> run: layer by layer and preset by preset, rendered and judged beside natural images (jaxviz/judge.py)
         -> summarise: shares and medians -> one JSON file per run, in benchmarks/pictures/ if it is whole

Real weights. For every filter: status, score, percentile and rank of the saved 8-bit picture beside natural images, and
the share of its energy at high spatial frequencies. Every figure counts all filters, dead ones too: a filter without a
percentile or a rank has not reached any. `robust_rank` is the rank with no filter's spread taken as smaller than
the layer's median: filters that hardly answer to natural images win no ranks by that. Nothing here is about time. The
folder benchmarks/pictures/ holds results only; it has no __init__.py, so that the name is this file's.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks import machine
from benchmarks.race import write
from benchmarks.settings import ROOT
from jaxviz.measures import high_frequency_share

SCHEMA = 1
MODEL = "efficientnet_lite0"
BLOCKS = ("block2_2", "block4_2", "block6_3")  # near the input, in the middle, deep
LAYERS = tuple(f"{block}_expand_{kind}" for block in BLOCKS for kind in ("relu", "conv"))
PRESETS = ("keras", "distill")
FILTERS = 64
RESULTS, TRIALS = ROOT / "benchmarks" / "pictures", ROOT / "out" / "pictures"
COMMON_PX = 128  # the pictures of both presets are brought to this side before their spectra are compared
NOTHING_YET = "No whole run has been recorded yet: `python -m benchmarks.pictures` makes one."


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description="judges the presets' pictures")
    parser.add_argument("--filters", type=int, default=FILTERS, help=f"per layer; default {FILTERS}")
    parser.add_argument("--layers", nargs="+", default=list(LAYERS), help="default: six of three depths")
    parser.add_argument("--presets", nargs="+", default=list(PRESETS))
    parser.add_argument(
        "--out", type=Path, help="folder; default benchmarks/pictures for whole runs, else out/pictures"
    )
    options = parser.parse_args(arguments)
    whole = (options.filters, tuple(options.layers), tuple(options.presets)) == (FILTERS, LAYERS, PRESETS)
    result = run(options.layers, options.presets, options.filters)
    print("\n".join(table(result)))
    print(f"wrote {write(result, options.out or (RESULTS if whole else TRIALS))}", file=sys.stderr)
    return 0


def run(layers: Sequence[str], presets: Sequence[str], filters: int) -> dict[str, Any]:
    """The result as it is written, figures included."""
    import jaxviz
    from jaxviz.judged import entries as entries_of

    started, commit = datetime.now(UTC), machine.git_state()
    model = jaxviz.load_model(MODEL, download=False)
    natural: dict[str, Any] | None = None
    entries = []
    for layer in layers:
        for preset in presets:
            _say(f"{layer}, {preset}")
            result = jaxviz.render_layer(model, layer, range(filters), jaxviz.RenderConfig.from_preset(preset))
            judgement = result.judge()
            natural = {
                "source": judgement.natural_source,
                "sha256": judgement.natural_sha256,
                "count": judgement.natural_count,
            }
            judged = entries_of(judgement)
            rows = [
                {
                    "filter_index": item.filter_index,
                    "status": item.status,
                    "attempt": item.attempt,
                    "score": _number(item.score),
                    **msgspec.to_builtins(judged[place]),
                    "robust_rank": int(judgement.robust_rank[place]) or None,
                    "high_frequency_share": round(high_frequency_share(item.picture, side_px=COMMON_PX), 5),
                }
                for place, item in enumerate(result.items)
            ]
            entries.append(
                {"layer": layer, "preset": preset, "recipe": msgspec.to_builtins(result.recipe), "filters": rows}
            )
    return summarise(
        {
            "schema": SCHEMA,
            "started": started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "git": commit,
            "hardware": machine.hardware(),
            "versions": machine.versions(),
            "natural_images": natural,
            "entries": entries,
        }
    )


def summarise(raw: dict[str, Any]) -> dict[str, Any]:
    """The result with the figures of every layer and preset; all filters count in every denominator."""
    result = copy.deepcopy(raw)
    for entry in result["entries"]:
        rows = entry["filters"]
        ranks = [row["rank"] for row in rows]
        entry["figures"] = {
            "filters": len(rows),
            "ok": _share(row["status"] == "ok" for row in rows),
            "dead": _share(row["status"] == "dead" for row in rows),
            "rank_1": _share(rank == 1 for rank in ranks),
            "rank_5": _share(rank is not None and rank <= 5 for rank in ranks),
            "robust_rank_5": _share(row["robust_rank"] is not None and row["robust_rank"] <= 5 for row in rows),
            "median_percentile": statistics.median(row["percentile"] or 0.0 for row in rows),
            "median_high_frequency_share": round(
                statistics.median(row["high_frequency_share"] for row in rows if row["status"] == "ok"), 4
            )
            if any(row["status"] == "ok" for row in rows)
            else None,
        }
    return result


def block(result: dict[str, Any], source: str) -> str:
    """The figures as text for the README beside this file."""
    day = datetime.fromisoformat(result["started"]).date()
    commit = f"commit {(result['git']['hash'] or 'unknown')[:7]}" + (" with changes" if result["git"]["dirty"] else "")
    natural = result["natural_images"]
    return "\n".join(
        [
            f"{day}, {commit}; EfficientNet-Lite0, filters 0-{result['entries'][0]['figures']['filters'] - 1}, beside "
            f"{natural['count']} natural images ({natural['source']}); every filter: [{source}](pictures/{source}).",
            "",
            *table(result),
        ]
    )


def table(result: dict[str, Any]) -> list[str]:
    """The figures as lines of Markdown."""
    lines = [
        "| layer | preset | ok | rank 1 | rank <= 5 | robust rank <= 5 | median percentile | high-frequency share |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for entry in result["entries"]:
        figures = entry["figures"]
        share = figures["median_high_frequency_share"]
        high = "-" if share is None else f"{share:.1%}"
        lines.append(
            f"| `{entry['layer']}` | {entry['preset']} | {figures['ok']:.0%} | {figures['rank_1']:.0%} | "
            f"{figures['rank_5']:.0%} | {figures['robust_rank_5']:.0%} | {figures['median_percentile']:.1f} | {high} |"
        )
    return lines


def _share(values: Any) -> float:
    chosen = list(values)
    return round(sum(chosen) / len(chosen), 4)


def _number(value: Any) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
