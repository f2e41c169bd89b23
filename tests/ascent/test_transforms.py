"""Transforms: where they put pixels (against SciPy), gradients that are their transposes, and no scatter in the HLO."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxviz.ascent import transforms as tf
from jaxviz.errors import ConfigError

# Of sums of some thousand float32 products, relative to the vectors' lengths.
ADJOINT_TOLERANCE = 1e-5
# Relative to the largest value: rounding of positions of some hundred px, times the image's slope.
ROUNDING = 1e-4
# Relative to the largest value, on an image smooth over 8 px: two passes interpolate along a shear, SciPy does not.
INTERPOLATION = 0.03

SIZE = (37, 30)  # odd, even, not square
CHAIN = (tf.Pad(12), tf.Jitter(8), tf.Scale(0.9, 1.1), tf.Rotate(10.0), tf.Jitter(4))
MACO = (tf.RandomCrops(3, 0.3, 0.7, 16), tf.Noise(0.1))
IDENTITIES = (tf.Pad(0), tf.Jitter(0), tf.Scale(1.0, 1.0), tf.Rotate(0.0), tf.Noise(0.0))
GEOMETRIC = (tf.Pad(3), tf.Jitter(5), tf.Scale(0.6, 3.7), tf.Rotate(45.0))
EACH = (*GEOMETRIC, tf.Noise(0.1), tf.RandomCrops(3, 0.3, 0.7, 16))

QUICK = {"xla_backend_optimization_level": 0}  # most of this file's time is XLA's
call = jax.jit(lambda transform, key, image: transform(key, image), static_argnums=0, compiler_options=QUICK)
apply = jax.jit(tf.apply, static_argnums=0, compiler_options=QUICK)


def label(value: object) -> str:
    return "-".join(map(label, value)) if isinstance(value, tuple) else getattr(value, "name", repr(value))


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def smooth(size: tuple[int, int] = SIZE) -> np.ndarray:
    """Blobs some 8 px wide that fade to 0 at the border, where interpolation along a shear differs most; at most 1."""
    window = np.outer(np.hanning(size[0]), np.hanning(size[1]))[..., None]
    image = ndimage.gaussian_filter(noise(*size, 3), (4, 4, 0)) * window
    return (image / np.abs(image).max()).astype(np.float32)


def ramp(height: int, width: int) -> jax.Array:
    """Channels: row, column, 1."""
    y, x = jnp.meshgrid(jnp.arange(float(height)), jnp.arange(float(width)), indexing="ij")
    return jnp.stack([y, x, jnp.ones_like(y)], axis=-1)


def keys(count: int) -> jax.Array:
    return jax.random.split(jax.random.key(0), count)


def with_scipy(placement: tf.Placement, image: np.ndarray) -> np.ndarray:
    """The image at a placement, as its docstring defines it."""
    angle, zoom = float(placement.angle), float(placement.zoom)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / zoom  # of (y, x)
    centre, output_centre = ((np.array(size) - 1) / 2 for size in (image.shape[:2], placement.size))
    offset = centre + np.array([float(shift) for shift in placement.shift]) - matrix @ output_centre
    channels = [
        ndimage.affine_transform(channel, matrix, offset, placement.size, order=1, mode="grid-constant")
        for channel in np.moveaxis(image, -1, 0)
    ]
    return np.stack(channels, axis=-1)


def lowered_ascent(function):
    """Four images that climb together: the batched gradient inside a loop."""

    def climb(key, image):
        def step(x, i):
            own = jax.random.fold_in(key, i)
            return x + 0.1 * jax.grad(lambda x: jnp.sum(jnp.sin(3 * function(own, x))))(x), None

        return jax.lax.scan(step, image, jnp.arange(3))[0]

    return jax.jit(jax.vmap(climb)).lower(keys(4), jnp.zeros((4, *SIZE, 3)))


@pytest.fixture(scope="module")
def ascent():
    """Compiled, with every transform in the chain."""
    return lowered_ascent(lambda key, image: tf.apply(CHAIN + MACO, key, image)).compile()


@pytest.mark.parametrize("transform", IDENTITIES, ids=label)
def test_zero_strength_is_the_image_itself_and_costs_nothing(transform):
    jaxpr = jax.make_jaxpr(transform)(jax.random.key(0), jnp.asarray(smooth())).jaxpr
    assert jaxpr.outvars[0] is jaxpr.invars[1]


def test_empty_chain_is_the_image_itself():
    image = smooth()
    np.testing.assert_array_equal(apply((), jax.random.key(0), image), image[None])


def test_chain_of_zero_strength_is_the_image_itself():
    image = smooth()
    np.testing.assert_array_equal(apply(IDENTITIES, jax.random.key(0), image), image[None])


def test_resampling_in_place_is_exact():
    """A crop that is the whole image, at its size, goes through both passes."""
    image = noise(20, 20, 3)
    np.testing.assert_array_equal(call(tf.RandomCrops(1, 1.0, 1.0, 20), jax.random.key(0), image)[0], image)


@pytest.mark.parametrize("size", [SIZE, (30, 37), (64, 64)], ids=str)
@pytest.mark.parametrize("chain", [(), *((each,) for each in EACH), CHAIN, CHAIN + MACO], ids=label)
def test_output_size_is_the_shape_that_apply_gives(chain, size):
    views = jax.eval_shape(lambda key, image: tf.apply(chain, key, image), jax.random.key(0), jnp.zeros((*size, 3)))
    assert views.shape == (*tf.output_size(chain, size), 3)


def test_output_size_of_the_distill_chain():
    assert tf.output_size(CHAIN, (224, 200)) == (1, 236, 212)


def test_output_size_counts_views():
    assert tf.output_size(MACO, (224, 200)) == (3, 16, 16)


@pytest.mark.parametrize("transform", GEOMETRIC, ids=label)
def test_geometry_agrees_with_scipy(transform):
    image = smooth()
    for key in keys(4):
        expected = with_scipy(transform.placement(key, SIZE), image)
        tolerance = ROUNDING if transform.name != "rotate" else INTERPOLATION
        np.testing.assert_allclose(call(transform, key, image), expected, atol=tolerance)


def test_rotation_turns_counter_clockwise():
    image = smooth((41, 41))
    key = keys(1)[0]
    degrees = np.rad2deg(float(tf.Rotate(30.0).placement(key, (41, 41)).angle))
    expected = ndimage.rotate(image, degrees, axes=(0, 1), reshape=False, order=1, mode="grid-constant")
    np.testing.assert_allclose(call(tf.Rotate(30.0), key, image), expected, atol=INTERPOLATION)


def test_scale_above_one_enlarges():
    square = jnp.zeros((21, 21, 3)).at[8:13, 8:13].set(1.0)
    larger = call(tf.Scale(2.0, 2.0), jax.random.key(0), square)
    assert float(larger.sum()) == pytest.approx(4 * float(square.sum()), rel=1e-3)


def test_pad_puts_zeros_around():
    image = noise(*SIZE, 3)
    expected = np.pad(image, ((3, 3), (3, 3), (0, 0)))
    np.testing.assert_array_equal(call(tf.Pad(3), jax.random.key(0), image), expected)


def test_jitter_gives_windows_at_every_offset():
    windows = np.asarray(jax.jit(jax.vmap(tf.Jitter(3), (0, None)))(keys(300), ramp(*SIZE)))
    corners = {(int(y), int(x)) for y, x in windows[:, 0, 0, :2]}
    assert corners == {(y, x) for y in range(4) for x in range(4)}
    for window in windows[:20]:
        y, x = window[0, 0, :2].astype(int)
        np.testing.assert_array_equal(window, ramp(*SIZE)[y : y + SIZE[0] - 3, x : x + SIZE[1] - 3])


def test_scale_and_rotation_draw_over_their_ranges():
    zooms = jax.vmap(lambda key: tf.Scale(0.9, 1.1).placement(key, SIZE).zoom)(keys(100))
    angles = jnp.rad2deg(jax.vmap(lambda key: tf.Rotate(10.0).placement(key, SIZE).angle)(keys(100)))
    for drawn, least, most in ((zooms, 0.9, 1.1), (angles, -10.0, 10.0)):
        margin = 0.1 * (most - least)
        assert least - ROUNDING <= drawn.min() < least + margin
        assert most - margin < drawn.max() <= most + ROUNDING


def test_noise_has_its_standard_deviation():
    added = call(tf.Noise(0.5), jax.random.key(0), jnp.ones((65, 65, 3))) - 1
    assert float(added.std()) == pytest.approx(0.5, rel=0.05)
    assert float(added.mean()) == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize("size", [SIZE, (30, 64)], ids=str)
def test_crops_lie_inside_with_sides_in_their_range(size):
    views = call(tf.RandomCrops(200, 0.3, 0.7, 16), jax.random.key(0), ramp(*size))
    np.testing.assert_allclose(views[..., 2], 1, atol=ROUNDING)  # nothing from outside
    first, last = np.asarray(views[:, 0, 0]), np.asarray(views[:, -1, -1])
    for axis in (0, 1):
        sides = (last - first)[:, axis] + 1
        assert (sides >= 0.3 * 30 - ROUNDING * 64).all()
        assert (sides <= 0.7 * 30 + ROUNDING * 64).all()
        assert sides.max() - sides.min() > 0.35 * 30
        assert first[:, axis].min() < 1.5
        assert last[:, axis].max() > size[axis] - 2.5


def test_corners_of_a_view_are_the_corner_pixels_of_its_crop():
    views = call(tf.RandomCrops(4, 0.5, 0.5, 29), jax.random.key(0), ramp(*SIZE))
    np.testing.assert_allclose((views[:, -1, -1] - views[:, 0, 0])[:, :2], 15 - 1, atol=ROUNDING)


@pytest.mark.parametrize("transform", [each for each in EACH if each.name not in ("pad",)], ids=label)
def test_keys_decide_what_is_drawn(transform):
    image = jnp.asarray(noise(*SIZE, 3))
    first, second, again = (np.asarray(call(transform, key, image)) for key in keys(2)[jnp.array([0, 1, 0])])
    np.testing.assert_array_equal(first, again)
    assert (first != second).any()


def test_images_of_a_batch_are_moved_differently():
    images = jnp.asarray(np.stack([noise(*SIZE, 3)] * 6))
    moved = np.asarray(jax.jit(jax.vmap(tf.Jitter(5)))(keys(6), images))
    assert len({each.tobytes() for each in moved}) > 1
    moved = np.asarray(jax.jit(jax.vmap(tf.Rotate(10.0)))(keys(6), images))
    assert len({each.tobytes() for each in moved}) == 6


def test_views_are_drawn_each_with_its_own_key():
    views = np.asarray(apply((tf.RandomCrops(6, 1.0, 1.0, 30), tf.Noise(0.1)), keys(1)[0], jnp.zeros((30, 30, 3))))
    assert len({view.tobytes() for view in views}) == 6


def test_noise_before_the_crops_is_shared_by_the_views():
    views = np.asarray(apply((tf.Noise(0.1), tf.RandomCrops(6, 1.0, 1.0, 30)), keys(1)[0], jnp.zeros((30, 30, 3))))
    assert len({view.tobytes() for view in views}) == 1


@pytest.mark.parametrize("transform", [EACH[1], EACH[3], *EACH[-2:]], ids=label)
def test_chain_of_one_is_the_transform_with_the_key_of_its_place(transform):
    image, key = jnp.asarray(noise(*SIZE, 3)), jax.random.key(3)
    alone = call(transform, jax.random.fold_in(key, 0), image)
    np.testing.assert_array_equal(apply((transform,), key, image), alone.reshape(-1, *alone.shape[-3:]))


def test_chain_runs_in_order():
    padded_first = apply((tf.Pad(2), tf.Noise(1.0)), jax.random.key(0), jnp.zeros((8, 8, 3)))
    padded_last = apply((tf.Noise(1.0), tf.Pad(2)), jax.random.key(0), jnp.zeros((8, 8, 3)))
    assert float(jnp.abs(padded_first[0, :2]).min()) > 0
    assert float(jnp.abs(padded_last[0, :2]).max()) == 0


@pytest.mark.long
def test_chain_in_one_resampling_is_the_transforms_one_by_one():
    image, margin = smooth((61, 48)), 16  # what leaves the frame on the way is lost one by one only
    for key in keys(4):
        expected = jnp.asarray(image)
        for i, transform in enumerate(CHAIN):
            expected = call(transform, jax.random.fold_in(key, i), expected)
        whole = apply(CHAIN, key, image)[0]
        inner = (slice(margin, -margin), slice(margin, -margin))
        assert float(jnp.abs(expected[inner]).max()) > 0.3
        np.testing.assert_allclose(whole[inner], expected[inner], atol=2 * INTERPOLATION)


@pytest.mark.long
def test_rotations_that_add_up_to_more_than_the_limit_are_resampled_in_between():
    image, key = jnp.asarray(smooth((41, 41))), jax.random.key(1)
    first = call(tf.Rotate(40.0), jax.random.fold_in(key, 0), image)
    expected = call(tf.Rotate(40.0), jax.random.fold_in(key, 1), first)
    np.testing.assert_allclose(apply((tf.Rotate(40.0),) * 2, key, image)[0], expected, atol=ROUNDING)


@pytest.mark.parametrize(
    ("chain", "size"),
    [
        (CHAIN, (30, 37)),
        ((EACH[-1],), SIZE),
        *(pytest.param((each,), SIZE, marks=pytest.mark.long) for each in EACH[:-1]),
    ],
    ids=label,
)
def test_gradient_is_the_transpose(chain, size):
    """<T x, y> = <x, T' y> for random x and y, T being the linear part of the chain."""
    image, zero = jnp.asarray(noise(*size, 3)), jnp.zeros((*size, 3))

    @partial(jax.jit, compiler_options=QUICK)
    def both_sides(key, direction):
        views, pull_back = jax.vjp(lambda x: tf.apply(chain, key, x), image)
        (gradient,) = pull_back(direction)
        linear = views - tf.apply(chain, key, zero)
        return jnp.sum(linear * direction), jnp.sum(image * gradient), jnp.linalg.norm(linear), gradient

    for key in keys(3):
        direction = jnp.asarray(noise(*tf.output_size(chain, size), 3, seed=1))
        left, right, length, gradient = both_sides(key, direction)
        assert np.isfinite(gradient).all()
        assert float(jnp.linalg.norm(gradient)) > 1
        assert abs(float(left - right)) <= ADJOINT_TOLERANCE * float(length * jnp.linalg.norm(direction))


@pytest.mark.parametrize(
    "chain",
    [CHAIN + MACO, CHAIN, *(pytest.param((each,), marks=pytest.mark.long) for each in EACH)],
    ids=label,
)
def test_gradient_holds_no_scatter(chain):
    text = lowered_ascent(lambda key, image: tf.apply(chain, key, image)).as_text()
    assert "stablehlo.while" in text
    assert "stablehlo.scatter" not in text


def test_compiled_gradient_holds_no_scatter(ascent):
    text = ascent.as_text()
    assert " while(" in text
    assert " scatter(" not in text


@pytest.mark.long
def test_compiled_gradient_of_jitter_alone_holds_no_scatter():
    assert " scatter(" not in lowered_ascent(tf.Jitter(8)).compile().as_text()


@pytest.mark.long
def test_the_same_readers_find_the_scatter_of_autodiff():
    def autodiff_jitter(key, image):
        return jax.lax.dynamic_slice(image, (*jax.random.randint(key, (2,), 0, 9), 0), (SIZE[0] - 8, SIZE[1] - 8, 3))

    lowered = lowered_ascent(autodiff_jitter)
    assert "stablehlo.scatter" in lowered.as_text()
    assert " scatter(" in lowered.compile().as_text()


def test_an_image_depends_neither_on_its_neighbours_nor_on_its_place(ascent):
    images, order = jnp.asarray(noise(4, *SIZE, 3)), jnp.array([2, 0, 3, 1])
    together = ascent(keys(4), images)
    assert float(jnp.abs(together - images).max()) > 0.1
    np.testing.assert_array_equal(ascent(keys(4)[order], images[order]), together[order])
    others = ascent(keys(4), images.at[1:].set(jnp.nan))
    np.testing.assert_array_equal(others[0], together[0])


def test_specs_become_transforms():
    specs = (("pad", 12), ["jitter", 8], ("scale", 0.9, 1.1), ("rotate", 10), ("noise", 0.08), ("crops", 8, 0.3, 1, 64))
    expected = (tf.Pad(12), tf.Jitter(8), tf.Scale(0.9, 1.1), tf.Rotate(10.0), tf.Noise(0.08))
    assert tf.from_specs(specs) == (*expected, tf.RandomCrops(8, 0.3, 1.0, 64))


def test_equal_transforms_have_one_hash():
    assert hash(tf.from_specs((("scale", 1, 2),))) == hash((tf.Scale(1.0, 2.0),))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (("blur", 3), "'blur'.*pad, jitter, scale, rotate, noise, crops"),
        ((), "pad, jitter"),
        ("pad", "pad, jitter"),
        (("pad",), r"pad: got 0 numbers.*takes 1 \(px\)"),
        (("scale", 0.9), r"scale: got 1 .*takes 2 \(smallest, largest\)"),
        (("pad", 1.5), "pad: px is 1.5, .*whole number of at least 0"),
        (("pad", -1), "pad: px is -1"),
        (("pad", True), "pad: px is True"),
        (("jitter", "8"), "jitter: px is '8'"),
        (("scale", 0.0, 1.0), "scale: smallest is 0.0"),
        (("scale", 1.1, 0.9), "scale: smallest is 1.1, .*at most the largest, 0.9"),
        (("scale", 1.0, 9.0), "scale: largest is 9.0, .*from 0 to 8"),
        (("scale", float("nan"), 1.0), "scale: smallest is nan"),
        (("rotate", 46.0), "rotate: degrees is 46.0, .*from 0 to 45"),
        (("rotate", -1.0), "rotate: degrees is -1.0"),
        (("noise", -0.1), "noise: sd is -0.1"),
        (("noise", float("inf")), "noise: sd is inf"),
        (("crops", 0, 0.3, 0.7, 64), "crops: views is 0"),
        (("crops", 4, 0.0, 0.7, 64), "crops: smallest is 0.0"),
        (("crops", 4, 0.3, 1.2, 64), "crops: largest is 1.2"),
        (("crops", 4, 0.3, 0.7, 0), "crops: px is 0"),
    ],
)
def test_impossible_specs_are_refused_in_words(spec, says):
    with pytest.raises(ConfigError, match=says):
        tf.from_specs((spec,))


@pytest.mark.parametrize(
    ("chain", "says"),
    [
        ((tf.Jitter(30),), "jitter 30 .*37x30 px.* 29 or less"),
        ((tf.Pad(2), tf.Jitter(4), tf.Jitter(30)), "jitter 30 .*37x30 px"),
        ((tf.RandomCrops(2, 0.05, 0.5, 16),), "crops of 0.05 .*1.5 px, .* 0.07 or more"),
        ((tf.RandomCrops(2, 0.3, 0.5, 16),) * 2, "crops stand 2 times"),
    ],
)
def test_chains_that_leave_nothing_are_refused_in_words(chain, says):
    with pytest.raises(ConfigError, match=says):
        tf.output_size(chain, SIZE)
    with pytest.raises(ConfigError, match=says):
        tf.apply(chain, jax.random.key(0), jnp.zeros((*SIZE, 3)))
