"""A visit's cells are processes of their own: killed at a limit, failing alone, never leaving a broken visit.json."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # `benchmarks` is not installed

from helpers_cli import environment  # noqa: E402

from benchmarks.visit import run  # noqa: E402
from benchmarks.visit.record import FILE, Record  # noqa: E402
from benchmarks.visit.resume import ResumeError  # noqa: E402
from benchmarks.visit.runner import REFUSED, UNAVAILABLE, Outcome, run_cell  # noqa: E402
from benchmarks.visit.schedule import Cell, Skip, Turn  # noqa: E402
from benchmarks.visit.settings import REHEARSAL  # noqa: E402

LONG_S = 60.0  # nobody waits for it
PATIENCE_S = 20.0

# What the pretended cells of a visit do.
CELLS = """
import json, os, sys, threading, time
from benchmarks.visit import cell

def say(**values):
    print(json.dumps(values), flush=True)

match sys.argv[1]:
    case "start":
        say(found=1)
        say(found=2)
    case "scores_conv2":
        say(half="done")
        raise ValueError("it broke")
    case "scores_conv5":
        threading.Thread(target=cell._end_with_the_runner, daemon=True).start()
        say(pid=os.getpid())
        time.sleep(60)
    case "contract_conv2":
        say(found="after a failure")
"""


def child(code: str, tmp_path: Path, *, limit_s: float = LONG_S) -> tuple[Outcome, list[dict]]:
    results: list[dict] = []
    outcome = run_cell(
        [sys.executable, "-c", textwrap.dedent(code)],
        limit_s=limit_s,
        log=tmp_path / "log",
        environment=environment(),
        on_result=results.append,
    )
    return outcome, results


def test_cell_gives_every_result_and_its_last(tmp_path):
    outcome, results = child("print('{\"a\": 1}'); print('{\"a\": 2}')", tmp_path)
    assert results == [{"a": 1}, {"a": 2}]
    assert (outcome.status, outcome.result, outcome.reason) == ("complete", {"a": 2}, None)


def test_cell_killed_at_its_limit_keeps_its_partial_result(tmp_path):
    code = """
        import time
        print('{"a": 1}', flush=True)
        print('{"a": 2, "half of a li', end="", flush=True)
        time.sleep(60)
    """
    outcome, _ = child(code, tmp_path, limit_s=1.0)
    assert (outcome.status, outcome.result, outcome.reason) == ("partial", {"a": 1}, "killed after 1 s")


def test_cell_is_killed_with_what_it_started(tmp_path):
    code = """
        import subprocess, sys, time
        started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print('{"pid": %d}' % started.pid, flush=True)
        time.sleep(60)
    """
    outcome, _ = child(code, tmp_path, limit_s=2.0)
    assert outcome.result is not None
    wait_until(lambda: not alive(outcome.result["pid"]))


def test_failing_cell_says_why_and_keeps_its_result(tmp_path):
    outcome, _ = child("print('{\"a\": 1}', flush=True); raise ValueError('it broke')", tmp_path)
    assert (outcome.status, outcome.result, outcome.reason) == ("partial", {"a": 1}, "exit code 1")
    assert outcome.log[-1] == "ValueError: it broke"


def test_cell_without_a_result_has_failed(tmp_path):
    outcome, _ = child("import os, signal; os.kill(os.getpid(), signal.SIGABRT)", tmp_path)
    assert (outcome.status, outcome.result, outcome.reason) == ("failed", None, "killed by SIGABRT")


@pytest.mark.parametrize(("code", "status"), [(REFUSED, "refused"), (UNAVAILABLE, "unavailable")])
def test_cell_that_cannot_run_gives_its_reason(tmp_path, code, status):
    outcome, _ = child(f"import sys; print('torch is not installed', file=sys.stderr); sys.exit({code})", tmp_path)
    assert (outcome.status, outcome.reason) == (status, "torch is not installed")


# The record


def test_record_is_whole_after_every_write(tmp_path):
    record = Record(tmp_path / FILE, REHEARSAL, minutes=7, command="a command", environment={"XLA_FLAGS": "--x"})
    cell = Cell("one", "module.function", 1, 2)
    steps = [
        lambda: None,
        lambda: record.begin(Turn("a", cell, 2), 0.5),
        lambda: record.so_far({"rows": [1]}),
        lambda: record.so_far({"rows": [1, 2]}),
        lambda: record.end(Outcome("partial", 2.0, {"rows": [1, 2]}, "killed after 2 s", ("a line",))),
        lambda: record.skip(Skip("a", cell, "no time")),
        record.finish,
    ]
    for step in steps:
        step()
        assert json.loads((tmp_path / FILE).read_text()) == record.values
    one, skipped = record.values["cells"]
    assert one["result"] == {"rows": [1, 2], "complete": False}
    assert (skipped["status"], skipped["reason"]) == ("skipped", "no time")
    assert record.values["rehearsal"] is True


def test_record_names_no_places(tmp_path):
    given = {"JAX_COMPILATION_CACHE_DIR": "/home/me", "KERAS_HOME": "/home/me", "JAX_PLATFORMS": "cpu"}
    record = Record(tmp_path / FILE, REHEARSAL, minutes=7, command="", environment=given)
    assert record.values["environment"] == {"JAX_PLATFORMS": "cpu"}


# A visit with pretended cells


@pytest.fixture
def pretended(tmp_path, monkeypatch):
    """The command of a pretended cell; caches go to the test's folder."""
    script = tmp_path / "cells.py"
    script.write_text(CELLS)
    monkeypatch.setattr(run, "kept_folder", lambda: tmp_path / "kept")
    return lambda name, _settings: [sys.executable, str(script), name]


def visited(folder: Path) -> dict[str, dict]:
    return {cell["name"]: cell for cell in json.loads((folder / FILE).read_text())["cells"]}


def test_failing_cell_does_not_stop_the_visit(tmp_path, pretended):
    names = ("start", "scores_conv2", "contract_conv2")
    assert run.visit(REHEARSAL, out=tmp_path, minutes=5, patterns=names, command_of=pretended) == 0
    cells = visited(tmp_path)
    assert cells["start"]["result"] == {"found": 2, "complete": True}
    assert cells["scores_conv2"]["result"] == {"half": "done", "complete": False}
    assert cells["scores_conv2"]["log"][-1] == "ValueError: it broke"
    assert cells["contract_conv2"]["status"] == "complete"
    assert "ValueError: it broke" in (tmp_path / run.LOG).read_text()


def test_visit_without_time_names_what_it_skipped(tmp_path, pretended):
    run.visit(REHEARSAL, out=tmp_path, minutes=1, spent_s=70, patterns=("start",), command_of=pretended)
    assert visited(tmp_path)["start"]["status"] == "skipped"


@pytest.mark.parametrize(("size", "kept"), [(100, True), (run.LARGEST_FILE, False)])
def test_profile_is_kept_if_it_is_small(tmp_path, size, kept):
    work, out = tmp_path / "work", tmp_path / "out"
    work.mkdir()
    out.mkdir()
    (work / run.PROFILE).write_bytes(bytes(size))
    run.keep_profile(work, out)
    assert (out / run.PROFILE).exists() is kept
    assert not (work / run.PROFILE).exists()


def test_resumed_visit_takes_over_what_was_complete(tmp_path, pretended):
    names = ("start", "scores_conv2", "contract_conv2")
    asked: list[str] = []

    def command(name: str, settings: Path) -> list[str]:
        asked.append(name)
        return pretended(name, settings)

    first, second = tmp_path / "first", tmp_path / "second"
    run.visit(REHEARSAL, out=first, minutes=5, patterns=names, command_of=pretended)
    kept = tmp_path / "kept" / FILE
    run.visit(REHEARSAL, out=second, minutes=5, patterns=names, earlier=kept, command_of=command)
    assert asked == ["start", "scores_conv2"]
    assert visited(second).keys() == visited(first).keys()
    assert visited(second)["contract_conv2"]["visit"] == json.loads((first / FILE).read_text())["started"]


def test_visit_to_another_machine_is_not_resumed(tmp_path, pretended):
    run.visit(REHEARSAL, out=tmp_path, minutes=5, patterns=("start",), command_of=pretended)
    earlier = tmp_path / "earlier.json"
    values = json.loads((tmp_path / FILE).read_text())
    values["hardware"]["gpus"] = ["Pretended GPU, 1 MiB"]
    earlier.write_text(json.dumps(values))
    with pytest.raises(ResumeError, match="of another visit: hardware is"):
        run.visit(REHEARSAL, out=tmp_path, minutes=5, patterns=("start",), earlier=earlier, command_of=pretended)


def test_visit_without_an_earlier_one_is_not_resumed(tmp_path, pretended):
    with pytest.raises(ResumeError, match="no earlier visit to go on with"):
        run.visit(REHEARSAL, out=tmp_path, minutes=5, earlier=tmp_path / "none.json", command_of=pretended)


def test_flags_of_a_cell_come_after_those_that_are_set():
    both = run.with_variables({"XLA_FLAGS": "--mine", "PATH": "p"}, {"XLA_FLAGS": "--cells", "KERAS_BACKEND": "jax"})
    assert both == {"XLA_FLAGS": "--mine --cells", "PATH": "p", "KERAS_BACKEND": "jax"}


def test_visit_ends_where_a_cell_refuses(tmp_path, pretended):
    def command(name: str, settings: Path) -> list[str]:
        return (
            [sys.executable, "-c", f"import sys; sys.exit({REFUSED})"] if name == "start" else pretended(name, settings)
        )

    code = run.visit(REHEARSAL, out=tmp_path, minutes=5, patterns=("start", "contract_conv2"), command_of=command)
    assert code == 1
    assert list(visited(tmp_path)) == ["start"]


def test_killed_visit_leaves_a_valid_record_and_no_process(tmp_path):
    (tmp_path / "cells.py").write_text(CELLS)
    code = f"""
        import sys
        from pathlib import Path
        from benchmarks.visit import run
        from benchmarks.visit.settings import REHEARSAL
        folder = Path({str(tmp_path)!r})
        run.kept_folder = lambda: folder / "kept"
        command = lambda name, settings: [sys.executable, str(folder / "cells.py"), name]
        run.visit(REHEARSAL, out=folder, minutes=5, patterns=("start", "scores_conv5"), command_of=command)
    """
    runner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: (tmp_path / FILE).exists() and "pid" in (tmp_path / FILE).read_text())
    finally:
        runner.send_signal(signal.SIGKILL)
        runner.wait()
    cells = visited(tmp_path)
    assert cells["start"]["status"] == "complete"
    assert cells["scores_conv5"]["status"] == "running"
    wait_until(lambda: not alive(cells["scores_conv5"]["result"]["pid"]))


def alive(pid: int) -> bool:
    """Whether it runs; one that has ended and that nobody has asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition) -> None:
    for _ in range(int(PATIENCE_S / 0.05)):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it has not come true")
