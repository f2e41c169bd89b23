"""Options that several commands share: they mean the same everywhere. How values are written: spelling.py."""

from __future__ import annotations

from typing import Annotated

import typer

ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="A model; see: jaxviz models")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Size = Annotated[str | None, typer.Option(metavar="PX|HxW", help="Size of the optimised image (keras: 180).")]
