"""Places that cannot be looked at: no home folder, somebody else's cache, a current folder that is gone.

As root every folder can be read, so a name that no file system takes stands for a folder that cannot be looked into:
both are an OSError where a file that is only not there is none.
"""

from __future__ import annotations

import logging
import os
import pwd
from pathlib import Path

import jax
import pytest
from helpers_cli import LITE, QUICK, TINY, install_tiny_model, left_overs, run
from helpers_storage import fill, picture
from typer.testing import CliRunner

from jaxviz import machine
from jaxviz.errors import StorageError, WeightsUnavailableError
from jaxviz.files import cache_dir, find_file, keras_cache_dir, looking_at, warn_once
from jaxviz.store.contents import is_site
from weights_convert.__main__ import app as weights_app
from weights_convert.locate import obtain_weights

pytestmark = pytest.mark.quick

NO_NAME = "x" * 300  # a file's name has at most 255 bytes
RENDER = ("render", TINY, "first_conv", *QUICK, "--filters", "0")


@pytest.fixture(autouse=True)
def say_all_anew() -> None:
    warn_once.cache_clear()


def forget_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user without an entry in the password file, in an environment without HOME."""

    def unknown(*_: object) -> None:
        raise KeyError("uid not found")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "JAXVIZ_CACHE", "KERAS_HOME", "XDG_CACHE_HOME", "LOGNAME", "USER"):
        monkeypatch.delenv(name, raising=False)


def nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches in the home folder of a user who does not exist."""
    monkeypatch.setenv("JAXVIZ_CACHE", "~nobody-of-that-name/cache")
    monkeypatch.setenv("KERAS_HOME", "~nobody-of-that-name/keras")


def not_to_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches where even asking for a file is an error."""
    monkeypatch.setenv("JAXVIZ_CACHE", f"/tmp/{NO_NAME}")
    monkeypatch.setenv("KERAS_HOME", f"/tmp/{NO_NAME}")


PLACES = pytest.mark.parametrize("place", [forget_home, nobodys, not_to_be_looked_at])


# Caches


@PLACES
def test_models_are_listed_where_no_cache_can_be_looked_at(monkeypatch, place):
    place(monkeypatch)
    ran = run("models")
    assert (ran.code, "resnet50v2" in ran.out) == (0, True)


@PLACES
def test_installed_weights_are_found_where_no_cache_can_be_looked_at(monkeypatch, place):
    place(monkeypatch)
    assert obtain_weights(LITE[0], head=False).arrays


@PLACES
def test_a_cache_that_cannot_be_looked_at_is_named_once(monkeypatch, caplog, place):
    place(monkeypatch)
    with caplog.at_level(logging.WARNING, "jaxviz"):
        for _ in range(2):
            assert find_file(lambda: cache_dir() / "weights" / "file") is None
    (record,) = caplog.records
    assert "JAXVIZ_CACHE" in record.message or NO_NAME in record.message


def test_a_cache_without_the_file_is_nothing_to_speak_of(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "jaxviz"):
        assert find_file(lambda: tmp_path / "none" / "file") is None
    assert caplog.records == []


@pytest.mark.parametrize("place", [forget_home, nobodys])
def test_a_download_that_cannot_be_kept_is_refused_before_it_begins(monkeypatch, place):
    place(monkeypatch)
    monkeypatch.setattr("weights_convert.locate._download", lambda *_, **__: pytest.fail("it began"))
    monkeypatch.setattr("weights_convert.locate._local_published", lambda *_, **__: None)
    with pytest.raises(StorageError, match="set JAXVIZ_CACHE to the full path of a folder"):
        obtain_weights("resnet50v2", head=False)


@PLACES
def test_no_download_names_the_ways_out_where_no_cache_can_be_looked_at(monkeypatch, place):
    place(monkeypatch)
    with pytest.raises(WeightsUnavailableError, match="JAXVIZ_CACHE" if place is not not_to_be_looked_at else NO_NAME):
        obtain_weights("resnet50v2", head=True, download=False)


@PLACES
def test_a_download_into_a_cache_that_cannot_be_made_is_one_message(monkeypatch, tmp_path, place):
    place(monkeypatch)
    monkeypatch.chdir(tmp_path)
    ran = run("render", "resnet50v2", "conv1_conv", *QUICK, "--filters", "0")
    errors = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert (ran.code, len(errors)) == (1, 1), ran
    assert "JAXVIZ_CACHE" in errors[0]
    assert not Path("out").exists()


@PLACES
def test_convert_says_where_its_file_could_go(monkeypatch, tmp_path, place):
    place(monkeypatch)
    ran = CliRunner().invoke(weights_app, ["convert", LITE[0]], catch_exceptions=False)
    assert (ran.exit_code, ran.stdout) == (1, "")
    ran = CliRunner().invoke(weights_app, ["convert", LITE[0], "--out", str(tmp_path / "w")], catch_exceptions=False)
    assert ran.exit_code == 0


def test_keras_home_is_named_where_there_is_no_home(monkeypatch):
    forget_home(monkeypatch)
    with pytest.raises(StorageError, match="this user has no home folder: set KERAS_HOME"):
        keras_cache_dir()


def test_the_home_of_nobody_is_named_with_its_variable(monkeypatch):
    nobodys(monkeypatch)
    with pytest.raises(StorageError, match="JAXVIZ_CACHE '~nobody-of-that-name/cache' is in the home folder of nobody"):
        cache_dir()


# Compiled programs


def in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where the cache's folder should be."""
    monkeypatch.setenv("JAXVIZ_CACHE", __file__)


def in_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that leads to itself."""
    link = Path(os.environ["JAXVIZ_CACHE"]) / "loop"
    link.symlink_to(link)
    monkeypatch.setenv("JAXVIZ_CACHE", str(link))


@pytest.mark.parametrize("place", [forget_home, nobodys, not_to_be_looked_at, in_a_file, in_a_loop])
def test_render_goes_without_compiled_programs_of_before(monkeypatch, tmp_path, place):
    install_tiny_model(monkeypatch)
    place(monkeypatch)
    before = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        ran = run(*RENDER, "--out", tmp_path / "out")
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert ran.code == 0
    assert ran.err.count("compiled programs are not kept") == 1
    assert left_overs(tmp_path) == []


def test_a_cache_for_compiled_programs_is_made(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXVIZ_CACHE", str(tmp_path / "new"))
    before = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        machine.use_compilation_cache()
        assert Path(jax.config.jax_compilation_cache_dir).parent == tmp_path / "new" / "compiled"
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


# The current folder


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A current folder that somebody has removed; another folder that is there."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    return tmp_path


def test_render_does_not_need_the_current_folder(monkeypatch, gone):
    install_tiny_model(monkeypatch)
    assert run(*RENDER, "--out", gone / "out").code == 0


@pytest.mark.parametrize(
    "command",
    [RENDER, (*RENDER, "--weights", "w.h5"), (*RENDER, "--images", "i"), ("layers", "net.py:f"), ("layers", "net:f")],
    ids=" ".join,
)
def test_what_needs_the_current_folder_is_one_message_when_it_is_gone(monkeypatch, gone, command):
    install_tiny_model(monkeypatch)
    ran = run(*command)
    assert (ran.code in (1, 2), ran.out, ran.err.count("error: ")) == (True, "", 1), ran


# Paths that the user names


@pytest.mark.parametrize(
    "command",
    [
        ("run", f"{NO_NAME}/job.toml"),
        ("bench", "--out", f"{NO_NAME}/b.json"),
        ("bench", "compare", f"{NO_NAME}/a.json", f"{NO_NAME}/b.json"),
        ("layers", f"{NO_NAME}/net.py:f"),
        ("gallery", NO_NAME),
        ("gallery", "pictures", "--out", NO_NAME),
        ("merge", NO_NAME),
        ("export", NO_NAME, "--npz"),
        ("export", "pictures", "--npz", "--out", NO_NAME),
        ("compare", NO_NAME, "a", "b"),
        (*RENDER, "--out", NO_NAME),
        (*RENDER, "--images", NO_NAME),
        (*RENDER, "--weights", NO_NAME),
        (*RENDER, "--objective", "direction", "--vectors", NO_NAME),
    ],
    ids=lambda command: " ".join(command).replace(NO_NAME, "X"),
)
def test_a_path_that_cannot_be_looked_at_is_one_message(monkeypatch, tmp_path, command):
    install_tiny_model(monkeypatch)
    monkeypatch.chdir(tmp_path)
    fill(Path("pictures"), picture(1))
    ran = run(*command)
    assert (ran.code in (1, 2), ran.out, ran.err.count("error: ")) == (True, "", 1), ran
    assert NO_NAME in ran.err


def test_what_the_system_refuses_names_the_path(tmp_path):
    with (
        pytest.raises(StorageError, match=r"cannot read .*: File name too long"),
        looking_at(path := tmp_path / NO_NAME),
    ):
        path.is_file()


def test_a_folder_that_cannot_be_looked_into_is_no_gallery(tmp_path):
    assert not is_site(tmp_path / NO_NAME)
