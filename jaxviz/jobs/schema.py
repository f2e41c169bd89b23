"""What may stand in a job file: its tables and keys as typed structs, and the file read into them.

The structs say names and types; what a value means, and which are allowed, `RenderConfig` and the rest of jaxviz know
(jobs.py). The keys of `Options` are the options of `jaxviz render` as they are declared (options.py). Tables of
[[atlas]] count from 0, in messages as in `--set`. No jax here.
"""

from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from jaxviz.errors import JobFileError, StorageError, nearest
from jaxviz.render.options import OF_THE_COMMAND, OPTIONS

LARGEST_FILE = 2**20  # bytes; a job of a hundred tables has some ten thousand
LARGEST_INTEGER = 2**63  # of TOML
LONGEST_VALUE = 60  # characters of a value in a message

Filters = int | str | list[int]


if not TYPE_CHECKING:
    Options = msgspec.defstruct(
        "Options",
        [
            (option.key_name, Annotated[option.toml_type | UnsetType, Meta(description=option.help)], UNSET)
            for option in OPTIONS
            if option.in_job_file
        ],
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
    )
else:

    class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """[defaults]: every option of a render; what is left out is the preset's."""


class LayerFilters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[atlas.layer]]: filters of some of an atlas's layers; of tables that fit a layer the last counts."""

    glob: Annotated[str, Meta(description="layers among those of the atlas")]
    filters: Annotated[Filters, Meta(description="their filters, as above")]


class Atlas(Options, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[atlas]]: layers of one model, rendered alike; its options stand above those of [defaults]."""

    model: Annotated[str, Meta(description="a name of `jaxviz models`")]
    layers: Annotated[list[str], Meta(description="globs of layer names; default: every convolution")] = []
    exclude: Annotated[list[str], Meta(description="globs of layers to leave out")] = []
    layer: Annotated[list[LayerFilters], Meta(description="tables `[[atlas.layer]]`, below")] = []


class JobFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The top of the file."""

    out: Annotated[str, Meta(description="pictures go to `out/model/layer/label`")] = "out"
    order: Annotated[str, Meta(description='`"cheapest"` first, `"network"` or `"given"`')] = "cheapest"
    defaults: Annotated[Options, Meta(description="table `[defaults]`, below")] = Options()
    atlas: Annotated[list[Atlas], Meta(description="tables `[[atlas]]`, below; at least one")]


TABLES: dict[str, type[Struct]] = {"": JobFile, "defaults": Options, "atlas": Atlas, "atlas.layer": LayerFilters}
OTHER_NAMES = {name: option.key_name for option in OPTIONS for name in (option.name, option.flag[2:])}
OTHER_NAMES |= {"models": "model", "dir": "out"}
WORDS = {  # msgspec's types, as a user of TOML would call them
    "int": "a whole number",
    "float": "a number",
    "str": "text in quotes",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}


def read_file(path: Path, overrides: Sequence[str] = ()) -> JobFile:
    """A job file, with overrides KEY=VALUE applied, as structs of the right names and types.

    Raises:
        JobFileError: no such file, no TOML, an unknown key or a value of another type; the message has the place.
        StorageError: it is there and cannot be read.
    """
    tables = _tables(path)
    for override in overrides:
        _override(tables, override)
    for place, value in _values(tables):
        if isinstance(value, int) and not -LARGEST_INTEGER <= value < LARGEST_INTEGER:
            raise JobFileError(f"{path}: {_where(place, tables)} is a number of more than 64 bits; give a smaller one")
    try:
        job = msgspec.convert(tables, JobFile)
    except msgspec.ValidationError as error:
        raise JobFileError(f"{path}: {_in_words(str(error), tables)}") from None
    if not job.atlas:
        raise JobFileError(f"{path}: atlas is empty; give at least one table [[atlas]] with a model")
    return job


def place_of(number: int, label: Any) -> str:
    """An [[atlas]] table in words."""
    return f"atlas.{number} (label {short(repr(label))})" if isinstance(label, str) else f"atlas.{number}"


def _tables(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "is not there"
            raise JobFileError(f"JOB {str(path)!r} {what}; give a job file, such as night.toml")
        if path.stat().st_size > LARGEST_FILE:
            raise JobFileError(f"JOB {str(path)!r} is no job file: it has more than {LARGEST_FILE >> 20} MiB")
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        raise StorageError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise JobFileError(f"{path}: line {line} is not UTF-8 text (byte 0x{content[error.start]:02x})") from None
    except RecursionError:
        raise JobFileError(f"{path}: lists or tables stand too deep in each other; a job file has 4 levels") from None
    except ValueError as error:  # TOMLDecodeError is one; so is a number of too many digits
        raise JobFileError(f"{path} is no TOML: {short(str(error), 200)}") from None


def _override(tables: dict[str, Any], override: str) -> None:
    """Put the value of KEY=VALUE in its place."""
    key, equals, text = override.partition("=")
    *parents, last = names = [name.strip() for name in key.split(".")]
    if not equals or not all(names):
        raise JobFileError(
            f"--set {short(repr(override))} is not KEY=VALUE. Type for example: --set defaults.steps=8 or "
            "--set atlas.0.label=x"
        )
    table: Any = tables
    for depth, name in enumerate(parents):
        if isinstance(table, dict):
            table = table.setdefault(name, {})
        else:
            table = table[_index(table, name, key, names[:depth])]
        if not isinstance(table, dict | list):
            there = ".".join(names[: depth + 1])
            raise JobFileError(f"--set {key!r}: {there!r} is {_shown(table)}, no table, and has nothing in it")
    if isinstance(table, list):
        table[_index(table, last, key, parents)] = _override_value(text)
    else:
        table[last] = _override_value(text)


def _index(items: list[Any], name: str, key: str, path: Sequence[str]) -> int:
    if re.fullmatch(r"[0-9]{1,6}", name) and int(name) < len(items):
        return int(name)
    there = ".".join(path)
    allowed = f"its tables are {there}.0 to {there}.{len(items) - 1}" if items else "it is empty"
    raise JobFileError(f"--set {key!r}: there is no {name!r} in {there}; {allowed}")


def _override_value(text: str) -> Any:
    """A TOML value, or else the text itself."""
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return found["value"] if len(found) == 1 else text


def _values(value: Any) -> Iterator[tuple[list[str | int], Any]]:
    """(path, value) of all that is no table and no list."""
    waiting: list[tuple[list[str | int], Any]] = [([], value)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [([*path, name], below) for name, below in value.items()]
        elif isinstance(value, list):
            waiting += [([*path, place], below) for place, below in enumerate(value)]
        else:
            yield path, value


def _in_words(message: str, tables: dict[str, Any]) -> str:
    """What msgspec finds wrong, with the value and what is allowed."""
    split = re.fullmatch(r"(.*?)(?: - at `\$([\w.\[\]]*)`)?", message, re.DOTALL)
    assert split is not None  # it matches everything
    problem, at = split[1], split[2] or ""
    path: list[str | int] = [int(name) if name.isdecimal() else name for name in re.findall(r"\w+", at)]
    if match := re.fullmatch(r"Object contains unknown field `(.*)`", problem, re.DOTALL):
        return _unknown_key(match[1], path, tables)
    if match := re.fullmatch(r"Object missing required field `(.*)`", problem, re.DOTALL):
        example = {"atlas": "a table [[atlas]] with a model", "model": 'for example model = "efficientnet_lite0"'}
        return f"{_where(path, tables)} lacks {match[1]!r}; give {example.get(match[1], 'it')}"
    if match := re.fullmatch(r"Expected `([^`]*)`, got `(.*)`", problem, re.DOTALL):
        allowed = " or ".join(WORDS.get(word, word) for word in match[1].split(" | "))
        return f"{_where(path, tables)} {_shown(_at(path, tables))} is wrong; allowed: {allowed}"
    return f"{_where(path, tables)} {_shown(_at(path, tables))}: {problem}"


def _unknown_key(key: str, path: list[str | int], tables: dict[str, Any]) -> str:
    here = ".".join(name for name in path if isinstance(name, str))
    known = TABLES[here].__struct_fields__
    elsewhere = [name for name, table in TABLES.items() if key in table.__struct_fields__]
    if OTHER_NAMES.get(key) in known:
        advice = f"it is called {OTHER_NAMES[key]!r} here"
    elif key in OF_THE_COMMAND:
        advice = f"it is an option of the command: jaxviz run JOB.toml --{key}"
    elif elsewhere:
        headings = {"": "the top of the file", "defaults": "[defaults]", "atlas": "[[atlas]]"}
        advice = "it belongs " + " or ".join(
            f"into {headings.get(name, f'[[{name}]]')}" if name else "at the top of the file, before any table"
            for name in elsewhere
        )
    else:
        advice = nearest(key, known)
    return f"{_where(path, tables)}: unknown key {short(repr(key))}; {advice}"


def _where(path: Sequence[str | int], tables: dict[str, Any]) -> str:
    """A place in the file, an [[atlas]] with its label."""
    if not path:
        return "the top of the file"
    if path[0] != "atlas" or len(path) < 2:
        return short(".".join(map(str, path)))
    table = _at(path[:2], tables)
    atlas = place_of(int(path[1]), table.get("label") if isinstance(table, dict) else None)
    return ": ".join([atlas, *([short(".".join(map(str, path[2:])))] if path[2:] else [])])


def _at(path: Sequence[str | int], tables: Any) -> Any:
    try:
        for name in path:
            tables = tables[name]
    except (LookupError, TypeError):
        return None
    return tables


def _shown(value: Any) -> str:
    """A value as TOML would have it, or nearly."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.date | datetime.time):
        return f"{value} (a date or time)"
    return short(repr(value))


def short(text: str, longest: int = LONGEST_VALUE) -> str:
    """The text, or its beginning."""
    return text if len(text) <= longest else f"{text[:longest]}..."
