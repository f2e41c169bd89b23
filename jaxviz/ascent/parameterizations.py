"""Parameterizations: what is optimised, and the image that it stands for.

A parameterization is a frozen dataclass, registered as a pytree, with two pure functions: `init(key)` gives the image
parameters of one image, `to_image(parameters)` the float32 image (height, width, channels) in model space. Where
`is_rgb`, `to_rgb(parameters)` gives the same image with values in [0, 1], which is the picture without further scaling.
Any size, odd and non-square, and any number of channels. Batches, replicas and views are made elsewhere, by vmap.

`Fourier` and `Maco` describe three decorrelated colour channels by their half spectrum, channels first: the layout of
`jnp.fft.rfft2`, with width // 2 + 1 frequencies. Their frequency and colour scales are those of Lucid (Olah et al.,
"Feature Visualization", Distill 2017; lucid/optvis/param/spatial.py and color.py). One thing differs: for an odd width
Lucid keeps one frequency more, makes an image one pixel wider and cuts it; here the inverse transform has the odd
width itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Float32, Key

from jaxviz.config import RenderConfig
from jaxviz.errors import ConfigError

Preprocess = Callable[[Any], Any]  # RGB in [0, 255], (..., 3) -> model space

# Lucid, color.py, color_correlation_svd_sqrt: a square root of the correlation of ImageNet's colours. Row: red, green,
# blue; column: brightness, blue against yellow, green against magenta.
COLOUR_ROOT = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
COLOUR_MATRIX = COLOUR_ROOT / np.linalg.norm(COLOUR_ROOT, axis=0).max()  # as there: the longest column has length 1
FOURIER_SD = 0.01  # Lucid, spatial.py, fft_image: standard deviation of the parameters at the start
FOURIER_DIVISOR = 4.0  # Lucid, spatial.py, fft_image: what the image is divided by; a constant without explanation
MACO_SD = 1.0  # Xplique, preconditioning.py, init_maco_buffer: standard deviation of the phases at the start
STD_EPSILON = 1e-5  # Xplique, preconditioning.py, maco_image_parametrization: added to each standard deviation
SMALLEST_VARIANCE = 1e-12  # ours: the square root has no gradient at 0; below STD_EPSILON squared


@runtime_checkable
class Parameterization(Protocol):
    """What every parameterization has; one with `is_rgb` has `to_rgb` and `preprocess` too."""

    name: ClassVar[str]
    is_rgb: ClassVar[bool]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""

    @property
    def channels(self) -> int:
        """Channels of the image: 3 is RGB, 1 grey."""

    def init(self, key: Key[Array, ""]) -> Any:
        """The parameters that one image starts with."""

    def to_image(self, parameters: Any) -> Float[Array, "height width channels"]:
        """The image in model space."""


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["size", "initial_range", "channels"])
@dataclass(frozen=True)
class Pixel:
    """The pixels themselves, in model space, starting uniform in [-initial_range, initial_range)."""

    size: tuple[int, int]
    initial_range: float
    channels: int = 3
    name: ClassVar[str] = "pixel"
    is_rgb: ClassVar[bool] = False

    @classmethod
    def of(cls, config: RenderConfig, preprocess: Preprocess, channels: int) -> Pixel:  # noqa: ARG003
        """As configured; in model space already."""
        return cls(config.size, config.initial_range, channels)

    def init(self, key: Key[Array, ""]) -> Float[Array, "height width channels"]:
        """Uniform noise."""
        low, high = -self.initial_range, self.initial_range
        return jax.random.uniform(key, (*self.size, self.channels), jnp.float32, minval=low, maxval=high)

    def to_image(self, parameters: Float[Array, "height width channels"]) -> Float[Array, "height width channels"]:
        """The image is its parameters."""
        return parameters


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[],
    meta_fields=["size", "preprocess", "decay_power", "sd", "channels"],
)
@dataclass(frozen=True)
class Fourier:
    """A spectrum scaled like that of natural images, in decorrelated colours, squashed to RGB (Lucid's fft_image).

    The parameters are the real and the imaginary parts. What they are multiplied by falls with the frequency f (cycles
    per pixel) as 1 / max(f, 1 / max(height, width)) ** decay_power, so that a step of equal size in all of them changes
    coarse structure most; the sigmoid keeps every colour valid.
    """

    size: tuple[int, int]
    preprocess: Preprocess
    decay_power: float = 1.0
    sd: float = FOURIER_SD
    channels: int = 3
    name: ClassVar[str] = "fourier"
    is_rgb: ClassVar[bool] = True

    @classmethod
    def of(cls, config: RenderConfig, preprocess: Preprocess, channels: int) -> Fourier:
        """As configured."""
        return cls(config.size, preprocess, channels=channels)

    def init(self, key: Key[Array, ""]) -> Float[Array, "2 channels height frequencies"]:
        """Normal noise; the image starts nearly grey."""
        return self.sd * jax.random.normal(key, (2, self.channels, *_spectrum_size(self.size)), jnp.float32)

    def to_rgb(
        self, parameters: Float[Array, "2 channels height frequencies"]
    ) -> Float[Array, "height width channels"]:
        """The image as RGB in [0, 1]."""
        height, width = self.size
        scale = np.sqrt(width * height) * _inverse_frequencies(self.size) ** self.decay_power / FOURIER_DIVISOR
        real, imaginary = parameters * scale.astype(np.float32)[None, None]
        return _to_valid_rgb(_inverse_rfft2(real, imaginary, self.size))

    def to_image(
        self, parameters: Float[Array, "2 channels height frequencies"]
    ) -> Float[Array, "height width channels"]:
        """The image in model space."""
        return _to_model_space(self.to_rgb(parameters), self.preprocess)


@partial(jax.tree_util.register_dataclass, data_fields=["magnitude"], meta_fields=["size", "preprocess", "channels"])
@dataclass(frozen=True)
class Maco:
    """The magnitudes of natural images' spectra, fixed, and the phases, which are optimised.

    Source: MaCo (Fel et al. 2023, arXiv:2306.06805), in the form that its authors' code has (Xplique,
    preconditioning.py, maco_image_parametrization): the phases are standardised, then the image is, over all channels.
    With the spread of the phases held at 1, the larger the parameters have grown the less a step turns them. That
    spread is one budget for all frequencies, and a photograph's important ones can take what they need of it: one with
    this spectrum and contrast was fitted to a mean error of 0.003 in RGB (96 px, 1,500 steps), though its own phases
    have the standard deviation 1.8.

    magnitude: of the decorrelated channels, in the layout of `np.fft.rfft2(channels, axes=(0, 1))`; only its shape
    over the frequencies counts, because the image is standardised. None: the 1/f law of natural images, 0 at frequency
    0, the same for the three channels. It is the same because Lucid's colour matrix is a square root A of natural
    images' colour covariance A A^T: channels that it maps to such colours have equal variance, and the lengths of its
    columns (1 : 0.28 : 0.13) carry the spread of brightness and of the two colour contrasts. The authors use the mean
    spectrum of ImageNet; 1/f is our choice, since it needs no data.
    """

    size: tuple[int, int]
    preprocess: Preprocess
    magnitude: Any = None  # Float[Array, "height frequencies 3"] | None; not checked here, where JAX puts other leaves
    channels: int = 3
    name: ClassVar[str] = "maco"
    is_rgb: ClassVar[bool] = True

    @classmethod
    def of(cls, config: RenderConfig, preprocess: Preprocess, channels: int) -> Maco:
        """As configured."""
        return cls(config.size, preprocess, channels=channels)

    def init(self, key: Key[Array, ""]) -> Float[Array, "channels height frequencies"]:
        """Normal noise, in radians."""
        return MACO_SD * jax.random.normal(key, (self.channels, *_spectrum_size(self.size)), jnp.float32)

    def to_rgb(self, parameters: Float[Array, "channels height frequencies"]) -> Float[Array, "height width channels"]:
        """The image as RGB in [0, 1].

        Raises:
            ConfigError: `magnitude` has another shape than the size asks for.
        """
        phase, magnitude = _standardise(parameters), self._magnitude()
        real, imaginary = magnitude * jnp.cos(phase), magnitude * jnp.sin(phase)
        return _to_valid_rgb(_standardise(_inverse_rfft2(real, imaginary, self.size)))

    def to_image(
        self, parameters: Float[Array, "channels height frequencies"]
    ) -> Float[Array, "height width channels"]:
        """The image in model space."""
        return _to_model_space(self.to_rgb(parameters), self.preprocess)

    def _magnitude(self) -> Float[Array, "channels height frequencies"]:
        if self.magnitude is None:
            law = _inverse_frequencies(self.size)
            law[0, 0] = 0.0
            return jnp.asarray(law[None], jnp.float32)
        expected = (*_spectrum_size(self.size), self.channels)
        if jnp.shape(self.magnitude) != expected:
            raise ConfigError(
                f"magnitude has the shape {jnp.shape(self.magnitude)}, but size {self.size} needs {expected}: height, "
                f"width // 2 + 1, {self.channels}. Make it with np.abs(np.fft.rfft2(channels, axes=(0, 1))), or leave "
                "it out"
            )
        return jnp.moveaxis(jnp.asarray(self.magnitude, jnp.float32), -1, 0)


PARAMETERIZATIONS: dict[str, type[Pixel | Fourier | Maco]] = {kind.name: kind for kind in (Pixel, Fourier, Maco)}


def make_parameterization(config: RenderConfig, preprocess: Preprocess, channels: int = 3) -> Parameterization:
    """What a configuration optimises, for a network that takes images of so many channels."""
    kind = PARAMETERIZATIONS[config.parameterization]
    return kind.of(config, preprocess, channels)


def _spectrum_size(size: tuple[int, int]) -> tuple[int, int]:
    height, width = size
    return height, width // 2 + 1


def _inverse_frequencies(size: tuple[int, int]) -> Float[np.ndarray, "height frequencies"]:
    """1 / frequency in pixels per cycle; at frequency 0 and below one cycle per image, the longer side."""
    height, width = size
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    inverse: np.ndarray = 1.0 / np.maximum(frequencies, 1.0 / max(height, width))
    return inverse


def _inverse_rfft2(
    real: Float[Array, "channels height frequencies"],
    imaginary: Float[Array, "channels height frequencies"],
    size: tuple[int, int],
) -> Float[Array, "channels height width"]:
    """NumPy's irfft2 of a spectrum, as two matrix products: down the columns, then along the rows.

    No library's FFT, because the place of an image in the batch must not show: jaxlib 0.12's on a CPU gives an image
    other last bits by it. Parameters need not agree where a half spectrum holds a value twice (frequencies 0 and
    width / 2 along x, at y and -y); the real part, which is all that is computed, is then that of their mean, as in
    NumPy and unlike in cuFFT.
    """
    height = size[0]
    # The barrier keeps XLA from transposing them while it compiles, which takes seconds for a large image.
    down, across = lax.optimization_barrier(_wave_matrices(size))
    product = partial(jnp.einsum, precision=lax.Precision.HIGHEST)
    columns = product("yk,ckf->cyf", down, jnp.concatenate([real, imaginary], axis=1))
    parts = jnp.concatenate([columns[:, :height], columns[:, height:]], axis=2)
    rows: Array = product("cyf,fx->cyx", parts, across)
    return rows


def _wave_matrices(
    size: tuple[int, int],
) -> tuple[Float32[np.ndarray, "columns columns"], Float32[np.ndarray, "rows width"]]:
    """The products' matrices, (2 height, 2 height) and (2 frequencies, width): real parts first, then imaginary."""
    height, width = size
    frequencies = width // 2 + 1
    (cos_y, sin_y), (cos_x, sin_x) = _waves(height), _waves(width)
    down = np.block([[cos_y, -sin_y], [sin_y, cos_y]]) / height
    twice = np.full((frequencies, 1), 2.0)  # a wave and its conjugate, which a half spectrum leaves out
    twice[0] = 1.0
    twice[(width + 1) // 2 :] = 1.0  # frequency width / 2, where there is one
    across = np.concatenate([twice * cos_x[:frequencies], -twice * sin_x[:frequencies]]) / width
    return down.astype(np.float32), across.astype(np.float32)


def _waves(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of every frequency (row) at every place (column)."""
    places = np.arange(length)
    angles = np.outer(places, places) % length * (2 * np.pi / length)  # whole turns drop out before rounding
    return np.cos(angles), np.sin(angles)


def _standardise(x: Float[Array, "channels rows columns"]) -> Float[Array, "channels rows columns"]:
    """Mean 0 and standard deviation 1 over everything."""
    centred = x - x.mean()
    std = jnp.sqrt(jnp.maximum((centred * centred).mean(), SMALLEST_VARIANCE))
    return centred / (std + STD_EPSILON)


def _to_valid_rgb(channels: Float[Array, "channels height width"]) -> Float[Array, "height width channels"]:
    """Decorrelated channels -> colours -> sigmoid, on whole planes: as a product with a 3 x 3 matrix it is slow.

    Of how other than three channels go together nothing is known: they stay as they are.
    """
    if channels.shape[0] != COLOUR_MATRIX.shape[0]:
        return jnp.moveaxis(jax.nn.sigmoid(channels), 0, -1)
    planes = [sum(float(weight) * channels[i] for i, weight in enumerate(row)) for row in COLOUR_MATRIX]
    return jnp.moveaxis(jax.nn.sigmoid(jnp.stack(planes)), 0, -1)


def _to_model_space(
    rgb: Float[Array, "height width channels"], preprocess: Preprocess
) -> Float[Array, "height width channels"]:
    image: Array = preprocess(255.0 * rgb)
    return image.astype(jnp.float32)
