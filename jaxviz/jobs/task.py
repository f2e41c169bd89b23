"""What a command or a job file asks for, as values: how and where (`RenderRequest`), and which filters of which layers.

`check_task` and `atlas_tasks` need neither weights nor a device: all that can be wrong with a request is found before
any are fetched, compiled or waited for. What a request makes of them is in atlas.py.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxviz.config import RenderConfig
from jaxviz.errors import ConfigError, FilterError, UnknownLayerError, nearest
from jaxviz.loading import describe_model, is_own
from jaxviz.render import options
from jaxviz.spelling import default_snapshots
from jaxviz.store.contents import check_format, first_saved, folder_path

if TYPE_CHECKING:
    import numpy as np

    from jaxviz.ascent.algebra import Objective
    from jaxviz.network.model import Model

ORDERS = ("cheapest", "network", "given")

FilterList = tuple[int, ...] | Literal["all"] | None  # None: the first 64


@dataclass(frozen=True)
class ObjectiveRequest:
    """What to maximise, as it is typed; `vectors` is a NumPy file of (rows, channels) for `direction`."""

    name: str = "channel"
    vectors: Path | None = None
    negative: bool = False
    diversity: float = 0.0
    given: Objective | None = None  # the objective itself, for whoever has it

    def build(self, border: int) -> Objective:
        """The objective; `border` cells of the map are left out. Imports jax.

        Raises:
            ConfigError: there is none of that name, or its vectors cannot be read.
        """
        from jaxviz.ascent.objectives import Diversity, parse_objective

        if self.given is not None:
            return self.given
        rows = None if self.vectors is None else read_vectors(self.vectors)
        found = parse_objective(self.name, border=border, vectors=rows)
        if self.negative:
            found = -found
        return found + self.diversity * Diversity() if self.diversity else found


@dataclass(frozen=True)
class RenderRequest:
    """How pictures are made and where they go; everything of a render but the layer and its filters.

    Attributes:
        model: how MODEL is spelled (loading.py), or the name of `given`.
        config: how.
        out: the folder above all; pictures go to out/model/layer/label.
        label: name of the folder; None: the preset's name.
        weights: the user's weights file; None: the published ones.
        custom_objects: module or file with the classes that a Keras file needs.
        objective: what to maximise.
        replicas: pictures of each filter.
        snapshots: steps after which the picture is kept too.
        animate: "webp" or "gif": also the grid growing out of noise.
        judge: put pictures beside natural images; None: where they are at hand, for all presets but `keras`.
        images: a folder of natural images; None: those that scikit-image ships.
        numbers: write filter numbers into the grid.
        file_format: of the pictures, "png" or "webp" (lossless).
        overwrite: render again, and replace another recipe's pictures.
        given: the network itself, with its weights; None: what `model` means.
    """

    model: str
    config: RenderConfig
    out: Path = Path("out")
    label: str | None = None
    weights: Path | None = None
    custom_objects: str | None = None
    objective: ObjectiveRequest = field(default_factory=ObjectiveRequest)
    replicas: int = 1
    snapshots: tuple[int, ...] = ()
    animate: str | None = None
    judge: bool | None = None
    images: Path | None = None
    numbers: bool = False
    file_format: str = "png"
    overwrite: bool = False
    given: Model | None = None

    def network(self, layer: str = "") -> Model:
        """The network as far as a layer, where it has a name of its own with shapes in place of weights.

        Imports jax; raises UnknownModelError.
        """
        if self.given is not None:
            return self.given
        body = describe_model(self.model, custom_objects=self.custom_objects)
        return describe_model(self.model, head=True) if layer in body.head else body

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all layers, the head's too, in the network's order."""
        network = self.network()
        return (*network.layers, *network.head)

    @property
    def folder_name(self) -> str:
        """The label, or the preset's name."""
        return self.config.preset if self.label is None else self.label

    @cached_property
    def objective_value(self) -> Objective:
        """The objective itself. Imports jax."""
        return self.objective.build(self.config.activation_border)


@dataclass(frozen=True)
class LayerTask:
    """Filters of one layer to render."""

    request: RenderRequest
    layer: str
    filters: FilterList = None

    @property
    def network(self) -> Model:
        """The network that has the layer, of jaxviz's own with shapes in place of weights."""
        return self.request.network(self.layer)

    @property
    def folder(self) -> Path:
        """Where its pictures go. Raises OutputFolderError if the label is no file name."""
        request = self.request
        name = request.network().name if is_own(request.model) else request.model
        return folder_path(request.out, name, self.layer, request.folder_name)


@dataclass(frozen=True)
class LayerChoice:
    """Which layers of a network, and which filters of each.

    Attributes:
        layers: globs of layer names; none: every convolution.
        exclude: globs of those to leave out.
        filters: (glob of layer names, filters) each; the last that fits a layer counts; without any, all filters.
        order: "cheapest" first (least arithmetic), "network" or "given" (as the globs name them).
    """

    layers: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    filters: tuple[tuple[str, FilterList], ...] = ()
    order: str = "cheapest"


def render_request(model: str, typed: Mapping[str, Any]) -> RenderRequest:
    """The request that options make, as they were typed; the preset's and the defaults where nothing was.

    Raises:
        RequestError: a value outside its range.
    """
    values = options.read_options(typed)
    numbers = {name: values.pop(name) for name in options.SETTINGS if name in values}
    config = RenderConfig.from_preset(values.pop("preset", "keras"), **numbers)
    words = {"objective": "name", "vectors": "vectors", "negative": "negative", "diversity": "diversity"}
    objective = ObjectiveRequest(**{words[name]: values.pop(name) for name in words if name in values})
    shown = default_snapshots(config.steps) if "animate" in values else []
    snapshots = values.pop("snapshots", shown)
    snapshots = (snapshots,) if isinstance(snapshots, int) else tuple(snapshots)
    return RenderRequest(model=model, config=config, objective=objective, snapshots=snapshots, **values)


def atlas_tasks(request: RenderRequest, choice: LayerChoice) -> tuple[LayerTask, ...]:
    """The layers and filters of an atlas, in the order of work.

    Raises:
        UnknownModelError, UnknownLayerError: no such model, or a glob that fits no layer.
        ConfigError: another order than those of ORDERS, or nothing is left.
    """
    if choice.order not in ORDERS:
        raise ConfigError("is unknown", argument="order", value=choice.order, allowed=", ".join(ORDERS))
    chosen = _chosen_layers(request, choice)
    for glob, _ in choice.filters:
        if not fnmatch.filter(chosen, glob):
            raise UnknownLayerError(
                f"fits none of the {len(chosen)} chosen layers of {request.model}; {nearest(glob, chosen)}",
                argument="filters",
                value=glob,
            )
    tasks = [LayerTask(request, layer, _filters_of(layer, choice)) for layer in chosen]
    if choice.order == "cheapest":
        places = {name: place for place, name in enumerate(request.layers)}
        tasks.sort(key=lambda task: (task_macs(task), places[task.layer]))
    return tuple(tasks)


def task_macs(task: LayerTask) -> int:
    """Multiply-adds of a forward pass for each picture; steps and gradients are not counted."""
    layer = task.network.layer(task.layer, task.request.config.size)
    filters = layer.channels if task.filters == "all" else len(task.filters or range(min(layer.channels, 64)))
    return layer.macs * filters * task.request.replicas


def flop_per_picture(task: LayerTask) -> int:
    """FLOP of the whole ascent of one picture, on what the network sees, and of its score at the end. Imports jax."""
    from jaxviz.ascent import transforms
    from jaxviz.bench.figures import FLOP_PER_MAC, PASSES_PER_STEP

    config, network = task.request.config, task.network
    views, *seen = transforms.output_size(transforms.from_specs(config.transforms), config.size)
    step = PASSES_PER_STEP * views * network.layer(task.layer, (seen[0], seen[1])).macs
    return FLOP_PER_MAC * (config.steps * step + network.layer(task.layer, config.size).macs)


def check_task(task: LayerTask) -> tuple[int, ...]:
    """The filters, once everything that can be checked without weights is in order. Imports jax.

    Raises:
        RequestError: an unknown model, layer or filter, or settings that do not suit the layer.
    """
    from jaxviz.ascent import transforms
    from jaxviz.pictures import animation
    from jaxviz.render.request import check_replicas, check_request, checked_snapshots

    request, config = task.request, task.request.config
    check_format(request.file_format)
    if request.animate is not None:
        animation.check_format(request.animate)
    _, *seen = transforms.output_size(transforms.from_specs(config.transforms), config.size)
    chosen: tuple[int, ...] = ()
    for size in ((seen[0], seen[1]), config.size):
        activation = task.network.layer(task.layer, size).shape
        chosen = check_request(task.layer, activation, task.filters, config, request.objective_value)
    check_replicas(request.replicas)
    checked_snapshots(request.snapshots, config)
    first_saved(task.folder)  # raises where the path cannot be a folder
    return chosen


def needs_head(task: LayerTask) -> bool:
    """Whether the layer belongs to the classifier."""
    return task.layer in task.request.network().head


def read_vectors(file: Path) -> np.ndarray:
    """A NumPy file of one array. Raises ConfigError."""
    import numpy as np

    refused = partial(ConfigError, argument="vectors", value=str(file))
    try:
        with file.open("rb") as opened:
            vectors = np.load(opened, allow_pickle=False)
    except OSError as error:
        raise refused(f"cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise refused("is no NumPy file of numbers; write one with np.save, (rows, channels)") from error
    if not isinstance(vectors, np.ndarray):
        raise refused("holds several arrays; write one with np.save, (rows, channels)")
    return vectors


def _chosen_layers(request: RenderRequest, choice: LayerChoice) -> list[str]:
    from jaxviz.network.naming import CONVOLUTIONS

    model, known = request.model, list(request.layers)
    table = () if choice.layers else request.network().table()
    convolutions = [layer.name for layer in table if layer.kind in CONVOLUTIONS]
    chosen: dict[str, None] = {} if choice.layers else dict.fromkeys(convolutions)
    for option, globs in (("layers", choice.layers), ("exclude", choice.exclude)):
        for glob in globs:
            fitting = fnmatch.filter(known, glob)
            if not fitting:
                raise UnknownLayerError(
                    f"fits no layer of {model}; {nearest(glob, known)}. See: jaxviz layers {model}",
                    argument=option,
                    value=glob,
                )
            if globs is choice.layers:
                chosen |= dict.fromkeys(fitting)
    left = [name for name in chosen if not any(fnmatch.fnmatchcase(name, glob) for glob in choice.exclude)]
    if not left:
        raise ConfigError(
            f"`exclude` {', '.join(choice.exclude)} leaves no layer of {model}; give fewer of them", argument="exclude"
        )
    return left if choice.order == "given" else [name for name in known if name in left]


def _filters_of(layer: str, choice: LayerChoice) -> FilterList:
    found: FilterList = "all"
    for glob, filters in choice.filters:
        if fnmatch.fnmatchcase(layer, glob):
            found = filters
    if found is not None and not isinstance(found, str) and not found:
        raise FilterError(
            f"`filters` of layer {layer!r} are none; leave the layer out with `exclude`", argument="filters"
        )
    return found
