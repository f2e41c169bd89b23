"""The benchmark's measurement: figures from known seconds, where a sweep ends, what is kept, the machine in words."""

from __future__ import annotations

from typing import Any

import jax
import pytest
from bench_reports import install_tiny_bench, limit_memory, report, row
from helpers_cli import TINY, install_tiny_model
from other_kernels import OTHER, take_other_kernels

from jaxviz import Model
from jaxviz.ascent import climb as ascent
from jaxviz.bench import dot, executable, figures, measure
from jaxviz.bench.records import Report, Settings
from jaxviz.bench.settings import checked_settings
from jaxviz.cli.bench_text import report_text
from jaxviz.models import architecture


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model `tiny` can be measured, and matrix products are small."""
    install_tiny_bench(monkeypatch)


# Figures


def test_median_and_quartiles_are_of_the_seconds() -> None:
    found = report(row(seconds=(5.0, 1.0, 3.0, 2.0, 4.0))).rows[0].figures
    assert found is not None
    assert (found.median_s, found.quartiles_s) == (3.0, (2.0, 4.0))


def test_rates_are_work_over_the_median() -> None:
    found = report(row(3, seconds=(2.0,))).rows[0].figures  # 6 images, 10 steps
    assert found is not None
    assert (found.image_steps_per_s, found.images_per_s) == (30.0, 3.0)


def test_gflops_count_two_passes_a_step_and_a_final_one() -> None:
    found = report(row(1, seconds=(2.0,), macs_per_image=10**9)).rows[0].figures  # 2 images, 10 steps
    assert found is not None
    assert found.gflops == 2 * (10 * 4 + 2) / 2.0


def test_fraction_of_dot_rate_is_of_all_separate_devices() -> None:
    found = report(row(1, seconds=(2.0,))).rows[0].figures  # 42 GFLOP/s; two GPUs of 50
    assert found is not None
    assert found.fraction_of_dot_rate == pytest.approx(42 / 100)


def test_virtual_devices_of_a_cpu_count_as_one() -> None:
    found = report(row(1, seconds=(2.0,)), hardware_platform="cpu").rows[0].figures
    assert found is not None
    assert found.fraction_of_dot_rate == pytest.approx(42 / 50)


def test_fraction_is_of_the_rows_own_dtype() -> None:
    found = report(row(1, dtype="bfloat16")).rows[0].figures  # only float32 products were timed
    assert found is not None
    assert found.fraction_of_dot_rate is None


def test_dot_rate_is_the_median() -> None:
    assert report(row()).dot_rates["float32"].gflops == 50.0


def test_one_repeat_has_itself_as_quartiles() -> None:
    assert figures.quartiles([2.0]) == (2.0, 2.0)


def test_row_without_memory_has_no_figures() -> None:
    assert report(row(seconds=(), status="out of memory")).rows[0].figures is None


# Where throughput saturates


@pytest.mark.parametrize(
    ("throughputs", "size"),
    [
        ({1: 100.0}, 1),
        ({1: 100.0, 2: 191.0, 4: 200.0, 8: 201.0}, 2),
        ({1: 94.9, 2: 100.0}, 2),
        ({1: 95.0, 2: 100.0}, 1),
        ({1: 50.0, 2: 100.0, 4: 60.0}, 2),
        ({1: 10.0, 2: 20.0, 4: 40.0, 8: 80.0}, 8),
        ({}, None),
    ],
)
def test_saturating_batch_size_is_the_smallest_near_the_best(throughputs: dict[int, float], size: int | None) -> None:
    assert figures.saturating_batch_size(throughputs) == size


@pytest.mark.parametrize(
    ("throughputs", "batch_size", "call_s", "reason"),
    [
        ([100.0], 1, 0.1, None),
        ([100.0, 104.0], 2, 0.1, None),
        ([100.0, 104.0, 104.0], 4, 0.1, "saturated"),
        ([100.0, 90.0, 80.0], 4, 0.1, "saturated"),
        ([100.0, 104.0, 120.0], 4, 0.1, None),
        ([100.0, 104.0, 120.0, 121.0], 8, 0.1, None),
        ([100.0, 104.0, 120.0, 121.0, 122.0], 16, 0.1, "saturated"),
        ([100.0, 200.0, 150.0, 205.0], 8, 0.1, "saturated"),  # against the best, not the last
        ([100.0], 1, 5.1, "time"),
        ([100.0], 1, 4.9, None),
        ([100.0], figures.LARGEST_AUTO_BATCH, 0.1, "cap"),
    ],
)
def test_sweep_ends(throughputs: list[float], batch_size: int, call_s: float, reason: str | None) -> None:
    assert figures.sweep_end(throughputs, batch_size, call_s) == reason


# Measuring


def small_settings(**changes: Any) -> Settings:
    values = {"model": TINY, "layers": ["first_conv"], "size": (16, 16), "steps": 2, "repeats": 2}
    return checked_settings(**(values | {"batch_sizes": (1, 2), "dtypes": ["float32"]} | changes))


def measured(settings: Settings) -> Report:
    *_, last = measure.measure(settings, say=lambda _: None)
    return last


def silent(_: str) -> None:
    """Says nothing."""


@pytest.fixture(scope="module")
def whole_run() -> list[Report]:
    """Every report that two layers, two dtypes and two batch sizes yield."""
    with pytest.MonkeyPatch.context() as patch:
        install_tiny_bench(patch)
        settings = small_settings(layers=["first_conv", "wide_conv"], dtypes=None, seed=3)
        return list(measure.measure(settings, say=silent))


def test_every_program_has_a_row(whole_run: list[Report]) -> None:
    assert [(one.layer, one.dtype, one.batch_size) for one in whole_run[-1].rows] == [
        (layer, dtype, size)
        for layer in ("first_conv", "wide_conv")
        for dtype in ("float32", "bfloat16")
        for size in (1, 2)
    ]


def test_every_row_has_its_repeats(whole_run: list[Report]) -> None:
    assert {(len(one.seconds), len(one.transfer_seconds)) for one in whole_run[-1].rows} == {(2, 2)}


def test_report_comes_after_every_layer_and_complete_at_the_end(whole_run: list[Report]) -> None:
    assert [(one.complete, len(one.rows)) for one in whole_run] == [(False, 4), (False, 8), (True, 8)]


def test_dot_rates_are_timed_before_and_after(whole_run: list[Report]) -> None:
    counts = [len(one.dot_rates["bfloat16"].gflops_each) for one in whole_run]
    assert counts == [dot.TIMINGS, dot.TIMINGS, 2 * dot.TIMINGS]


def test_macs_are_those_of_the_network(whole_run: list[Report]) -> None:
    known = architecture_of_tiny()
    assert {one.layer: one.macs_per_image for one in whole_run[-1].rows} == {
        layer: known.layer(layer, (16, 16)).macs for layer in ("first_conv", "wide_conv")
    }


def architecture_of_tiny() -> Model:
    with pytest.MonkeyPatch.context() as patch:
        install_tiny_model(patch)
        return architecture(TINY)


def test_compilation_is_timed_for_every_program(whole_run: list[Report]) -> None:
    assert all(one.compile_s is not None and one.compile_s > 0 for one in whole_run[-1].rows)


def test_mean_score_does_not_depend_on_the_batch_size(whole_run: list[Report]) -> None:
    scores = {}
    for one in whole_run[-1].rows:
        scores.setdefault((one.layer, one.dtype), []).append(one.mean_score)
    assert all(first == pytest.approx(second, rel=1e-4) for first, second in scores.values())


def test_mean_score_is_that_of_the_render(whole_run: list[Report]) -> None:
    from jaxviz import RenderConfig, render_layer
    from jaxviz.models.random_weights import random_weights

    known = architecture_of_tiny()
    model = known.with_weights(random_weights(known, seed=0))
    config = RenderConfig.keras(image_size=16, crop=0, steps=2, seed=3, batch_size=2)
    scores = render_layer(model, "wide_conv", range(8), config).scores
    found = {(one.layer, one.dtype, one.batch_size): one.mean_score for one in whole_run[-1].rows}
    assert found["wide_conv", "float32", 2] == pytest.approx(float(scores.mean()), rel=1e-6)


def test_text_fits_120_columns(whole_run: list[Report]) -> None:
    assert max(map(len, report_text(whole_run[-1]).splitlines())) <= 120


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "on 2 x Test GPU, host Test CPU, 4 cores"),
        ({"hardware_platform": "cpu"}, "on Test CPU, 4 cores as 2 virtual devices"),
        ({"hardware_platform": "cpu", "hardware_devices": 1}, "on Test CPU, 4 cores\n"),
    ],
    ids=["two GPUs", "two virtual devices", "one CPU"],
)
def test_text_names_the_devices(changes: dict[str, Any], words: str) -> None:
    assert words in report_text(report(row(1), **changes))


def test_text_marks_the_saturating_batch_size() -> None:
    text = report_text(report(row(1, seconds=(1.0,)), row(2, seconds=(1.0,)), row(4, seconds=(2.0,))))
    marked = [line.split()[1] for line in text.splitlines() if line.startswith("float32")]
    assert marked == ["1", "*2", "4"]


def test_text_of_a_large_gpu_fits_120_columns() -> None:
    big = row(1024, seconds=(123.4567,) * 5, images_per_call=8192, macs_per_image=10**13, dtype="bfloat16")
    big = report(big, row(2, seconds=(), status="out of memory"))
    assert max(map(len, report_text(big).splitlines())) <= 120


def test_out_of_memory_ends_the_sweep_and_keeps_what_was_measured(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_memory(monkeypatch, 2)
    found = measured(small_settings(batch_sizes=(1, 2, 4, 8)))
    assert [(one.batch_size, one.status, len(one.seconds)) for one in found.rows] == [
        (1, "ok", 2),
        (2, "ok", 2),
        (4, "out of memory", 0),
    ]
    assert found.sweeps[0].ended == "memory"


def test_out_of_memory_of_one_dtype_leaves_the_other(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = executable.compile_program

    def some(bench: Any, one: Any) -> Any:
        if one.dtype == "float32":
            raise MemoryError
        return whole(bench, one)

    monkeypatch.setattr(executable, "compile_program", some)
    found = measured(small_settings(dtypes=["float32", "bfloat16"]))
    assert [(one.dtype, one.status) for one in found.rows] == [
        ("float32", "out of memory"),
        ("bfloat16", "ok"),
        ("bfloat16", "ok"),
    ]


def test_out_of_memory_in_a_repeat_takes_the_row_out(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, calls = executable.timed_call, []

    def some(bench: Any, program: Any) -> Any:
        calls.append(program.row.batch_size)
        if calls.count(2) == 3:  # one in the sweep, one repeat
            raise MemoryError
        return whole(bench, program)

    monkeypatch.setattr(executable, "timed_call", some)
    found = measured(small_settings())
    assert [(one.batch_size, one.status) for one in found.rows] == [(1, "ok"), (2, "out of memory")]


def test_another_failure_is_not_taken_for_memory(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(bench: Any, one: Any) -> Any:
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(executable, "compile_program", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        measured(small_settings())


def test_repeats_go_round_all_programs_of_a_layer(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, calls = executable.timed_call, []

    def noted(bench: Any, program: Any) -> Any:
        calls.append((program.row.dtype[0], program.row.batch_size))
        return whole(bench, program)

    monkeypatch.setattr(executable, "timed_call", noted)
    measured(small_settings(dtypes=["float32", "bfloat16"]))
    turn = [("f", 1), ("b", 1), ("f", 2), ("b", 2)]
    assert calls == turn * 3  # the sweep, and two repeats


@pytest.mark.long
def test_automatic_batch_sizes_double_until_throughput_is_flat(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executable, "timed_call", lambda bench, program: (max(1.0, program.row.batch_size / 4), 0.0))
    found = measured(small_settings(batch_sizes="auto"))
    assert [one.batch_size for one in found.rows] == [1, 2, 4, 8, 16]
    assert (found.sweeps[0].ended, found.sweeps[0].saturating_batch_size) == ("saturated", 4)


@pytest.mark.parametrize(("asked", "ran"), [("auto", OTHER), ("lax", "lax")])
def test_report_names_the_kernels_that_ran(tiny: None, monkeypatch: pytest.MonkeyPatch, asked: str, ran: str) -> None:
    used = take_other_kernels(monkeypatch)
    found = measured(small_settings(batch_sizes=(1,), kernels=asked))
    assert (found.settings.kernels, found.kernels, set(used)) == (asked, ran, {ran})
    assert f"kernels: {ran}" in report_text(found)


def test_each_program_is_compiled_once(tiny: None) -> None:
    before = ascent.compiled("cpu")._cache_size()
    measured(small_settings())
    assert ascent.compiled("cpu")._cache_size() == before  # compiled ahead of time, never by a call
