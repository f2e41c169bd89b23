"""READ FIRST: runs the race. `python -m benchmarks.race --help`; README.md beside this file explains the rules.

    main -> run: material (weights and starting images, once) -> one worker per contestant, built once
         -> layer by layer: everybody prepares; then rounds A B C A B C ..., everybody but one stopped
         -> results.summarise: raw seconds and scores become the figures -> one JSON file per race

A contestant that cannot take part, or fails, is recorded with the reason, and the others go on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine, results
from benchmarks.contestants import ENTRIES
from benchmarks.settings import CONTESTANTS, LAYERS, MODEL, QUICK, RESULTS, ROOT, TRIALS, Settings, Task
from benchmarks.workers import Worker, WorkerError, worker_environment
from jaxviz.models import architecture

BUSY_LOAD = 0.5  # a load average above this means that somebody else is computing
EXIT_REFUSED, EXIT_DOUBTFUL = 2, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code: 0 done, 1 done but not everything in it can be trusted, 2 refused."""
    options = _parser().parse_args(arguments)
    settings = _settings(options)
    refusal = _unsuited(settings)
    load = machine.load_average()
    if refusal is None and load > BUSY_LOAD:
        busy = f"the load average is {load:.2f}: somebody else is computing, and nothing measured now would be true"
        if options.force:
            _say(f"WARNING: {busy}. Going on because of --force, and the result says so.")
        else:
            refusal = f"{busy}. Wait until it is below {BUSY_LOAD}, or give --force"
    if refusal is not None:
        _say(f"race: {refusal}")
        return EXIT_REFUSED
    result = run(settings, forced=load > BUSY_LOAD)
    path = write(result, options.out or (RESULTS if settings.is_whole() else TRIALS))
    _say(f"wrote {path}")
    print(results.as_text(result))
    doubts = results.problems(result)
    for doubt in doubts:
        _say(f"DOUBTFUL: {doubt}")
    return EXIT_DOUBTFUL if doubts else 0


def run(settings: Settings, *, forced: bool = False) -> dict[str, Any]:
    """The whole race; the result as it is written, figures included."""
    started, load, commit = datetime.now(UTC), machine.load_average(), machine.git_state()
    with tempfile.TemporaryDirectory(prefix="race-") as name:
        folder = Path(name)
        hashes = _make_material(folder, settings)
        task = folder / "task.json"
        Task(
            weights=str(folder / "weights.safetensors"),
            starts=str(folder / "starts.npy"),
            size=settings.size,
            steps=settings.steps,
            step_size=settings.step_size,
            batch=min(settings.batch, settings.filters),
        ).write(task)
        workers = {
            name: Worker(name, task, folder=folder, extra_environment=ENTRIES[name].environment)
            for name in (*settings.contestants, "dot")
        }
        try:
            measured = _Race(settings, workers).run()
        finally:
            for worker in workers.values():
                worker.close()
    return results.summarise(
        {
            "schema": results.SCHEMA,
            "started": started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "git": commit,
            "hardware": machine.hardware(),
            "versions": machine.versions(),
            "environment": machine.tuning(worker_environment(Path("(empty)"))),
            "load_average_at_start": load,
            "forced": forced,
            "settings": settings.to_json() | {"model": MODEL, "activation_border": 0},
            "material": hashes,
            **measured,
        }
    )


def write(result: dict[str, Any], folder: Path) -> Path:
    """A new file named by time and commit; an existing one is never replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    moment = datetime.fromisoformat(result["started"]).strftime("%Y-%m-%dT%H-%M-%SZ")
    path = folder / f"{moment}-{(result['git']['hash'] or 'nogit')[:7]}.json"
    text = json.dumps(result, indent=1, allow_nan=False)
    flat = re.sub(r"\[[^][{}]*\]", lambda found: " ".join(found[0].split()), text)  # a list of numbers on one line
    with path.open("x") as file:
        file.write(flat + "\n")
    return path


class _Race:
    """The workers and what they have answered."""

    def __init__(self, settings: Settings, workers: dict[str, Worker]) -> None:
        self.settings = settings
        self.dot = workers["dot"]
        self.running = {name: worker for name, worker in workers.items() if name != "dot"}
        self.absent: dict[str, str] = {}  # why

    def run(self) -> dict[str, Any]:
        """Raw measurements, layer by layer."""
        self.dot.wait_until_ready()
        for name, worker in list(self.running.items()):
            self._try(name, worker.wait_until_ready)
            if worker.unavailable is not None:
                self._leave(name, worker.unavailable)
        rates: dict[str, list[float]] = {"float32": [], "bfloat16": []}
        layers = {}
        for layer in self.settings.layers:
            for dtype, found in self.dot.ask("rates").items():
                rates[dtype] += found
            layers[layer] = self._layer(layer)
        contestants = {
            name: {
                "available": name not in self.absent,
                "reason": self.absent.get(name),
                "description": ENTRIES[name].description,
                "dtype": ENTRIES[name].dtype,
                "environment": ENTRIES[name].environment,
            }
            for name in self.settings.contestants
        }
        return {"dot_gflops": rates, "contestants": contestants, "layers": layers}

    def _layer(self, layer: str) -> dict[str, Any]:
        found: dict[str, dict[str, Any]] = {}
        for name, worker in list(self.running.items()):
            prepared = self._try(name, lambda worker=worker: worker.ask("prepare", layer=layer))
            if prepared is not None:
                count = self.settings.filters_measured(prepared["seconds_per_filter"], prepared["images_per_call"])
                found[name] = {**prepared, "filters_measured": count, "runs": []}
                _say(
                    f"{layer}: {name} compiled in {prepared['compile_s']:.1f} s, needs about "
                    f"{prepared['seconds_per_filter'] * self.settings.filters:.1f} s; measured on {count} filters"
                    + (f"; {prepared['form']}" if prepared["form"] else "")
                )
        for repeat in range(1, self.settings.repeats + 1):
            for name, worker in list(self.running.items()):
                filters = list(range(found[name]["filters_measured"]))
                answer = self._try(name, lambda w=worker, f=filters: w.ask("measure", filters=f))
                if answer is not None:
                    _record(found[name], answer)
                    _say(f"{layer}: round {repeat}/{self.settings.repeats} {name} {answer['seconds']:.2f} s")
        macs = architecture(MODEL).layer(layer, (self.settings.size, self.settings.size)).macs
        return {
            "macs_per_image": macs,
            "contestants": {name: values for name, values in found.items() if name in self.running},
        }

    def _try(self, name: str, action: Any) -> dict[str, Any] | None:
        """What the worker answers; None, and it is out of the race, if it fails."""
        try:
            answer: dict[str, Any] | None = action()
        except WorkerError as error:
            self._leave(name, f"failed: {error}")
            return None
        return answer

    def _leave(self, name: str, reason: str) -> None:
        _say(f"{name} is out: {reason}")
        self.absent[name] = reason
        del self.running[name]


def _record(entry: dict[str, Any], answer: dict[str, Any]) -> None:
    """Times of every run; scores of the first, and whether the others gave the same, bit for bit."""
    scores = {kind: answer.pop(f"{kind}_scores") for kind in results.SCORES}
    entry["scores_repeat"] = entry.setdefault("scores", scores) == scores and entry.get("scores_repeat", True)
    entry["runs"].append(answer)


def _make_material(folder: Path, settings: Settings) -> dict[str, str]:
    numbers = (settings.weights_seed, settings.starts_seed, settings.filters, settings.size)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.material", str(folder), *map(str, numbers)],
        cwd=ROOT,
        env=worker_environment(folder / "material"),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    hashes: dict[str, str] = json.loads(done.stdout)
    return hashes


def _unsuited(settings: Settings) -> str | None:
    """Why these settings cannot be raced."""
    for name in ("repeats", "filters", "steps", "size"):
        if getattr(settings, name) < 1:
            return f"--{name} {getattr(settings, name)} must be 1 or more"
    model = architecture(MODEL)
    for layer in settings.layers:
        if layer not in model.layers:
            return f"--layers {layer!r} is no layer of {MODEL}; see: jaxviz layers {MODEL}"
        if settings.filters > (channels := model.layer(layer).channels):
            return f"--filters {settings.filters} is more than the {channels} of {layer}"
        if 0 in model.layer(layer, (settings.size, settings.size)).shape:
            return f"--size {settings.size} leaves nothing of {layer}"
    return None


def _settings(options: argparse.Namespace) -> Settings:
    chosen = {
        field.name: value
        for field in dataclasses.fields(Settings)
        if (value := getattr(options, field.name, None)) is not None
    }
    for name in ("layers", "contestants"):
        if name in chosen:
            chosen[name] = tuple(chosen[name])
    return dataclasses.replace(QUICK if options.quick else Settings(), **chosen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.race", description="jaxviz against the other tools")
    parser.add_argument("--layers", nargs="+", metavar="LAYER", help=f"default: {' '.join(LAYERS)}")
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, metavar="NAME", help=" ".join(CONTESTANTS))
    parser.add_argument("--repeats", type=int, help="interleaved rounds (5)")
    parser.add_argument("--filters", type=int, help="the first so many of each layer (64)")
    parser.add_argument("--steps", type=int, help="of the ascent (30)")
    parser.add_argument("--size", type=int, help="side of the images in pixels (180)")
    parser.add_argument("--slow-after", dest="slow_after_s", type=float, metavar="SECONDS", help="fewer filters (60)")
    parser.add_argument("--quick", action="store_true", help="a smoke run: one layer, 64 px, 2 steps, 2 filters")
    parser.add_argument("--force", action="store_true", help="race although the machine is busy")
    parser.add_argument("--out", type=Path, help="folder; default benchmarks/results for whole races, else out/race")
    return parser


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
