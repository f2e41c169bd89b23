"""`Model`: its doors, what it refuses and in which words, its hashes, and what it says of a network."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from helpers.networks import NCHW, conv, distance, kernel, normal
from jax import lax

from jaxviz.errors import ConfigError, UnknownLayerError, WeightsError
from jaxviz.network.model import Model
from jaxviz.render.options import for_command_line

pytestmark = pytest.mark.quick

TOLERANCE = 1e-6  # sums of a few hundred float32 products in another order
SIZE = (12, 10)
WEIGHTS = {
    "stem": {"kernel": kernel(0, 3, 3, 3, 4), "bias": normal(1, 4)},
    "inner": {"kernel": kernel(2, 3, 3, 4, 6)},
    "head": {"kernel": kernel(3, 6, 5)},
}


def network(w: Any, images: jax.Array) -> jax.Array:
    x = jax.nn.relu(conv(images, w["stem"]["kernel"], 2) + w["stem"]["bias"])
    x = jax.nn.relu(conv(x, w["inner"]["kernel"]))
    return jax.nn.softmax(x.mean((1, 2)) @ w["head"]["kernel"])


def by_layer(w: Any, images: jax.Array, layer: str) -> jax.Array:
    x = conv(images, w["stem"]["kernel"], 2) + w["stem"]["bias"]
    return x if layer == "stem" else conv(jax.nn.relu(x), w["inner"]["kernel"])


def preprocess(pixels: Any) -> Any:
    return pixels / 127.5 - 1.0


def model_of(forward: Any = network, weights: Any = None, **options: Any) -> Model:
    options = {"usual_size": SIZE} | options
    return Model.from_callable(forward, WEIGHTS if weights is None else weights, preprocess, **options)


class Unhashable:
    """A callable that is equal to others, and so has no hash."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unhashable)

    def __call__(self, w: Any, images: jax.Array) -> jax.Array:
        return network(w, images)


def test_a_forward_without_a_hash_is_taken():
    images = normal(5, 1, *SIZE, 3)
    model = model_of(Unhashable())
    assert distance(model.activation(images, "inner"), model_of().activation(images, "inner")) == 0
    assert model.forward_sha256("inner", SIZE) == model_of().forward_sha256("inner", SIZE)


def test_layers_of_a_function_are_found_in_it():
    model = model_of()
    assert model.layers == (
        "stem", "stem/relu", "inner", "inner/relu", "inner/global_avg_pool", "head", "head/softmax",
    )  # fmt: skip
    assert model.layer("inner").shape == (6, 5, 6)
    assert model.layer("inner", (24, 20)).shape == (12, 10, 6)
    assert [layer.name for layer in model.table()] == list(model.layers)


def test_activation_is_that_of_the_function():
    images = normal(4, 2, *SIZE, 3)
    assert distance(model_of().activation(images, "head/softmax"), network(WEIGHTS, images)) < TOLERANCE


def test_a_function_that_takes_a_layer_has_the_layers_given():
    model = model_of(by_layer, layers=["stem", "inner"])
    images = normal(4, 2, *SIZE, 3)
    assert model.layers == ("stem", "inner")
    assert model.layer("inner").kind == "conv"
    assert distance(model.activation(images, "inner"), by_layer(WEIGHTS, images, "inner")) < TOLERANCE


def test_a_network_of_grey_images_has_one_channel():
    model = model_of(lambda w, x: conv(x, w), kernel(0, 3, 3, 1, 4), channels=1)
    (layer,) = model.layers
    assert model.layer(layer).shape == (*SIZE, 4)
    assert model.activation(normal(1, 2, *SIZE, 1), layer).shape == (2, *SIZE, 4)


def test_shapes_of_weights_are_enough_to_be_asked_for_layers():
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), WEIGHTS)
    model = Model("shapes", shapes, network, preprocess, usual_size=SIZE)
    assert model.table() == model_of().table()
    assert distance(
        model.with_weights(WEIGHTS).activation(normal(4, 1, *SIZE, 3), "stem"),
        model_of().activation(normal(4, 1, *SIZE, 3), "stem"),
    ) == 0.0  # fmt: skip


def test_numbers_that_a_layer_needs_are_those_of_its_weights():
    model = model_of(weights={**WEIGHTS, "unused": normal(0, 1000)})
    stem = 27 * 4 + 4
    assert [model.needed_weights(name, SIZE) for name in ("stem", "inner/relu", "head")] == [
        stem, stem + 36 * 6, stem + 36 * 6 + 30,
    ]  # fmt: skip


def test_summary_has_a_line_for_each_layer_and_for_what_is_slow():
    def forward(w, x):
        return conv(x, w["a"]["kernel"], 2, dilation=(2, 2)).mean((1, 2))

    model = model_of(forward, {"a": {"kernel": kernel(0, 3, 3, 3, 4)}})
    assert model.summary() == "\n".join(
        [
            "layer              kind             channels  size  receptive field   MACs",
            "a                  conv                    4   6x5                5  3,240",
            "a/global_avg_pool  global_avg_pool         4     -      whole image  3,240",
            "no fast gradient: a (its kernel is dilated and its stride is not 1)",
        ]
    )
    assert model.slow_convolutions("a", SIZE) == [
        "a convolution of (1, 12, 10, 3) to (1, 6, 5, 4): its kernel is dilated and its stride is not 1"
    ]


# Softmax and its logits


def test_values_before_a_softmax_are_a_route_of_their_own():
    model = model_of()
    images = normal(4, 1, *SIZE, 3)
    with pytest.raises(ConfigError, match="not a softmax"):
        model.route("head", SIZE, before_softmax=True)
    logits, head = (
        model.route("head/softmax", SIZE, before_softmax=True), model.route("head", SIZE),
    )  # fmt: skip
    assert logits.whole == head.whole
    arrays = model.prepare(logits)
    assert distance(logits.activation(arrays, images[0]), model.activation(images, "head")[0]) == 0.0


def test_a_layer_that_is_no_softmax_has_no_values_before_it():
    with pytest.raises(ConfigError, match=r"'class_logit' is for .* 'inner' of custom is a conv, not a softmax"):
        model_of().route("inner", SIZE, before_softmax=True)


# What is refused


def test_a_layer_that_is_not_there_is_refused_with_the_nearest():
    with pytest.raises(
        UnknownLayerError, match=r"custom has no layer 'iner'; nearest: 'inner'.*See: jaxviz layers custom"
    ):
        model_of().layer("iner")


NAN = {**WEIGHTS, "head": {"kernel": kernel(3, 6, 5).at[0, 0].set(jnp.nan)}}
REFUSED = {
    "forward": (lambda: model_of(3), ConfigError, r"forward 3 cannot be called; give a function"),
    "preprocess": (
        lambda: Model.from_callable(network, WEIGHTS, None), ConfigError, r"preprocess None cannot be called",
    ),
    "layers in their old place": (
        lambda: Model.from_callable(by_layer, WEIGHTS, ["stem"], preprocess), ConfigError,
        r"preprocess \[.stem.\] cannot be called; give a function: from_callable\(forward, weights, preprocess",
    ),
    "preprocess as layers": (
        lambda: model_of(by_layer, layers=preprocess), ConfigError,
        r"is a function; give names: from_callable\(forward, weights, preprocess, layers=\[...\]\)",
    ),
    "no layers": (lambda: model_of(layers=[]), ConfigError, r"layers \[\] is not a list of distinct, non-empty"),
    "a layer twice": (lambda: model_of(layers=["a", "a"]), ConfigError, r"is not a list of distinct"),
    "name": (lambda: model_of(name=""), ConfigError, r"name '' is no name of a model; give a text"),
    "channels": (lambda: model_of(channels=0), ConfigError, r"channels 0 is not a number of channels; give 3"),
    "usual size": (lambda: model_of(usual_size=(8,)), ConfigError, r"usual_size \(8,\) is no image size; give"),
    "NaN": (lambda: model_of(weights=NAN), WeightsError, r"weights\['head'\]\['kernel'\] hold NaN or infinity"),
    "a function as a leaf": (
        lambda: model_of(weights={"kernel": kernel(0, 3, 3, 3, 4), "act": jax.nn.relu}), ConfigError,
        r"weights\['act'\] is .*, which is no array; .*Equinox module, weights, rest = eqx.partition",
    ),
    "text as a leaf": (lambda: model_of(weights={"a": "relu"}), ConfigError, r"weights\['a'\] is 'relu', which is no"),
    "size of the image": (
        lambda: model_of(lambda w, x: x.reshape(x.shape[0], 7, 7, 3)).layer("a", (8, 9)), ConfigError,
        r"forward of custom does not take an image of 8x9x3 \(TypeError: .*\); give another image_size, or fix forward",
    ),
    "size of the image for a layer": (
        lambda: model_of(lambda w, x, layer: x.reshape(1, 7, 7, 3), layers=["a"]).layer("a", (8, 9)), ConfigError,
        r"8x9x3 for layer 'a' \(TypeError",
    ),
    "channels that nobody knows": (
        lambda: model_of(lambda w, x: {"odd": x.reshape(1, 4, 3, 10, 3)}).layer("odd"), ConfigError,
        r"layer 'odd' of custom gives float32\[1, 4, 3, 10, 3\], of which the channels' axis is not known; forward",
    ),
    "channels that grow with the image": (
        lambda: model_of(lambda w, x: {"odd": x.reshape(1, 4, 9, -1)}).layer("odd"), ConfigError,
        r"channels' axis is not known; .*: its last axis is 18 for images of 12x18",
    ),
    "several activations of a layer": (
        lambda: model_of(lambda w, x, layer: (x, x), layers=["a"]).layer("a"), ConfigError,
        r"layer 'a' of custom gives \['0', '1'\]; forward must return one array",
    ),
    "no Flax module": (
        lambda: Model.from_flax(network, WEIGHTS, preprocess=preprocess), ConfigError,
        r"module function is no Flax module with its variables; give a flax.nnx.Module, or",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_argument_value_and_what_to_type(name):
    call, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        call()


def test_size_that_forward_refuses_is_called_as_the_command_line_calls_it():
    model = model_of(lambda w, x: x.reshape(x.shape[0], 7, 7, 3))
    with pytest.raises(ConfigError) as refused:
        model.layer("a", (8, 9))
    assert "give another --size, or fix forward" in for_command_line(refused.value)


def test_a_network_with_channels_first_just_works():
    def forward(w, images):
        x = jnp.transpose(images, (0, 3, 1, 2))
        return lax.conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=NCHW)

    model = model_of(lambda w, x, layer: forward(w, x), normal(0, 4, 3, 3, 3), layers=["c"])
    assert model.layer("c").shape == (6, 5, 4)
    images = normal(1, 2, *SIZE, 3)
    expected = jnp.transpose(forward(model.weights, images), (0, 2, 3, 1))
    assert distance(model.activation(images, "c"), expected) < TOLERANCE


# Weights of every type


def test_float64_weights_become_float32():
    model = model_of(weights=jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), WEIGHTS))
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(model.weights)} == {"float32"}
    assert model.weights_sha256 == model_of().weights_sha256


def test_float64_weights_become_float32_where_jax_has_float64():
    with jax.enable_x64(True):
        model = model_of(weights={"a": np.ones(3, np.float64), "b": jnp.ones(3, jnp.float64)})
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(model.weights)} == {"float32"}


def test_hash_of_float32_weights_is_of_paths_types_shapes_and_bytes():
    """As it always was: a folder's recipe holds it."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(WEIGHTS):
        digest.update(f"{jax.tree_util.keystr(path)} float32 {leaf.shape}\n".encode() + np.asarray(leaf).tobytes())
    assert model_of().weights_sha256 == digest.hexdigest()


LEAVES = {
    "bfloat16": lambda seed: kernel(seed, 3, 3, 3, 4).astype(jnp.bfloat16),
    "float16": lambda seed: kernel(seed, 3, 3, 3, 4).astype(jnp.float16),
    "float8": lambda seed: kernel(seed, 3, 3, 3, 4).astype(jnp.float8_e4m3fn),
    "key": jax.random.key,
    "other key": lambda seed: jax.random.key(seed, impl="rbg"),
    "int32": lambda seed: jnp.asarray([seed], jnp.int32),
    "bool": lambda seed: jnp.asarray([seed == 0]),
    "complex": lambda seed: jnp.asarray([1 + seed * 1j], jnp.complex64),
    "number": float,
}


@pytest.mark.parametrize("name", LEAVES)
def test_weights_of_every_type_are_taken_and_hashed(name):
    hashes = [model_of(weights={"leaf": LEAVES[name](seed)}).weights_sha256 for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_types_and_implementations_with_the_same_bytes_hash_otherwise():
    leaves = [
        LEAVES["key"](0),
        jax.random.key_data(LEAVES["key"](0)),
        jnp.zeros(2, jnp.int32),
        jnp.zeros(2, jnp.float32),
    ]
    assert len({model_of(weights={"leaf": leaf}).weights_sha256 for leaf in leaves}) == 4


def test_a_network_of_bfloat16_weights_gives_float32():
    model = model_of(lambda w, x: conv(x.astype(jnp.bfloat16), w), kernel(0, 3, 3, 3, 4).astype(jnp.bfloat16))
    assert model.activation(normal(1, 1, *SIZE, 3), model.layers[0]).dtype == jnp.float32


# What a recipe records of a function


def hash_of(forward: Any = network, weights: Any = None, its_preprocess: Any = preprocess, layer: str = "stem") -> str:
    model = Model.from_callable(forward, WEIGHTS if weights is None else weights, its_preprocess, usual_size=SIZE)
    found = model.forward_sha256(layer, SIZE)
    assert found is not None
    return found


def closing_over(seed: int) -> Any:
    array = normal(seed, 4)
    return lambda w, x: conv(x, w["stem"]["kernel"]) + array


def with_derivative(factor: float) -> Any:
    own = jax.custom_jvp(jnp.sin)
    own.defjvps(lambda tangent, _, x: factor * tangent)
    return lambda w, x: {"stem": own(conv(x, w["stem"]["kernel"]))}


def preprocess_with(seed: int) -> Any:
    mean = np.asarray(normal(seed, 3))
    return lambda pixels: pixels - mean


LARGER = {"kernel": kernel(0, 5, 5, 3, 4), "bias": normal(1, 4)}
OTHERS = {
    "function": lambda: (hash_of(), hash_of(lambda w, x: network(w, 2 * x))),
    "closed-over array": lambda: (hash_of(closing_over(0)), hash_of(closing_over(1))),
    "derivative": lambda: (hash_of(with_derivative(1.0)), hash_of(with_derivative(2.0))),
    "preprocess": lambda: (hash_of(), hash_of(its_preprocess=lambda rgb: rgb / 127.5 - 0.5)),
    "array of preprocess": lambda: tuple(hash_of(its_preprocess=preprocess_with(seed)) for seed in (0, 1)),
    "layer": lambda: (hash_of(), hash_of(layer="inner")),
    "shape of weights": lambda: (hash_of(), hash_of(weights=WEIGHTS | {"stem": LARGER})),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_hash_of_what_computes_a_layer_differs_for_another(name):
    one, other = OTHERS[name]()
    assert one != other


def test_hash_of_what_computes_a_layer_is_the_same_for_other_weights():
    assert hash_of() == hash_of(weights=jax.tree.map(lambda leaf: 2 * leaf, WEIGHTS))


def test_hash_of_what_computes_a_layer_is_the_same_whatever_comes_after():
    assert hash_of() == hash_of(lambda w, x: conv(x, w["stem"]["kernel"], 2) + w["stem"]["bias"])


def test_our_own_models_have_no_hash_of_what_computes_them():
    model = Model("known", WEIGHTS, network, preprocess, usual_size=SIZE, is_known=True)
    assert model.forward_sha256("stem", SIZE) is None


CHILD = """
import sys
sys.path[:0] = {paths!r}
import conftest  # which sets the precision of products
import test_network_model as tests
print(*tests.in_any_process())
"""


def in_any_process() -> list[str]:
    return [hash_of(layer="head/softmax"), hash_of(with_derivative(3.0)), hash_of(closing_over(0))]


def test_hash_of_what_computes_a_layer_is_the_same_in_another_process():
    here = Path(__file__).parent
    tests = here.parent
    paths = [str(here), str(tests), str(tests / "helpers"), str(tests.parent)]
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(paths=paths)],
        capture_output=True, text=True, check=True, env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert done.stdout.split() == in_any_process()


# Flax


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = linen.Conv(4, (3, 3), name="stem")(x)
        x = linen.relu(linen.BatchNorm(use_running_average=not train, name="norm")(x))
        return linen.Dropout(0.5, deterministic=not train)(x)


def filled(shapes: Any) -> Any:
    """Positive numbers in place of shapes; keys and counters as they are made."""

    def one(path: Any, leaf: Any) -> Any:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
            return jax.random.key(0)
        seed = int.from_bytes(hashlib.sha256(jax.tree_util.keystr(path).encode()).digest()[:4])
        return (1 + 0.1 * normal(seed, *leaf.shape)).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(one, shapes)


def test_a_linen_module_is_used_with_its_variables_and_arguments():
    shapes = jax.eval_shape(lambda: Linen().init(jax.random.key(0), jnp.zeros((1, *SIZE, 3)), train=False))
    variables = filled(shapes)
    model = Model.from_flax(
        Linen(), variables, preprocess=preprocess, arguments={"train": False}, usual_size=SIZE, name="small"
    )
    assert (model.name, model.layers) == ("small", ("stem", "stem/batch_norm", "stem/relu"))
    images = normal(1, 2, *SIZE, 3)
    expected = Linen().apply(variables, images, train=False)
    assert distance(model.activation(images, "stem/relu"), expected) < TOLERANCE


class Nnx(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.stem = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.dropout(nnx.relu(self.norm(self.stem(x))))


@pytest.fixture(scope="module")
def module() -> Nnx:
    definition, state = nnx.split(nnx.eval_shape(lambda: Nnx(nnx.Rngs(0))))
    made: Nnx = nnx.merge(definition, filled(state))
    made.train()
    return made


def test_an_nnx_module_is_used_in_eval_mode(module):
    model = Model.from_flax(module, preprocess=preprocess, usual_size=SIZE)
    assert (model.name, model.layers) == ("Nnx", ("stem", "stem/batch_norm", "stem/relu"))
    images = normal(1, 2, *SIZE, 3)
    w = nnx.to_pure_dict(nnx.state(module))
    x = conv(images, w["stem"]["kernel"]) + w["stem"]["bias"]
    x = (x - w["norm"]["mean"]) / jnp.sqrt(w["norm"]["var"] + 1e-5) * w["norm"]["scale"] + w["norm"]["bias"]
    assert distance(model.activation(images, "stem/relu"), jax.nn.relu(x)) < TOLERANCE


def test_an_nnx_module_is_left_as_it_is(module):
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(module, (nnx.Param, nnx.BatchStat))))
    model = Model.from_flax(module, preprocess=preprocess, usual_size=SIZE)
    model.activation(normal(1, 2, *SIZE, 3), "stem/relu")
    assert len(model.weights_sha256) == 64
    after = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(module, (nnx.Param, nnx.BatchStat))))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert not module.norm.use_running_average
    assert not module.dropout.deterministic
