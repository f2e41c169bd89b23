"""layer.json: what is known of a layer's folder as a whole, as one typed record, and its only reader. No jax.

The pictures are the truth, and each says of itself what it is (provenance.py). Only here stand how and where they were
made, and how they compare with natural images.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from jaxviz.judge.values import Judged, Natural
from jaxviz.records import from_json
from jaxviz.render.recipe import LayerFacts, Recipe, Status
from jaxviz.store.provenance import SCHEMA, Key, Saved

LAYER_JSON = "layer.json"


class Entry(Judged, frozen=True):
    """One picture.

    Attributes:
        filter_index: the filter.
        replica: which of the filter's pictures, from 0.
        score: the plain objective on the final image; None where it is not finite.
        status: `ok`, `dead` or `nan`; a picture that is not `ok` is a labelled placeholder.
        attempt: how many attempts from other noise failed before this one.
        jaxlib: the version of jaxlib that made it.
    """

    filter_index: int
    replica: int
    score: float | None
    status: Status
    attempt: int
    jaxlib: str

    @property
    def key(self) -> Key:
        """(filter, replica)."""
        return self.filter_index, self.replica


def entry_of(saved: Saved, judged: Judged | None) -> Entry:
    """What is known of a picture, with what was found of it beside natural images."""
    found = {name: getattr(judged or Judged(), name) for name in Judged.__struct_fields__}
    return Entry(saved.filter_index, saved.replica, saved.score, saved.status, saved.attempt, saved.jaxlib, **found)


class Grid(Struct, frozen=True):
    """How grid.png is laid out, and whether the filters' numbers are written into it."""

    columns: int
    numbers: bool


class LayerRecord(Struct, frozen=True, kw_only=True):
    """All of layer.json.

    Attributes:
        schema: that of the pictures.
        model, layer, label: where the folder is, by name.
        network: what the network says of the layer; None: not recorded.
        format: of the pictures, "png" or "webp".
        weights_sha256: the recipe's.
        recipe: of all pictures.
        counts: pictures by status.
        grid: the grid.
        timings: seconds and counts of the last run that wrote here.
        device: which that was made on, in words.
        filters: the pictures, by filter and replica.
        natural_images: what the pictures were put beside.
        versions: of the software of the last run.
    """

    schema: int
    model: str
    layer: str
    network: LayerFacts | None = None
    label: str
    format: str
    weights_sha256: str
    recipe: Recipe
    counts: dict[str, int]
    grid: Grid
    timings: dict[str, int | float | None]
    device: str
    filters: tuple[Entry, ...]
    natural_images: Natural | None
    versions: dict[str, str]


def read_layer_record(folder: Path) -> LayerRecord | str:
    """layer.json in a folder, or in words why it cannot be used."""
    try:
        record = from_json((folder / LAYER_JSON).read_bytes(), LayerRecord)
    except FileNotFoundError:
        return "it is missing"
    except OSError as error:
        return error.strerror or str(error)
    except ValueError:
        return "it cannot be read"
    return record if record.schema == SCHEMA else "it is of another recipe or format"
