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

A message names the argument, its value, what is allowed and what to type next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class JaxvizError(Exception):
    """Base of all errors raised on purpose; `exit_code` is the command line's."""

    exit_code = 1


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

    def __init__(self, message: str, *, fits: int = 0) -> None:
        super().__init__(message)
        self.fits = fits


def nearest(name: str, known: Iterable[str]) -> str:
    """Text naming up to three known names close to `name`, or the first known ones."""
    candidates = list(known)
    close = difflib.get_close_matches(name, candidates, n=3, cutoff=0.4)
    if close:
        return "nearest: " + ", ".join(repr(match) for match in close)
    return "for example: " + ", ".join(repr(candidate) for candidate in candidates[:3])
