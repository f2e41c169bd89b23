"""The race as an SVG: for every layer one horizontal bar per contestant, its speed in multiples of Keras's.

Who computes in float32 stands first, then who does in bfloat16.

Hand-written SVG text, so that it needs no plotting library and equal results give equal bytes. It brings its own
background, light or dark as the reader's system prefers, so that its text is readable on any page. jaxviz is told
from the others by colour and by bold type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.contestants import ENTRIES
from benchmarks.measure.race_table import at_layers, by_type, seconds_text, work
from benchmarks.records import Result
from benchmarks.settings import REFERENCE

WIDTH = 800
LABELS_PX, VALUES_PX, MARGIN_PX = 236, 132, 20  # left column, room right of the longest bar, outer margin
ROW_PX, BAR_PX, HEADING_PX, TYPE_PX, TITLE_PX = 27, 18, 38, 24, 62

# What is drawn in which colour: (light, dark), GitHub's own, each at least 4.5:1 against the paper where it is text.
COLOURS = {
    "text { fill": ("#1f2328", "#f0f6fc"),
    ".value { stroke": ("#ffffff", "#0d1117"),  # a halo of paper, where the line at 1 passes behind
    ".quiet { fill": ("#59636e", "#9198a1"),
    ".paper { fill": ("#ffffff", "#0d1117"),
    ".paper { stroke": ("#d1d9e0", "#3d444d"),
    ".bar { fill": ("#a7b0ba", "#59636e"),
    ".ours { fill": ("#0969da", "#4493f8"),
    ".half { fill": ("#8250df", "#ab7df8"),
    ".one { stroke": ("#59636e", "#9198a1"),
    ".spread { stroke": ("#1f2328", "#f0f6fc"),
}
SHAPES = """
text { font: 15px -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif }
.title { font-size: 17px; font-weight: 600 } .layer, .mine { font-weight: 600 } .right { text-anchor: end }
.one { stroke-dasharray: 3 3 } .spread { stroke-width: 1.5 }
.value { paint-order: stroke; stroke-width: 5; stroke-linejoin: round }
"""


def svg(result: Result) -> str:
    """The chart as SVG text."""
    layers, types = at_layers(result), by_type(result.facts["race"].raw["contestants"])
    fastest = max(entry["times_as_fast_as"][REFERENCE] for layer in layers.values() for entry in layer.values())
    px_per_unit = (WIDTH - LABELS_PX - VALUES_PX - MARGIN_PX) / fastest
    rows, y = [], TITLE_PX
    for name, layer in layers.items():
        rows.append(_text(MARGIN_PX, y + 24, name, "layer"))
        y += HEADING_PX
        groups = {dtype: [name for name in names if name in layer] for dtype, names in types.items()}
        x = LABELS_PX + px_per_unit
        end = y + ROW_PX * len(layer) + TYPE_PX * sum(map(bool, groups.values()))
        rows.append(f'<line class="one" x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{end}"/>')
        for dtype, names in groups.items():
            if names:
                rows.append(_text(LABELS_PX - 10, y + 17, dtype, "right quiet"))
                y += TYPE_PX
            for contestant in names:
                rows.append(_bar(contestant, layer[contestant], y, px_per_unit, layer[REFERENCE]["median_s"]))
                y += ROW_PX
    height, host = y + MARGIN_PX, result.hardware
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" role="img">',
            f"<title>{escape(work(result))}: speed in multiples of Keras's</title>",
            f"<style>{_style()}</style>",
            f'<rect class="paper" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
            _text(MARGIN_PX, 32, "Times as fast as Keras (longer is better)", "title"),
            _text(MARGIN_PX, 54, f"ResNet50V2, {work(result)}, {host.cores} cores of {host.cpu}", "quiet"),
            *rows,
            "</svg>\n",
        ]
    )


def _bar(contestant: str, entry: Mapping[str, Any], y: int, px_per_unit: float, baseline_s: float) -> str:
    speed = entry["times_as_fast_as"][REFERENCE]
    mine = " mine" if contestant.startswith("jaxviz") else ""
    colour = {"jaxviz_float32": "ours", "jaxviz_bfloat16": "half"}.get(contestant, "bar")
    slow, fast = (LABELS_PX + px_per_unit * baseline_s / s for s in reversed(entry["quartiles_s"]))
    middle = y + ROW_PX / 2
    end = LABELS_PX + speed * px_per_unit
    parts = [
        _text(LABELS_PX - 10, middle + 5, ENTRIES[contestant].name, f"right{mine}"),
        f'<rect class="{colour}" x="{LABELS_PX}" y="{middle - BAR_PX / 2}" width="{speed * px_per_unit:.1f}" '
        f'height="{BAR_PX}" rx="2"/>',
        f'<line class="spread" x1="{slow:.1f}" x2="{fast:.1f}" y1="{middle}" y2="{middle}"/>',
        _text(max(end, fast) + 8, middle + 5, f"{speed:.2f}x, {seconds_text(entry)}", f"value{mine}"),
    ]
    return "\n".join(parts)


def _style() -> str:
    light, dark = ("\n".join(f"{what}: {colours[i]} }}" for what, colours in COLOURS.items()) for i in (0, 1))
    return f"{SHAPES}{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"


def _text(x: float, y: float, words: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'
