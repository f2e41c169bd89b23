"""What a picture looks like, in numbers: how fine, how directed, how colourful, how repetitive it is, and which hue.

A picture is uint8 RGB, (height, width, 3). Every measure is a function of one picture; None where the picture has
nothing to measure (one colour, or too few pixels). `measure_picture` gives them all, `measure_layer` those of a
layer's pictures, and `layer_rows` their medians and quartiles as a table. All of them are the same for a
picture that is mirrored or turned by 90 degrees, except that the hue and the colourfulness look at colours only.
NumPy; no jax.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Complex, Float, UInt8
from PIL import Image

from jaxviz.pictures.repetition import self_repetition
from jaxviz.store.catalogue import LayerPictures

HIGH_FREQUENCY = 0.25  # cycles per pixel: half of what a pixel grid can hold
GREY_LEVELS = 1.0  # a mean chroma below this, of 255, is called grey


@dataclass(frozen=True)
class PictureMeasures:
    """The measures of one picture; each is explained where it is computed."""

    frequency: float | None
    wavelength: float | None
    high_frequency_share: float
    orientation: float | None
    colourfulness: float
    repetition: float | None
    hue: float | None


@dataclass(frozen=True)
class Row:
    """A measured value of a layer: over `count` of its pictures, None where no picture has it.

    `key` names it in JSON, `label` and `unit` for people; `lower` and `upper` are the quartiles, None where the value
    belongs to the layer and not to its pictures.
    """

    key: str
    label: str
    unit: str
    median: float | None
    lower: float | None
    upper: float | None
    count: int


# Of each picture: field, label, unit.
MEASURED = (
    ("wavelength", "dominant wavelength", "px"),
    ("frequency", "dominant frequency", "cycles/px"),
    ("high_frequency_share", "energy in waves below 4 px", "0 to 1"),
    ("orientation", "one orientation", "0 to 1"),
    ("repetition", "self-repetition", "0 to 1"),
    ("colourfulness", "colourfulness", "0 grey, 82 high"),
)


def measure_picture(picture: UInt8[np.ndarray, "height width 3"]) -> PictureMeasures:
    """All measures of one picture."""
    energy = _energy(picture)
    frequency = _dominant_frequency(energy, picture)
    return PictureMeasures(
        frequency=frequency,
        wavelength=None if frequency is None else 1 / frequency,
        high_frequency_share=_high_frequency_share(energy, picture),
        orientation=_orientation_strength(energy, picture),
        colourfulness=colourfulness(picture),
        repetition=self_repetition(picture),
        hue=mean_hue(picture),
    )


def measure_layer(
    layer: LayerPictures, *, progress: Callable[[], None] = lambda: None
) -> tuple[PictureMeasures | None, ...]:
    """The measures of each of the layer's tiles, in their order; None for a placeholder, which is no picture.

    `progress` is called before each; a picture of 130 px takes 10 to 20 ms.

    Raises:
        StorageError: a picture has gone since the folder was read.
    """
    measured = []
    for tile in layer.tiles:
        progress()
        measured.append(measure_picture(tile.read()) if tile.status == "ok" else None)
    return tuple(measured)


def layer_rows(layer: LayerPictures, measured: Sequence[PictureMeasures | None] | None = None) -> tuple[Row, ...]:
    """What was measured of a layer: one row for each measure, then for scores and for what was judged.

    Args:
        layer: its pictures; only those of status `ok` count.
        measured: the answer of `measure_layer`, where it is known already.

    The rows are the same, in the same order, for every layer, so that layers can stand side by side.
    """
    found = [one for one in (measure_layer(layer) if measured is None else measured) if one is not None]
    good = [tile for tile in layer.tiles if tile.status == "ok"]
    scores = [tile.score for tile in good]
    spread = score_spread(scores)
    return (
        *(_row(key, label, unit, [getattr(one, key) for one in found]) for key, label, unit in MEASURED),
        _row("score", "score", "", scores),
        Row("score_spread", "score spread", "IQR / median", spread, None, None, len(scores)),
        _row("percentile", "percentile beside natural images", "0 to 100", [tile.percentile for tile in good]),
        _row("rank", "rank of the own filter", "from 1", [tile.rank for tile in good]),
    )


def dominant_frequency(picture: UInt8[np.ndarray, "height width 3"]) -> float | None:
    """The energy-weighted median spatial frequency, in cycles per pixel: above 0, at most 0.71.

    Half of the picture's energy lies in waves longer than 1 / f px, half in shorter ones. The median and not the mean,
    because a little noise at high frequencies does not move it and its inverse is the median wavelength; and not the
    peak, because a peak jumps when two are about as high. Energy: |FFT|^2 over all three channels, so that stripes of
    equal brightness count, after each channel's mean was taken off, under a Hann window, so that the jump from edge to
    edge does not count. A wave longer than the picture cannot be told from one as long as it.
    None for a picture of one colour.
    """
    return _dominant_frequency(_energy(picture), picture)


def high_frequency_share(picture: UInt8[np.ndarray, "height width 3"], *, side_px: int | None = None) -> float:
    """Share of a picture's energy above 0.25 cycles per pixel, in waves shorter than 4 px: 0 to 1; 0 for one colour.

    The energy is that of `dominant_frequency`. With `side_px` the picture is brought to a square of that side first, so
    that pictures of several sizes share one scale: waves per picture instead of per pixel.
    """
    if side_px is not None:
        picture = np.asarray(Image.fromarray(picture).resize((side_px, side_px), Image.Resampling.LANCZOS))
    return _high_frequency_share(_energy(picture), picture)


def orientation_strength(picture: UInt8[np.ndarray, "height width 3"]) -> float | None:
    """How much of the energy runs in one direction: 1 for parallel stripes, 0 where no direction is preferred.

    |sum of E exp(2i angle)| / sum of E over the spectrum's cells, E the energy as in `dominant_frequency`: what the
    coherence of Bigün and Granlund's structure tensor (1987) is to gradients, with every wave counted by its energy
    and not by its steepness. None for a picture of one colour.
    """
    return _orientation_strength(_energy(picture), picture)


def colourfulness(picture: UInt8[np.ndarray, "height width 3"]) -> float:
    """Hasler and Süsstrunk's colourfulness M: 0 for grey, about 15 slightly, 45 averagely, 82 highly colourful.

    With rg = R - G and yb = (R + G) / 2 - B in levels of 255, m their means and v their variances over the pixels:
    M = sqrt(v_rg + v_yb) + 0.3 sqrt(m_rg^2 + m_yb^2). Source: Hasler and Süsstrunk, "Measuring colorfulness in natural
    images", SPIE 5007 (2003).
    """
    red, green, blue = np.moveaxis(picture.astype(np.float64), -1, 0)
    rg, yb = red - green, (red + green) / 2 - blue
    return float(math.sqrt(rg.var() + yb.var()) + 0.3 * math.hypot(rg.mean(), yb.mean()))


def mean_hue(picture: UInt8[np.ndarray, "height width 3"]) -> float | None:
    """The mean hue of the pixels, each weighted by its chroma: degrees in [0, 360), 0 red, 120 green, 240 blue.

    The angle of the mean of (R - (G + B) / 2, sqrt(3) / 2 (G - B)), the pixels' places on the colour hexagon's plane.
    None where that mean is shorter than one level of 255: for grey, and where the colours cancel out.
    """
    red, green, blue = picture.reshape(-1, 3).mean(axis=0, dtype=np.float64)
    along, across = red - (green + blue) / 2, math.sqrt(3) / 2 * (green - blue)
    if math.hypot(along, across) < GREY_LEVELS:
        return None
    return math.degrees(math.atan2(across, along)) % 360


def score_spread(scores: Sequence[float]) -> float | None:
    """How far a layer's filters lie apart: interquartile range of their scores / |median|, from 0 (all alike).

    None for fewer than two finite scores, or where the median is 0.
    """
    finite = [score for score in scores if math.isfinite(score)]
    if len(finite) < 2:
        return None
    lower, median, upper = np.percentile(finite, (25, 50, 75))
    return float((upper - lower) / abs(median)) if median else None


def _row(key: str, label: str, unit: str, values: Sequence[float | None]) -> Row:
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return Row(key, label, unit, None, None, None, 0)
    lower, median, upper = (float(value) for value in np.percentile(known, (25, 50, 75)))
    return Row(key, label, unit, median, lower, upper, len(known))


def _dominant_frequency(energy: np.ndarray, picture: np.ndarray) -> float | None:
    total = energy.sum()
    if total <= 0:
        return None
    radii, ring = _rings(*picture.shape[:2])
    cumulated = np.cumsum(np.bincount(ring, weights=energy.ravel(), minlength=len(radii))) / total
    return float(np.interp(0.5, cumulated[1:], radii[1:]))  # the first ring is the mean, without energy


def _high_frequency_share(energy: np.ndarray, picture: np.ndarray) -> float:
    high = np.abs(_waves(*picture.shape[:2])) > HIGH_FREQUENCY
    return float(energy[high].sum() / max(energy.sum(), np.finfo(float).tiny))


def _orientation_strength(energy: np.ndarray, picture: np.ndarray) -> float | None:
    total = energy.sum()
    if total <= 0:
        return None
    return float(abs((energy * _double_angles(*picture.shape[:2])).sum()) / total)


def _energy(picture: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "height half_width"]:
    """|FFT|^2 of all channels together: mean taken off, under a Hann window; exactly 0 at frequency 0.

    Half of the waves across: a real picture's other half is its mirror, and added to it.
    """
    height, width = picture.shape[:2]
    window = _hann(height)[:, None] * _hann(width)[None, :]
    channels = np.moveaxis(picture, 2, 0).astype(np.float64)
    flat = channels.min(axis=(1, 2)) == channels.max(axis=(1, 2))  # of one level, where only rounding would be left
    channels -= (channels * window).sum(axis=(1, 2), keepdims=True) / window.sum()  # nothing is left under the window
    channels[flat] = 0.0
    spectrum = np.fft.rfft2(channels * window)
    energy: np.ndarray = (spectrum.real**2 + spectrum.imag**2).sum(axis=0)
    energy[:, 1 : (width + 1) // 2] *= 2  # all but wave 0 and, at an even width, the shortest: their own mirrors
    energy[0, 0] = 0.0
    return energy


def _hann(length: int) -> Float[np.ndarray, " length"]:
    """A Hann window without the zeros at its ends, which would leave nothing of two pixels."""
    window: np.ndarray = np.hanning(length + 2)[1:-1]
    return window


@lru_cache(maxsize=8)
def _waves(height: int, width: int) -> Complex[np.ndarray, "height half_width"]:
    """The frequency of each cell of `_energy`, in cycles per pixel: across + i down."""
    waves: np.ndarray = np.fft.rfftfreq(width)[None, :] + 1j * np.fft.fftfreq(height)[:, None]
    return waves


@lru_cache(maxsize=8)
def _double_angles(height: int, width: int) -> Complex[np.ndarray, "height half_width"]:
    """exp(2i angle) of each cell of `_energy`."""
    waves = _waves(height, width)
    turns: np.ndarray = waves**2 / np.maximum(np.abs(waves) ** 2, np.finfo(float).tiny)
    if height % 2 == 0:
        turns[height // 2] = turns[height // 2].real  # the shortest wave down stands for that up, too
    return turns


@lru_cache(maxsize=8)
def _rings(height: int, width: int) -> tuple[Float[np.ndarray, " rings"], np.ndarray]:
    """The distances from frequency 0 that occur, ascending, in cycles per pixel, and for each cell which it has."""
    radii, ring = np.unique(np.abs(_waves(height, width)).round(12), return_inverse=True)
    return radii, ring.ravel()
