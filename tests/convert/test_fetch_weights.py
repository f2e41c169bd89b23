"""The download against a local server that misbehaves: bounded in time, three ways out, no file left behind."""

from __future__ import annotations

import http.server
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner
from weight_files import assert_same_weights, random_weights, write_legacy_h5

from jaxviz.errors import StorageError, WeightsError, WeightsUnavailableError
from jaxviz.files import cache_dir
from weights_convert import digests, fetch
from weights_convert.__main__ import app
from weights_convert.locate import obtain_weights
from weights_convert.read import read_weights
from weights_convert.safetensors_file import cache_path
from weights_convert.sources import KERAS_FILES, KerasFile

MODEL = "resnet50v2"
BODY = b"x" * 300_000


class Server(http.server.ThreadingHTTPServer):
    """Answers as `behaviour` says; `requests` counts."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviour = "serve"
        self.content = BODY
        self.requests = 0
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/resnet/"

    def handle_error(self, request, client_address) -> None:
        """A client that hangs up is what most of these tests are about."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Server = self.server
        server.requests += 1
        behaviour = server.behaviour
        if behaviour == "truncate once":
            behaviour = "truncate" if server.requests == 1 else "serve"
        if behaviour == "missing":
            self.send_error(404)
            return
        if behaviour == "silent":
            server.released.wait(30)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(server.content)))
        self.end_headers()
        if behaviour == "serve":
            self.wfile.write(server.content)
        elif behaviour == "truncate":
            self.wfile.write(server.content[: len(server.content) // 2])
        elif behaviour == "stall":
            self.wfile.write(server.content[:200_000])
            server.released.wait(30)
        elif behaviour == "drip":
            while not server.released.wait(0.05):
                self.wfile.write(b"x")

    def log_message(self, *_args: object) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch):
    """The mirror that downloads come from, with timeouts of a test."""
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr(fetch, "CONNECT_TIMEOUT_S", 0.6)
    monkeypatch.setattr(fetch, "STALL_TIMEOUT_S", 0.6)
    monkeypatch.setitem(KERAS_FILES[MODEL], False, KerasFile("notop.h5", _md5(BODY), 1))
    server = Server()
    monkeypatch.setenv(fetch.MIRROR_VARIABLE, server.url)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def real_file(tmp_path_factory):
    return write_legacy_h5(tmp_path_factory.mktemp("real") / "notop.h5", random_weights(MODEL, head=False))


@pytest.fixture
def real_server(server, real_file, monkeypatch):
    """Serves a file that converts."""
    server.content = real_file.read_bytes()
    monkeypatch.setitem(KERAS_FILES[MODEL], False, KerasFile("notop.h5", digests.md5(real_file), 94))
    return server


class Recorder:
    """A progress bar that remembers."""

    def __init__(self, on_update=lambda: None) -> None:
        self.total = 0
        self.received = 0
        self.closed = False
        self.on_update = on_update

    def update(self, size: int) -> None:
        self.received += size
        self.on_update()

    def reset(self) -> None:
        self.received = 0

    def close(self) -> None:
        self.closed = True


def test_download_is_converted_kept_and_found_again(real_server):
    progress = Recorder()
    weights = obtain_weights(MODEL, head=False, progress=progress)
    assert_same_weights(weights.arrays, random_weights(MODEL, head=False))
    assert weights.metadata["source"] == f"{real_server.url}notop.h5"
    assert weights.metadata["licence"] == KERAS_FILES[MODEL][False].licence
    assert progress.received == progress.total == len(real_server.content)
    assert progress.closed
    assert _files_left() == [cache_path(MODEL, head=False)]
    assert_same_weights(read_weights(cache_path(MODEL, head=False), MODEL).arrays, weights.arrays)
    obtain_weights(MODEL, head=False)
    assert real_server.requests == 1


def test_truncated_transfer_is_started_again_once(real_server):
    real_server.behaviour = "truncate once"
    obtain_weights(MODEL, head=False)
    assert real_server.requests == 2


FAILURES = {  # behaviour: what the message says, how often the server is asked
    "truncate": ("cut off", 2),
    "wrong hash": ("MD5 is wrong", 2),
    "stall": ("stalled after 196608 bytes", 1),
    "silent": ("no answer", 1),
    "drip": ("no answer", 1),
    "missing": ("404", 1),
    "refused": ("Connection refused", 0),
}


@pytest.mark.parametrize("behaviour", FAILURES)
def test_failed_download_ends_soon_with_three_ways_out_and_no_file(server, behaviour, monkeypatch):
    reason, requests = FAILURES[behaviour]
    _misbehave(server, behaviour, monkeypatch)
    started_s = time.monotonic()
    result = CliRunner().invoke(app, ["convert", MODEL])
    assert time.monotonic() - started_s < 4
    assert result.exit_code == 1
    assert result.stdout == ""
    assert reason in result.stderr
    assert "error: no weights for MODEL resnet50v2" in result.stderr
    assert "convert resnet50v2 FILE (or --weights FILE" in result.stderr
    assert str(cache_path(MODEL, head=False)) in result.stderr
    assert "efficientnet_lite0" in result.stderr
    assert "Traceback" not in result.stderr
    assert server.requests == requests
    assert _files_left() == []


def test_name_resolution_that_hangs_ends(server, monkeypatch):
    released = threading.Event()

    def hang(*_args: object, **_kwargs: object) -> list:
        released.wait(30)
        raise socket.gaierror("gave up")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    started_s = time.monotonic()
    with pytest.raises(WeightsUnavailableError, match="no answer"):
        obtain_weights(MODEL, head=False)
    released.set()
    assert time.monotonic() - started_s < 3
    assert _files_left() == []


def test_limits_of_time_leave_room_for_start_up():
    assert fetch.CONNECT_TIMEOUT_S <= 10
    assert fetch.STALL_TIMEOUT_S <= 10


def test_mirror_that_is_no_url_is_told(monkeypatch):
    monkeypatch.setenv(fetch.MIRROR_VARIABLE, "/data/weights")
    with pytest.raises(WeightsUnavailableError, match=r"/data/weights/.* could not be fetched: Invalid URL"):
        obtain_weights(MODEL, head=False)


def test_file_with_the_right_hash_that_does_not_fit_leaves_nothing(server):
    with pytest.raises(WeightsError, match="of no known kind"):
        obtain_weights(MODEL, head=False)
    assert _files_left() == []


def test_interrupted_download_leaves_nothing(real_server):
    real_server.behaviour = "stall"
    main_thread = threading.main_thread().ident
    progress = Recorder(on_update=lambda: signal.pthread_kill(main_thread, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        obtain_weights(MODEL, head=False, progress=progress)
    assert progress.closed
    assert _files_left() == []


def test_disk_that_fills_up_during_the_download_is_no_network_failure(server, monkeypatch):
    def full(*_args: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(fetch._Watch, "update", full)
    with pytest.raises(StorageError, match="No space left on device"):
        obtain_weights(MODEL, head=False)
    assert _files_left() == []


def test_cache_folder_that_cannot_be_made_is_told(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("JAXVIZ_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="set JAXVIZ_CACHE"):
        obtain_weights(MODEL, head=False)


def _misbehave(server: Server, behaviour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if behaviour == "wrong hash":
        server.content = BODY[1:]
    elif behaviour == "refused":
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            monkeypatch.setenv(fetch.MIRROR_VARIABLE, f"http://127.0.0.1:{unused.getsockname()[1]}/")
    else:
        server.behaviour = behaviour


def _md5(content: bytes) -> str:
    import hashlib

    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _files_left() -> list[Path]:
    """Everything in the cache, temporary folders included."""
    return [path for path in cache_dir().rglob("*") if path.is_file() or path.name.startswith(".")]
