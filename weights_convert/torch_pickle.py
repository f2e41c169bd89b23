"""What a PyTorch checkpoint describes, without PyTorch and without running any of it.

A checkpoint is a pickle, and a pickle is a program. The unpickler here knows a few names, each bound to an inert
stand-in of our own that describes an array; every other name becomes a `Foreign`, which takes what it is called with
and does nothing: a training loop keeps its optimizers and settings beside the weights. Nothing is imported, nothing
of the file is called, nothing is set on an object. So a file can describe arrays and names, and nothing else.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from weights_convert.torch_stand_ins import (
    GLOBALS,
    MAX_NAME,
    Builder,
    CheckpointError,
    Foreign,
    Storage,
    StorageType,
    said,
)

MAX_OPCODES = 500_000  # a second; the published checkpoints have 10,000, and three times as many with Adam

# What the opcodes of a pickle raise on operands that do not suit them.
PICKLE_ERRORS = (
    pickle.UnpicklingError,
    *(EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError, OverflowError, MemoryError),
    *(RecursionError, struct.error, AssertionError),
)


class Described(NamedTuple):
    """What one pickle holds: its object, the storages and the foreign names that it speaks of."""

    content: Any
    storages: Mapping[str, Storage]
    foreign: tuple[str, ...]


def describe_pickle(file: io.BytesIO) -> Described:
    """Read one pickle of a file; it is left behind its end.

    Raises:
        CheckpointError: it is damaged, or no pickle of arrays.
    """
    unpickler = _ArraysOnly(file)
    try:
        content = unpickler.load()
    except PICKLE_ERRORS as error:
        refuse_damaged(" ".join(str(error).split())[:MAX_NAME] or type(error).__name__)
    return Described(content, unpickler.storages, tuple(unpickler.foreign))


def refuse_damaged(why: object) -> NoReturn:
    """Raise CheckpointError."""
    raise CheckpointError(f"it is truncated or damaged ({why}). Copy or download it again")


class _Opcodes(dict[int, Callable[[Any], None]]):
    """The unpickler's table of opcodes, which counts what is taken from it."""

    left = MAX_OPCODES

    def __getitem__(self, opcode: int) -> Callable[[Any], None]:
        self.left -= 1
        if self.left < 0:
            raise CheckpointError(f"its pickle has over {MAX_OPCODES} steps. Save the state_dict() alone")
        return super().__getitem__(opcode)


class _ArraysOnly(pickle._Unpickler):
    """Builds descriptions of arrays, containers of them, and nothing else.

    The one written in Python: the one in C makes room for as many references as a damaged file claims to have.
    Whatever would call, import, hash or set something of the file's is overridden.
    """

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.storages: dict[str, Storage] = {}
        self.foreign: dict[str, None] = {}
        self.dispatch = _Opcodes(HANDLERS)  # type: ignore[misc]  # each counts for itself

    def find_class(self, module_name: Any, global_name: Any, /) -> Any:
        known = GLOBALS.get((module_name, global_name)) if isinstance(module_name, str) else None
        return known if known is not None else self.stand_in(f"{said(module_name)}.{said(global_name)}")

    def stand_in(self, name: str) -> Foreign:
        """A `Foreign` that is remembered."""
        self.foreign[name] = None
        return Foreign(name)

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) >= 2 and pid[0] == "module":  # a whole module, with its source
            return pid[1]
        if isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and all(one is None for one in pid[5:]):
            _, kind, key, _, length = pid[:5]
            if isinstance(kind, StorageType) and isinstance(key, str) and type(length) is int and length >= 0:
                return self.storages.setdefault(key, Storage(key, kind, length))
            if isinstance(kind, Foreign):
                return kind
        raise CheckpointError("it keeps data in a way that is not known here")


def _reduce(self: Any) -> None:
    arguments, function = self.stack.pop(), self.stack.pop()
    if isinstance(function, Builder) and isinstance(arguments, tuple):
        self.append(function.call(*arguments))
    else:
        self.append(Foreign(_name_of(function)))


def _new_object(self: Any) -> None:
    _arguments, cls = self.stack.pop(), self.stack.pop()
    self.append(Foreign(_name_of(cls)))


def _new_object_with_keywords(self: Any) -> None:
    self.stack.pop()
    _new_object(self)


def _object(self: Any) -> None:
    arguments = self.pop_mark()
    self.append(Foreign(_name_of(arguments[0] if arguments else None)))


def _instance(self: Any) -> None:
    module = self.readline()[:-1].decode("ascii", "replace")
    name = self.readline()[:-1].decode("ascii", "replace")
    self.pop_mark()
    self.append(self.stand_in(f"{said(module)}.{said(name)}"))


def _build(self: Any) -> None:
    state, thing = self.stack.pop(), self.stack[-1]
    if isinstance(thing, Foreign) and thing.state is None:
        thing.state = state


def _append(self: Any) -> None:
    value, container = self.stack.pop(), self.stack[-1]
    if type(container) is list:
        container.append(value)


def _appends(self: Any) -> None:
    values, container = self.pop_mark(), self.stack[-1]
    if type(container) is list:
        container.extend(values)


def _set_item(self: Any) -> None:
    value, key = self.stack.pop(), self.stack.pop()
    _set(self.stack[-1], [key, value])


def _set_items(self: Any) -> None:
    items = self.pop_mark()
    _set(self.stack[-1], items)


def _dictionary(self: Any) -> None:
    items = self.pop_mark()
    self.append({})
    _set(self.stack[-1], items)


def _set(container: Any, items: list[Any]) -> None:
    """Other keys are left out: to hash tuples of tuples can take for ever."""
    if type(container) in (dict, OrderedDict):
        container.update(
            {key: value for key, value in zip(items[::2], items[1::2], strict=False) if type(key) in (str, int)}
        )


def _set_of_marked(self: Any) -> None:
    self.pop_mark()
    self.append(Foreign("set"))


def _empty_set(self: Any) -> None:
    self.append(Foreign("set"))


def _add_items(self: Any) -> None:
    self.pop_mark()


def _unsuited(_self: Any) -> None:
    raise pickle.UnpicklingError("an opcode that no checkpoint has")


HANDLERS: dict[int, Callable[[Any], None]] = {
    **pickle._Unpickler.dispatch,
    **{
        opcode[0]: handler
        for opcode, handler in {
            pickle.REDUCE: _reduce,
            pickle.NEWOBJ: _new_object,
            pickle.NEWOBJ_EX: _new_object_with_keywords,
            pickle.OBJ: _object,
            pickle.INST: _instance,
            pickle.BUILD: _build,
            pickle.APPEND: _append,
            pickle.APPENDS: _appends,
            pickle.SETITEM: _set_item,
            pickle.SETITEMS: _set_items,
            pickle.DICT: _dictionary,
            pickle.EMPTY_SET: _empty_set,
            pickle.FROZENSET: _set_of_marked,
            pickle.ADDITEMS: _add_items,
            # These make room for what they claim, or look in a registry of the process.
            **dict.fromkeys((pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER), _unsuited),
            **dict.fromkeys((pickle.EXT1, pickle.EXT2, pickle.EXT4), _unsuited),
        }.items()
    },
}


def _name_of(thing: Any) -> str:
    return thing.name if isinstance(thing, Foreign) else type(thing).__name__
