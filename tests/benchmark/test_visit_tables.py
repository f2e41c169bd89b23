"""From a made-up visit to verdicts and tables; what may be kept."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # `benchmarks` is not installed

from benchmarks import report
from benchmarks.records import plain
from benchmarks.visit import reference as references
from benchmarks.visit import tables
from benchmarks.visit.__main__ import main
from benchmarks.visit.keep import KeepError, keep
from benchmarks.visit.record import FILE, SCHEMA
from benchmarks.visit.settings import CONV2, CONV5, RESULTS, VISIT
from benchmarks.visit.verdicts import TOLERANCES, verdicts

pytestmark = pytest.mark.quick

KNOWN = {
    "weights_sha256": "ab" * 32,
    "scores": {layer: {"first": [1.0, -1.0], "second": [2.0, 0.5]} for layer in (CONV2, CONV5)},
    "presets": {
        name: {"ok": 2, "filters": 2, "ranks": [1, 3], "ranked": 480, "percentiles": [100.0, 99.0]}
        for name in references.PRESETS
    },
}
SAME = {"same": True, "filters": 8, "filters_off": 0, "largest_grey_levels": 0, "largest_score_difference": 0.0}


def cell(name: str, result, section: str = "job", status: str = "complete", reason=None) -> dict:
    return {"name": name, "section": section, "status": status, "reason": reason, "result": result}


def row(layer: str, dtype: str, batch_size: int, seconds: float) -> dict:
    return {
        "layer": layer,
        "dtype": dtype,
        "batch_size": batch_size,
        "status": "ok",
        "compile_s": 30.0,
        "compiled_before": False,
        "program_memory_mb": 2048.0,
        "free_mb": 61440.0,
        "mean_score": 7.1392,
        "products": {
            "counts": {"dot: bf16 x bf16 -> bf16": 9},
            "products": 9,
            "float32_operands": 0,
            "first_float32": [],
        },
        "figures": {
            "median_s": seconds,
            "image_steps_per_s": batch_size * 30 / seconds,
            "images_per_s": batch_size / seconds,
            "gflops": 100_000.0,
            "fraction_of_dot_rate": 0.25,
        },
    }


def job(layer: str, size: int, seconds: float) -> dict:
    return {"layer": layer, "size": size, "rows": [row(layer, "bfloat16", 64, seconds), row(layer, "float32", 64, 0.5)]}


def contestant(first: list[float]) -> dict:
    values = {"image_steps_per_s": 1234.5, "seconds": [1.0, 2.0, 3.0], "first_scores": first}
    return {"layers": {CONV5: values, CONV2: values}}


@pytest.fixture
def record(monkeypatch) -> dict:
    """A visit in which everything holds; no figure of it is of a GPU."""
    monkeypatch.setattr(references, "read", lambda: KNOWN)
    scores = {"precisions": {name: {"first": [1.0, -1.0], "second": [2.0, 0.5]} for name in TOLERANCES}}
    contract = {"dtypes": {dtype: {"rerun": dict(SAME), "place": dict(SAME)} for dtype in ("float32", "bfloat16")}}
    summary = {"counts": {"ok": 2047, "dead": 1, "nan": 0}, "missing": 0, "render_s": 9.0}
    sweep = {"layer": CONV5, "size": 180, "rows": [row(CONV5, "bfloat16", n, s) for n, s in ((64, 0.4), (128, 0.7))]}
    sweep["rows"].append(row(CONV5, "bfloat16", 256, 1.39) | {"status": "ok"})
    return {
        "schema": SCHEMA,
        "rehearsal": False,
        "started": "2026-01-02T03:04:05+00:00",
        "git": {"hash": "0123456789abcdef", "dirty": False},
        "hardware": {"gpus": ["Pretended GPU, 1 MiB"]},
        "versions": {"jax": "0.0.1", "torch": "0.0.2"},
        "settings": plain(VISIT),
        "cells": [
            cell("start", {"device": {"device_kind": "Pretended"}, "versions": {}, "weights_sha256": "ab" * 32}),
            cell("scores_conv2", {"layer": CONV2} | scores),
            cell("scores_conv5", {"layer": CONV5} | copy.deepcopy(scores)),
            cell("contract_conv2", {"layer": CONV2} | contract),
            cell("contract_conv5", {"layer": CONV5} | copy.deepcopy(contract)),
            *(cell(name, dict(KNOWN["presets"][name])) for name in references.PRESETS),
            cell("job_conv5", job(CONV5, 180, 0.2)),
            cell("job_conv2", job(CONV2, 180, 0.01)),
            cell("job_conv5_large", job(CONV5, 224, 0.29)),
            cell("batch_sizes", sweep),
            cell("files", {"command": "jaxviz render", "seconds": 12.0, "files": 9, "mib": 3.0, "summary": summary}),
            cell("race_jaxviz_float32", contestant([1.0, -1.0])),
            cell("race_pytorch_float32", contestant([1.001, -1.0])),
            cell("race_keras_jax", None, status="unavailable", reason="the package keras is not installed"),
            cell("profile", None, status="failed", reason="exit code 1"),
            cell("deterministic", {"contract": {}}, status="skipped", reason="no time"),
        ],
    }


def found(record: dict) -> dict[str, tuple[bool | None, str]]:
    return {verdict.fact: (verdict.holds, verdict.words) for verdict in verdicts(record)}


def of(record: dict, name: str) -> dict:
    (result,) = [cell["result"] for cell in record["cells"] if cell["name"] == name]
    return result


def one(record: dict, beginning: str) -> tuple[bool | None, str]:
    (verdict,) = [verdict for fact, verdict in found(record).items() if fact.startswith(beginning)]
    return verdict


# Verdicts


def test_everything_measured_holds(record):
    assert [fact for fact, (holds, _) in found(record).items() if holds is False] == []
    assert sum(holds is True for holds, _ in found(record).values()) >= 15


def test_score_off_by_more_than_its_tolerance_does_not_hold(record):
    of(record, "scores_conv5")["precisions"]["highest"]["second"][0] = 2.001
    holds, words = one(record, "Scores in highest within 0.0001 of the CPU's float32 (conv5)")
    assert holds is False
    assert words == "0.0e+00 before the first step, 5.0e-04 after it"


def test_score_that_is_not_finite_does_not_hold(record):
    of(record, "scores_conv2")["precisions"]["bfloat16"]["first"][0] = None
    assert one(record, "Scores in bfloat16 within 0.05 of the CPU's float32 (conv2)")[0] is False


def test_precision_that_was_not_reached_is_not_measured(record):
    del of(record, "scores_conv5")["precisions"]["bfloat16"]
    assert one(record, "Scores in bfloat16 within 0.05 of the CPU's float32 (conv5)")[0] is None


def test_broken_contract_says_by_how_much(record):
    of(record, "contract_conv5")["dtypes"]["bfloat16"]["place"] |= {
        "same": False,
        "filters_off": 3,
        "largest_grey_levels": 17,
    }
    assert one(record, "The contract on batches in bfloat16 (conv5)") == (
        False,
        "place: 3 of 8 filters, up to 17 grey levels",
    )


def test_other_weights_are_named(record):
    of(record, "start")["weights_sha256"] = "cd" * 32
    assert one(record, "The seeded weights") == (False, "cdcdcdcdcdcd, and the CPU's abababababab")


def test_preset_with_a_filter_that_is_not_ok_does_not_hold(record):
    of(record, "maco")["ok"] = 1
    assert one(record, "The preset maco")[0] is False


def test_presets_of_a_rehearsal_are_not_compared(record):
    record["rehearsal"] = True
    assert one(record, "The preset distill")[0] is None


def test_programs_of_a_rehearsal_are_not_held_to_bfloat16(record):
    record["rehearsal"] = True
    assert one(record, "In bfloat16 no product has float32 operands (conv2)")[0] is None


def test_float32_operands_are_named(record):
    of(record, "job_conv5")["rows"][0]["products"] |= {"float32_operands": 1, "first_float32": ["dot dot.7"]}
    assert one(record, "In bfloat16 no product has float32 operands (conv5)") == (
        False,
        "9 dot: bf16 x bf16 -> bf16; dot dot.7",
    )


@pytest.mark.parametrize(("seconds", "holds"), [(0.3, True), (0.301, False)])
def test_goal_is_three_tenths_of_a_second(record, seconds, holds):
    of(record, "job_conv5_large")["rows"][0]["figures"]["median_s"] = seconds
    assert one(record, "64 filters x 30 steps")[0] is holds


def test_contestant_with_other_scores_does_not_hold(record):
    of(record, "race_pytorch_float32")["layers"][CONV2] |= {"first_scores": [1.1, -1.0]}
    assert one(record, "pytorch_float32 starts from")[0] is False


def test_layer_that_was_cut_off_says_how_far_it_came(record):
    del of(record, "files")["summary"]
    assert one(record, "A whole layer") == (None, "cut off after 9 files in 12.0 s")
    assert "pictures of" not in tables.block(record, "a.json")


def test_absent_contestant_gives_its_reason(record):
    assert one(record, "keras_jax starts from") == (None, "unavailable: the package keras is not installed")


# Tables


def test_tables_hold_the_figures(record):
    text = tables.block(record, "a.json")
    assert f"| `{CONV5}`, 180 px | bfloat16 | 0.2 | 9,600 | 100 | 25% | 30.0 | 7.1392 |" in text
    assert "| 128 | 182.9 | 0.7 | 2.00 |" in text
    assert "the smallest N within 3% of the best is 128" in text
    assert "| PyTorch eager, TF32 | 1,234 (2 s) | 1,234 (2 s) |  |" in text
    assert "| Keras on JAX, its published loop, one filter at a time | unavailable | unavailable |  |" in text


def test_tables_name_what_is_not_complete(record):
    assert "Not complete: race_keras_jax (unavailable: the package keras" in tables.block(record, "a.json")


def test_tables_of_equal_records_are_equal(record):
    assert tables.block(record, "a.json") == tables.block(copy.deepcopy(record), "a.json")


def test_tables_of_a_visit_that_was_cut_off_early_are_made(record):
    record["cells"] = [cell("start", None, status="running")]
    assert "not measured" in tables.block(record, "a.json")


def test_tables_of_a_rehearsal_say_so_first(record):
    record["rehearsal"] = True
    assert tables.block(record, "a.json").startswith("**A rehearsal on a CPU: no figure of a GPU.**")


def test_every_kept_visit_is_none_of_a_cpu():
    for path in RESULTS.glob("*.json"):
        assert json.loads(path.read_text())["rehearsal"] is False, path.name


def test_readme_says_when_no_gpu_was_measured():
    if not list(RESULTS.glob("*.json")):
        assert tables.NOTHING_YET in report.NOTES.read_text()


# What is kept


def written(record: dict, folder: Path) -> Path:
    (folder / FILE).write_text(json.dumps(record))
    return folder


def test_visit_is_kept_under_its_time_and_commit(record, tmp_path):
    path = keep(written(record, tmp_path), tmp_path / "gpu")
    assert path.name == "2026-01-02T03-04-05Z-0123456.json"
    assert json.loads(path.read_text()) == record


def test_commit_is_given_where_the_copy_had_no_git_folder(record, tmp_path):
    record["git"] = {"hash": None, "dirty": None}
    path = keep(written(record, tmp_path), tmp_path / "gpu", "fedcba9876")
    assert path.name.endswith("-fedcba9.json")
    assert json.loads(path.read_text())["git"]["hash"] == "fedcba9876"


def test_rehearsal_is_never_kept(record, tmp_path, capsys):
    record["rehearsal"] = True
    with pytest.raises(KeepError, match="rehearsal"):
        keep(written(record, tmp_path), tmp_path / "gpu")
    assert main(["keep", str(tmp_path)]) == 1
    assert "it says nothing about a GPU" in capsys.readouterr().err


def test_visit_without_the_main_job_is_not_kept(record, tmp_path):
    record["cells"] = [one for one in record["cells"] if one["name"] != "job_conv5"]
    with pytest.raises(KeepError, match="no figure of the main job"):
        keep(written(record, tmp_path), tmp_path / "gpu")


def test_kept_visit_is_never_replaced(record, tmp_path):
    keep(written(record, tmp_path), tmp_path / "gpu")
    with pytest.raises(KeepError, match="is there already"):
        keep(tmp_path, tmp_path / "gpu")


def test_folder_without_a_record_is_named(tmp_path):
    with pytest.raises(KeepError, match=r"visit\.json is not there"):
        keep(tmp_path, tmp_path / "gpu")
