"""Shared fixtures: a toy network, random-weight models, and a private cache for every test."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from shared_cache import share

from jaxviz import Model, RenderConfig, load_model
from jaxviz.models import architecture
from jaxviz.network.rules import kernels

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_legacy_prng_key", "error")
# Parity and bit-equality are about float32; on GPUs the default would be TF32.
jax.config.update("jax_default_matmul_precision", "highest")
share()
# Programs that call oneDNN are compiled anew every time: what does not ask for them goes without.
kernels.automatic, MACHINES_OWN = (lambda platform: kernels.LAX), kernels.automatic


# A shell starts what it runs in the background deaf to Ctrl-C, and commands under test would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def private_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test reads or writes the user's own caches."""
    monkeypatch.setenv("JAXVIZ_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
    monkeypatch.delenv("JAXVIZ_WEIGHTS_MIRROR", raising=False)
    yield
    jax.config.update("jax_enable_compilation_cache", True)  # a command that measures turns it off


@pytest.fixture(autouse=True)
def machines_own_kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that is marked so takes the set of kernels that a user's run takes here; commands always do."""
    if request.node.get_closest_marker("own_kernels"):
        monkeypatch.setattr(kernels, "automatic", MACHINES_OWN)


@pytest.fixture(scope="module", autouse=True)
def forget_compiled_programs() -> Iterator[None]:
    """Compiled programs of one file are of no use to the next, and together they fill gigabytes."""
    yield
    jax.clear_caches()


class ToyNetwork(linen.Module):
    """Three layers, small enough to compile at once."""

    @linen.compact
    def __call__(self, images: jax.Array, layer: str) -> jax.Array:
        x = linen.Conv(8, (5, 5), strides=2, name="conv_a")(images)
        if layer == "conv_a":
            return x
        x = linen.relu(x)
        if layer == "relu_b":
            return x
        return linen.Conv(6, (3, 3), strides=2, name="conv_c")(x)


def toy_forward(weights: dict, images: jax.Array, layer: str) -> jax.Array:
    return ToyNetwork().apply(weights, images, layer)


def make_toy_model() -> Model:
    """A linen network wrapped by `Model.from_callable`."""
    rng = np.random.default_rng(0)
    shapes = {"conv_a": (5, 5, 3, 8), "conv_c": (3, 3, 8, 6)}
    kernels = {name: rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1])) for name, shape in shapes.items()}
    layers = {name: {"kernel": kernel, "bias": np.zeros(kernel.shape[-1])} for name, kernel in kernels.items()}
    weights = {"params": jax.tree.map(lambda array: jnp.asarray(array, jnp.float32), layers)}
    return Model.from_callable(
        toy_forward, weights, lambda rgb: rgb / 127.5 - 1.0, layers=["conv_a", "relu_b", "conv_c"], name="toy"
    )


@pytest.fixture(scope="session")
def toy_model() -> Model:
    """The toy network."""
    return make_toy_model()


@pytest.fixture(scope="session")
def small() -> RenderConfig:
    """A picture of 50 px in 4 steps, two images a call."""
    return RenderConfig.keras(image_size=64, crop=7, steps=4, batch_size=2)


def random_model(name: str, *, head: bool = False, seed: int = 0) -> Model:
    """A registered model with random weights."""
    from jaxviz.models.random_weights import random_weights

    known = architecture(name, head=head)
    return known.with_weights(jax.tree.map(jnp.asarray, random_weights(known, seed)))


@pytest.fixture(scope="session")
def resnet() -> Model:
    """ResNet50V2 with random weights."""
    return random_model("resnet50v2")


@pytest.fixture(scope="session")
def lite0() -> Model:
    """EfficientNet-Lite0 with its real weights and its head."""
    return load_model("efficientnet_lite0", head=True)


# Files that take longest begin first, so that no worker has one left when the other is through.
LONGEST = (
    "test_settings",
    "test_family_modules",
    "test_own_network",
    "test_pictures",
    "test_verify",
    "test_fast_path",
    "test_machine",
    "test_readme",
    "test_tour",
    "test_gallery_browser",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, the others as they are."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests did not run, also when none: `-ra` above gives the reasons."""
    skipped, deselected = (len(terminalreporter.stats.get(kind, [])) for kind in ("skipped", "deselected"))
    terminalreporter.write_line(f"not run: {skipped} skipped, {deselected} deselected")
