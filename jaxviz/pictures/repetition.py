"""How much a picture repeats itself: `self_repetition`, from its autocorrelation. NumPy; no jax."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

SMALLEST_PX = 16  # below, noise looks like repetition
LARGEST_SHIFT_PX = 80  # a pattern that repeats farther apart is not found
STEPS_PER_LOOK = 8  # before it is asked whether anything still changes
LEAST_VARIANCE = 0.5  # of the whole picture's: so that two empty corners do not pass for a likeness


def self_repetition(picture: UInt8[np.ndarray, "height width 3"]) -> float | None:
    """How much the picture is like itself, shifted: 1 for a tiling, near 0 for white noise, one blob, one edge, a ramp.

    The height of the most prominent peak of the autocorrelation beside the one at shift 0: of all peaks, the largest
    difference between the correlation at the peak and at the highest pass that leads from it to shift 0, no pass being
    lower than 0. So a ridge that starts at shift 0, such as a single edge makes, is no repetition, however long.
    The correlation at a shift is Pearson's between the two overlapping parts, all channels together; shifts reach
    to half of each side, `LARGEST_SHIFT_PX` at most. White noise gives about 4 / sqrt(height * width / 4), since the
    highest of many chance likenesses is taken: 0.06 at 130 px. None below `SMALLEST_PX` and for one colour.
    """
    if min(picture.shape[:2]) < SMALLEST_PX or (picture == picture[:1, :1]).all():
        return None
    correlation = autocorrelation(picture)
    rises = correlation - np.maximum(_highest_passes(correlation), 0.0)
    return float(np.clip(rises, 0.0, 1.0).max())


def autocorrelation(picture: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "down across"]:
    """Pearson's correlation of a picture with itself for each shift, in [-1, 1]: row `dy`, column `dx + largest dx`.

    Shifts upwards are those downwards, mirrored, and left out. Means and variances are those of the overlapping parts
    (Lewis, "Fast normalized cross-correlation", 1995), a part's variance not below `LEAST_VARIANCE` of the picture's.
    """
    height, width = picture.shape[:2]
    down, across = min(height // 2, LARGEST_SHIFT_PX), min(width // 2, LARGEST_SHIFT_PX)
    channels = np.moveaxis(picture, 2, 0).astype(np.float64)
    channels -= channels.mean(axis=(1, 2), keepdims=True)
    squares = (channels**2).sum(axis=0)
    padded = (height + down, width + across)
    spectrum = np.fft.rfft2(channels, padded)
    products = np.fft.irfft2((spectrum.real**2 + spectrum.imag**2).sum(axis=0), padded)[: down + 1]
    products = np.concatenate([products[:, -across:], products[:, : across + 1]], axis=1)
    cells = np.arange(height, height - down - 1, -1)[:, None] * (width - np.abs(np.arange(-across, across + 1)))
    lower, upper = _sums_of_parts(np.concatenate([channels, squares[None]]), down, across)
    covariance = products - (lower[:3] * upper[:3]).sum(axis=0) / cells
    least = LEAST_VARIANCE * squares.mean() * cells
    energies = [np.maximum(part[3] - (part[:3] ** 2).sum(axis=0) / cells, least) for part in (lower, upper)]
    result: np.ndarray = np.clip(covariance / np.sqrt(energies[0] * energies[1]), -1.0, 1.0)
    return result


def _sums_of_parts(planes: np.ndarray, down: int, across: int) -> tuple[np.ndarray, np.ndarray]:
    """Each plane's sums over the two parts that overlap at a shift, for each shift.

    One part is the lower rows and, for a shift to the right, the right columns; the other part the opposite ones.
    """
    height, width = planes.shape[1:]
    table = np.pad(planes.cumsum(axis=1).cumsum(axis=2), ((0, 0), (1, 0), (1, 0)))  # over all above and to the left
    low = table[:, height:] - table[:, : down + 1]
    high = table[:, height : height - down - 1 : -1] - table[:, :1]
    ends, starts = slice(width - across, width), slice(0, across + 1)  # of the columns: 0 to ends, starts to width
    lower = np.concatenate([low[..., ends] - low[..., :1], low[..., width:] - low[..., starts]], axis=2)
    to_ends, from_starts = high[..., ends] - high[..., :1], high[..., width:] - high[..., starts]
    upper = np.concatenate([from_starts[..., ::-1], to_ends[..., ::-1]], axis=2)
    return lower, upper


def _highest_passes(heights: Float[np.ndarray, "down across"]) -> Float[np.ndarray, "down across"]:
    """For each shift the lowest correlation met on the way from shift 0, on the way where that is highest.

    Greyscale reconstruction by dilation: again and again a cell becomes as high as its highest neighbour, but never
    higher than its own correlation, until nothing changes.
    """
    rows, columns = heights.shape
    ground = heights.astype(np.float32)
    framed = np.full((rows + 2, columns + 2), -1.0, np.float32)  # a frame of neighbours for the cells at the edges
    passes = framed[1:-1, 1:-1]
    passes[0, columns // 2] = ground[0, columns // 2]
    tall = np.empty((rows, columns + 2), np.float32)
    before = np.empty_like(ground)
    while not np.array_equal(before, passes):
        before[:] = passes
        for _ in range(STEPS_PER_LOOK):
            framed[0] = framed[2, ::-1]  # shifts upwards are those downwards, mirrored
            np.maximum(framed[:-2], framed[2:], out=tall)
            np.maximum(tall, framed[1:-1], out=tall)
            np.maximum(tall[:, :-2], tall[:, 2:], out=passes)
            np.maximum(passes, tall[:, 1:-1], out=passes)
            np.minimum(passes, ground, out=passes)
    return passes
