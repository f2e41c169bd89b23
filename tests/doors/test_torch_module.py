"""`Model.from_torch`: what layers are called, what is said of images, what is left as it was, what is refused."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.networks import FAST, QUICKLY, distance, normal

from jaxviz import Model, RenderConfig, render_layer
from jaxviz.errors import ConfigError, EnvironmentFailure, WeightsError
from jaxviz.render.options import for_command_line

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[torch]'")
from helpers.torch_networks import LayerNorm2d, unusual  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

TOLERANCE = 1e-5  # as in test_torch_parity
SIZE = (12, 10)


class Block(nn.Module):
    """A ReLU that is called three times, a sum, functions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.drop_path = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.conv(x))
        y = self.relu(self.conv(y))
        return self.relu(self.drop_path(y) + x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6())
        self.block = Block()
        self.fc = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block(self.stem(x))
        x = functional.max_pool2d(functional.relu(x * torch.sigmoid(x)), 2)
        return functional.softmax(self.fc(x.mean((2, 3))), dim=1)


def opened(module: nn.Module, **options: Any) -> Model:
    return Model.from_torch(module, **{"preprocess": lambda rgb: rgb / 255, "usual_size": SIZE} | options)


@pytest.fixture(scope="module")
def model() -> Model:
    return opened(unusual(Net()))


# Names and kinds


def test_layers_are_modules_calls_and_functions(model):
    assert {name: model.layer(name).kind for name in model.layers} == {
        "stem.0": "conv",
        "stem.1": "batch_norm",
        "stem.2": "relu6",
        "stem": "identity",
        "block.conv": "conv",
        "block.relu": "relu",
        "block.conv_1": "conv",
        "block.relu_1": "relu",
        "block.add": "add",
        "block.relu_2": "relu",
        "block": "identity",
        "sigmoid": "sigmoid",
        "mul": "silu",
        "relu": "relu",
        "max_pool2d": "max_pool",
        "mean": "global_avg_pool",
        "fc": "dense",
        "softmax": "softmax",
    }


def test_shapes_are_those_with_channels_last(model):
    assert [model.layer(name).shape for name in ("stem", "max_pool2d", "fc")] == [(10, 8, 4), (5, 4, 4), (5,)]


KINDS = {
    "adaptive": (nn.AdaptiveAvgPool2d(5), "avg_pool"),
    "average": (nn.AvgPool2d(2), "avg_pool"),
    "depthwise": (nn.Conv2d(3, 6, 3, groups=3), "depthwise_conv"),
    "gelu": (nn.GELU(), "gelu"),
    "global": (nn.AdaptiveAvgPool2d(1), "global_avg_pool"),
    "group": (nn.GroupNorm(3, 3), "group_norm"),
    "hardswish": (nn.Hardswish(), "hard_swish"),
    "leaky": (nn.LeakyReLU(), "leaky_relu"),
    "prelu": (nn.PReLU(), "prelu"),
    "transposed": (nn.ConvTranspose2d(3, 4, 2, 2), "transposed_conv"),
    "turned": (LayerNorm2d(3), "layer_norm"),
    "upsample": (nn.Upsample(scale_factor=2), "upsample"),
}


class Kinds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.each = nn.ModuleDict({name: module for name, (module, _) in KINDS.items()})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([module(x).flatten(1) for module in self.each.values()], 1)


def test_kinds_are_those_of_the_modules():
    model = opened(Kinds())
    assert {name: model.layer(f"each.{name}").kind for name in KINDS} == {
        name: kind for name, (_, kind) in KINDS.items()
    }


class Shuffled(nn.Module):
    def __init__(self, *, tokens: bool) -> None:
        super().__init__()
        self.conv, self.norm, self.tokens = nn.Conv2d(3, 8, 3), nn.LayerNorm(8), tokens
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        if self.tokens:
            return self.norm(x.flatten(2).transpose(1, 2)).mean(1)
        return self.relu(x.view(1, 2, 4, *x.shape[2:]).transpose(1, 2).reshape(x.shape))


def test_behind_a_channel_shuffle_axes_are_known():
    assert opened(Shuffled(tokens=False)).layer("relu").shape == (10, 8, 8)


def test_tokens_are_no_layers():
    assert opened(Shuffled(tokens=True)).layers == ("conv",)


def test_another_size_is_exported_anew(model):
    assert model.layer("stem", (20, 30)).size == (18, 28)


def test_channels_are_those_of_the_first_convolution():
    assert opened(nn.Sequential(nn.Conv2d(1, 4, 3))).channels == 1


class TwoHeads(nn.Module):
    """Changes its images in place, and returns two activations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.utils.spectral_norm(nn.Conv2d(3, 4, 3))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x -= 0.5
        y = self.conv(x)
        return {"low": y.sqrt(), "high": y - 1}


def test_several_results_have_names_and_an_input_changed_in_place_is_none():
    assert opened(TwoHeads()).layers == ("conv", "output", "output_1")


# The module is left as it is


def test_module_is_left_as_it_is():
    module = unusual(Net()).train()
    module.stem.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    flags = [part.training for part in module.modules()]
    model = opened(module)
    expected = model.activation(normal(0, 1, *SIZE, 3), "fc")
    assert [part.training for part in module.modules()] == flags
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())
    with torch.no_grad():  # what is trained on afterwards is not seen
        for parameter in module.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(model.activation(normal(0, 1, *SIZE, 3), "fc"), expected)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_weights_of_any_type_compute_in_float32(dtype):
    module = unusual(Net()).to(getattr(torch, dtype))
    model = opened(module)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(model.weights)} - {"int32"} == {"float32"}
    images = normal(0, 1, *SIZE, 3)
    with torch.no_grad():
        theirs = module.float().eval()(torch.tensor(np.moveaxis(np.asarray(images), -1, 1))).numpy()
    assert distance(model.activation(images, "softmax"), theirs) < TOLERANCE


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)
        self.second.weight = self.first.weight
        self.register_buffer("shift", torch.arange(3.0).reshape(1, 3, 1, 1), persistent=False)
        self.plain = torch.tensor([0.5, 1.0, 2.0]).reshape(1, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x)) * self.plain + self.shift


def test_shared_weights_are_there_once_and_buffers_and_plain_tensors_count():
    module, images = Tied(), normal(0, 1, *SIZE, 3)
    model = opened(module)
    assert sorted(model.weights) == ["", "first", "second"]
    assert list(model.weights["second"]) == ["bias"]
    with torch.no_grad():
        theirs = module(torch.tensor(np.moveaxis(np.asarray(images), -1, 1))).numpy()
    assert distance(model.activation(images, "output"), np.moveaxis(theirs, 1, -1)) < TOLERANCE


# Images


RGB = np.random.default_rng(0).uniform(0, 255, (2, 4, 5, 3)).astype(np.float32)
MEAN, DEVIATION = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
NORMALIZED = (RGB / 255 - np.float32(MEAN)) / np.float32(DEVIATION)
RECORD = {"mean": MEAN, "std": DEVIATION, "input_size": (3, 32, 48)}
PRESET = SimpleNamespace(mean=list(MEAN), std=list(DEVIATION))


@pytest.mark.quick
@pytest.mark.parametrize("attribute", ["pretrained_cfg", "default_cfg"])
@pytest.mark.parametrize("record", [RECORD, SimpleNamespace(**RECORD)], ids=["dict", "object"])
def test_timms_record_says_how_images_are_prepared(attribute, record):
    module = Net()
    setattr(module, attribute, record)
    model = Model.from_torch(module)
    assert (model.usual_size, model.channels, model.name) == ((32, 48), 3, "Net")
    np.testing.assert_allclose(model.preprocess(RGB), NORMALIZED, rtol=1e-5, atol=1e-6)


@pytest.mark.quick
@pytest.mark.parametrize(
    "preprocess",
    [
        PRESET,
        SimpleNamespace(transforms=lambda: PRESET),
        SimpleNamespace(transforms=[SimpleNamespace(), PRESET]),
        lambda rgb: (rgb / 255 - np.float32(MEAN)) / np.float32(DEVIATION),
    ],
    ids=["torchvision's transforms", "torchvision's weights", "a composition", "a function"],
)
def test_images_are_prepared_by(preprocess):
    np.testing.assert_allclose(opened(Net(), preprocess=preprocess).preprocess(RGB), NORMALIZED, rtol=1e-5, atol=1e-6)


# Downstream


def test_filters_are_rendered_in_bfloat16_too():
    module = unusual(Net())
    with torch.no_grad():
        module.block.conv.bias[1] = -50.0  # a dead filter
    model = opened(module)
    for dtype in ("float32", "bfloat16"):
        config = RenderConfig.keras(image_size=16, crop=0, steps=3, dtype=dtype)
        found = render_layer(model, "block.relu", range(2), config)
        assert found.status == ("ok", "dead"), dtype


def test_dead_filter_gets_a_gradient_when_redirected():
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(inplace=True))
    with torch.no_grad():
        module[0].bias[:] = torch.tensor([-9.0, 0.5])
    model = opened(module)
    route = model.route("1", SIZE, FAST)
    program, arrays = route.whole, route.whole.prepare(model.weights)

    def gradients(redirected: bool) -> jax.Array:
        def score(image: jax.Array) -> jax.Array:
            return program.run(arrays, [image], redirected=redirected)[0][..., 0].mean()

        return jax.jit(jax.grad(score), compiler_options=QUICKLY)(0.1 * normal(0, *SIZE, 3))

    assert not np.asarray(gradients(False)).any()
    assert np.asarray(gradients(True)).any()


# Refusals


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


class Sorting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(Sorted(), nn.Conv2d(3, 4, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


class Sorted(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sort(dim=1)[0]


class Locked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.frames = sys._getframe()


REFUSED = {
    "no module": (lambda: opened(3), r"module int is no torch.nn.Module written in Python; give the network itself"),
    "no preprocessing": (
        lambda: opened(Net(), preprocess=None),
        r"module Net does not say how its images are prepared, and preprocess is not given; give for example "
        r"preprocess=lambda rgb: \(rgb / 255 - np.float32\(\[0.485, 0.456, 0.406\]\)\)",
    ),
    "preprocessing that is none": (lambda: opened(Net(), preprocess=3), r"preprocess 3 is no function and has no mean"),
    "a composition that does not normalize": (
        lambda: opened(Net(), preprocess=SimpleNamespace(transforms=[1])), r"is no function and has no mean",
    ),
    "lazy": (lambda: opened(nn.LazyConv2d(3, 3)), r"module LazyConv2d has no numbers in 'weight' yet; run it once"),
    "not to be copied": (lambda: opened(Locked()), r"module Locked cannot be copied \(TypeError: .*frame.*\); take"),
    "control flow": (
        lambda: opened(Branching()).layers,
        r"module Branching cannot be exported by PyTorch for an image of 12x10x3 \(.*\); give another image_size if",
    ),
    "size": (lambda: opened(Net()).layer("fc", (1, 2)), r"module Net cannot be exported .* 1x2x3 \(.*[Kk]ernel size"),
    "an operation": (
        lambda: opened(Sorting()).layers,
        r"module Sorting does what is not translated to JAX: sort in 'inner.0'; give a part of it without that, such",
    ),
}  # fmt: skip


@pytest.mark.quick
@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_what_to_type(name):
    call, words = REFUSED[name]
    with pytest.raises(ConfigError, match=words) as refused:
        call()
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 700


def test_size_is_called_as_the_command_line_calls_it():
    with pytest.raises(ConfigError) as refused:
        opened(Net()).layer("fc", (1, 2))
    assert "give another --size if" in for_command_line(refused.value)


def test_weights_that_are_not_finite_are_refused_by_name():
    module = Net()
    with torch.no_grad():
        module.fc.weight[0, 0] = torch.nan
    with pytest.raises(WeightsError, match=r"weights\['fc'\]\['weight'\] hold NaN"):
        opened(module)


@pytest.mark.quick
def test_without_pytorch_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(EnvironmentFailure, match=r"needs PyTorch.* Run: pip install 'jaxviz-atlas\[torch\]'") as caught:
        Model.from_torch(object())
    assert caught.value.exit_code == 1


def test_numbers_are_those_without_64_bits(model):
    images = normal(0, 1, *SIZE, 3)
    expected = model.activation(images, "fc")
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        found = opened(unusual(Net())).activation(images, "fc")
    assert found.dtype == jnp.float32
    assert distance(found, expected) < TOLERANCE
