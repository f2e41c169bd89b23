"""How a typed record becomes JSON and comes back: every file that jaxviz writes as JSON goes through here. No jax.

The text is ASCII, so that it fits a PNG's text chunk and holds any name, also one that is no Unicode. Where a number
may be NaN, the record's field is None.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

Record = TypeVar("Record")


def to_json(record: Any, *, indent: int | None = None) -> str:
    """JSON text; one line without `indent`."""
    return json.dumps(msgspec.to_builtins(record), indent=indent, allow_nan=False)


def from_json(content: bytes | str, kind: type[Record]) -> Record:
    """The record that JSON text holds.

    Raises:
        ValueError: it is no JSON, or a field is missing, of another type or outside its range.
    """
    try:
        return msgspec.convert(json.loads(content), kind)
    except (OverflowError, RecursionError) as error:
        raise ValueError(f"no {kind.__name__}: {error}") from error
