"""Where facts are measured: a temporary folder, weights made once, and processes of their own.

The parent process starts no framework and waits while something is measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from benchmarks.material import STARTS, WEIGHTS
from benchmarks.processes import Worker, timed_command, worker_environment
from benchmarks.settings import MODEL, Settings, Target, Task, crop_of


class Bench:
    """What a fact's `measure` is given."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings
        self.hashes: dict[str, dict[str, str]] = {}  # of weights and starting images, by model
        self._made = 0

    def material(self, model: str) -> Path:
        """A folder with weights and starting images; ResNet50V2's weights are random, others published."""
        folder = self.folder / f"material-{model}"
        if model not in self.hashes:
            folder.mkdir()
            settings = self.settings
            how = {"weights_seed": settings.weights_seed if model == MODEL else None, "filters": settings.filters}
            with self.worker("material") as worker:
                self.hashes[model] = worker.ask(
                    "material.make", folder=str(folder), model=model, size=settings.size, **how
                )
        return folder

    def new_folder(self, name: str) -> Path:
        """One that was not there: for caches and pictures."""
        self._made += 1
        folder = self.folder / f"{self._made:03d}-{name}"
        folder.mkdir()
        return folder

    def worker(self, name: str, environment: dict[str, str] | None = None) -> Worker:
        """A fresh process with empty caches, for a `with` statement."""
        return Worker(name, self.new_folder(name), environment)

    def task(self, model: str, batch: int) -> dict[str, Any]:
        """What a contestant is told, as JSON."""
        settings, material = self.settings, self.material(model)
        task = Task(
            weights=str(material / WEIGHTS),
            starts=str(material / STARTS),
            size=settings.size,
            steps=settings.steps,
            batch=min(batch, settings.filters),
            model=model,
        )
        values: dict[str, Any] = msgspec.to_builtins(task)
        return values

    def render(
        self, worker: Worker, target: Target, filters: int, *, steps: int, pictures: Path | None = None, **config: Any
    ) -> dict[str, Any]:
        """Let a worker render the first so many filters as a stream; the answer is `renderer.render`'s.

        Pictures are dropped, or saved to an .npy file; `config` overrides the settings' (dtype, batch_size).
        """
        size = self.settings.size
        return worker.ask(
            "measure.renderer.render",
            model=target.model,
            weights=str(self.material(target.model) / WEIGHTS),
            layer=target.layer,
            filters=filters,
            config={"image_size": size, "crop": crop_of(size), "steps": steps, **config},
            pictures=None if pictures is None else str(pictures),
        )

    def command_line(self, target: Target, filters: int, *, steps: int, cache: Path, out: Path) -> dict[str, Any]:
        """`jaxviz render` in a process of its own, with that cache: its summary, times and peak memory.

        Raises:
            WorkerError: it failed.
        """
        size = self.settings.size
        options = {"filters": f"0-{filters - 1}", "steps": steps, "size": size, "crop": crop_of(size)}
        options |= {"weights": self.material(target.model) / WEIGHTS, "out": out}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return timed_command(
            ["jaxviz", "render", target.model, target.layer, "--json", *words],
            environment=worker_environment(cache),
            log=out / "log",
        )
