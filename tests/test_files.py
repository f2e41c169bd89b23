"""The one writer: whole files or none, whatever fails."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers_cli import LITE, QUICK, TINY, contents, install_tiny_model, left_overs, run, run_process
from helpers_storage import OTHER_RECIPE, fill, picture

from jaxviz.errors import StorageError
from jaxviz.files import check_writable, write_atomically
from jaxviz.store.folder import LayerFolder

# The one writer


def failing(code: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    return fail


# Where a write can fail: making the file, filling it, bringing it to the disk, giving it its name.
INJECTIONS = [(tempfile, "mkstemp"), (os, "fsync"), (os, "fdopen"), (Path, "replace"), (Path, "chmod")]
CODES = [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO]


@pytest.mark.parametrize("code", CODES, ids=[errno.errorcode[code] for code in CODES])
@pytest.mark.parametrize(("owner", "function"), INJECTIONS, ids=[name for _, name in INJECTIONS])
class TestFailingDisk:
    def test_write_raises_storage_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, function: str, code: int
    ) -> None:
        monkeypatch.setattr(owner, function, failing(code))
        with pytest.raises(StorageError, match=os.strerror(code)):
            write_atomically(tmp_path / "file", b"new")

    def test_write_keeps_the_old_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, function: str, code: int
    ) -> None:
        (tmp_path / "file").write_bytes(b"old")
        with monkeypatch.context() as broken:
            broken.setattr(owner, function, failing(code))
            with pytest.raises(StorageError):
                write_atomically(tmp_path / "file", b"new")
        assert contents(tmp_path) == {"file": b"old"}


def test_write_replaces_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    write_atomically(tmp_path / "file", b"new")
    assert contents(tmp_path) == {"file": b"new"}


def test_write_makes_the_folders(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "file", b"new")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"new"


def test_written_file_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", b"new")
    finally:
        os.umask(old)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


def test_check_writable_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "folder")
    assert list((tmp_path / "folder").iterdir()) == []


def test_check_writable_below_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        check_writable(tmp_path / "file" / "folder")


def test_overwrite_on_a_full_disk_loses_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, picture(1), picture(2))
    before = contents(tmp_path)
    folder = LayerFolder.open(tmp_path, OTHER_RECIPE, label="keras", overwrite=True)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", failing(errno.ENOSPC))
        with pytest.raises(StorageError):
            folder.write(picture(1, recipe=OTHER_RECIPE))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS], ids=["ENOSPC", "EROFS"])
@pytest.mark.parametrize(("owner", "function"), [(tempfile, "mkstemp"), (os, "fsync")], ids=["mkstemp", "fsync"])
def test_render_on_a_failing_disk_is_one_message_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, function: str, code: int
) -> None:
    install_tiny_model(monkeypatch)
    with monkeypatch.context() as broken:
        broken.setattr(owner, function, failing(code))
        ran = run("render", TINY, "first_conv", *QUICK, "--filters", "0-2", "--out", tmp_path / "out")
    errors = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert (ran.code, ran.out, len(errors)) == (1, "", 1)
    assert os.strerror(code) in errors[0]
    assert contents(tmp_path) == {}


def test_render_on_a_disk_that_fills_up_keeps_whole_pictures_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_tiny_model(monkeypatch)
    left = [True, True]

    def fill_up(descriptor: int) -> None:
        try:
            left.pop()  # of a list: several threads write
        except IndexError:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None

    command = ("render", TINY, "first_conv", *QUICK, "--filters", "0-2", "--out", tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fill_up)
        assert run(*command).code == 1
    assert len(contents(tmp_path)) == 2
    assert {Path(name).name for name in contents(tmp_path)} < {"0000.png", "0001.png", "0002.png"}
    assert run(*command).code == 0


def test_render_under_a_file_size_limit_is_one_message_and_nothing_half_written(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    ran = run_process("render", *LITE, *QUICK, "--filters", "0-3", "--out", "out", cwd=tmp_path, before=limit)
    errors = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert (ran.code, ran.out, len(errors)) == (1, "", 1), ran.err
    assert os.strerror(errno.EFBIG) in errors[0]
    assert "Traceback" not in ran.err
    assert contents(tmp_path) == {}


def test_no_write_leaves_a_temporary_file(tmp_path: Path) -> None:
    fill(tmp_path, picture(1), picture(2))
    assert left_overs(tmp_path) == []
