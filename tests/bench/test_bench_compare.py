"""Result files and their comparison: what is refused and how, what is noise, what is said to differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench_reports import report, row
from helpers_cli import Ran, run, run_process

from jaxviz.bench.compare import compare_reports
from jaxviz.bench.files import read_report, write_report
from jaxviz.bench.records import Report, to_json
from jaxviz.errors import ResultFileError

pytestmark = pytest.mark.quick

FAST = (1.0, 1.01, 1.02, 1.03, 1.04)
SLOW = (2.0, 2.02, 2.04, 2.06, 2.08)


def assert_refused(ran: Ran, *said: str) -> None:
    """Exit code 2, nothing on stdout, one message on one line that says these things."""
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1), ran
    assert ran.err.startswith("error: ")
    for text in said:
        assert text in ran.err, ran.err


def written(folder: Path, name: str, result: Report) -> Path:
    write_report(folder / name, result)
    return folder / name


# Files


def test_file_gives_back_the_report(tmp_path: Path) -> None:
    result = report(row(1), row(2, status="out of memory", seconds=()))
    assert read_report(written(tmp_path, "a.json", result)) == result


def test_file_without_kernels_was_measured_with_the_only_set_there_was(tmp_path: Path) -> None:
    record = json.loads(to_json(report(row(1))))
    del record["kernels"], record["settings"]["kernels"]
    (tmp_path / "a.json").write_text(json.dumps(record))
    assert read_report(tmp_path / "a.json").kernels == "lax"


def test_figures_are_those_of_the_raw_values_whatever_the_file_says(tmp_path: Path) -> None:
    honest = report(row(1))
    edited = json.loads(to_json(honest))
    edited["rows"][0]["figures"]["median_s"] = 0.001
    (tmp_path / "a.json").write_text(json.dumps(edited))
    assert read_report(tmp_path / "a.json") == honest


def changed(place: list[Any], value: Any) -> Callable[[Any], None]:
    def change(record: Any) -> None:
        for step in place[:-1]:
            record = record[step]
        record[place[-1]] = value

    return change


DAMAGED: list[tuple[Callable[[Any], None], str]] = [
    (changed(["rows", 0, "seconds", 2], "fast"), "$.rows[0].seconds[2]"),
    (changed(["rows", 0, "seconds", 0], 0), "$.rows[0].seconds[0]"),
    (changed(["rows", 0, "seconds", 0], -1.0), "$.rows[0].seconds[0]"),
    (changed(["rows", 0, "seconds"], []), "$.rows[0]"),
    (changed(["rows", 0, "status"], "fine"), "$.rows[0].status"),
    (changed(["rows", 0, "macs_per_image"], 10**300), "$.rows[0].macs_per_image"),
    (changed(["rows"], None), "$.rows"),
    (changed(["settings", "steps"], 0), "$.settings.steps"),
    (changed(["settings", "size"], [180]), "$.settings.size"),
    (changed(["hardware", "devices"], 0), "$.hardware.devices"),
    (changed(["dot_rates", "float32", "gflops_each"], []), "$.dot_rates[...].gflops_each"),
    (lambda record: record.pop("sweeps"), "sweeps"),
]


@pytest.mark.parametrize(("damage", "place"), DAMAGED, ids=[place for _, place in DAMAGED])
def test_damaged_file_is_refused_with_the_place(tmp_path: Path, damage: Callable[[Any], None], place: str) -> None:
    record = json.loads(to_json(report(row(1))))
    damage(record)
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(record))
    assert_refused(run("bench", "compare", path, path), str(path), place)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"{}", b'{"kind": 3, "schema": 1}', b"\xff\xfe", b"[" * 100_000, b"\x89PNG\r\n"],
    ids=lambda content: repr(content[:10]),
)
def test_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "foreign.json").write_bytes(content)
    assert_refused(run("bench", "compare", tmp_path / "foreign.json", "b.json"), "foreign.json", "no result of")


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "layer.json").write_text('{"kind": "layer", "schema": 1}')
    assert_refused(run("bench", "compare", tmp_path / "layer.json", "b.json"), "its kind is 'layer'")


def test_another_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / "new.json").write_text('{"kind": "jaxviz bench", "schema": 2}')
    assert_refused(run("bench", "compare", tmp_path / "new.json", "b.json"), "schema 2", "reads 1")


def test_missing_file_is_refused(tmp_path: Path) -> None:
    assert_refused(run("bench", "compare", tmp_path / "no.json", "b.json"), "no.json", "is not there")


def test_folder_is_refused(tmp_path: Path) -> None:
    assert_refused(run("bench", "compare", tmp_path, "b.json"), str(tmp_path), "is a folder")


# Refusals


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"settings_model": "resnet101v2"}, "model is resnet50v2 in A and resnet101v2 in B"),
        ({"settings_size": (180, 224)}, "size is 180, 180 in A and 180, 224 in B"),
        ({"settings_steps": 30}, "steps is 10 in A and 30 in B"),
        ({"settings_quick": True}, "quick is False in A and True in B"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_other_work_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    a = written(tmp_path, "a.json", report(row(1)))
    b = written(tmp_path, "b.json", report(row(1), **change))
    assert_refused(run("bench", "compare", a, b), said, "jaxviz bench --model resnet50v2")


@pytest.mark.parametrize("other", [{"layer": "conv1_conv"}, {"dtype": "bfloat16"}], ids=str)
def test_nothing_in_common_is_refused(other: dict[str, str]) -> None:
    with pytest.raises(ResultFileError, match="no layer and dtype was measured in both"):
        compare_reports(report(row(1)), report(row(1, **other)))


def test_rows_without_memory_are_nothing_in_common() -> None:
    with pytest.raises(ResultFileError, match="B has nothing"):
        compare_reports(report(row(1)), report(row(1, status="out of memory", seconds=())))


# Figures


def test_ratio_is_that_of_the_throughputs() -> None:
    (pair,) = compare_reports(report(row(1, seconds=SLOW)), report(row(1, seconds=FAST))).same_batch_size
    assert pair.ratio == pytest.approx(2.04 / 1.02)


def test_ratio_counts_images_where_the_number_of_devices_differs() -> None:
    b = report(row(1, seconds=FAST, images_per_call=4), hardware_devices=4)
    (pair,) = compare_reports(report(row(1, seconds=FAST)), b).same_batch_size
    assert pair.ratio == pytest.approx(2, rel=1e-5)


def test_range_is_from_quartile_to_quartile() -> None:
    (pair,) = compare_reports(report(row(1, seconds=SLOW)), report(row(1, seconds=FAST))).same_batch_size
    assert pair.ratio_range == pytest.approx((2.02 / 1.03, 2.06 / 1.01), rel=1e-5)


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        (SLOW, FAST, "faster"),
        (FAST, SLOW, "slower"),
        (FAST, (1.0, 1.2, 1.0, 1.2, 1.2), "within noise"),  # the quartiles overlap
        (FAST, tuple(0.95 * value for value in FAST), "within noise"),  # they do not, but runs differ by that much
        (FAST, tuple(0.93 * value for value in FAST), "faster"),
        (FAST[:2], SLOW[:2], "too few repeats"),
        (FAST, SLOW[:2], "too few repeats"),
    ],
)
def test_verdict(a: tuple[float, ...], b: tuple[float, ...], verdict: str) -> None:
    (pair,) = compare_reports(report(row(1, seconds=a)), report(row(1, seconds=b))).same_batch_size
    assert pair.verdict == verdict


def test_fastest_meets_fastest_whatever_the_batch_size() -> None:
    a = report(row(1, seconds=FAST), row(2, seconds=(9.0,) * 5))
    b = report(row(1, seconds=SLOW), row(2, seconds=FAST))
    (pair,) = compare_reports(a, b).fastest
    assert (pair.batch_size_a, pair.batch_size_b, pair.ratio) == (1, 2, pytest.approx(2, rel=1e-5))


def test_only_equal_batch_sizes_are_pairs() -> None:
    comparison = compare_reports(report(row(1), row(2)), report(row(2), row(4)))
    assert [pair.batch_size_a for pair in comparison.same_batch_size] == [2]
    assert (comparison.only_in_a, comparison.only_in_b) == (
        ("conv2_block1_1_conv float32 N=1",),
        ("conv2_block1_1_conv float32 N=4",),
    )


def test_compile_time_and_memory_are_ratios() -> None:
    b = report(row(1, compile_s=3.0, program_memory_mb=50.0, peak_memory_mb=400.0))
    (pair,) = compare_reports(report(row(1)), b).same_batch_size
    assert (pair.compile_ratio, pair.program_memory_ratio, pair.peak_memory_ratio) == (1.5, 0.5, 2.0)


def test_peak_memory_of_a_device_is_not_compared_with_that_of_a_process() -> None:
    (pair,) = compare_reports(report(row(1)), report(row(1, peak_memory_of="process"))).same_batch_size
    assert pair.peak_memory_ratio is None


def test_score_difference_is_relative() -> None:
    (pair,) = compare_reports(report(row(1)), report(row(1, mean_score=3.0))).same_batch_size
    assert pair.score_difference == -0.25


@pytest.mark.parametrize(
    "b",
    [
        report(row(1, mean_score=3.0), settings_seed=1),
        report(row(1, mean_score=3.0, scored_filters=4)),
        report(row(1, mean_score=None)),
    ],
    ids=["other seed", "other filters", "no score"],
)
def test_scores_of_other_starts_are_not_compared(b: Report) -> None:
    (pair,) = compare_reports(report(row(1)), b).same_batch_size
    assert pair.score_difference is None


# What differs


def test_equal_runs_differ_in_nothing() -> None:
    assert compare_reports(report(row(1)), report(row(1))).differences == ()


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"settings_seed": 1}, ("settings seed", "0", "1")),
        ({"settings_batch_sizes": "auto"}, ("settings batch_sizes", "1, 2", "auto")),
        ({"hardware_device_kind": "Other GPU"}, ("hardware device_kind", "Test GPU", "Other GPU")),
        ({"hardware_memory_gb": None}, ("hardware memory_gb", "8.0", None)),
        ({"versions": {"jaxviz": "0.1.0", "jax": "0.9.0"}}, ("versions jax", "0.10.2", "0.9.0")),
        ({"environment": {"XLA_FLAGS": "--x"}}, ("environment XLA_FLAGS", None, "--x")),
        ({"settings_kernels": "auto"}, ("settings kernels", "lax", "auto")),
        ({"kernels": "avx512_bf16"}, ("kernels", "lax", "avx512_bf16")),
        ({"weights_sha256": "1" * 64}, ("weights sha256", "0" * 12, "1" * 12)),
        ({"complete": False}, ("run", "complete", "stopped early")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_difference_is_named(change: dict[str, Any], difference: tuple[str | None, ...]) -> None:
    (found,) = compare_reports(report(row(1)), report(row(1), **change)).differences
    assert (found.what, found.a, found.b) == difference


# The command


@pytest.fixture
def two_files(tmp_path: Path) -> tuple[Path, Path]:
    a = written(tmp_path, "a.json", report(row(1, seconds=SLOW), row(2, seconds=SLOW)))
    b = written(tmp_path, "b.json", report(row(1, seconds=FAST), hardware_device_kind="Other GPU"))
    return a, b


def test_compare_tells_differences_before_ratios(two_files: tuple[Path, Path]) -> None:
    ran = run("bench", "compare", *two_files)
    assert (ran.code, ran.err) == (0, "")
    assert 0 < ran.out.index("Other GPU") < ran.out.index("2.00")


def test_compare_fits_120_columns(two_files: tuple[Path, Path]) -> None:
    table = run("bench", "compare", *two_files).out.partition("\n\n")[2]  # the first lines have the paths
    assert max(map(len, table.splitlines())) <= 120


def test_compare_json_is_one_object(two_files: tuple[Path, Path]) -> None:
    ran = run("bench", "compare", *two_files, "--json")
    assert (ran.code, ran.err, ran.out.count("\n")) == (0, "", 1)
    assert json.loads(ran.out)["same_batch_size"][0]["verdict"] == "faster"


def test_compare_in_a_process_needs_no_jax(two_files: tuple[Path, Path], tmp_path: Path) -> None:
    ran = run_process("bench", "compare", *two_files, cwd=tmp_path, before="import sys; sys.modules['jax'] = None")
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize("option", [["--quick"], ["--steps", "3"], ["--out", "x.json"], ["--json"]], ids=" ".join)
def test_options_of_bench_before_compare_are_refused(two_files: tuple[Path, Path], option: list[str]) -> None:
    assert_refused(run("bench", *option, "compare", *two_files), option[0], "jaxviz bench compare A.json B.json")


def test_compare_documents_its_options() -> None:
    shown = run("bench", "compare", "--help").out
    assert all(word in shown for word in ("A.json", "B.json", "--json", "ratios are B over A"))
