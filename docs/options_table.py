"""Writes the table of options and keys into options.md beside it, from where they are declared.

python docs/options_table.py             writes it between the two markers
python docs/options_table.py --check     writes nothing; exit code 1 if the page has another
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

from msgspec import Struct

from jaxviz.jobs.schema import Atlas, JobFile, LayerFilters
from jaxviz.render.options import OPTIONS, Option

PAGE = Path(__file__).parent / "options.md"
BEGIN, END = "<!-- options:begin -->\n", "<!-- options:end -->\n"
HEAD = ["| where | key of a job file | option of `render`, `atlas` | |", "| --- | --- | --- | --- |"]


def main(arguments: list[str]) -> int:
    """The command; its exit code."""
    old = PAGE.read_text()
    new = with_table(old)
    if "--check" not in arguments:
        PAGE.write_text(new)
    return 1 if "--check" in arguments and new != old else 0


def with_table(text: str) -> str:
    """A text with the table between its markers."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def table() -> str:
    """All keys of a job file and all options of a render."""
    options = [_row(option) for option in OPTIONS if option.in_job_file]
    command = [_row(option) for option in OPTIONS if not option.in_job_file]
    lines = [
        *_section("top of the file", _keys(JobFile)),
        *_section("`[[atlas]]`", _keys(Atlas)),
        *_section("`[defaults]` and `[[atlas]]`", options),
        *_section("`[[atlas.layer]]`", _keys(LayerFilters)),
        *_section("command line", command),
    ]
    return "".join(f"{line}\n" for line in [*HEAD, *lines])


def _section(heading: str, rows: list[str]) -> Iterator[str]:
    for place, row in enumerate(rows):
        yield f"| {heading if place == 0 else ''} {row}"


def _keys(struct: type[Struct]) -> list[str]:
    """The keys of a table of a job file that are no options."""
    hints = get_type_hints(struct, include_extras=True)
    options = {option.key_name for option in OPTIONS} if issubclass(struct, Atlas) else set()
    keys = [key for key in struct.__struct_fields__ if key not in options]
    return [f"| `{key}` | | {hints[key].__metadata__[0].description} |" for key in keys]


def _row(option: Option) -> str:
    key = f"`{option.key_name}`" if option.in_job_file else ""
    flag = f"`{option.declaration} {option.values}".strip() + "`"
    written = f" In a job file: {option.written}." if option.written else ""
    cells = [key, flag, f"{option.help}.{written}"]
    return "".join(f"| {cell.replace('|', chr(92) + '|')} " for cell in cells) + "|"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
