"""What happens in a run, as values: frozen structs, which whoever gave a `Report` is told one by one. No jax.

On the command line's JSON lines an event is its `name` and its fields; times are in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from msgspec import UNSET, Struct, UnsetType

if TYPE_CHECKING:
    from jaxviz.store.layer_record import Entry


class Event(Struct, frozen=True):
    """Base of all events."""

    name: ClassVar[str]


Report = Callable[[Event], None]


class Started(Event, frozen=True, kw_only=True):
    """All is checked and locked, and the first layer begins; of a shard, what its share is about."""

    name: ClassVar[str] = "start"
    pictures: int
    flop: int
    layers: int
    shard: str | None


class LayerEvent(Event, frozen=True):
    """Base of those about one layer."""

    model: str
    layer: str
    label: str


class LayerStarted(LayerEvent, frozen=True, kw_only=True):
    """A layer begins, with `missing` of its `pictures`; `Started` counted `expected` of them."""

    name: ClassVar[str] = "layer"
    expected: int
    flop_per_picture: int
    folder: str
    batch_size: int
    pictures: int
    missing: int


class Compiled(LayerEvent, frozen=True, kw_only=True):
    """Its program is compiled."""

    name: ClassVar[str] = "compiled"
    compile_s: float


class PictureEvent(LayerEvent, frozen=True):
    """Base of those about one picture."""

    filter_index: int
    replica: int


class Rendered(PictureEvent, frozen=True, kw_only=True):
    """A picture is rendered; `score` is None unless its status is ok."""

    name: ClassVar[str] = "rendered"
    status: str
    score: float | None


class Written(PictureEvent, frozen=True):
    """A picture is on the disk."""

    name: ClassVar[str] = "written"


class SmallerBatch(LayerEvent, frozen=True, kw_only=True):
    """Memory ran out, and the layer starts again."""

    name: ClassVar[str] = "smaller_batch"
    batch_size: int


class LayerDone(LayerEvent, frozen=True, kw_only=True):
    """The summary of a layer: `judged` pictures were put beside natural images, `missing` ones are other shards'."""

    name: ClassVar[str] = "done"
    folder: str
    grid: str
    animation: str | None
    filters: tuple[int, ...]
    replicas: int
    counts: dict[str, int]
    judged: tuple[Entry, ...]
    rendered: int
    already_there: int
    missing: int
    batch_size: int
    render_s: float
    compile_s: float | None
    device: str


class Note(Event, frozen=True):
    """Something that is done otherwise than one might expect."""

    name: ClassVar[str] = "note"
    message: str


class Logged(Event, frozen=True):
    """A line of the log."""

    name: ClassVar[str] = "log"
    level: str
    message: str


class Ended(Event, frozen=True):
    """The command ends; `message` says why, where that is an error or an interruption."""

    name: ClassVar[str] = "end"
    exit_code: int
    message: str | UnsetType = UNSET
