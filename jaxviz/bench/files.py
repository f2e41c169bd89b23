"""Result files: written whole, read with every field checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from jaxviz.bench.figures import with_figures
from jaxviz.bench.records import KIND, SCHEMA, Header, Report, to_json
from jaxviz.errors import OutputFolderError, ResultFileError
from jaxviz.files import check_writable, looking_at, write_atomically

LARGEST_FILE = 64 * 2**20  # bytes; a run's file has some tens of thousands


def check_out(path: Path, *, overwrite: bool) -> None:
    """Refuse a file that could not be written, or must not be, before minutes are spent on what goes into it.

    Raises:
        OutputFolderError: it is a folder, or a file that is there and `overwrite` is False.
        StorageError: its folder cannot be looked into, made or written to.
    """
    with looking_at(path):
        is_folder, is_there = path.is_dir(), path.exists()
    if is_folder:
        raise OutputFolderError(
            f"`out` {str(path)!r} is a folder; name a file, such as {path / 'bench.json'}",
            argument="out",
            value=str(path),
        )
    if is_there and not overwrite:
        raise OutputFolderError(
            f"`out` {str(path)!r} is there already; choose another name, or add `overwrite`",
            argument="out",
            value=str(path),
        )
    check_writable(path.parent)


def write_report(path: Path, report: Report) -> None:
    """The report as indented JSON, whole or not at all. Raises StorageError."""
    write_atomically(path, to_json(report, indent=1).encode() + b"\n")


def read_report(path: Path) -> Report:
    """A report from its file, its figures computed anew from the raw values.

    Raises:
        ResultFileError: no such file, another kind of file, another schema, or a damaged one; the message has the
            place in it.
        StorageError: it is there and cannot be read.
    """
    with looking_at(path):
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "is not there"
            raise ResultFileError(f"{path} {what}; give a file that `jaxviz bench --out FILE.json` wrote")
        if path.stat().st_size > LARGEST_FILE:
            raise ResultFileError(f"{path} is no result of `jaxviz bench`: it has more than {LARGEST_FILE >> 20} MiB")
        content = path.read_bytes()
    header: Header = _decoded(path, content, Header)
    if header.kind != KIND:
        raise ResultFileError(f"{path} is no result of `jaxviz bench`: its kind is {header.kind[:40]!r}")
    if header.schema != SCHEMA:
        raise ResultFileError(
            f"{path} has schema {header.schema}; this jaxviz reads {SCHEMA}. Measure again, or read it with the "
            "jaxviz that wrote it"
        )
    report: Report = _decoded(path, content, Report)
    return with_figures(report)


def _decoded(path: Path, content: bytes, record: type) -> Any:
    try:
        return msgspec.json.decode(content, type=record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ResultFileError(f"{path} is no result of `jaxviz bench`, or a damaged one: {error}") from error
