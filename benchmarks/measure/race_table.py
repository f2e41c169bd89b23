"""A race as a table: a column a layer, a row a contestant, float32 first, bfloat16 below.

Below a row of ours stands how many times it is as fast as the best of its peers, and for docs/speed.md how that
compares with the goal for this kind of CPU. Equal results give equal text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.contestants import ENTRIES
from benchmarks.cpu import kind_of_cpu
from benchmarks.records import Result, is_short, link, when
from benchmarks.settings import OURS, PEERS, REFERENCE

Figures = Mapping[str, Any]
Layers = Mapping[str, Mapping[str, Figures]]


def case(layer: str, contestant: str) -> str:
    """What the figures of a contestant at a layer are called."""
    return f"`{layer}`, {contestant}"


def at_layers(result: Result) -> Layers:
    """Raw values and figures together, by layer and contestant."""
    entry = result.facts["race"]
    return {
        layer: {name: values | entry.figures[case(layer, name)] for name, values in at_layer["contestants"].items()}
        for layer, at_layer in entry.raw["layers"].items()
    }


def by_type(contestants: Mapping[str, Any]) -> dict[str, list[str]]:
    """The contestants that compute with numbers of each type, of types that somebody computes with."""
    found = {dtype: [name for name, about in contestants.items() if about["dtype"] == dtype] for dtype in PEERS}
    return {dtype: names for dtype, names in found.items() if names}


def framework(contestant: str) -> str:
    """Its name in the chart, without bfloat16 where the sentence says so."""
    return ENTRIES[contestant].name.removesuffix(" bfloat16")


def work(result: Result) -> str:
    """What everybody did."""
    settings = result.settings
    return f"{settings['filters']} filters x {settings['steps']} steps at {settings['size']} px"


def seconds_text(entry: Figures) -> str:
    """`7.8 s`, `195 s`; with a tilde where fewer filters were measured and scaled."""
    seconds = entry["median_s"]
    return f"{'~' if entry['scaled'] else ''}{seconds:.{0 if seconds >= 100 else 1}f} s"


def table(result: Result, *, goals: bool = False) -> list[str]:
    """The lines of Markdown; `goals`: with those of this kind of CPU, if it has any."""
    layers, raw = at_layers(result), result.facts["race"].raw
    rows = [[work(result), *(f"`{layer}`" for layer in layers)], ["---", *("---:" for _ in layers)]]
    for dtype, names in by_type(raw["contestants"]).items():
        rows.append([f"*{dtype}*", *("" for _ in layers)])
        for name in names:
            entries = [at_layer.get(name) for at_layer in layers.values()]
            if any(entries):
                rows.append([ENTRIES[name].label, *(_cell(name, entry) for entry in entries)])
            if name in OURS:
                rows += _against_others(dtype, entries, goals=goals)
    return [f"| {' | '.join(row)} |" for row in rows]


def races_on_every_cpu(races: Sequence[tuple[Result, str]]) -> Iterator[str]:
    """The table of the newest race, the last of these, on every model of CPU, the newest first; with paths of files."""
    newest = {result.hardware.cpu: (result, source) for result, source in races}
    yield ""
    yield (
        "Below is the newest race on each CPU, whole or short. A short one has fewer steps, so the forward pass for "
        "jaxviz's final scores, which nobody else's time holds, weighs more. `~`: scaled from fewer filters."
    )
    for result, source in sorted(newest.values(), key=lambda found: found[0].started, reverse=True):
        hardware, settings = result.hardware, result.settings
        yield from ("", f"### {hardware.cores} cores of {hardware.cpu}", "")
        yield (
            f"{_instructions(result)}; {when(result)}; medians of {settings['rounds']} rounds"
            f"{', a **short** race' if is_short(result) else ''}; {link(source)}."
        )
        yield from ("", *table(result, goals=True))


def _instructions(result: Result) -> str:
    found = result.facts["race"].raw.get("instructions", ())
    kind = kind_of_cpu(found)
    return "Instruction sets not recorded" if kind is None else f"{kind} ({', '.join(found)})"


def _cell(name: str, entry: Figures | None) -> str:
    """Its seconds, and how many times as fast as Keras it is."""
    if entry is None:
        return "failed"
    if name == REFERENCE or REFERENCE not in entry["times_as_fast_as"]:
        return seconds_text(entry)
    return f"{seconds_text(entry)} ({entry['times_as_fast_as'][REFERENCE]:.2f}x)"


def _against_others(dtype: str, entries: Sequence[Figures | None], *, goals: bool) -> Iterator[list[str]]:
    found = [entry or {} for entry in entries]
    if any("best_peer" in entry for entry in found):
        yield [f"against the best of TensorFlow and PyTorch in {dtype}", *map(_best_peer, found)]
    if goals and any("goal" in entry for entry in found):
        yield ["of the goal for this kind of CPU", *map(_goal, found)]


def _best_peer(entry: Figures) -> str:
    if "best_peer" not in entry:
        return ""
    return f"**{entry['times_as_fast_as_best_peer']:.2f}x** {framework(entry['best_peer'])}"


def _goal(entry: Figures) -> str:
    if "goal" not in entry:
        return ""
    return f"{entry['of_goal']:.2f} of {entry['goal']:.2f}x"
