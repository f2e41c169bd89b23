"""Races and pictures recorded before they were facts: the same values in another order, in folders of their own."""

from __future__ import annotations

from typing import Any

COMMON = ("schema", "started", "finished", "git", "hardware", "versions")
# Of a contestant at a layer; everything else there was computed.
RAW = ("compile_s", "seconds_per_filter", "images_per_call", "form", "probe", "filters_measured", "scores", "runs")


def upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """The JSON values of a result with one fact, without its figures; those of today are returned as they are."""
    common = {name: values[name] for name in COMMON}
    if "layers" in values:
        more = {name: values[name] for name in ("environment", "load_average_at_start", "forced", "material")}
        settings = values["settings"] | {"rounds": values["settings"]["repeats"]}
        return common | more | {"settings": settings, "facts": {"race": {"failed": None, "raw": _race(values)}}}
    if "entries" in values:
        entries = [{name: entry[name] for name in entry if name != "figures"} for entry in values["entries"]]
        raw = {"natural_images": values["natural_images"], "entries": entries}
        empty: dict[str, Any] = {"environment": {}, "material": {}, "settings": {}}
        return (
            common
            | empty
            | {"load_average_at_start": None, "forced": False}
            | {"facts": {"pictures": {"failed": None, "raw": raw}}}
        )
    return values


def _race(values: dict[str, Any]) -> dict[str, Any]:
    settings = values["settings"]
    return {
        **{name: settings[name] for name in ("filters", "steps")},
        "rounds": settings["repeats"],
        "cores": values["hardware"]["cores"],
        "dot_gflops": values["dot_gflops"],
        "contestants": values["contestants"],
        "layers": {
            layer: {
                "macs_per_image": at_layer["macs_per_image"],
                "contestants": {
                    name: {field: entry[field] for field in (*RAW, "scores_repeat")}
                    for name, entry in at_layer["contestants"].items()
                },
            }
            for layer, at_layer in values["layers"].items()
        },
    }
