"""The pictures of a plan beside natural images, and the findings as layer.json has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxviz.errors import ConfigError
from jaxviz.judge.judgement import UNRANKED, Judge, Judgement, default_cache
from jaxviz.judge.natural_images import natural_images
from jaxviz.judge.values import Judged, Natural
from jaxviz.render.plan import Plan


class PlanJudge:
    """Judges pictures of one plan; the natural images have the pictures' size."""

    def __init__(self, plan: Plan, folder: str | Path | None = None) -> None:
        """`folder` holds the natural images; None: crops of the photographs that scikit-image ships.

        Raises:
            ConfigError: the folder holds no images, scikit-image is wanted and not installed, or the objective does
                not suit the size of the pictures.
        """
        size = plan.config.picture_size
        natural = natural_images(folder, size)
        if natural is None:
            raise ConfigError(
                "`judge` needs natural images: give a folder of them, `images` DIR, or install "
                "scikit-image: pip install 'jaxviz-atlas[natural]'"
            )
        self._judge = Judge(plan.model, plan.layer, objective=plan.objective, natural=natural, cache=default_cache())
        self._judge.check(size)
        self.natural: Natural | None = Natural(natural.source, natural.sha256, len(natural.images))

    def judgement(self, pictures: Sequence[np.ndarray], filters: Sequence[int]) -> Judgement:
        """Scores, percentiles and ranks of pictures."""
        return self._judge(np.stack(pictures), filters)

    def __call__(self, pictures: Sequence[np.ndarray], filters: Sequence[int]) -> list[Judged]:
        """The same for each picture, as layer.json has it."""
        return entries(self.judgement(pictures, filters))


def entries(judgement: Judgement) -> list[Judged]:
    """What was found of each picture, as layer.json has it."""
    return [
        Judged(
            judged_score=_number(score),
            percentile=_number(percentile),
            rank=None if rank == UNRANKED else int(rank),
        )
        for score, percentile, rank in zip(judgement.scores, judgement.percentile, judgement.rank, strict=True)
    ]


def _number(value: Any) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
