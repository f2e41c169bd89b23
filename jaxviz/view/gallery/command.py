"""How to type it again: a picture's recipe as a command line, or as Python where the command line has no option for it.

Text in, text out. The preset is the one that leaves the fewest options to give, and the batch size is always given,
because it is part of the recipe; so is the set of kernels where an option names it. Nothing is guessed: what the recipe
knows by its hash only is said in the notes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from jaxviz.ascent.terms import Term
from jaxviz.config import KERNELS, PRESETS, RecordedConfig, RenderConfig
from jaxviz.errors import ConfigError
from jaxviz.models import HEAD_LAYERS, KERAS_PREFIX, MODELS
from jaxviz.render.options import BY_NAME
from jaxviz.render.recipe import Recipe

OUT = "again"  # a folder of its own: in the first one the picture is there already, and nothing would be rendered
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
CLASSES = {  # an objective's name in a recipe -> its class
    "channel": "Channel",
    "neuron": "Neuron",
    "direction": "Direction",
    "class_logit": "ClassLogit",
    "layer": "LayerActivity",
    "diversity": "Diversity",
}


@dataclass(frozen=True)
class Again:
    """How to render a picture again: `text` in `language`, and what one has to know besides."""

    text: str
    language: Literal["shell", "python"]
    notes: tuple[str, ...]


Maker = Callable[[int, int], Again | None]


def render_again(recipe: Recipe, filter_index: int, *, replica: int = 0, label: str | None = None) -> Again | None:
    """The command that renders a picture again, or Python for it; None where this version knows the recipe no more.

    Args:
        recipe: what decided the picture.
        filter_index: which filter it is of.
        replica: which of the filter's pictures.
        label: the name of the folder it lies in.
    """
    return again_maker(recipe, label=label)(filter_index, replica)


def again_maker(recipe: Recipe, *, label: str | None = None) -> Maker:
    """`render_again` for many pictures of one recipe: a function of filter and replica."""
    try:
        preset, changed = _nearest_preset(recipe.config)
    except ConfigError:
        return _unknown
    terms = recipe.objective if all(term["name"] in CLASSES for term in recipe.objective) else None
    known = recipe.model in MODELS or recipe.model.startswith(KERAS_PREFIX)
    options = _objective_options(terms, recipe.config.activation_border)
    reasons = _reasons(recipe, options, known=known)
    name = label if label is not None and LABEL.fullmatch(label) else preset
    notes = _notes(recipe, terms)

    def in_python(filter_index: int, replica: int) -> Again:
        head = known and recipe.layer in HEAD_LAYERS
        call = _Call(recipe, filter_index, _replicas(recipe, replica), preset, changed, terms, name, known, head)
        return Again(_python(call), "python", (f"The command line has no option for {reasons[0]}.", *notes))

    def in_shell(filter_index: int, replica: int) -> Again:
        words = ["jaxviz", "render", recipe.model, recipe.layer, "--filters", str(filter_index), "--preset", preset]
        for field, value in changed.items():
            words += [BY_NAME[field].flag, _option_value(field, value)]
        replicas = _replicas(recipe, replica)
        words += [*(options or ()), *(["--replicas", str(replicas)] if replicas > 1 else [])]
        words += ["--batch-size", str(recipe.batch_size)]
        words += ["--kernels", recipe.kernels] if recipe.kernels in KERNELS else []
        words += ["--out", OUT, *(["--name", name] if name != preset else [])]
        return Again(shlex.join(words), "shell", notes)

    return in_python if reasons else in_shell


def _unknown(filter_index: int, replica: int) -> None:
    """For a recipe that this version does not know."""


def _replicas(recipe: Recipe, replica: int) -> int:
    """How many pictures of the filter to ask for, so that this replica is among them."""
    return recipe.replicas if recipe.replicas > 1 else replica + 1


def _reasons(recipe: Recipe, options: list[str] | None, *, known: bool) -> list[str]:
    """What the command line has no option for."""
    reasons = [] if known else ["a network of your own"]
    if recipe.initial_images_sha256 is not None:
        reasons.append("starting images")
    if options is None:
        reasons.append(f"the objective {recipe.objective_text}")
    return reasons


def _nearest_preset(config: RecordedConfig) -> tuple[str, dict[str, Any]]:
    """The preset that leaves the fewest options to give, and what differs from it.

    Raises:
        ConfigError: a value that this version does not know.
    """
    values = msgspec.to_builtins(config)
    RenderConfig(**values)
    found = []
    for preset in PRESETS:
        numbers = RenderConfig.from_preset(preset).numbers()
        found.append((preset, {name: value for name, value in values.items() if getattr(numbers, name) != value}))
    return min(found, key=lambda one: len(one[1]))


def _option_value(field: str, value: Any) -> str:
    """A value as its option takes it."""
    if field == "image_size":
        height, width = value
        return str(height) if height == width else f"{height}x{width}"
    if field == "transforms":
        return ",".join(":".join(map(str, spec)) for spec in value) or "none"
    return str(value)


def _objective_options(terms: Sequence[Term] | None, border: int) -> list[str] | None:
    """The options for an objective; None where there are none for it."""
    coupling = [term for term in terms or () if term["name"] == "diversity"]
    others = [term for term in terms or () if term["name"] != "diversity"]
    if len(others) != 1 or len(coupling) > 1 or abs(others[0]["weight"]) != 1:
        return None
    (term,) = others
    if border != term.get("border", 0):  # --activation-border is for channel, and both agree there
        return None
    text = term["name"]
    if ("y" in term) != ("x" in term):
        return None
    if "y" in term:
        text += f":{term['y']},{term['x']}"
    if "cossim_power" in term:
        text += f":{term['cossim_power']}"
    options = [] if text == "channel" else ["--objective", text]
    options += ["--vectors", "vectors.npy"] if term["name"] == "direction" else []
    options += ["--negative"] if term["weight"] < 0 else []
    return options + (["--diversity", str(coupling[0]["weight"])] if coupling else [])


def _notes(recipe: Recipe, terms: Sequence[Term] | None) -> tuple[str, ...]:
    """What the text rests on and does not hold."""
    hashes = [term["vectors_sha256"] for term in terms or () if "vectors_sha256" in term]
    notes = [f"vectors.npy is the file of vectors; they have sha256 {sha256}." for sha256 in hashes]
    if recipe.initial_images_sha256 is not None:
        notes.append(
            f"The starting images of the whole call have sha256 {recipe.initial_images_sha256}; give them, and the "
            "same list of filters."
        )
    if recipe.kernels not in KERNELS:
        notes.append(
            f"It was multiplied with the kernels {recipe.kernels}, which machines that have them take by themselves; "
            "on others it has other bits."
        )
    notes.append(
        f"It rests on weights with sha256 {recipe.weights_sha256[:12]}…; where they are not the published ones, name "
        "their file: --weights FILE, in Python weights=FILE."
    )
    return tuple(notes)


@dataclass(frozen=True)
class _Call:
    """What a piece of Python is made of."""

    recipe: Recipe
    filter_index: int
    replicas: int
    preset: str
    changed: dict[str, Any]
    terms: Sequence[Term] | None
    name: str
    known: bool
    head: bool


def _python(call: _Call) -> str:
    """The same as Python; names in it are literals, whatever characters they have."""
    recipe, terms = call.recipe, call.terms
    lines = ["import jaxviz"]
    if any(term["name"] == "direction" for term in terms or ()):
        lines.insert(0, "import numpy as np")
    if terms is not None:
        classes = sorted({CLASSES[term["name"]] for term in terms})
        lines.append(f"from jaxviz.objectives import {', '.join(classes)}")
    lines.append("")
    if call.known:
        lines.append(f"model = jaxviz.load_model({recipe.model!r}{', head=True' if call.head else ''})")
    else:
        lines.append(f"model = ...  # your own network, {recipe.model!r}, as jaxviz.Model.from_callable wrapped it")
    values = "".join(f", {field}={value!r}" for field, value in call.changed.items())
    values += f", batch_size={recipe.batch_size}"
    values += f", kernels={recipe.kernels!r}" if recipe.kernels in KERNELS else ""
    lines.append(f"config = jaxviz.RenderConfig.from_preset({call.preset!r}{values})")
    made = "...  # your own: " + repr(recipe.objective_text) if terms is None else _python_objective(terms)
    lines.append(f"objective = {made}")
    if recipe.initial_images_sha256 is not None:
        lines.append("images = ...  # your starting images")
    arguments = f"model, {recipe.layer!r}, [{call.filter_index}], config, objective=objective"
    arguments += f", replicas={call.replicas}" if call.replicas > 1 else ""
    arguments += ", initial_images=images" if recipe.initial_images_sha256 is not None else ""
    lines += [f"result = jaxviz.render_layer({arguments})", f"result.save({OUT!r}, name={call.name!r})"]
    return "\n".join(lines)


def _python_objective(terms: Sequence[Term]) -> str:
    """Terms as an expression of jaxviz.objectives."""
    text = ""
    for term in terms:
        own = ("weight", "name", "vectors_sha256")
        given = ["np.load('vectors.npy')"] if term["name"] == "direction" else []
        given += [f"{name}={value!r}" for name, value in term.items() if name not in own]
        weight = abs(term["weight"])
        sign = (" - " if term["weight"] < 0 else " + ") if text else ("-" if term["weight"] < 0 else "")
        text += f"{sign}{'' if weight == 1 else f'{weight!r} * '}{CLASSES[term['name']]}({', '.join(given)})"
    return text
