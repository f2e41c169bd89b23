"""`LayerResult`: the pictures of one layer in memory, as arrays, as a grid, on disk."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from jaxviz.config import RenderConfig
from jaxviz.judge.judgement import Judgement
from jaxviz.judge.plan_judge import PlanJudge
from jaxviz.pictures import images
from jaxviz.pictures.animation import check_format
from jaxviz.render.plan import Plan, device_name
from jaxviz.render.recipe import Picture, Recipe, Status
from jaxviz.store import folder as storage
from jaxviz.store.contents import first_saved, folder_path, other_jaxlib
from jaxviz.store.locks import FolderLock

log = logging.getLogger("jaxviz")


@dataclass(frozen=True)
class LayerResult:
    """The pictures of one layer, in the order the filters were asked for."""

    items: tuple[Picture, ...]
    plan: Plan

    @property
    def recipe(self) -> Recipe:
        """What decided the pictures."""
        return self.plan.recipe

    @property
    def config(self) -> RenderConfig:
        """How they were made."""
        return self.plan.config

    @property
    def filters(self) -> tuple[int, ...]:
        """The filter of each picture; with replicas every filter comes so many times."""
        return tuple(item.filter_index for item in self.items)

    @cached_property
    def pictures(self) -> UInt8[np.ndarray, "filters height width 3"]:
        """RGB pictures, one for each replica; a dead or nan filter has a labelled placeholder tile."""
        return np.stack([item.picture for item in self.items])

    @cached_property
    def scores(self) -> Float32[np.ndarray, " filters"]:
        """The plain objective on each final image."""
        return np.array([item.score for item in self.items], np.float32)

    @cached_property
    def history(self) -> Float32[np.ndarray, "filters steps"]:
        """What was optimised, before each step."""
        return np.stack([item.history for item in self.items])

    @property
    def status(self) -> tuple[Status, ...]:
        """`ok`, `dead` or `nan` for each filter."""
        return tuple(item.status for item in self.items)

    def grid(
        self, *, columns: int | None = None, numbers: bool = False, margin_px: int = images.GRID_MARGIN_PX
    ) -> Image.Image:
        """All pictures in one image, with a black margin; `numbers` writes the filter into each corner."""
        shown = self.filters if numbers else None
        sheet = images.grid(list(self.pictures), columns=columns, numbers=shown, margin_px=margin_px)
        return Image.fromarray(sheet)

    def judge(self, natural_images: str | Path | None = None) -> Judgement:
        """The pictures beside natural images: scores, percentiles and ranks (judge.py).

        A dead or nan filter has a tile and no picture: its score and percentile are NaN, its rank is 0.

        Args:
            natural_images: a folder of images; None: crops of the photographs that scikit-image ships.

        Raises:
            ConfigError: the folder holds no images, or scikit-image is wanted and not installed.
        """
        judgement = PlanJudge(self.plan, natural_images).judgement(list(self.pictures), self.filters)
        return judgement.only(np.array([status == "ok" for status in self.status]))

    def save(
        self,
        out: str | Path,
        *,
        name: str | None = None,
        overwrite: bool = False,
        judge: bool = False,
        natural_images: str | Path | None = None,
        animate: str | None = None,
    ) -> Path:
        """Write PNGs, `grid.png` and `layer.json` to OUT/<model>/<layer>/<name> and return that folder.

        Pictures of the same recipe that are there already are kept.

        Args:
            out: the folder above all.
            name: the label; the preset's name by default.
            overwrite: replace another recipe's pictures.
            judge: also write each picture's percentile and rank beside natural images; see `judge`.
            natural_images: for `judge`.
            animate: "webp" or "gif": also the grid growing out of noise, from the snapshots.

        Raises:
            OutputFolderError: the folder holds another recipe's pictures and `overwrite` is False.
            FolderInUseError: another process is writing to it.
            ConfigError: an unknown `animate`, or no natural images.
            StorageError: the disk is full or read-only.
        """
        if animate is not None:
            check_format(animate)
        critic = PlanJudge(self.plan, natural_images) if judge else None
        label = self.config.preset if name is None else name
        first_saved(path := folder_path(out, self.recipe.model, self.recipe.layer, label))  # raises if it is no folder
        with FolderLock.acquire(path):
            folder = storage.LayerFolder.open(
                out,
                self.recipe,
                label=label,
                overwrite=overwrite,
                snapshots=self.plan.snapshots,
                network=self.plan.facts,
                alone=True,
            )
            missing = [item for item in self.items if (item.filter_index, item.replica) not in folder.done]
            if missing and (others := other_jaxlib(path, folder.done.values())):
                log.warning("%s. To render all anew, give another name, or overwrite=True", others)
            for item in missing:
                folder.write(item)
            folder.finish(device=device_name(), judge=critic, animate=animate)
        return folder.path
