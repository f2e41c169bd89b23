"""`Model`: a network that is ready to be rendered, anybody's, and that answers for its layers.

    model.layers                    names, in the network's own order
    model.layer(name, size)         kind, channels, size, receptive field, MACs (table.Layer)
    model.route(name, size, ...)    the programs that reach it (head.Route)

Everything comes from one trace of `forward` for each image size. It needs the shapes of the weights only, so a model
whose weights are shapes (`jax.ShapeDtypeStruct`) answers as well; `with_weights` makes it one that can be rendered.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxviz.errors import ConfigError, UnknownLayerError, nearest
from jaxviz.network.head import Route, route_to
from jaxviz.network.jaxprs import Value, hash_array, trace
from jaxviz.network.naming import NamedGraph, softmax_input
from jaxviz.network.program import canonical_shape
from jaxviz.network.rules import Settings
from jaxviz.network.table import Layer, describe, slow_convolutions
from jaxviz.network.weights import checked_weights

log = logging.getLogger("jaxviz")
USUAL_SIZE = (224, 224)  # of the image at which a network is looked at where nobody says another
ORDER = "from_callable(forward, weights, preprocess, layers=[...])"
PLAIN = Settings(rules=False)

Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Model:
    """A frozen network.

    Attributes:
        name: what folders and messages call it.
        weights: any pytree of arrays; an argument of the compiled function.
        forward: `forward(weights, images)`, or `forward(weights, images, layer)` where `named` is given. Images are
            float32 (batch, height, width, channels) in model space.
        preprocess: pixels in [0, 255], (..., channels), to model space.
        named: the layers of a `forward` that takes a layer; None: they are found in the network.
        channels: of the image: 3 is RGB, 1 is grey.
        usual_size: (height, width) of the image at which the layers are looked up.
        is_known: whether it is one of jaxviz's own, of which the name says what it computes.
        head: names of the layers above these, which the network has and this model is without.
    """

    name: str
    weights: Any
    forward: Callable[..., Any]
    preprocess: Callable[[Any], Any]
    named: tuple[str, ...] | None = None
    channels: int = 3
    usual_size: Size = USUAL_SIZE
    is_known: bool = False
    head: tuple[str, ...] = ()
    _graphs: dict[Any, NamedGraph] = field(default_factory=dict, repr=False)
    _routes: dict[Any, Route] = field(default_factory=dict, repr=False)

    @classmethod
    def from_callable(
        cls,
        forward: Callable[..., Any],
        weights: Any,
        preprocess: Callable[[Any], Any],
        layers: Sequence[str] | None = None,
        *,
        name: str = "custom",
        channels: int = 3,
        usual_size: Size | int = USUAL_SIZE,
    ) -> Model:
        """Wrap your own JAX network: Flax linen or NNX, Equinox, plain functions.

            model = Model.from_callable(lambda weights, images: module.apply(weights, images), weights,
                                        lambda rgb: rgb / 255)

        Args:
            forward: `forward(weights, images)` for images float32 (batch, height, width, channels). What it returns
                may be one array, or a pytree of activations by name, `{"stem": x1, "block1": x2}`: those are the
                layers then. Else the layers are what `jax.ad_checkpoint.checkpoint_name` names in it, or where it
                names nothing, the convolutions and dense layers by the places of their kernels among the weights
                and what follows them. Nothing above a layer is computed for it.
            weights: a pytree of arrays. They belong here: what `forward` closes over is found and hashed, but it is
                kept in memory a second time.
            preprocess: pixels in [0, 255], (..., channels), to what the network takes.
            layers: names of layers, for a `forward(weights, images, layer)` that gives one layer's activation,
                (batch, height, width, channels) or (batch, channels).
            name: what folders and messages call it.
            channels: of the image.
            usual_size: of the image for looking up the layers; one that `forward` accepts.

        Raises:
            WeightsError: `weights` hold a number that is not finite.
            ConfigError: an argument is not what it has to be.
        """
        for argument, value in (("forward", forward), ("preprocess", preprocess)):
            if not callable(value):
                raise ConfigError(f"{argument} {value!r} cannot be called; give a function: {ORDER}")
        if not isinstance(name, str) or not name:
            raise ConfigError(f"name {name!r} is no name of a model; give a text such as 'custom'")
        if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1:
            raise ConfigError(f"channels {channels!r} is not a number of channels; give 3 for RGB, 1 for grey")
        size = (usual_size, usual_size) if isinstance(usual_size, int) else tuple(usual_size)
        if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
            raise ConfigError(f"usual_size {usual_size!r} is no image size; give for example 224 or (224, 160)")
        return cls(
            name, checked_weights(weights), forward, preprocess, _checked_names(layers), channels, (size[0], size[1])
        )

    @classmethod
    def from_flax(
        cls,
        module: Any,
        variables: Any = None,
        *,
        preprocess: Callable[[Any], Any],
        arguments: dict[str, Any] | None = None,
        **options: Any,
    ) -> Model:
        """A Flax module: linen with its variables, or NNX, which holds them.

        An NNX module is used in `eval` mode; the one that is given is left as it is.

        Args:
            module: a `flax.linen.Module` or `flax.nnx.Module`.
            variables: of a linen module: what `init` or training gave, `{"params": ..., "batch_stats": ...}`.
            preprocess: pixels in [0, 255], (..., channels), to what the module takes.
            arguments: more keyword arguments of the module's call, such as `{"train": False}`.
            options: `name`, `channels`, `usual_size` as in `from_callable`.

        Raises:
            WeightsError, ConfigError: as in `from_callable`; also for what is no Flax module.
        """
        from flax import linen, nnx

        more = dict(arguments or {})
        options = {"name": type(module).__name__} | options
        if isinstance(module, nnx.Module):
            definition, state = nnx.split(module)

            def forward(weights: Any, images: Any) -> Any:
                copy = nnx.merge(definition, weights)
                copy.eval()
                return copy(images, **more)

            return cls.from_callable(forward, state, preprocess, **options)
        if not isinstance(module, linen.Module) or variables is None:
            raise ConfigError(
                f"module {type(module).__name__} is no Flax module with its variables; give a flax.nnx.Module, or a "
                "flax.linen.Module and variables={'params': ...}"
            )
        return cls.from_callable(
            lambda weights, images: module.apply(weights, images, **more), variables, preprocess, **options
        )

    @classmethod
    def from_keras(
        cls, model: Any, *, preprocess: Callable[[Any], Any] | None = None, name: str | None = None
    ) -> Model:
        """A Keras 3 model on its JAX backend (extra `keras`), nested models opened: `base/conv1_conv`.

        Model space begins behind the Rescaling and Normalization that the model begins with; they become `preprocess`.
        CenterCrop, Resizing and augmentation there are left out: an image has the size that you ask for. What they
        were is said in a warning. The model that is given is left as it is.

        Args:
            model: a functional or sequential `keras.Model` of one image; of a class with a `call` of its own, the
                layers are found by their kernels.
            preprocess: pixels in [0, 255], (..., channels), to what stands behind the model's own preprocessing, for a
                model that has none. Without it, what needs it (`distill`, `maco`, the judge) says so.
            name: what folders and messages call it; the model's own by default.

        Raises:
            EnvironmentFailure: Keras is not installed.
            ConfigError: Keras runs on another backend, or the model takes something else than one image.
            WeightsError: the weights hold a number that is not finite.
        """
        from jaxviz.doors.keras_network import keras_network

        found = keras_network(model, preprocess=preprocess)
        for left_out in found.left_out:
            log.warning("model %r: left out %s", model.name, left_out)
        return cls.from_callable(
            found.forward,
            found.weights,
            found.preprocess,
            name=str(model.name) if name is None else name,
            channels=found.channels,
            usual_size=found.size,
        )

    @classmethod
    def from_torch(
        cls,
        module: Any,
        *,
        preprocess: Any = None,
        name: str | None = None,
        channels: int | None = None,
        usual_size: Size | int | None = None,
    ) -> Model:
        """A PyTorch module, translated to JAX; layers are its modules, by their paths: `layer1.0.conv1`.

        It is used in `eval` mode and computes in float32, whatever its weights are stored in; the one that is given
        is left as it is. `torch.export` takes it apart for each image size.

        Args:
            module: a `torch.nn.Module` whose forward takes images (batch, channels, height, width).
            preprocess: pixels in [0, 255], (..., channels), channels last, to what the module takes; or the transforms
                that torchvision's weights came with. timm's models need none: they say it themselves.
            name: what folders and messages call it; its class where it is not given.
            channels: of the image; of timm's record or the first convolution where it is not given.
            usual_size: of the image for looking up the layers; of timm's record, or 224, where it is not given.

        Raises:
            WeightsError: the weights hold a number that is not finite.
            EnvironmentFailure: PyTorch is not installed.
            ConfigError: an argument is not what it has to be. Looking at layers raises it too:
                for a module that cannot be exported, or that does what is not translated.
        """
        from jaxviz.doors.torch_module import open_module

        opened = open_module(module, preprocess, name, channels, usual_size)
        return cls.from_callable(
            opened.forward,
            opened.weights,
            opened.preprocess,
            name=opened.name,
            channels=opened.channels,
            usual_size=opened.usual_size,
        )

    def with_weights(self, weights: Any) -> Model:
        """The same network with these weights; what has been traced is kept."""
        return replace(self, weights=weights)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of its layers, in the network's own order; all are valid targets.

        Raises:
            ConfigError: `forward` does not take an image of `usual_size`.
        """
        if self.named is not None:
            return self.named
        traced = next(iter(self._graphs.values()), None)
        if traced is None or not self.is_known:  # of another network an image of another size may reach fewer layers
            try:
                traced = self.graph(self.usual_size)
            except ConfigError:
                if traced is None:
                    raise
        return tuple(traced.layers)

    def layer(self, name: str, size: Size | None = None) -> Layer:
        """What is to be said of a layer at an image size, the usual one by default.

        Raises:
            UnknownLayerError: it has no such layer.
            ConfigError: `forward` does not take an image of this size, or the layer's channels are not to be found.
        """
        graph, value = self._find(name, size)
        is_first = next(other for other, found in graph.layers.items() if found is value) == name
        return describe(graph, name, value, graph.kinds, is_first=is_first)

    def table(self, size: Size | None = None) -> tuple[Layer, ...]:
        """All layers that an image of this size reaches."""
        names = self.layers if self.named is not None or size is None else tuple(self.graph(size).layers)
        return tuple(self.layer(name, size) for name in names)

    def summary(self, size: Size | None = None) -> str:
        """The table as text, and which convolutions have no fast gradient.

        One line a layer: name, kind, channels, size at this image size, receptive field, multiply-adds up to it.
        """
        from jaxviz.network.summary import summary

        return summary(self, size or self.usual_size)

    def route(self, name: str, size: Size, settings: Settings = PLAIN, *, before_softmax: bool = False) -> Route:
        """How a layer is reached from an image of this size; up to the values before its softmax if asked for.

        Raises:
            UnknownLayerError, ConfigError: as `layer`; also if there is no softmax.
        """
        key = (name if self.named is None else (name,), size, settings, before_softmax)
        if key not in self._routes:
            graph, value = self._find(name, size)
            if before_softmax:
                value = self._logits(graph, name, value)
            self._routes[key] = route_to(graph, value, settings)
        return self._routes[key]

    def prepare(self, route: Route, weights: Any = None) -> Any:
        """The arrays that a route's programs take, computed from the model's weights."""
        constants = list(route.whole.graph.trace.constants.values())
        return route.prepare(self.weights if weights is None else weights, constants)

    def activation(self, images: Any, name: str) -> jax.Array:
        """A layer's activation for images (batch, height, width, channels) in model space, float32.

        By the network's own operations and autodiff: differentiable in everything. Not what rendering runs.
        """
        images = jnp.asarray(images, jnp.float32)
        route = self.route(name, images.shape[1:3])
        prepared = self.prepare(route)
        return jax.vmap(lambda image: route.activation(prepared, image))(images)

    def needed_weights(self, name: str, size: Size) -> int:
        """How many numbers the weights have that a layer rests on."""
        graph, value = self._find(name, size)
        leaves = graph.leaves_behind(value)
        shapes = jax.tree.leaves(self.weights)
        return sum(int(np.prod(shapes[place].shape)) for place in leaves)

    def slow_convolutions(self, name: str, size: Size) -> list[str]:
        """In words, the convolutions on the way to a layer that have no fast gradient."""
        graph, value = self._find(name, size)
        path = {id(equation) for equation in graph.path_to([value])}
        return [
            f"a convolution of {equation.inputs[0].shape} to {equation.outputs[0].shape}: {reason}"
            for equation, reason in slow_convolutions(graph)
            if id(equation) in path
        ]

    def graph(self, size: Size, layer: str | None = None) -> NamedGraph:
        """The traced network for images of a size; of a `forward` that takes a layer, for that one.

        Raises:
            ConfigError: `forward` does not take such an image.
        """
        key = (size, layer)
        if key not in self._graphs:
            self._graphs[key] = self._traced(size, layer)
        return self._graphs[key]

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of names, shapes, types and values of all weights, whatever file they came from."""
        digest = hashlib.sha256()
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.weights):
            hash_array(digest, jax.tree_util.keystr(path), leaf)
        return digest.hexdigest()

    def forward_sha256(self, name: str, size: Size) -> str | None:
        """Hash of what reaches a layer, of the arrays that it closes over, and of `preprocess`; None for our own.

        Another JAX may trace the same function to other operations, and then gives another hash.
        """
        if self.is_known:
            return None
        route = self.route(name, size)
        digest = hashlib.sha256(route.whole.fingerprint.encode())
        for number, array in enumerate(route.whole.graph.trace.constants.values()):
            hash_array(digest, f"constant {number}", array)
        try:
            traced = trace(lambda _, image: self.preprocess(image), {}, (*size, self.channels))
        except (jax.errors.JAXTypeError, TypeError, ValueError, ConfigError):
            return digest.hexdigest()  # not to be traced: the parameterizations that need it say so
        graph = NamedGraph(traced)
        output = traced.outputs.get("")
        if isinstance(output, Value) and graph.depends(output):
            digest.update(route_to(graph, output, PLAIN).whole.fingerprint.encode())
        for number, array in enumerate(traced.constants.values()):
            hash_array(digest, f"preprocess {number}", array)
        return digest.hexdigest()

    def _traced(self, size: Size, layer: str | None) -> NamedGraph:
        def run(weights: Any, images: Any) -> Any:
            return self.forward(weights, images) if layer is None else self.forward(weights, images, layer)

        try:
            traced = trace(run, self.weights, (*size, self.channels))
        except (TypeError, ValueError, AssertionError) as error:
            said = "".join(str(error).strip().splitlines()[:1])
            raise ConfigError(
                f"forward of {self.name} does not take an image of {size[0]}x{size[1]}x{self.channels}"
                f"{'' if layer is None else f' for layer {layer!r}'} ({type(error).__name__}: {said}); give another "
                "`image_size`, or fix forward"
            ) from error
        return NamedGraph(traced, layer)

    def _find(self, name: str, size: Size | None) -> tuple[NamedGraph, Value]:
        """A layer's value in the graph for a size."""
        if self.named is not None:
            check_layer(self.name, name, self.named)
            graph = self.graph(size or self.usual_size, name)
            output = graph.layers.get(name)
            if output is None:
                raise ConfigError(
                    f"layer {name!r} of {self.name} gives {list(graph.trace.outputs)}; forward must return one array "
                    "that depends on the images, (batch, height, width, channels) or (batch, channels)"
                )
        else:
            graph = self.graph(size or self.usual_size)
            if name not in graph.layers and name in self.layers:
                last, (height, width) = next(reversed(graph.layers), "none"), size or self.usual_size
                raise ConfigError(
                    f"layer {name!r} of {self.name} is not reached by an image of {height}x{width}: {last!r} is the "
                    f"last one that takes it; give `image_size` {self.usual_size[0]}x{self.usual_size[1]}"
                )
            check_layer(self.name, name, tuple(graph.layers))
            output = graph.layers[name]
        self._check_axes(graph, name, output, size or self.usual_size)
        return graph, output

    def _check_axes(self, graph: NamedGraph, name: str, value: Value, size: Size) -> None:
        """Raise ConfigError unless it is known which axis of a layer is which."""
        known = graph.geometry.get(value)
        if canonical_shape(graph, value) is not None and known is not None and known.channels is not None:
            return
        wrong = (
            f"layer {name!r} of {self.name} gives {value.dtype}{list(value.shape)}, of which the channels' axis is not "
            "known; forward must give (batch, height, width, channels) or (batch, channels)"
        )
        if canonical_shape(graph, value) is None:
            raise ConfigError(wrong)
        wider = (size[0], size[1] + 8)
        try:
            other = self._traced(wider, None if self.named is None else name)
        except ConfigError:
            return
        found = other.layers.get(name)
        if isinstance(found, Value) and found.shape[-1] != value.shape[-1]:
            raise ConfigError(f"{wrong}: its last axis is {found.shape[-1]} for images of {wider[0]}x{wider[1]}")

    def _logits(self, graph: NamedGraph, name: str, value: Value) -> Value:
        below = softmax_input(graph, value)
        if below is None:
            raise ConfigError(
                f"objective 'class_logit' is for a layer of class probabilities; {name!r} of {self.name} is a "
                f"{graph.kinds.of(value)}, not a softmax"
            )
        return below


def check_layer(model: str, layer: str, layers: Sequence[str]) -> None:
    """Raise UnknownLayerError, naming the nearest, unless `layer` is one of the model's layers."""
    if layer not in layers:
        raise UnknownLayerError(f"{model} has no layer {layer!r}; {nearest(layer, layers)}. See: jaxviz layers {model}")


def _checked_names(layers: Sequence[str] | None) -> tuple[str, ...] | None:
    if layers is None:
        return None
    if callable(layers):
        raise ConfigError(f"layers {layers!r} is a function; give names: {ORDER}")
    names = (layers,) if isinstance(layers, str) else tuple(layers)
    if not names or not all(isinstance(layer, str) and layer for layer in names) or len(set(names)) < len(names):
        raise ConfigError(f"layers {layers!r} is not a list of distinct, non-empty layer names")
    return names
