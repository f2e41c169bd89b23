"""What a file says is done to pixels before they reach its network, as numbers."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

CHANNELS = 3
RELATIVE_TOLERANCE = 1e-6  # Keras keeps its numbers in float32


@dataclass(frozen=True)
class Preprocessing:
    """`pixels * scale + offset`, pixels RGB in [0, 255], one number for each channel.

    Example:
        >>> Preprocessing().then(1 / 255, 0.0).then(2.0, -1.0).offset
        (-1.0, -1.0, -1.0)
    """

    scale: tuple[float, ...] = (1.0,) * CHANNELS
    offset: tuple[float, ...] = (0.0,) * CHANNELS

    def then(self, scale: float | tuple[float, ...], offset: float | tuple[float, ...]) -> Preprocessing:
        """This, and behind it another scale and offset, each one number or one for each channel.

        Raises:
            ValueError: not so many numbers, or one that is not finite.
        """
        factors, terms = _for_channels(scale), _for_channels(offset)
        scales = tuple(own * factor for own, factor in zip(self.scale, factors, strict=True))
        offsets = tuple(own * factor + term for own, factor, term in zip(self.offset, factors, terms, strict=True))
        return Preprocessing(_for_channels(scales), _for_channels(offsets))

    def is_close(self, other: Preprocessing) -> bool:
        """Whether both are the same but for rounding to float32."""
        own, others = (*self.scale, *self.offset), (*other.scale, *other.offset)
        return all(
            math.isclose(a, b, rel_tol=RELATIVE_TOLERANCE, abs_tol=1e-9) for a, b in zip(own, others, strict=True)
        )

    def to_text(self) -> str:
        """JSON, for the metadata of a file."""
        return json.dumps({"scale": self.scale, "offset": self.offset})

    @classmethod
    def from_text(cls, text: str) -> Preprocessing:
        """What `to_text` wrote.

        Raises:
            ValueError: something else.
        """
        found = json.loads(text)
        if not isinstance(found, dict) or not all(isinstance(found.get(key), list) for key in ("scale", "offset")):
            raise ValueError("no scale and offset")
        numbers = (*found["scale"], *found["offset"])
        if not all(isinstance(number, (int, float)) for number in numbers):
            raise ValueError("scale and offset are not numbers")
        return cls().then(tuple(found["scale"]), tuple(found["offset"]))

    def __str__(self) -> str:
        return f"pixels * {_said(self.scale)} + {_said(self.offset)}"


def _for_channels(numbers: float | tuple[float, ...]) -> tuple[float, ...]:
    several = numbers if isinstance(numbers, tuple) else (numbers,)
    full = tuple(float(number) for number in (several * CHANNELS if len(several) == 1 else several))
    if len(full) != CHANNELS or not all(math.isfinite(number) for number in full):
        raise ValueError(f"{len(several)} numbers for {CHANNELS} channels, or one that is not finite")
    return full


def _said(numbers: tuple[float, ...]) -> str:
    return f"{numbers[0]:.6g}" if len(set(numbers)) == 1 else "(" + ", ".join(f"{one:.6g}" for one in numbers) + ")"
