"""jaxviz through its public API, configured as its command line does: `load_model`, `render_layer`.

Its time includes what the others' does not: the final scores (a forward pass more) and the finished pictures.
"""

from __future__ import annotations

import time

import jax
import numpy as np

import jaxviz
from benchmarks.clock import CompileClock
from benchmarks.contestants import Climb, Prepared, UnavailableError
from benchmarks.settings import INITIAL_RANGE, Task
from jaxviz.errors import ConfigError
from jaxviz.render.plan import plan_render


class Jaxviz:
    """Chooses its batch size and devices itself."""

    def __init__(self, task: Task, *, dtype: str = "float32") -> None:
        try:
            self._config = jaxviz.RenderConfig.keras(
                image_size=task.size,
                steps=task.steps,
                step_size=task.step_size,
                initial_range=INITIAL_RANGE,
                activation_border=0,
                crop=min(25, (task.size - 1) // 2),
                dtype=dtype,
            )
        except ConfigError as error:
            raise UnavailableError(str(error)) from error
        self.task = task
        self.images_per_call = 1
        self._model = jaxviz.load_model(task.model, weights=task.weights)
        self._clock = CompileClock()
        self._layer = ""

    def prepare(self, layer: str) -> Prepared:
        """Render the smallest number of filters that fills a call; fewer would use, and compile for, fewer devices."""
        self._layer = layer
        starts = np.load(self.task.starts)
        per_device = plan_render(self._model, layer, [0], self._config).recipe.batch_size
        devices = len(jax.local_devices())
        count = self.images_per_call = min(per_device * devices, len(starts))
        self._clock.reset()
        started = time.perf_counter()
        jaxviz.render_layer(self._model, layer, range(count), self._config, initial_images=starts[:count])
        seconds = time.perf_counter() - started
        compile_s = self._clock.seconds()
        return Prepared(
            compile_s,
            max(0.0, seconds - compile_s) / self.images_per_call,
            f"{per_device} images per device and call on {devices} {jax.default_backend()} device"
            + ("s" if devices > 1 else ""),
        )

    def climb(self, filters: np.ndarray, starts: np.ndarray) -> Climb:
        """One call of the public function."""
        result = jaxviz.render_layer(self._model, self._layer, filters.tolist(), self._config, initial_images=starts)
        return Climb(result.history, result.scores)

    def final_scores(self, climb: Climb) -> np.ndarray:
        """They came with the pictures."""
        scores: np.ndarray = climb.final
        return scores
