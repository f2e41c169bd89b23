"""Every error that jaxviz raises on purpose, and the exit code it means.

    JaxvizError
    ├── RequestError                exit code 2: the request was wrong and can be retyped
    │   ├── UnknownModelError       no such model
    │   ├── UnknownLayerError       the model has no such layer
    │   ├── FilterError             a filter number or list that the layer does not have
    │   ├── ConfigError             a setting outside its range, or settings that leave nothing
    │   ├── OutputFolderError       the output folder or file is something else
    │   ├── WeightsError            a weights file that is broken or belongs to another model
    │   ├── JobFileError            a job file that cannot be read, or asks for what cannot be
    │   └── ResultFileError         no benchmark result, or results that cannot be compared
    └── EnvironmentFailure          exit code 1: the machine failed, the request was fine
        ├── WeightsUnavailableError the weights are neither here nor to be fetched
        ├── StorageError            a file could not be written or read
        ├── FolderInUseError        another run is writing to the output folder
        └── DeviceMemoryError       the batch does not fit the device

A message names the argument, its value, what is allowed and what to type next. Whoever raises it calls an argument as
Python does, and `said` puts in what another reader calls it: see `options.for_command_line` and `options.for_job_file`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any

REFERENCE = re.compile(r"`(\w+)`")  # an argument that a text mentions
_ABSENT: Any = object()


class JaxvizError(Exception):
    """Base of all errors raised on purpose; `exit_code` is the command line's.

    Args:
        problem: what is wrong. With a value it follows argument and value, unless it begins with an argument itself.
            Here, in `allowed` and in `try_next`, an argument in backticks is one that each reader has a name for.
        argument: which one is wrong, as Python calls it.
        value: what it was.
        allowed: what it may be. Without a problem, the problem is that it is not this.
        try_next: what to type instead.

    Example:
        >>> error = ConfigError(argument="crop", value=-1, allowed="a whole number", try_next="give fewer `steps`")
        >>> str(error)
        'crop -1 is not a whole number; give fewer steps'
        >>> error.said(lambda argument: f"--{argument}")
        '--crop -1 is not a whole number; give fewer --steps'
    """

    exit_code = 1

    def __init__(
        self, problem: str = "", *, argument: str = "", value: Any = _ABSENT, allowed: str = "", try_next: str = ""
    ) -> None:
        super().__init__(problem)
        self.argument, self.allowed, self.try_next = argument, allowed, try_next
        self.value: Any = None if value is _ABSENT else value
        self._begins = value is not _ABSENT and not problem.startswith("`")
        wrong = problem + (f"; allowed: {allowed}" if allowed else "") if problem else f"is not {allowed}"
        joint = (". " if try_next[0].isupper() else "; ") if try_next else ""
        subject = f"`{argument}` {value!r} " if self._begins else ""
        self.text = subject + wrong + joint + try_next  # with arguments in backticks

    def __str__(self) -> str:
        return self.said(str)

    def said(self, name: Callable[[str], str], subject: Callable[[str], str] | None = None) -> str:
        """The message for a reader who calls an argument `name(argument)`, and before its value `subject(argument)`."""

        def spelled(found: re.Match[str]) -> str:
            begins = self._begins and found.start() == 0
            return (subject if subject is not None and begins else name)(found[1])

        return REFERENCE.sub(spelled, self.text)


class RequestError(JaxvizError):
    """The request was wrong and can be retyped."""

    exit_code = 2


class EnvironmentFailure(JaxvizError):  # noqa: N818  # EnvironmentError is a builtin
    """Network, disk or memory failed; the same request may work elsewhere."""

    exit_code = 1


class UnknownModelError(RequestError):
    """No model of that name."""


class UnknownLayerError(RequestError):
    """The model has no layer of that name."""


class FilterError(RequestError):
    """A filter number, or a list of them, that the layer does not have."""


class ConfigError(RequestError):
    """A setting outside its range, or settings that together leave nothing."""


class OutputFolderError(RequestError):
    """The output folder holds another recipe's pictures or is no folder; the output file is there, or no file."""


class WeightsError(RequestError):
    """A weights file that cannot be read, or does not fit the model."""


class JobFileError(RequestError):
    """A job file that cannot be read, or that asks for what cannot be rendered; the message has the place in it."""


class ResultFileError(RequestError):
    """A file that is no benchmark result, or results that cannot be compared."""


class WeightsUnavailableError(EnvironmentFailure):
    """The weights are not on this machine and could not be fetched."""


class StorageError(EnvironmentFailure):
    """A file could not be written or read."""


class FolderInUseError(EnvironmentFailure):
    """Another run is writing to the output folder."""


class DeviceMemoryError(EnvironmentFailure):
    """The batch does not fit the device's memory; `fits` is the size to try next, 0 where there is none."""

    def __init__(self, problem: str, *, fits: int = 0, **fields: Any) -> None:
        super().__init__(problem, **fields)
        self.fits = fits


def nearest(name: str, known: Iterable[str]) -> str:
    """Text naming up to three known names close to `name`, or the first known ones."""
    candidates = list(known)
    close = difflib.get_close_matches(name, candidates, n=3, cutoff=0.4)
    if close:
        return "nearest: " + ", ".join(repr(match) for match in close)
    return "for example: " + ", ".join(repr(candidate) for candidate in candidates[:3])
