"""One run for one folder: the second is told by whom it is in use; what a dead one left does not matter."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers_cli import environment

from jaxviz.errors import FolderInUseError, StorageError
from jaxviz.files import remove_left_overs, write_atomically
from jaxviz.render.options import for_command_line
from jaxviz.render.shard import Shard
from jaxviz.store.locks import FolderLock, lock_files, locked

pytestmark = pytest.mark.quick

HOLD = "import sys, time, pathlib; from jaxviz.store.locks import *; "
HOLD += "lock = FolderLock.acquire(pathlib.Path(sys.argv[1])); "
HOLD += "print('held', flush=True); time.sleep(60)"


def holder(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def end(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert child.stdout is not None
    child.stdout.close()


def test_second_owner_is_told_process_and_host_of_the_first(tmp_path: Path) -> None:
    child = holder(tmp_path)
    try:
        with pytest.raises(FolderInUseError) as caught:
            FolderLock.acquire(tmp_path)
    finally:
        end(child)
    words = [str(tmp_path), f"process {child.pid} ", socket.gethostname(), "--shard", "--out"]
    assert [word for word in words if word not in for_command_line(caught.value)] == []


def test_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    end(holder(tmp_path))
    assert len(lock_files(tmp_path)) == 1
    with FolderLock.acquire(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_lock_file_that_nobody_holds_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".jaxviz-lock-1-of-2").write_bytes(b"left behind by a shard that was killed")
    FolderLock.acquire(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


def test_released_lock_leaves_no_file(tmp_path: Path) -> None:
    lock = FolderLock.acquire(tmp_path / "folder")
    lock.release()
    lock.release()
    assert list((tmp_path / "folder").iterdir()) == []


@pytest.mark.parametrize(
    ("first", "second", "allowed"),
    [
        (Shard(1, 3), Shard(2, 3), True),
        (Shard(1, 3), Shard(1, 3), False),
        (Shard(1, 3), Shard(2, 4), False),
        (Shard(1, 13), Shard(2, 3), False),
        (None, Shard(1, 3), False),
        (Shard(1, 3), None, False),
        (None, None, False),
    ],
    ids=str,
)
def test_only_shards_of_one_job_work_side_by_side(
    tmp_path: Path, first: Shard | None, second: Shard | None, allowed: bool
) -> None:
    with FolderLock.acquire(tmp_path, first):
        if allowed:
            FolderLock.acquire(tmp_path, second).release()
        else:
            with pytest.raises(FolderInUseError):
                FolderLock.acquire(tmp_path, second)
    assert list(tmp_path.iterdir()) == []


def test_locks_of_several_folders_are_all_or_none(tmp_path: Path) -> None:
    free, taken = tmp_path / "free", tmp_path / "taken"
    with FolderLock.acquire(taken):
        with pytest.raises(FolderInUseError), locked([free, taken]):
            pytest.fail("it was not refused")
        assert lock_files(free) == []


def test_failure_after_the_lock_was_taken_lets_go_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: FolderLock) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(FolderLock, "sign", fail)
        with pytest.raises(StorageError, match=os.strerror(errno.EIO)):
            FolderLock.acquire(tmp_path)
    FolderLock.acquire(tmp_path).release()


def test_look_of_another_run_at_a_lock_file_is_waited_for(tmp_path: Path) -> None:
    look = FolderLock.acquire(tmp_path)
    threading.Timer(0.06, look.release).start()
    FolderLock.acquire(tmp_path).release()


def test_many_folders_are_locked_although_few_files_may_be_open(tmp_path: Path) -> None:
    code = """
import pathlib, resource, sys
from jaxviz.store.locks import locked
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
with locked([pathlib.Path(sys.argv[1]) / str(number) for number in range(300)]):
    print("held")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.stdout == "held\n", done.stderr


def test_lock_below_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        FolderLock.acquire(tmp_path / "file" / "folder")


# Temporary files of killed processes


def left_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a process leaves that is killed while it writes."""

    class KilledError(BaseException):
        pass

    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(KilledError):
            write_atomically(folder / "picture.png", b"picture")
    (found,) = folder.iterdir()
    return found


def test_left_overs_are_removed_by_whoever_is_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_behind(tmp_path, monkeypatch)
    remove_left_overs(tmp_path, alone=True)
    assert list(tmp_path.iterdir()) == []


def test_left_overs_of_a_running_process_are_kept_beside_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = left_behind(tmp_path, monkeypatch)
    remove_left_overs(tmp_path, alone=False)
    assert left.exists()


def test_left_overs_of_a_dead_process_are_removed_beside_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = left_behind(tmp_path, monkeypatch)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    left.rename(tmp_path / left.name.replace(f"-{os.getpid()}-", f"-{child.pid}-"))
    remove_left_overs(tmp_path, alone=False)
    assert list(tmp_path.iterdir()) == []


def test_left_overs_of_another_host_are_kept_beside_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = left_behind(tmp_path, monkeypatch)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    there = left.rename(tmp_path / f".jaxviz-tmp-{child.pid}-elsewhere-x1")
    remove_left_overs(tmp_path, alone=False)
    assert there.exists()


def test_other_files_are_no_left_overs(tmp_path: Path) -> None:
    kept = {".jaxviz-lock", "0001.png", ".jaxviz-notes", "layer.json"}
    for name in kept:
        (tmp_path / name).touch()
    remove_left_overs(tmp_path, alone=True)
    assert {file.name for file in tmp_path.iterdir()} == kept
