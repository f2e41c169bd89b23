"""stdout and stderr in another encoding, closed or on a full disk: the work is done, without a traceback."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_cli import LITE, QUICK, contents, environment, run_process
from helpers_storage import fill, picture

pytestmark = [pytest.mark.quick, pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")]

JAXVIZ = f"{shlex.quote(sys.executable)} -m jaxviz"
CONVERT = f"{shlex.quote(sys.executable)} -m weights_convert"
RENDER = " ".join(("render", *LITE, *QUICK, "--filters", "0", "--out", "out"))

# Another encoding

NET = """
import jax, jaxviz

def net():
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 3, 2))

    def forward(weights, images):
        dimensions = ("NHWC", "HWIO", "NHWC")
        return {"é/日😀": jax.lax.conv_general_dilated(images, weights, (2, 2), "SAME", dimension_numbers=dimensions)}

    return jaxviz.Model.from_callable(forward, kernel, lambda rgb: rgb / 255, name="Größe 日")
"""
JOB = """
out = "jobs 日"
[defaults]
size = 32
crop = 4
steps = 1
[[atlas]]
model = "日.py:net"
layers = ["é*"]
"""
SMALL = ["--size", "32", "--crop", "4", "--steps", "1"]
COMMANDS = [
    ["layers", "日.py:net"],
    ["layers", "日.py:net", "--json"],
    ["render", "日.py:net", "é/日😀", *SMALL, "--out", "out 日", "--verbose"],
    ["render", "日.py:net", "é/日😀", *SMALL, "--out", "out 日", "--json", "--progress", "jsonl", "--overwrite"],
    ["atlas", "日.py:net", *SMALL, "--out", "out 日"],
    ["atlas", "日.py:net", *SMALL, "--out", "new 日", "--dry-run", "--no-measure"],
    ["run", "job 日.toml"],
    ["run", "job 日.toml", "--check"],
    ["run", "job 日.toml", "--check", "--json"],
    ["merge", "out 日"],
    ["export", "out 日", "--npz", "--sprite"],
    ["compare", "out 日", "é/日😀", "é/日😀"],
    ["gallery", "out 日"],
    ["gallery", "out 日", "--json"],
]
REFUSED = [["render", "日.py:net", "本"], ["merge", "本"], ["bench", "compare", "日", "本"], ["run", "本"]]
# All in one process; what each has written to stdout is cut out of it by the marks.
SESSION = (
    """
import json, sys, typer
from jaxviz.cli import app
from jaxviz.streams import open_streams
open_streams()
for command in json.loads(sys.argv[1]):
    code = app(command, standalone_mode=False)
    print(f"\\n{{MARK}} {{code or 0}}", flush=True)
""".replace("{{", "{")
    .replace("}}", "}")
    .replace("{MARK}", "END")
)


@pytest.fixture(scope="module", params=["cp1252", pytest.param("ascii", marks=pytest.mark.long)])
def session(request, tmp_path_factory) -> dict[str, tuple[int, str]]:
    """(exit code, stdout) of each command, in a process whose stdout and stderr have this encoding."""
    folder = tmp_path_factory.mktemp("encoding")
    (folder / "日.py").write_text(NET, encoding="utf-8")
    (folder / "job 日.toml").write_text(JOB, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", SESSION, json.dumps([*COMMANDS, *REFUSED])],
        cwd=folder,
        env=environment(PYTHONIOENCODING=request.param, PYTHONUTF8="1"),
        capture_output=True,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    encoding = request.param.partition(":")[0]
    parts = done.stdout.decode(encoding).split("\nEND ")
    texts = [parts[0], *(part.partition("\n")[2] for part in parts[1:-1])]
    codes = [int(part.partition("\n")[0]) for part in parts[1:]]
    names = [" ".join(command) for command in [*COMMANDS, *REFUSED]]
    return dict(zip(names, zip(codes, texts, strict=True), strict=True))


@pytest.mark.parametrize("command", [" ".join(command) for command in COMMANDS])
def test_names_that_the_encoding_lacks_do_no_harm_to(session, command):
    code, out = session[command]
    assert code == 0
    assert out
    if "--json" in command:
        json.loads(out)


@pytest.mark.parametrize("command", [" ".join(command) for command in REFUSED])
def test_refusing_names_that_the_encoding_lacks_has_its_exit_code(session, command):
    assert session[command] == (2, "")


def test_a_character_that_the_encoding_lacks_is_written_as_its_number(tmp_path):
    fill(tmp_path / "日", picture(1))
    ran = run_process("merge", "日", cwd=tmp_path, env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"})
    assert (ran.code, ran.err) == (0, "")
    assert r": \u65e5/" in ran.out


def test_a_name_that_is_not_unicode_is_written_with_the_number_of_its_byte(tmp_path):
    odd = b"caf\xe9".decode(errors="surrogateescape")
    fill(tmp_path / odd, picture(1))
    ran = run_process("merge", odd, cwd=tmp_path, env={"PYTHONIOENCODING": "utf-8:strict", "PYTHONUTF8": "1"})
    assert (ran.code, ran.err) == (0, "")
    assert r": caf\udce9/" in ran.out


# Closed, or full


def shell(command: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """What a shell makes of it."""
    return subprocess.run(["sh", "-c", command], cwd=cwd, env=environment(), capture_output=True, check=False)


@pytest.mark.parametrize(
    "closed",
    ["<&- >&- 2>&-", pytest.param("2>&-", marks=pytest.mark.long), pytest.param(">&-", marks=pytest.mark.long)],
)
def test_render_goes_on_with_closed_streams(tmp_path, closed):
    ran = shell(f"{JAXVIZ} {RENDER} {closed}", tmp_path)
    assert (ran.returncode, b"compiling" in ran.stdout) == (0, False)
    pictures = [name for name in contents(tmp_path) if name.endswith("0000.png")]
    assert len(pictures) == 1


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (f"{JAXVIZ} models --json 2>&-", 0),
        (f"{JAXVIZ} models >&-", 0),
        (f"{JAXVIZ} merge nope 2>&-", 2),
        (f"{JAXVIZ} merge nope 2>/dev/full", 2),
        (f"{JAXVIZ} gallery pictures 2>&-", 0),
        (f"{JAXVIZ} gallery pictures 2>/dev/full", 0),
        (f"{CONVERT} convert nope 2>&-", 2),
        (f"{CONVERT} convert nope 2>/dev/full", 2),
    ],
)
def test_a_stream_that_takes_nothing_leaves_the_exit_code(tmp_path, command, code):
    fill(tmp_path / "pictures", picture(1))
    ran = shell(command, tmp_path)
    assert ran.returncode == code
    assert b"Traceback" not in ran.stderr
    assert b"error" not in ran.stdout


@pytest.mark.parametrize(
    "command",
    [
        f"{JAXVIZ} models",
        f"{JAXVIZ} models --json",
        f"{JAXVIZ} --help",
        f"{JAXVIZ} --version",
        f"{JAXVIZ} merge pictures",
        f"{CONVERT} --help",
        f"{CONVERT} convert {LITE[0]} --out weights",
    ],
)
def test_results_that_a_full_disk_takes_away_are_one_message(tmp_path, command):
    fill(tmp_path / "pictures", picture(1))
    ran = shell(f"{command} >/dev/full", tmp_path)
    assert ran.returncode == 1
    assert ran.stderr.decode().startswith("error: cannot write to stdout: No space left on device")
    assert ran.stderr.count(b"\n") == 1


def test_a_file_never_gets_the_number_of_a_closed_stream(tmp_path):
    code = "from jaxviz.streams import open_streams; open_streams(); print(open('file', 'w').fileno())"
    ran = shell(f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} <&- 2>&-", tmp_path)
    assert int(ran.stdout) > 2


def test_streams_of_somebodys_own_are_left_alone(monkeypatch):
    from io import StringIO

    from jaxviz.streams import open_streams

    own = StringIO()
    monkeypatch.setattr(sys, "stdout", own)
    monkeypatch.setattr(sys, "stderr", own)
    open_streams()
    assert (sys.stdout, sys.stderr) == (own, own)
