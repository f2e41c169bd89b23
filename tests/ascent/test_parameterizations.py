"""Parameterizations: pixels as they were, spectra against NumPy, colours, gradients, and that each can fit an image."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxviz.ascent.optimizers import make_optimizer
from jaxviz.ascent.parameterizations import COLOUR_MATRIX, Fourier, Maco, Pixel, _inverse_rfft2
from jaxviz.errors import ConfigError

SIZES = [(24, 20), (17, 23), (15, 8), (1, 2), (5, 1)]  # height, width: even, odd, one of each, the smallest
LARGEST_BATCH = 8
ROUNDING = 2e-6  # RGB in [0, 1]: float32 products, exp and sigmoid against float64; seen: 4e-7
GRADIENT_ROUNDING = 1e-5  # relative to the largest entry, the same
FIT = 0.01  # mean absolute error in RGB that counts as fitted; the targets' own spread is 0.1 and more
ASCENT_STEPS = 10


def preprocess(rgb):
    return rgb / 127.5 - 1.0


def numpy_colours(channels):
    """(height, width, 3) decorrelated -> RGB, as Lucid's color.py says."""
    root = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
    matrix = root / np.max(np.linalg.norm(root, axis=0))
    return 1 / (1 + np.exp(-(channels @ matrix.T)))


def numpy_frequencies(size):
    height, width = size
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[: width // 2 + 1]
    return np.sqrt(fx * fx + fy * fy)


def numpy_fourier(parameters, size, decay_power):
    """Lucid's fft_image in float64, with a whole odd width."""
    height, width = size
    scale = np.sqrt(width * height) / np.maximum(numpy_frequencies(size), 1 / max(width, height)) ** decay_power
    real, imaginary = np.asarray(parameters, np.float64)
    channels = np.fft.irfft2(scale * (real + 1j * imaginary), s=size) / 4
    return numpy_colours(np.moveaxis(channels, 0, -1))


def numpy_maco(phase, size, magnitude):
    """Xplique's maco_image_parametrization in float64; magnitude (height, frequencies, 3)."""
    phase = np.moveaxis(np.asarray(phase, np.float64), 0, -1)
    phase = (phase - phase.mean()) / (phase.std() + 1e-5)
    channels = np.fft.irfft2(magnitude * np.exp(1j * phase), s=size, axes=(0, 1))
    return numpy_colours((channels - channels.mean()) / (channels.std() + 1e-5))


def one_over_f(size):
    magnitude = 1 / np.maximum(numpy_frequencies(size), 1 / max(size))
    magnitude[0, 0] = 0
    return np.repeat(magnitude[..., None], 3, axis=-1)


def photograph(size):
    """Something with edges, shading and colour: a bright disc and a bar over a gradient; RGB in [0, 1]."""
    y, x = np.mgrid[: size[0], : size[1]] / np.array(size).reshape(2, 1, 1)
    red, green, blue = 0.3 + 0.4 * x, 0.6 - 0.3 * y, 0.4 + 0.2 * x * y
    disc, bar = (y - 0.4) ** 2 + (x - 0.35) ** 2 < 0.06, (x > 0.6) & (x < 0.75)
    image = np.stack([np.where(disc, 0.85, red), np.where(disc, 0.7, green), np.where(bar, 0.15, blue)], axis=-1)
    return image.astype(np.float32)


def fit(parameterization, start, target, *, steps, step_size):
    """RGB after Adam on the squared distance to the target, with steps that shrink to 0."""
    adam = make_optimizer("adam")

    def step(carry, progress):
        parameters, state = carry
        gradient = jax.grad(lambda p: -jnp.square(parameterization.to_rgb(p) - target).sum())(parameters)
        update, state = adam.update(gradient, state)
        return (parameters + step_size * (1 - progress) * update, state), None

    run = jax.jit(lambda carry: jax.lax.scan(step, carry, jnp.linspace(0, 1, steps)))
    (parameters, _), _ = run((start, adam.init(start)))
    return rgb_of(parameterization, parameters)


def draw(parameterization, seed=0):
    """Parameters as `init` draws them; by NumPy, whose generator need not be compiled."""
    shape = jax.eval_shape(parameterization.init, jax.random.key(0)).shape
    sd = {"pixel": 0.07, "fourier": 0.01, "maco": 1.0}[parameterization.name]
    return jnp.asarray(np.random.default_rng(seed).normal(0, sd, shape), jnp.float32)


def rgb_of(parameterization, parameters):
    return np.asarray(jax.jit(parameterization.to_rgb)(parameters))


def make(name, size):
    kinds = {"pixel": Pixel(size, 0.125), "fourier": Fourier(size, preprocess), "maco": Maco(size, preprocess)}
    return kinds[name]


def test_pixel_start_is_the_uniform_draw_of_the_key():
    key = jax.random.key(3, impl="threefry2x32")
    expected = jax.random.uniform(key, (9, 7, 3), minval=-0.125, maxval=0.125)
    np.testing.assert_array_equal(Pixel((9, 7), 0.125).init(key), expected)


def test_pixel_image_is_its_parameters():
    x = jnp.arange(12.0).reshape(2, 2, 3)
    np.testing.assert_array_equal(Pixel((2, 2), 0.125).to_image(x), x)


@pytest.mark.parametrize("name", ["fourier", "maco"])
def test_rgb_is_in_range_and_the_image_is_it_preprocessed(name):
    parameterization = make(name, (17, 23))
    parameters = 5 * draw(parameterization)
    rgb = rgb_of(parameterization, parameters)
    assert rgb.min() >= 0
    assert rgb.max() <= 1
    image = jax.jit(parameterization.to_image)(parameters)
    np.testing.assert_allclose(image, preprocess(255 * rgb), atol=ROUNDING)


@pytest.mark.parametrize(("size", "decay_power"), [*((size, 1.0) for size in SIZES), ((17, 23), 1.5)])
def test_fourier_is_lucids_formula(size, decay_power):
    parameterization = Fourier(size, preprocess, decay_power)
    parameters = 20 * draw(parameterization)  # far from grey
    rgb = rgb_of(parameterization, parameters)
    assert rgb.dtype == np.float32
    np.testing.assert_allclose(rgb, numpy_fourier(parameters, size, decay_power), atol=ROUNDING)


@pytest.mark.parametrize(("name", "sd"), [("pixel", 0.125 / np.sqrt(3)), ("fourier", 0.01), ("maco", 1.0)])
def test_start_is_finite_float32_of_its_standard_deviation(name, sd):
    start = jax.jit(make(name, (64, 63)).init)(jax.random.key(0))
    assert start.dtype == jnp.float32
    assert start.std() == pytest.approx(sd, rel=0.05)  # of 6,144 draws or more: sd of the sd below 1 %


def test_fourier_start_is_nearly_grey():
    parameterization = Fourier((64, 64), preprocess)
    rgb = rgb_of(parameterization, draw(parameterization))
    assert abs(rgb.mean() - 0.5) < 0.01
    assert 0.001 < rgb.std() < 0.05


@pytest.mark.parametrize("size", SIZES)
def test_maco_is_xpliques_formula(size):
    parameterization = Maco(size, preprocess)
    phase = draw(parameterization)
    rgb = rgb_of(parameterization, phase)
    assert rgb.dtype == np.float32
    np.testing.assert_allclose(rgb, numpy_maco(phase, size, one_over_f(size)), atol=ROUNDING)


def test_maco_takes_a_magnitude_in_the_layout_of_rfft2():
    size = (17, 23)
    magnitude = np.abs(np.fft.rfft2(np.random.default_rng(0).normal(size=(*size, 3)), axes=(0, 1)))
    parameterization = Maco(size, preprocess, jnp.asarray(magnitude, jnp.float32))
    phase = draw(parameterization)
    np.testing.assert_allclose(rgb_of(parameterization, phase), numpy_maco(phase, size, magnitude), atol=ROUNDING)


def test_maco_magnitude_of_another_size_is_an_error_that_says_which_is_needed():
    parameterization = Maco((8, 9), preprocess, jnp.ones((8, 9, 3)))
    with pytest.raises(ConfigError, match=r"\(8, 9, 3\).*\(8, 9\) needs \(8, 5, 3\)"):
        parameterization.to_rgb(jnp.zeros((3, 8, 5)))


def test_maco_does_not_depend_on_the_scale_of_phase_and_magnitude():
    size = (16, 12)
    plain, phase = Maco(size, preprocess), draw(Maco(size, preprocess))
    one = rgb_of(plain, phase)
    scaled = rgb_of(Maco(size, preprocess, jnp.asarray(100 * one_over_f(size), jnp.float32)), 50 * phase + 3)
    np.testing.assert_allclose(scaled, one, atol=1e-4)  # STD_EPSILON, against deviations of about 0.1


@pytest.mark.parametrize("name", ["fourier", "maco"])
def test_gradient_is_that_of_finite_differences(name):
    """Along random directions, in the NumPy references' float64."""
    size = (17, 22)
    parameterization = make(name, size)
    parameters = draw(parameterization)
    weight = np.random.default_rng(0).normal(size=(*size, 3)).astype(np.float32)
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(parameterization.to_rgb(p) * weight)))(parameters)
    for seed in range(3):
        direction = np.random.default_rng(seed + 1).normal(size=parameters.shape)

        def along(t, direction=direction):
            moved = np.asarray(parameters, np.float64) + t * direction
            rgb = numpy_fourier(moved, size, 1.0) if name == "fourier" else numpy_maco(moved, size, one_over_f(size))
            return np.sum(rgb * weight)

        slope = (along(1e-5) - along(-1e-5)) / 2e-5
        largest = np.abs(gradient).max() * np.sqrt(direction.size)
        assert abs(np.sum(gradient * direction) - slope) < GRADIENT_ROUNDING * largest, seed


@pytest.mark.parametrize("name", ["fourier", "maco"])
def test_gradient_is_finite_where_nothing_varies(name):
    parameterization = make(name, (1, 1))
    gradient = jax.jit(jax.grad(lambda p: parameterization.to_image(p)[0, 0].sum()))
    start = draw(parameterization)
    assert np.isfinite(gradient(start)).all()
    assert np.isfinite(gradient(jnp.zeros_like(start))).all()


@pytest.mark.parametrize("name", ["fourier", "maco"])
def test_gradient_in_a_loop_has_no_scatter(name):
    parameterization = make(name, (12, 15))

    def climb(parameters):
        def step(p, _):
            return p + jax.grad(lambda q: jnp.sum(parameterization.to_image(q) ** 2))(p), None

        return jax.lax.scan(step, parameters, length=ASCENT_STEPS)[0]

    starts = jnp.stack([draw(parameterization, seed) for seed in range(3)])
    text = jax.jit(jax.vmap(climb)).lower(starts).compile().as_text()
    assert " while(" in text  # the loop is in there
    assert " scatter(" not in text
    assert " fft(" not in text  # whose last bits depend on the place in the batch, from jaxlib 0.12 on


def assert_place_does_not_matter(function, starts, counts):
    """Of value and gradient of a function of one image's parameters; `starts` are those of the largest batch."""

    def score(p):
        value = function(p)
        return jnp.sum(value**3), value

    run = jax.jit(jax.vmap(jax.grad(score, has_aux=True)))
    for count in counts:
        found = jax.device_get(run(starts[:count]))
        for place in range(1, count):
            turned = run(np.roll(starts[:count], place, axis=0))
            for kind, one, other in zip(("gradient", "value"), found, turned, strict=True):
                same = np.array_equal(other, np.roll(one, place, axis=0))
                assert same, f"{kind} with N = {count}, turned by {place}"


@pytest.mark.parametrize("name", ["fourier", "maco"])
def test_image_and_gradient_do_not_depend_on_the_place_in_the_batch(name):
    parameterization = make(name, (37, 30))
    starts = np.stack([draw(parameterization, seed) for seed in range(5)])
    assert_place_does_not_matter(parameterization.to_rgb, starts, [5])


@pytest.mark.parametrize("side", [48, 96, 180, 224])
def test_inverse_transform_does_not_depend_on_the_place_in_the_batch(side):
    """What jaxlib 0.12's own FFT on a CPU does not hold."""
    starts = np.random.default_rng(0).normal(size=(LARGEST_BATCH, 2, 3, side, side // 2 + 1)).astype(np.float32)
    transform = partial(_inverse_rfft2, size=(side, side))
    assert_place_does_not_matter(lambda p: transform(p[0], p[1]), starts, range(2, LARGEST_BATCH + 1))


@pytest.mark.long
@pytest.mark.parametrize("size", SIZES[:2])
def test_fourier_fits_an_image(size):
    parameterization, target = Fourier(size, preprocess), photograph(size)
    fitted = fit(parameterization, draw(parameterization), target, steps=1000, step_size=0.2)
    assert np.abs(fitted - target).mean() < FIT


@pytest.mark.long
def test_maco_fits_an_image_of_its_own_spectrum():
    """One of the standardised contrast, which belongs to the parameterization. At fewer frequencies less exactly."""
    size = (20, 31)
    logit = np.log(photograph(size) / (1 - photograph(size)))
    channels = logit @ np.linalg.inv(COLOUR_MATRIX).T
    channels = (channels - channels.mean()) / channels.std()
    magnitude, target = np.abs(np.fft.rfft2(channels, axes=(0, 1))), numpy_colours(channels).astype(np.float32)
    parameterization = Maco(size, preprocess, jnp.asarray(magnitude, jnp.float32))
    start = draw(parameterization)
    assert np.abs(rgb_of(parameterization, start) - target).mean() > 5 * FIT
    fitted = fit(parameterization, start, target, steps=1000, step_size=0.1)
    assert np.abs(fitted - target).mean() < FIT


@pytest.mark.long
def test_maco_fits_what_another_start_looks_like():
    parameterization = Maco((24, 20), preprocess)
    start, target = draw(parameterization), rgb_of(parameterization, draw(parameterization, seed=7))
    assert np.abs(rgb_of(parameterization, start) - target).mean() > 5 * FIT
    fitted = fit(parameterization, start, target, steps=1000, step_size=0.1)
    assert np.abs(fitted - target).mean() < FIT


@pytest.mark.parametrize(
    "parameterization",
    [Pixel((4, 4), 0.125), Fourier((4, 4), preprocess), Maco((4, 4), preprocess), Maco((4, 4), preprocess, np.ones(3))],
    ids=["pixel", "fourier", "maco", "maco with magnitude"],
)
def test_parameterization_is_a_pytree_whose_leaves_are_arrays(parameterization):
    leaves, structure = jax.tree.flatten(parameterization)
    assert len(leaves) == (getattr(parameterization, "magnitude", None) is not None)
    again, same = jax.tree.flatten(jax.tree.unflatten(structure, leaves))
    assert same == structure
    assert all(one is other for one, other in zip(again, leaves, strict=True))


def test_another_magnitude_does_not_recompile():
    run = jax.jit(lambda parameterization, phase: parameterization.to_rgb(phase))
    phase = draw(Maco((8, 8), preprocess))
    one, two = (Maco((8, 8), preprocess, jnp.asarray(m * one_over_f((8, 8)), jnp.float32)) for m in (1.0, 2.0))
    run(one, phase)
    run(two, phase)
    assert run._cache_size() == 1
