"""`Shard`: the part of a job that one of several processes renders."""

from __future__ import annotations

import re
from dataclasses import dataclass

from jaxviz.errors import ConfigError

NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count` of a job's work, from 1."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_shard(text: str | None) -> Shard | None:
    """The value of --shard: I/N. Raises ConfigError."""
    if text is None:
        return None
    index, slash, count = text.partition("/")
    if slash and NUMBER.fullmatch(index) and NUMBER.fullmatch(count) and 1 <= int(index) <= int(count):
        return Shard(int(index), int(count))
    raise ConfigError(
        f"`shard` {text!r} is not part I of N, from 1",
        argument="shard",
        value=text,
        try_next="Type for example: `shard` 1/3",
    )
