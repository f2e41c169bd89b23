"""The reader of products in a compiled program's text: hand-made lines of a GPU, and JAX's own text."""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # `benchmarks` is not installed

from benchmarks.visit import hlo
from jaxviz.ascent import climb as ascent
from jaxviz.ascent.objectives import Channel
from jaxviz.ascent.parameterizations import Pixel
from jaxviz.models import architecture
from jaxviz.network.rules import Settings

pytestmark = pytest.mark.quick

GPU_TEXT = """
HloModule jit_ascend, is_scheduled=true

%fused_dot (p0: bf16[64,256], p1: f32[256,64]) -> bf16[64,64] {
  %p0 = bf16[64,256]{1,0} parameter(0)
  %p1 = f32[256,64]{1,0} parameter(1)
  %convert.1 = bf16[256,64]{1,0} convert(%p1)
  ROOT %dot.1 = bf16[64,64]{1,0} dot(%p0, %convert.1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (x: bf16[4,32,32,64]) -> bf16[4,32,32,64] {
  %x = bf16[4,32,32,64]{3,2,1,0} parameter(0)
  %k = bf16[3,3,64,64]{3,2,1,0} parameter(1)
  %wide = f32[3,3,64,64]{3,2,1,0} parameter(2)
  %cudnn-conv.3 = (bf16[4,32,32,64]{3,2,1,0}, u8[1024]{0}) custom-call(%x, %k), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, custom_call_target="__cudnn$convForward", backend_config={"kind":"(x)"}
  %cudnn-conv-bw.4 = (f32[4,32,32,64]{3,2,1,0}, u8[0]{0}) custom-call(f32[4,32,32,64]{3,2,1,0} %y, f32[3,3,64,64]{3,2,1,0} %wide), custom_call_target="__cudnn$convBackwardInput"
  %cublas-gemm.5 = (f32[64,64]{1,0}, s8[33554432]{0}) custom-call(%x, %wide), custom_call_target="__cublas$gemm"
  %sort.1 = (f32[8]{0}, u8[64]{0}) custom-call(%wide), custom_call_target="__cub$DeviceRadixSort"
  %norm = (f32[8]{0}, u8[64]{0}) custom-call(%wide, %wide), custom_call_target="__cudnn$norm"
  %gemm_fusion_dot.6 = bf16[64,64]{1,0} fusion(%p0, %p1), kind=kCustom, calls=%fused_dot, backend_config={"fusion_backend_config":{"kind":"__triton_gemm"}}
  ROOT %out = bf16[4,32,32,64]{3,2,1,0} get-tuple-element(%cudnn-conv.3), index=0
}
"""  # noqa: E501


def test_products_of_a_gpu_are_found_with_their_operand_types():
    found = {product.name: (product.kind, product.operands, product.result) for product in hlo.products(GPU_TEXT)}
    assert found == {
        "dot.1": ("dot", ("bf16", "bf16"), "bf16"),
        "cudnn-conv.3": ("__cudnn$convForward", ("bf16", "bf16"), "bf16"),
        "cudnn-conv-bw.4": ("__cudnn$convBackwardInput", ("f32", "f32"), "f32"),
        "cublas-gemm.5": ("__cublas$gemm", ("bf16", "f32"), "f32"),
    }


def test_summary_counts_and_names_float32_operands():
    summary = hlo.summary(GPU_TEXT)
    assert (summary["products"], summary["float32_operands"]) == (4, 2)
    assert summary["first_float32"] == ["__cudnn$convBackwardInput cudnn-conv-bw.4", "__cublas$gemm cublas-gemm.5"]
    assert summary["counts"]["__cudnn$convForward: bf16 x bf16 -> bf16"] == 1


def test_summary_names_no_more_than_ten():
    lines = [f"  %d.{i} = f32[2,2]{{1,0}} dot(f32[2,2]{{1,0}} %a, f32[2,2]{{1,0}} %b)" for i in range(12)]
    summary = hlo.summary("\n".join(lines))
    assert summary["float32_operands"] == 12
    assert len(summary["first_float32"]) == hlo.MOST_NAMES


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_products_of_a_compiled_function_are_found(dtype):
    def function(x, kernel, matrix):
        numbers = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)
        return jnp.tanh(y) @ matrix

    shapes = ((2, 8, 8, 4), (3, 3, 4, 4), (4, 5))
    lowered = jax.jit(function).lower(*(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes))
    short = {"float32": "f32", "bfloat16": "bf16"}[dtype]
    found = [(product.kind, product.operands) for product in hlo.products(lowered.as_text("hlo"))]
    assert found == [("convolution", (short, short)), ("dot", (short, short))]
    assert hlo.summary(lowered.compile().as_text())["products"] == 2


def test_ascent_for_a_gpu_in_bfloat16_multiplies_nothing_in_float32():
    layer = "conv2_block2_out"
    model = architecture("resnet50v2")
    route = model.route(layer, (32, 32), Settings("gpu", dtype="bfloat16"))
    weights = jax.eval_shape(route.prepare, model.weights)
    filters, alone, start = np.arange(2, dtype=np.int32), np.zeros((2, 1), np.int32), Pixel((32, 32), 0.125)
    keys = ascent.unit_keys(jnp.uint32(0), filters, alone, alone[:, 0])
    images = ascent.initial_parameters(keys, start)
    loop = ascent.Loop(seen=route, final=route, steps=2, mesh=ascent.batch_mesh(jax.devices()[:1]))
    numbers = ascent.Numbers(np.float32(10))
    traced = jax.jit(ascent.ascend, static_argnames="loop").trace(
        weights, filters, keys, images, numbers, Channel(), start, loop=loop
    )
    summary = hlo.summary(traced.lower(lowering_platforms=("cuda",)).as_text("hlo"))
    assert summary["products"] > 10
    assert summary["first_float32"] == []
