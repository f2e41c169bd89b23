"""Where facts are measured: a temporary folder, weights made once, and processes of their own.

The parent process imports no framework and waits while something is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.measure.settings import Settings, Target
from benchmarks.settings import MODEL, ROOT
from benchmarks.workers import LOG_LINES, Worker, WorkerError, worker_environment

RENDERER = "benchmarks.measure.renderer"
STARTS_SEED = 0
RSS_BYTES = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss


class Bench:
    """What a fact's `measure` is given."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings
        self.hashes: dict[str, dict[str, str]] = {}  # of weights and starting images, by model
        self._made = 0

    def material(self, model: str) -> Path:
        """A folder with `weights.safetensors` and `starts.npy`; ResNet50V2's weights are random, others published."""
        folder = self.folder / f"material-{model}"
        if model not in self.hashes:
            folder.mkdir()
            seed = self.settings.weights_seed if model == MODEL else "published"
            numbers = (seed, STARTS_SEED, self.settings.filters, self.settings.size)
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.material", str(folder), *map(str, numbers), model],
                cwd=ROOT,
                env=worker_environment(folder / "cache"),
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            self.hashes[model] = json.loads(done.stdout)
        return folder

    def new_folder(self, name: str) -> Path:
        """One that was not there: for caches and pictures."""
        self._made += 1
        folder = self.folder / f"{self._made:03d}-{name}"
        folder.mkdir()
        return folder

    @contextmanager
    def renderer(self, name: str) -> Iterator[Renderer]:
        """A fresh process that renders through the public API, asleep unless asked."""
        worker = Worker(name, None, folder=self.new_folder(name), extra_environment={}, module=RENDERER)
        try:
            worker.wait_until_ready()
            yield Renderer(self, worker)
        finally:
            worker.close()

    def command_line(self, target: Target, filters: int, *, steps: int, cache: Path, out: Path) -> dict[str, Any]:
        """`jaxviz render` in a process of its own, with that cache: its summary, times and peak memory.

        Raises:
            WorkerError: it failed.
        """
        settings = self.settings
        options = {"filters": f"0-{filters - 1}", "steps": steps, "size": settings.size, "crop": settings.crop}
        options |= {"weights": self.material(target.model) / "weights.safetensors", "out": out}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return _timed(
            [sys.executable, "-m", "jaxviz", "render", target.model, target.layer, "--json", *words],
            environment=worker_environment(cache),
            log=out / "log",
        )


class Renderer:
    """A renderer's process, seen from the parent."""

    def __init__(self, bench: Bench, worker: Worker) -> None:
        self._bench, self._worker = bench, worker

    def render(
        self, target: Target, filters: int, *, steps: int, pictures: Path | None = None, **config: Any
    ) -> dict[str, Any]:
        """Render the first so many filters as a stream; pictures are dropped, or saved to an .npy file.

        `config` overrides the settings' (dtype, batch_size). The answer is `renderer.render`'s.
        """
        asked = self._asked(target, filters, steps=steps, config=config)
        return self._worker.ask("render", **asked, pictures=None if pictures is None else str(pictures))

    def write(self, target: Target, filters: int, *, steps: int, out: Path | None) -> dict[str, Any]:
        """Render the first so many filters into a folder's files, or drop them; the answer is `renderer.write`'s."""
        asked = self._asked(target, filters, steps=steps, config={})
        return self._worker.ask("write", **asked, out=None if out is None else str(out))

    def _asked(self, target: Target, filters: int, *, steps: int, config: dict[str, Any]) -> dict[str, Any]:
        settings = self._bench.settings
        return {
            "model": target.model,
            "weights": str(self._bench.material(target.model) / "weights.safetensors"),
            "layer": target.layer,
            "filters": filters,
            "config": {"image_size": settings.size, "crop": settings.crop, "steps": steps, **config},
        }


def _timed(words: Sequence[str], *, environment: dict[str, str], log: Path) -> dict[str, Any]:
    """Run a command to its end; `summary` is the JSON that it printed."""
    with log.open("w") as errors:
        busy, began, started = machine.busy_cpu_s(), time.time(), time.perf_counter()
        process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        with process.stdout:
            text = process.stdout.read()
        # Whoever waits learns the peak memory. It is at least this process's own, which is small: no framework.
        _, status, used = os.wait4(process.pid, 0)
        seconds, busy_after = time.perf_counter() - started, machine.busy_cpu_s()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = "\n".join(log.read_text().splitlines()[-LOG_LINES:])
        raise WorkerError(f"{' '.join(words[1:4])} ended with exit code {process.returncode}:\n{tail}")
    own_s = used.ru_utime + used.ru_stime
    return {
        "began": began,
        "seconds": seconds,
        "own_cpu_s": own_s,
        "others_cpu_s": None if busy is None or busy_after is None else busy_after - busy - own_s,
        "peak_memory_mb": round(used.ru_maxrss * RSS_BYTES / 2**20, 1),
        "summary": json.loads(text),
    }
