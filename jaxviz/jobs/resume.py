"""Going on in a folder that holds pictures already: what they settle, which are there, and what refuses more of them.

What is there is read from the pictures themselves (contents.py). Nothing is written here.
"""

from __future__ import annotations

import dataclasses
import logging

from jaxviz.config import RenderConfig
from jaxviz.errors import OutputFolderError
from jaxviz.jobs.task import LayerTask, check_task
from jaxviz.network.model import Model
from jaxviz.render.plan import device_name, recipe_of, why_not_here
from jaxviz.render.recipe import Recipe
from jaxviz.store.contents import first_saved, inspect, other_jaxlib
from jaxviz.store.folder import foreign_error
from jaxviz.store.layer_record import LayerRecord, read_layer_record
from jaxviz.store.provenance import Key, Saved

log = logging.getLogger("jaxviz")


def recipe_there(task: LayerTask) -> Recipe | None:
    """The recipe of the pictures that are there; None: there are none, or `overwrite` replaces them."""
    saved = None if task.request.overwrite else first_saved(task.folder)
    return None if saved is None else saved.recipe


def settled(config: RenderConfig, there: Recipe | None) -> tuple[RenderConfig, str | None]:
    """The configuration and the set of kernels to plan with: what is `auto` is as in the pictures that are there.

    The set is None where pictures do not settle it.
    """
    if there is None:
        return config, None
    if config.batch_size == "auto":
        config = dataclasses.replace(config, batch_size=there.batch_size)
    return config, there.kernels if config.kernels == "auto" else None


def check_folder(task: LayerTask, model: Model, *, one_jaxlib: bool) -> None:
    """Raise OutputFolderError if what is there already cannot be gone on with.

    Where pictures are to be added to those of another jaxlib, say so, or with `one_jaxlib` raise.
    """
    request = task.request
    there = recipe_there(task)
    if there is None:
        return
    config, kernels = settled(request.config, there)
    recipe = recipe_of(
        model,
        task.layer,
        config,
        request.objective_value,
        batch_size=int(config.batch_size),
        replicas=request.replicas,
        kernels=kernels,
    )
    done = finished(task, recipe)
    if all((index, replica) in done for index in check_task(task) for replica in range(request.replicas)):
        return
    check_kernels(task, recipe)
    found = other_jaxlib(task.folder, done.values())
    if found is None:
        return
    if one_jaxlib:
        raise OutputFolderError(
            f"{found}, and `strict` was given",
            argument="strict",
            try_next="Go on with that jaxlib, choose another label, `label` LABEL, or replace the pictures with "
            "`overwrite`",
        )
    log.warning("%s. To refuse this, give --strict; to render all anew, --overwrite", found)


def finished(task: LayerTask, recipe: Recipe) -> dict[Key, Saved]:
    """The pictures of a recipe that a run would keep. Raises OutputFolderError where there are any of another one."""
    if task.request.overwrite:
        return {}
    contents = inspect(task.folder, recipe, task.request.file_format)
    for file, reason in contents.foreign.items():
        raise foreign_error(task.folder, file.name, reason)
    return contents.with_snapshots(task.request.snapshots)


def check_kernels(task: LayerTask, recipe: Recipe) -> None:
    """Raise OutputFolderError unless the recipe's set of kernels, which pictures have settled, can run here."""
    reason = why_not_here(recipe)
    if reason is None:
        return
    record = read_layer_record(task.folder)
    known = record.device if isinstance(record, LayerRecord) and record.recipe == recipe else None
    made_on = known or "a machine that the folder does not name"
    raise OutputFolderError(
        f"folder {task.folder} holds pictures made with the kernels {recipe.kernels!r} on {made_on}, which cannot run "
        f"on this machine, {device_name()}: {reason}",
        argument="kernels",
        try_next="Go on on a machine like that one, choose another label, `label` LABEL, or replace the pictures with "
        "`overwrite`. What is rendered with `kernels` lax, every machine can go on with",
    )
