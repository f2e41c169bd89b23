"""Truth beside a picture: how much the saved picture itself excites its filter, and how that compares.

A picture is judged as it was saved, uint8 RGB at its own size, sent through the model's `preprocess`. Its score is
compared with the same filter's scores on natural images (percentile), and with the other filters' scores on the same
picture (rank). Raw activations of different filters are not on one scale, so for the rank each filter's score is
standardised by its mean and standard deviation on the natural images. float32 throughout, on a GPU too.

Scores on the natural images can be kept in a folder; what is found there is checked against a batch computed anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from jaxviz.ascent import climb as ascent
from jaxviz.errors import ConfigError, StorageError
from jaxviz.files import cache_dir, write_atomically
from jaxviz.judge.natural_images import NaturalImages
from jaxviz.machine import compiler_options
from jaxviz.network.head import Route
from jaxviz.network.model import Model
from jaxviz.network.program import Prepared
from jaxviz.network.rules import Settings

log = logging.getLogger("jaxviz")

BATCH = 8  # images a call, the last call padded: flat memory, and equal images get equal scores
UNRANKED = 0
FORMAT = 1  # of the kept scores, part of their key
# Kept scores may come from another machine or jaxlib, whose rounding differs; another network differs by far more.
KEPT_TOLERANCE = 1e-3  # of a filter's range on the natural images
ROUNDING = 1e-5  # relative
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: how light red, green and blue are; Pillow's "L"


@dataclass(frozen=True, eq=False)
class Judgement:
    """What is true of some pictures; the arrays' axis is the picture.

    Attributes:
        scores: the objective on the saved picture.
        percentile: 0 to 100, see `percentiles`; NaN without natural images.
        rank: 1 and up, see `ranks`; `UNRANKED` without natural images.
        ranked: how many filters of the layer took part in the ranking.
        natural_sha256: of the natural images; None where there are none, as for the source.
        natural_source: where they come from.
        natural_count: how many there are.
        robust_rank: like `rank`, with no filter's spread taken as smaller than the layer's median.
    """

    scores: Float32[np.ndarray, " pictures"]
    percentile: Float[np.ndarray, " pictures"]
    rank: Int[np.ndarray, " pictures"]
    ranked: int = 0
    natural_sha256: str | None = None
    natural_source: str | None = None
    natural_count: int = 0
    robust_rank: Int[np.ndarray, " pictures"] | None = None

    def only(self, judged: Bool[np.ndarray, " pictures"]) -> Judgement:
        """The same, with nothing known of the other pictures."""
        robust = self.robust_rank
        return replace(
            self,
            scores=np.where(judged, self.scores, np.float32(np.nan)),
            percentile=np.where(judged, self.percentile, np.nan),
            rank=np.where(judged, self.rank, UNRANKED),
            robust_rank=None if robust is None else np.where(judged, robust, UNRANKED),
        )


def judge(
    model: Model,
    layer: str,
    pictures: UInt8[np.ndarray, "pictures height width 3"],
    filter_indices: Sequence[int],
    *,
    objective: Any,
    natural: NaturalImages | None,
    cache: Path | None = None,
) -> Judgement:
    """Judge some pictures of a layer's filters; to do so in several calls, make a `Judge`.

    Args:
        model: the network that they were rendered for.
        layer: the layer.
        pictures: as saved, RGB.
        filter_indices: the filter that each picture is of.
        objective: what was optimised. Of an objective that couples replicas, what is left without that.
        natural: the images to compare with, preferably of the pictures' size; None: scores only.
        cache: folder for scores on the natural images, such as `default_cache()`; None: computed every time.

    Raises:
        ConfigError: the objective does not suit the layer at the pictures' size, see `Judge.check`.
    """
    return Judge(model, layer, objective=objective, natural=natural, cache=cache)(pictures, filter_indices)


class Judge:
    """Judges pictures of one layer, in as many calls as one likes; the natural images are scored once, when needed."""

    def __init__(
        self, model: Model, layer: str, *, objective: Any, natural: NaturalImages | None, cache: Path | None = None
    ) -> None:
        self._scorer = _Scorer(model, layer, objective.plain())
        self._natural, self._cache = natural, cache

    def __call__(
        self, pictures: UInt8[np.ndarray, "pictures height width 3"], filter_indices: Sequence[int]
    ) -> Judgement:
        """Judge pictures, each of one of the filters; see `judge`."""
        own = np.asarray(filter_indices, np.int64)
        if not len(own):
            return Judgement(np.zeros(0, np.float32), np.zeros(0), np.zeros(0, np.int64))
        every_score = self._scorer.scores(pictures)  # (pictures, filters)
        scores = every_score[np.arange(len(own)), own]
        natural = self._natural
        if natural is None:
            return Judgement(scores, np.full(len(own), np.nan), np.full(len(own), UNRANKED))
        reference = self._reference
        return Judgement(
            scores,
            percentiles(scores, reference[:, own]),
            ranks(every_score, own, reference),
            int(_varies(reference).sum()),
            natural.sha256,
            natural.source,
            len(natural.images),
            ranks(every_score, own, reference, smallest_spread=1.0),
        )

    def check(self, size: tuple[int, int]) -> None:
        """Whether pictures of (height, width) can be judged; nothing is compiled.

        A picture may be smaller than the image that was optimised, and a border or a cell of the objective's be
        outside its map.

        Raises:
            ConfigError: the objective's own, about the layer's map at that size.
        """
        self._scorer.check(size)

    @cached_property
    def _reference(self) -> Float32[np.ndarray, "images filters"]:
        assert self._natural is not None
        return self._scorer.natural_scores(self._natural, self._cache)


def percentiles(
    scores: Float32[np.ndarray, " pictures"], reference: Float32[np.ndarray, "images pictures"]
) -> Float[np.ndarray, " pictures"]:
    """The share of natural images that the picture's filter scores lower than the picture, times 100.

    Equal scores count half; 100 means above all of them. NaN where the filter does not vary on the natural images,
    or a score is not finite. `reference` has the scores of each picture's own filter.
    """
    shares = (reference < scores).mean(axis=0) + 0.5 * (reference == scores).mean(axis=0)
    return np.where(_varies(reference) & np.isfinite(scores), 100.0 * shares, np.nan)


def ranks(
    scores: Float32[np.ndarray, "pictures filters"],
    own: Int[np.ndarray, " pictures"],
    reference: Float32[np.ndarray, "images filters"],
    *,
    smallest_spread: float = 0.0,
) -> Int[np.ndarray, " pictures"]:
    """1 + the number of filters whose standardised score on a picture is larger than its own filter's.

    Filters that do not vary on the natural images take no part; a picture of such a filter, or one whose score is not
    finite, is `UNRANKED`. A filter that hardly answers to the natural images has a tiny spread and is first on almost
    every picture; `smallest_spread`, in units of the layer's median spread, takes that away.
    """
    varies = _varies(reference)
    known = reference[:, varies]
    mean, spread = known.mean(axis=0, dtype=np.float64), known.std(axis=0, dtype=np.float64)
    spread = np.maximum(spread, smallest_spread * np.median(spread)) if spread.size else spread
    standardised = np.full(scores.shape, np.nan)
    standardised[:, varies] = (scores[:, varies] - mean) / spread
    of_own = standardised[np.arange(len(own)), own]
    larger = (standardised > of_own[:, None]).sum(axis=1)  # NaN is not larger than anything
    return np.where(np.isfinite(of_own), 1 + larger, UNRANKED)


def default_cache() -> Path:
    """Where scores on natural images are kept for the user."""
    return cache_dir() / "natural"


class _Scorer:
    """Scores every filter of one layer on images, a batch at a time."""

    def __init__(self, model: Model, layer: str, objective: Any) -> None:
        self.model, self.layer, self.objective = model, layer, objective
        self.platform = jax.local_devices()[0].platform
        self.bound: dict[tuple[int, int], tuple[Route, Prepared]] = {}

    def check(self, size: tuple[int, int]) -> None:
        """Raise ConfigError unless the objective suits the layer at a size, and the network sees RGB or grey."""
        if self.model.channels not in (1, 3):
            raise ConfigError(
                f"`judge`: {self.model.name} takes images of {self.model.channels} channels, which no photograph has; "
                "judge no pictures of it"
            )
        if size not in self.bound:
            bound = partial(ascent.bind, before_softmax=self.objective.before_softmax)
            (route,), prepared = bound(self.model, self.layer, [size], Settings(self.platform))
            self.objective.check(route.shape, self.layer)
            self.bound[size] = route, prepared

    def scores(self, pictures: UInt8[np.ndarray, "images height width 3"]) -> Float32[np.ndarray, "images filters"]:
        """All filters' scores on RGB images."""
        self.check(pictures.shape[1:3])
        return np.concatenate(
            [self._batch(pictures[first : first + BATCH]) for first in range(0, len(pictures), BATCH)]
        )

    def natural_scores(self, natural: NaturalImages, folder: Path | None) -> Float32[np.ndarray, "images filters"]:
        """All filters' scores on the natural images, from the folder where it has them."""
        first = self.scores(natural.images[:BATCH])
        shape = (len(natural.images), first.shape[1])
        file = None if folder is None else folder / f"{self._key(natural)}.f32"
        kept = None if file is None else _kept(file, shape)
        if kept is not None and _agree(kept, first):
            return kept
        found = self.scores(natural.images)
        if file is not None:
            _keep(file, found)
        return found

    def _batch(self, pictures: UInt8[np.ndarray, "images height width 3"]) -> Float32[np.ndarray, "images filters"]:
        padding = ((0, BATCH - len(pictures)), (0, 0), (0, 0), (0, 0))
        rgb = jnp.asarray(np.pad(pictures, padding, mode="edge"), jnp.float32)
        images = jnp.asarray(self.model.preprocess(_as_channels(rgb, self.model.channels)), jnp.float32)
        route, prepared = self.bound[pictures.shape[1], pictures.shape[2]]
        with jax.default_matmul_precision("highest"):
            scores = _compiled(self.platform)(prepared, self.objective, images, route=route)
        return np.asarray(scores)[: len(pictures)]

    def _key(self, natural: NaturalImages) -> str:
        """Hash of what decides the scores, but for the model's functions, which have none: see `_agree`."""
        model, objective = self.model, self.objective.to_data()
        parts = [FORMAT, model.name, model.weights_sha256, self.layer, objective, natural.images.shape, natural.sha256]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@lru_cache(maxsize=8)
def _compiled(platform: str) -> Any:
    """`_every_filter` under jit, with the options that the ascent has on a platform."""
    return jax.jit(_every_filter, static_argnames="route", compiler_options=compiler_options(platform))


def _every_filter(
    prepared: Prepared, objective: Any, images: Float[jax.Array, "batch height width channels"], *, route: Route
) -> Float[jax.Array, "batch filters"]:
    activations = jax.vmap(lambda image: route.activation(prepared, image))(images)
    filters = jnp.arange(objective.choices(activations.shape[-1]), dtype=jnp.int32)
    scores: jax.Array = jax.vmap(lambda activation: jax.vmap(partial(objective, activation))(filters))(activations)
    return scores


def _as_channels(rgb: Float[jax.Array, "batch height width 3"], channels: int) -> Float[jax.Array, "batch h w c"]:
    """What a network of RGB or of grey images sees of RGB ones."""
    return rgb if channels == 3 else (rgb @ jnp.asarray(LUMA, jnp.float32))[..., None]


def _varies(reference: Float32[np.ndarray, "images filters"]) -> Bool[np.ndarray, " filters"]:
    """Filters with more than one score, all of them finite."""
    varies: np.ndarray = np.isfinite(reference).all(axis=0) & (reference.max(axis=0) > reference.min(axis=0))
    return varies


def _keep(file: Path, scores: Float32[np.ndarray, "images filters"]) -> None:
    """Write a checksum of the key and the scores, then the scores."""
    content = scores.astype("<f4").tobytes()
    try:
        write_atomically(file, _checksum(file, content) + content)
    except StorageError as error:
        log.info("scores on natural images are not kept: %s", error)


def _kept(file: Path, shape: tuple[int, int]) -> Float32[np.ndarray, "images filters"] | None:
    """What `_keep` wrote; None unless it is there, whole and of this shape."""
    try:
        whole = file.read_bytes()
    except OSError:
        return None
    length = hashlib.sha256().digest_size
    checksum, content = whole[:length], whole[length:]
    if checksum != _checksum(file, content) or len(content) != 4 * shape[0] * shape[1]:
        return None
    return np.frombuffer(content, "<f4").astype(np.float32).reshape(shape)


def _checksum(file: Path, content: bytes) -> bytes:
    return hashlib.sha256(file.stem.encode() + content).digest()


def _agree(kept: Float32[np.ndarray, "images filters"], first: Float32[np.ndarray, "first filters"]) -> bool:
    """Whether kept scores are this network's: the first batch, computed anew, says so.

    A model is also made of functions (`Model.from_callable`), which no hash tells apart.
    """
    with np.errstate(invalid="ignore"):  # what is not finite never agrees
        allowed = KEPT_TOLERANCE * np.ptp(kept, axis=0) + ROUNDING * np.abs(first)
        return bool((np.abs(kept[: len(first)] - first) <= allowed).all())
