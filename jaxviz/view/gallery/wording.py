"""Numbers and names as a reader sees them, and as folders and addresses have them."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from jaxviz.render.recipe import LayerFacts
from jaxviz.store.contents import folder_name

LONGEST_NAME = 120  # bytes of a folder, after encoding


def count(number: int, thing: str) -> str:
    """Such as "1 picture" and "2,048 pictures"."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def counts(found: dict[str, int]) -> str:
    """How many pictures, and of which status: "64 pictures, 62 ok, 2 dead"."""
    total = sum(found.values())
    if found["ok"] == total:
        return f"{count(total, 'picture')}, all ok" if total > 1 else "1 picture, ok"
    return ", ".join([count(total, "picture"), *(f"{n:,} {status}" for status, n in found.items() if n)])


def figure(value: float | None) -> str:
    """A number with three significant digits, whole ones as they are."""
    if value is None or not math.isfinite(value):
        return "none"
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    if 0.001 <= abs(value) < 1e6:
        return f"{value:,.{min(max(2 - math.floor(math.log10(abs(value))), 0), 3)}f}"
    return f"{value:.2e}"


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


def slug(name: str) -> str:
    """A folder for a model, layer or label; shorter than in the folder of pictures, since a site's files lie deeper."""
    return folder_name(name, longest=LONGEST_NAME)


def address(path: str | Path) -> str:
    """A relative path as an address: percent-encoded, byte for byte, so that any file name works."""
    return quote(os.fsencode(path).replace(os.sep.encode(), b"/"), safe="/")


def about(facts: LayerFacts | None) -> str:
    """What the layer is: "conv · 240 channels · sees 99 px"; empty where that was not recorded."""
    if facts is None:
        return ""
    seen = "sees the whole image" if facts.receptive_field is None else f"sees {facts.receptive_field} px"
    return f"{facts.kind.replace('_', ' ')} · {facts.channels:,} channels · {seen}"


def ranges(keys: Sequence[tuple[int, int]]) -> str:
    """(filter, replica) of each page in few words, for the script that jumps to one: "0-63 0-3r1 70r1"."""
    found: list[tuple[int, int, int]] = []  # replica, first, last
    for replica, index in sorted((replica, index) for index, replica in keys):
        if found and found[-1][0] == replica and found[-1][2] == index - 1:
            found[-1] = (replica, found[-1][1], index)
        else:
            found.append((replica, index, index))
    return " ".join(
        (f"{first}" if first == last else f"{first}-{last}") + (f"r{replica}" if replica else "")
        for replica, first, last in found
    )
