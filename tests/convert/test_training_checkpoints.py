"""EfficientNet-Lite in what training loops save: under any prefix, beside anything; read, and nothing of it run."""

from __future__ import annotations

import argparse
import pathlib
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest
from tiny_files import CLASSES, LITE, lightning_checkpoint, shrink_families
from weight_files import assert_same_weights, torch_bytes

from jaxviz import load_model
from jaxviz.errors import WeightsError
from jaxviz.models import architecture
from weights_convert.read import read_weights

pytestmark = pytest.mark.quick


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    shrink_families(monkeypatch)
    architecture.cache_clear()
    yield
    architecture.cache_clear()


@pytest.fixture
def state():
    """The network's tensors under their own names, with a head."""
    named = lightning_checkpoint()["state_dict"]
    return OrderedDict((name.removeprefix("model."), tensor) for name, tensor in named.items() if "fresh" not in name)


@pytest.fixture
def read(tmp_path):
    def reader(content: object, *, zipped: bool = True):
        path = tmp_path / "checkpoint.pth"
        path.write_bytes(torch_bytes(content, zipped=zipped))
        return read_weights(path, LITE)

    return reader


def without_fc(state):
    return OrderedDict((name, tensor) for name, tensor in state.items() if not name.startswith("_fc"))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "backbone.", "net.0.", "module.model.encoder."])
def test_prefix_makes_no_difference(state, read, prefix, zipped):
    alone = read(state)
    found = read({f"{prefix}{name}": tensor for name, tensor in state.items()}, zipped=zipped)
    assert found.has_head
    assert_same_weights(found.arrays, alone.arrays)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "ema", "net"])
def test_dictionary_within_a_checkpoint_is_found(state, read, key):
    alone = read(state)
    found = read({"epoch": 3, key: state, "optimizer": {"state": {0: {"step": 1}}, "param_groups": []}})
    assert_same_weights(found.arrays, alone.arrays)
    assert found.left_out == ("'epoch'", "'optimizer'")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_lightning_checkpoint_loads_and_names_the_rest(read, zipped):
    found = read(lightning_checkpoint(), zipped=zipped)
    assert set(found.left_out) == {
        "'state_dict.model.fresh' (5, 1280)",
        "'epoch'",
        "'hyper_parameters' (argparse.Namespace, which no array needs; nothing of it was run)",
        "'optimizer_states'",
    }


def test_foreign_class_is_not_imported(state, read, monkeypatch):
    module = types.ModuleType("of_the_trainer")
    module.Callback = type("Callback", (), {"__module__": "of_the_trainer"})
    monkeypatch.setitem(sys.modules, "of_the_trainer", module)
    content = {"state_dict": state, "callbacks": {"x": module.Callback(), "y": pathlib.PurePosixPath("/a")}}
    bytes_ = torch_bytes(content, zipped=True)
    monkeypatch.delitem(sys.modules, "of_the_trainer")
    monkeypatch.setattr("test_training_checkpoints.torch_bytes", lambda *_a, **_k: bytes_)
    assert read(content).has_head
    assert "of_the_trainer" not in sys.modules


def test_module_that_was_pickled_whole_loads(torch_module, read):
    module, alone = torch_module
    assert_same_weights(read(module).arrays, read(alone).arrays)


@pytest.fixture
def torch_module(state):
    import torch

    root = torch.nn.Module()
    for name, tensor in state.items():
        *path, last = name.split(".")
        holder = root
        for part in path:
            if part not in holder._modules:
                holder.add_module(part, torch.nn.Module())
            holder = holder._modules[part]
        if last.startswith("running"):
            holder.register_buffer(last, tensor)
        else:
            holder.register_parameter(last, torch.nn.Parameter(tensor))
    return root, state


@pytest.mark.parametrize("name", ["_fc", "classifier.1"])
def test_other_head_is_left_out_and_named(state, read, name):
    import torch

    changed = without_fc(state) | {f"{name}.weight": torch.zeros(5, 1280), f"{name}.bias": torch.zeros(5)}
    found = read(changed)
    assert not found.has_head
    assert found.left_out == (f"'{name}' (5, 1280), (5,)",) if name != "_fc" else len(found.left_out) == 1
    with pytest.raises(WeightsError, match=rf"no head of MODEL {LITE} .*beside the network '{name}'"):
        found.for_head(head=True)


def test_quantized_head_is_left_out(state, read):
    import torch

    changed = without_fc(state) | {
        "_fc.weight": torch.zeros((CLASSES, 1280), dtype=torch.int8),
        "_fc.scale": torch.ones(1),
    }
    found = read(changed)
    assert not found.has_head


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "float64"])
def test_narrow_numbers_widen_exactly(state, read, kind, zipped):
    import torch

    narrow = {name: tensor.to(getattr(torch, kind)) for name, tensor in state.items()}
    found = read(narrow, zipped=zipped)
    wanted = narrow["_conv_stem.weight"].float().permute(2, 3, 1, 0).numpy()
    np.testing.assert_array_equal(found.arrays["stem_conv"]["kernel"], wanted)


def test_two_networks_are_named_and_refused(state, read):
    other = {name: tensor + 1 for name, tensor in state.items()}
    with pytest.raises(
        WeightsError, match=r"holds 2 whole networks .*: 'ema', 'model'\. Save the one .* alone: torch\.save"
    ):
        read({"model": state, "ema": other})


def test_one_dictionary_under_two_names_is_one_network(state, read):
    assert read({"model": state, "state_dict": state}).has_head


def test_network_with_more_blocks_is_not_taken_for_this_one(state, read):
    more = state | {"_blocks.2._bn1.weight": state["_bn0.weight"]}
    with pytest.raises(WeightsError, match=r"1 unexpected: '_blocks\.2\._bn1\.weight'"):
        read(more)


def test_missing_layer_under_a_prefix_is_named(state, read):
    changed = {f"model.{name}": tensor for name, tensor in state.items() if name != "_bn1.running_var"}
    with pytest.raises(
        WeightsError, match=r"1 missing: 'head_bn/moving_variance' \('_bn1\.running_var' in such a file\)"
    ):
        read(changed)


def test_setting_that_is_no_array_in_the_weights_is_named(state, read):
    found = read(state | {"settings": argparse.Namespace(lr=1)})
    assert found.left_out == ("'settings' (argparse.Namespace, which no array needs; nothing of it was run)",)


def test_checkpoint_without_tensors_says_what_it_wants(read):
    with pytest.raises(WeightsError, match=r"no named tensors; its pickle asks for argparse\.Namespace.*state_dict"):
        read({"hyper_parameters": argparse.Namespace(lr=1)})


def test_loading_it_says_what_is_left_out(tmp_path, caplog):
    path = tmp_path / "last.ckpt"
    path.write_bytes(torch_bytes(lightning_checkpoint(), zipped=True))
    load_model(LITE, weights=path, head=True)
    assert "left out" in caplog.text
    assert "'hyper_parameters'" in caplog.text
