"""Job files for tests: the examples, and seeded mutations of them."""

from __future__ import annotations

import copy
import datetime
import json
import random
import tomllib
from pathlib import Path
from typing import Any

from jaxviz.jobs.schema import Atlas, JobFile, LayerFilters

EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "jobs").glob("*.toml"))
SMALL = """
order = "given"
[defaults]
steps = 8
filters = "0-7"
[[atlas]]
model = "efficientnet_lite0"
layers = ["block1_1_*_conv", "stem_conv"]
label = "a"
[[atlas.layer]]
glob = "stem*"
filters = [1, 2]
[[atlas]]
model = "resnet50v2"
layers = ["conv1_conv", "predictions"]
exclude = ["conv1_conv"]
objective = "class_logit"
preset = "distill"
label = "b"
"""
KEYS = sorted({*JobFile.__struct_fields__, *Atlas.__struct_fields__, *LayerFilters.__struct_fields__})
NASTY: list[Any] = [
    0, 1, -1, 2, 7, 63, 64, 180, 10**6, 2**31, 2**32, 2**63 - 1, 2**63, -(2**63), 10**30, 10**400,
    0.0, 0.5, -0.5, 1e-320, 1e30, 1e39, 1e308, float("nan"), float("inf"), -float("inf"), True, False,
    "", " ", "all", "auto", "none", "0-63", "3-1", "0-99999", "9" * 5000, "1e999", "x" * 5000, "128x192", "0x0", "1x",
    "keras", "distill", "maco", "pixel", "fourier", "adam", "nadam", "bfloat16", "webp", "gif", "given", "network",
    "channel", "neuron", "neuron:3,4", "neuron:-1,-1", "neuron:9999,0", "neuron:x", "direction", "direction:nan",
    "direction:2", "class_logit", "layer", "diversity", "resnet50v2", "efficientnet_lite0", "predictions", "avg_pool",
    "*", "**", "conv1_conv", "stem_*", "[", "[!a]", "[z-a]", "*_bn", "input_layer", "nothing*", "?" * 300,
    "..", "../x", "/", "a/b", "a\0b", "~", "~nobody-of-that-name/x", "/dev/null", "/dev/null/x", "pyproject.toml",
    "\ud7ff", "\U0001f600", "é", "\n", "\r\n\t", "'", '"""', "\\", "\u202e", "%s", "{0}", "--steps", "__class__",
    "pad:12", "pad:12,jitter:8", "pad:", "crops:8:0.25:0.75:128", "rotate:999", "noise:-1", "scale:nan:1",
    [], [0], [-1], [0, 0], [3, 7], [10**9], [0.5], ["a"], [[]], [[[]]], ["*"], ["conv*"], [True], [1, "a", {}],
    [128, 192], [0, 0], [1, 2, 3], [["pad", 12]], [["pad"]], [["pad", "x"]], [["pad", 10**12]], [["pad", -1]],
    [["noise", float("nan")]], [["crops", 8, 0.3, 0.7, 128], ["crops", 8, 0.3, 0.7, 128]], [["jitter", 500]],
    [[["pad"]]], {}, {"a": 1}, {"glob": "*", "filters": "all"}, {"model": "x"}, [{"glob": "*", "filters": [0]}],
    [{"glob": "*"}], [{}], [{"model": "resnet50v2"}], {"steps": 3},
    datetime.date(2026, 1, 1), datetime.time(1, 2), datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
]  # fmt: skip
SNIPPETS = [
    b"\xff", b"\x00", b"\xef\xbb\xbf", b"\xc3", b"=", b"[", b"]]", b"[[atlas]]\n", b"[defaults]\n", b'"', b'"""', b"#",
    b"\r", b"\n\n", b"steps = 3\n", b"steps = 99999999999999999999\n", b"= = =\n", b"a.b.c = 1\n", b"nan", b"inf",
    b"2026-01-01", b"[" * 3000, b"x = {" * 500, b"\xed\xa0\x80", b"0x" + b"F" * 6000, b"9" * 6000, b"'''", b"\\ud800",
    b"label = 'b'\n", b"[[atlas.layer]]\n", b"[atlas.layer]\n", b"[defaults.steps]\n", b"out.x = 1\n",
]  # fmt: skip


def mutated(seed: int) -> bytes:
    """A job file with something changed, nearly always for the worse; the same for the same seed."""
    rng = random.Random(seed)
    text = rng.choice([SMALL, *(file.read_text() for file in EXAMPLES)])
    if rng.random() < 0.3:
        content = text.encode()
        for _ in range(rng.choice([1, 1, 2, 5])):
            content = rng.choice([_other_bytes, _other_lines])(content, rng)
        return content
    tree = tomllib.loads(text)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        _other_tree(tree, rng)
    return toml_text(tree).encode("utf-8", "surrogatepass")


def mutated_overrides(seed: int) -> list[str]:
    """Values of --set, for some seeds, as little to be relied on."""
    rng = random.Random(f"overrides {seed}")
    if rng.random() < 0.8:
        return []
    first = rng.choice(
        ["out", "order", "defaults.{key}", "atlas.0.{key}", "atlas.1.layer.0.{key}", "{key}", "atlas.{key}"]
    )
    key = first.format(key=rng.choice([*KEYS, "", "0", "9", "-1", "x", "٣"]))
    value = rng.choice(NASTY)
    text = value if isinstance(value, str) and rng.random() < 0.5 else toml_value(value)
    return [
        rng.choice([f"{key}={text}", f"{key}={text}", f"{key}{text}", f"{key}.{key}={text}", f"{key}\n={text}\nx=1"])
    ]


def _other_bytes(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return rng.choice(
        [
            content[:at],
            content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :],
            content[:at] + rng.choice(SNIPPETS) + content[at:],
            content[:at] + content[at + rng.randrange(9) :],
        ]
    )


def _other_lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True) or [b"\n"]
    one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(4)
    if kind == 0:
        del lines[one]
    elif kind == 1:
        lines.insert(two, lines[one])
    elif kind == 2:
        lines[one], lines[two] = lines[two], lines[one]
    else:
        key = rng.choice(KEYS)
        lines.insert(one, f"{key} = {toml_value(rng.choice(NASTY))}\n".encode("utf-8", "surrogatepass"))
    return b"".join(lines)


def _other_tree(tree: dict[str, Any], rng: random.Random) -> None:
    """Change one thing somewhere in a parsed file."""
    places = list(_containers(tree))
    place = rng.choice(places)
    if isinstance(place, list):
        if place and rng.random() < 0.7:
            at = rng.randrange(len(place))
            kind = rng.randrange(3)
            if kind == 0:
                place[at] = copy.deepcopy(rng.choice(NASTY))
            elif kind == 1:
                place.append(copy.deepcopy(place[at]))
            else:
                del place[at]
        else:
            place.append(copy.deepcopy(rng.choice(NASTY)))
        return
    keys = list(place)
    kind = rng.randrange(6)
    if kind <= 1 and keys:
        place[rng.choice(keys)] = copy.deepcopy(rng.choice(NASTY))
    elif kind == 2 and keys:
        del place[rng.choice(keys)]
    elif kind == 3 and keys:
        key = rng.choice(keys)
        at = rng.randrange(len(key) + 1)
        place[key[:at] + rng.choice(["", "x", "_", "-", " ", "é", "."]) + key[at + rng.randrange(2) :]] = place.pop(key)
    else:
        place[rng.choice(KEYS)] = copy.deepcopy(rng.choice(NASTY))


def _containers(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [value, *(found for below in value.values() for found in _containers(below))]
    if isinstance(value, list):
        return [value, *(found for below in value for found in _containers(below))]
    return []


def toml_text(tree: dict[str, Any]) -> str:
    """A tree as TOML, a line for each key at the top."""
    return "".join(f"{json.dumps(key, ensure_ascii=False)} = {toml_value(value)}\n" for key, value in tree.items())


def toml_value(value: Any) -> str:
    """A value as TOML, tables inline."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, dict):
        items = (f"{json.dumps(key, ensure_ascii=False)} = {toml_value(below)}" for key, below in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return repr(value)
