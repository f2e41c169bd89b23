"""Sets of kernels: each computes what `lax` does, gradients too, and which of them a machine takes."""

from __future__ import annotations

from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers_cli import run_python
from helpers_tiers import thinned
from jax import lax

from jaxviz import machine
from jaxviz.network.rules import cpu, kernels, onednn
from jaxviz.network.rules.kernels import LAX, SETS, Product

pytestmark = pytest.mark.own_kernels

# Sums of at most 7 * 7 * 24 float32 products in another order; of operands, and a result, of 8 bits.
TOLERANCES = {"float32": 1e-5, "bfloat16": 2e-2}
CONVOLUTIONS = [  # image, in, out, window, stride, pads
    ((2, 9, 7), 5, 6, (3, 2), (2, 1), ((1, 2), (0, 3))),
    ((1, 24, 23), 3, 16, (7, 7), (2, 2), ((3, 3), (3, 3))),
    ((3, 12, 12), 24, 8, (3, 3), (1, 1), ((1, 1), (1, 1))),
    ((2, 21, 20), 16, 24, (1, 1), (1, 1), ((0, 0), (0, 0))),
    ((2, 21, 21), 16, 24, (1, 1), (2, 2), ((0, 0), (0, 0))),
    ((2, 2, 2), 24, 24, (3, 3), (1, 1), ((1, 1), (1, 1))),
    ((2, 1, 5), 8, 8, (3, 3), (2, 2), ((1, 1), (1, 1))),
]

needs_onednn = pytest.mark.skipif(onednn.refusal() is not None, reason=f"oneDNN: {onednn.refusal()}")


def normal(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def options(name):
    return machine.ONEDNN_OPTIONS if name != LAX else {}


@thinned("kept, convolution, dtype, name", [False, True], CONVOLUTIONS, ["float32", "bfloat16"], sorted(SETS), every=3)
def test_every_set_computes_a_convolution_and_its_gradient(name, dtype, convolution, kept):
    """`kept`: whether the image is bfloat16 too, as between layers."""
    if name != LAX and (refused := kernels.why_not(name, "cpu")):
        pytest.skip(refused)
    if name != LAX and dtype == "bfloat16" and not machine.multiplies_bfloat16():
        pytest.skip("this CPU does not multiply bfloat16")
    shape, channels_in, channels_out, window, stride, pads = convolution
    kept = kept and dtype == "bfloat16" and SETS[name].keeps_bfloat16
    kernel = normal(1, (*window, channels_in, channels_out)).astype(dtype)
    x = normal(0, (*shape, channels_in)).astype(jnp.bfloat16 if kept else jnp.float32)

    def ours(x):
        turned = cpu.gradient_kernel(kernel, stride=stride)
        return cpu.conv(x, kernel, turned, stride=stride, pads=pads, kernels=name)

    def theirs(x):
        x, numbers = x.astype(jnp.float32), ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel.astype(jnp.float32), stride, pads, dimension_numbers=numbers)

    def both(x, cotangent):
        found = []
        for function in (ours, theirs):
            value, pull_back = jax.vjp(function, x)
            found.append((value, pull_back(cotangent.astype(value.dtype))[0]))
        return found

    made = jax.eval_shape(theirs, x).shape
    with machine.not_kept():
        found, expected = jax.jit(both, compiler_options=options(name))(x, normal(2, made))
    assert {array.dtype for array in found} == {x.dtype}
    for array, reference in zip(found, expected, strict=True):
        reference = np.asarray(reference, np.float32)
        error = np.abs(np.asarray(array, np.float32) - reference).max()
        assert error <= TOLERANCES[dtype] * np.abs(reference).max()


@needs_onednn
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_onednn_takes_any_number_of_batched_axes(axes):
    x, kernel = normal(0, (2,) * axes + (1, 6, 5, 4)), normal(1, (3, 3, 4, 8))

    def convolve(x):
        return onednn.conv(x, kernel, stride=(1, 1), pads=((1, 1), (1, 1)), dtype=jnp.dtype("float32"))

    mapped = convolve
    for _ in range(axes):
        mapped = jax.vmap(mapped)
    with machine.not_kept():
        found = jax.jit(mapped, compiler_options=machine.ONEDNN_OPTIONS)(x)
    expected = lax.conv_general_dilated(
        x.reshape(-1, 6, 5, 4), kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-5, atol=1e-4)


@pytest.fixture
def asked_anew():
    """What is found out once in a process is found out again."""
    kept = kernels.automatic, onednn.refusal
    jax.clear_caches()  # the probe is traced once, too
    for function in kept:
        function.cache_clear()
    yield
    for function in kept:
        function.cache_clear()


@needs_onednn
@pytest.mark.quick
def test_probe_refuses_a_convolution_that_is_another_one(monkeypatch, asked_anew):
    right = onednn._call
    monkeypatch.setattr(onednn, "_call", lambda x, kernel, *more: right(x, kernel[::-1], *more))
    assert "is not that of lax" in onednn.refusal()


@needs_onednn
@pytest.mark.quick
def test_probe_refuses_an_xla_without_the_call(monkeypatch, asked_anew):
    monkeypatch.setattr(onednn, "TARGET", "__onednn$of_another_name")
    assert "does not take" in onednn.refusal()


@pytest.mark.quick
@pytest.mark.parametrize("jaxlib", ["0.8.0", "0.10.1", "0.12.0.1"])
def test_jaxlib_that_was_not_tried_is_not_asked(monkeypatch, asked_anew, jaxlib):
    monkeypatch.setattr(onednn.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(onednn, "version", lambda _: jaxlib)
    monkeypatch.setattr(onednn, "_call", lambda *_: pytest.fail("it was called"))
    assert jaxlib in onednn.refusal()


@pytest.mark.skipif(
    version("jaxlib") != "0.10.2" or "avx2" not in machine.instruction_sets(), reason="needs jaxlib 0.10.2 and AVX2"
)
def test_onednn_is_not_refused_where_it_was_tried():
    assert onednn.refusal() is None


@needs_onednn
def test_cpu_without_products_of_bfloat16_is_not_asked_for_them(tmp_path):
    """oneDNN ends the process where it is asked for what a CPU does not have."""
    code = (
        "import os; os.environ['ONEDNN_MAX_CPU_ISA'] = 'AVX2';"
        "from jaxviz import machine; from jaxviz.network.rules import onednn;"
        "machine._cpu_features = lambda: 'avx2'; print(onednn.refusal())"
    )
    assert run_python(code, cwd=tmp_path).strip() == "None"


@pytest.mark.quick
def test_other_cpus_and_platforms_take_what_xla_does(monkeypatch, asked_anew):
    monkeypatch.setattr(onednn.platform, "machine", lambda: "arm64")
    assert kernels.automatic("gpu") == LAX
    assert kernels.automatic("cpu") == LAX


@pytest.mark.quick
def test_cpu_without_a_sweep_takes_the_nearest_set_and_says_so(monkeypatch, asked_anew, caplog):
    monkeypatch.setattr(kernels, "instruction_sets", lambda: frozenset({"avx2", "avx512f", "amx_bf16"}))
    monkeypatch.setattr(onednn, "refusal", lambda: None)
    monkeypatch.setattr(kernels.onednn, "refusal", lambda: None)
    with caplog.at_level("INFO", logger="jaxviz"):
        assert kernels.automatic("cpu") == "avx512_bf16"
    assert "no sweep is recorded" in caplog.text


@pytest.mark.quick
def test_set_does_not_run_without_its_instructions(monkeypatch):
    monkeypatch.setattr(kernels, "instruction_sets", frozenset)
    assert "avx2" in kernels.why_not("avx512_bf16", "cpu")
    assert kernels.why_not("avx512_bf16", "gpu") is not None
    assert kernels.why_not("no such set", "cpu") is not None
    assert kernels.why_not(LAX, "cpu") is None


@pytest.mark.quick
@pytest.mark.parametrize("name", sorted(SETS))
@pytest.mark.parametrize("bfloat16", [False, True])
def test_window_that_overhangs_its_image_is_never_left_to_xla(name, bfloat16):
    product = Product((3, 3), 512, 512, cells=4, overhangs=True, bfloat16=bfloat16, is_plain=True)
    assert kernels.kernel_of(name, product) != "lax"


@pytest.mark.quick
def test_grouped_and_dilated_convolutions_are_left_to_xla():
    product = Product((3, 3), 64, 64, cells=400, overhangs=False, bfloat16=False, is_plain=False)
    assert {kernels.kernel_of(name, product) for name in SETS} == {"lax"}
