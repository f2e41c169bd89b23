"""The one-way order of imports, read from the source, and what importing jaxviz costs."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers_cli import run_python

import jaxviz
from jaxviz.models import MODELS

pytestmark = pytest.mark.quick

ROOT = Path(jaxviz.__file__).parents[1]
FAMILY_MODULES = {f"jaxviz.models.{entry.module}" for entry in MODELS.values()}
# The rooms, from top to bottom: imports go downwards only, and stay free within a room.
ROOMS = (
    "cli",  # the terminal; the only place that prints
    "api",  # render_layer, render_atlas: what Python users call
    "jobs",  # many layers: the atlas, job files, estimates
    "view",  # looking at finished work: measures, comparison, export, gallery
    "store",  # what is on disk: folders, contents, provenance, locks, the writer, merge
    "bench",  # the accelerator benchmark
    "judge",  # truth beside the picture
    "render",  # one layer: options, request -> plan -> batches -> pictures; the recipe
    "objectives",  # the public name of ascent/objectives.py
    "ascent",  # the compiled loop and its nouns
    "loading",  # every spelling of MODEL
    "models",  # families as Flax modules, and the registry
    "network",  # any network: traced, cut, replayed
    "doors",  # other frameworks' networks as functions of weights and images
    "pictures",  # arrays -> images
    "config",
    "machine",
    "spelling",
    "records",
    "streams",  # stdout and stderr, whatever they lead to
    "files",
    "errors",
)
MOST_PAIRS = 100  # of rooms of which one imports from the other
FRAMEWORKS = {"tensorflow", "keras", "torch", "torchvision", "efficientnet_lite_pytorch", "tf_keras"}
# The two that compare with the source framework; they import it inside functions, for whoever has it.
COMPARISONS = {"weights_convert.verify", "weights_convert.references"}
DOORS = {"jaxviz.doors.keras_backend", "jaxviz.doors.torch_graph", "jaxviz.doors.torch_module"}  # so do these
LAZY_ROOT = "jaxviz"  # its names arrive when used, so anybody may import it


class Import(NamedTuple):
    """One import statement's target, and where it stands."""

    module: str
    target: str
    in_function: bool
    line: int

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def sources() -> dict[str, Path]:
    files = [file for package in ("jaxviz", "weights_convert") for file in sorted((ROOT / package).rglob("*.py"))]
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return dict(zip(names, files, strict=True))


SOURCES = sources()
TREES = {module: ast.parse(file.read_text()) for module, file in SOURCES.items()}


def imports_of(module: str) -> list[Import]:
    return list(_imports(module, TREES[module], in_function=False))


def _imports(module: str, node: ast.AST, *, in_function: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from _imports(module, other, in_function=in_function)
        elif isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(module, alias.name, in_function, child.lineno)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{module}:{child.lineno} imports relatively"
            for alias in child.names:
                full = f"{child.module}.{alias.name}"
                yield Import(module, full if full in SOURCES else str(child.module), in_function, child.lineno)
        else:
            inside = in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(module, child, in_function=inside)


EVERY_IMPORT = [one for module in SOURCES for one in imports_of(module)]
JAXVIZ_MODULES = [module for module in SOURCES if module.startswith("jaxviz.")]
CONVERT_MODULES = [module for module in SOURCES if module.split(".")[0] == "weights_convert"]


def test_walk_finds_imports_at_the_top_and_in_functions() -> None:
    found = {(one.module, one.target, one.in_function) for one in EVERY_IMPORT}
    assert ("jaxviz.cli", "jaxviz.models", False) in found
    assert ("jaxviz.cli.work", "jaxviz.jobs.atlas", True) in found


def room(module: str) -> str:
    return module.split(".")[1] if module.startswith("jaxviz.") else ""


CROSSING = [
    one
    for one in EVERY_IMPORT
    if one.module.startswith("jaxviz.") and room(one.target) and room(one.target) != room(one.module)
]


@pytest.mark.parametrize("module", [module for module in JAXVIZ_MODULES if module != "jaxviz.__main__"])
def test_module_stands_in_a_room(module: str) -> None:
    assert room(module) in ROOMS, "give the new room its line in ROOMS"


def test_every_room_is_there() -> None:
    assert set(ROOMS) == {room(module) for module in JAXVIZ_MODULES} - {"__main__"}


@pytest.mark.parametrize("name", ROOMS)
def test_imports_go_down_from(name: str) -> None:
    upward = [
        str(one) for one in CROSSING if room(one.module) == name and ROOMS.index(room(one.target)) < ROOMS.index(name)
    ]
    assert upward == []


def test_few_rooms_know_of_each_other() -> None:
    pairs = {(room(one.module), room(one.target)) for one in CROSSING if one.module != "jaxviz.__main__"}
    assert len(pairs) <= MOST_PAIRS


def test_imports_within_jaxviz_never_go_round() -> None:
    graph: dict[str, set[str]] = {module: set() for module in JAXVIZ_MODULES}
    for one in EVERY_IMPORT:
        if one.module in graph and one.target in graph:
            graph[one.module].add(one.target)
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(graph)


def test_imports_at_the_top_never_go_round_between_the_packages() -> None:
    graph: dict[str, set[str]] = {module: set() for module in SOURCES}
    for one in EVERY_IMPORT:
        if not one.in_function and one.target in graph:
            graph[one.module].add(one.target)
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(graph)


def test_package_imports_nothing_of_its_own_at_the_top() -> None:
    assert [str(one) for one in imports_of(LAZY_ROOT) if not one.in_function and one.target in SOURCES] == []


NETWORK_MODULES = sorted(module for module in SOURCES if module.startswith("jaxviz.network"))


@pytest.mark.parametrize(
    "module", ["jaxviz.ascent.climb", "jaxviz.models.family_forward", *sorted(FAMILY_MODULES), *NETWORK_MODULES]
)
def test_no_family_is_imported_by(module: str) -> None:
    assert [str(one) for one in imports_of(module) if one.target in FAMILY_MODULES] == []


@pytest.mark.parametrize("module", NETWORK_MODULES)
def test_networks_are_traced_and_run_without_the_rest_of_jaxviz_by(module: str) -> None:
    own = {one.target for one in imports_of(module) if one.target in SOURCES}
    own_doors = {"jaxviz.doors.keras_network", "jaxviz.doors.torch_module"}
    doors = own_doors if module == "jaxviz.network.model" else set()
    machine = {"jaxviz.machine"} if module.startswith("jaxviz.network.rules.") else set()  # which kernels it has
    assert {target for target in own if not target.startswith("jaxviz.network")} <= {"jaxviz.errors"} | doors | machine


def test_what_moves_between_versions_of_jax_is_met_in_one_module() -> None:
    users = {one.module for one in EVERY_IMPORT if one.target.startswith("jax.extend")}
    assert users <= {"jaxviz.network.jaxprs"}
    assert [str(one) for one in EVERY_IMPORT if one.target.startswith("jax._src")] == []


def test_registry_imports_at_the_top_only_what_needs_no_jax() -> None:
    top = {one.target for one in imports_of("jaxviz.models") if not one.in_function and one.target in SOURCES}
    assert top <= {"jaxviz.errors"}


def test_registry_imports_in_functions_only_what_makes_a_network_of_a_family() -> None:
    inside = {one.target for one in imports_of("jaxviz.models") if one.in_function and one.target in JAXVIZ_MODULES}
    assert inside <= {"jaxviz.models.family_forward", "jaxviz.models.keras_weights", "jaxviz.network.model"}


def test_weights_convert_is_imported_only_inside_functions_of_loading() -> None:
    users = {one for one in EVERY_IMPORT if one.module in JAXVIZ_MODULES and one.target in CONVERT_MODULES}
    assert {one.module for one in users} == {"jaxviz.loading"}
    assert [str(one) for one in users if not one.in_function] == []


@pytest.mark.parametrize("module", CONVERT_MODULES)
def test_weights_convert_imports_nothing_above_the_registry(module: str) -> None:
    highest = "render" if module == "weights_convert.__main__" else "models"  # a terminal spells errors
    above = [
        str(one)
        for one in imports_of(module)
        if room(one.target) and ROOMS.index(room(one.target)) < ROOMS.index(highest)
    ]
    assert above == []


@pytest.mark.parametrize("module", sorted(SOURCES.keys() - COMPARISONS - DOORS))
def test_no_other_framework_is_imported_by(module: str) -> None:
    assert [str(one) for one in imports_of(module) if one.target.split(".")[0] in FRAMEWORKS] == []


@pytest.mark.parametrize("module", sorted((COMPARISONS | DOORS) & SOURCES.keys()))
def test_other_frameworks_are_imported_inside_functions_by(module: str) -> None:
    top = [one for one in imports_of(module) if not one.in_function]
    assert [str(one) for one in top if one.target.split(".")[0] in FRAMEWORKS] == []


@pytest.mark.parametrize(
    "module",
    [
        "jaxviz.config",
        "jaxviz.render.options",
        "jaxviz.errors",
        "jaxviz.files",
        "jaxviz.pictures.images",
        "jaxviz.store.layer_record",
        "jaxviz.models",
        "jaxviz.jobs.task",
    ],
)
def test_jax_is_not_imported_at_the_top_of(module: str) -> None:
    assert [str(one) for one in imports_of(module) if one.target.split(".")[0] in ("jax", "flax")] == []


@pytest.mark.parametrize("module", [*JAXVIZ_MODULES, *CONVERT_MODULES])
def test_only_terminals_print(module: str) -> None:
    terminals = {"jaxviz.cli.progress", "weights_convert.__main__", "weights_convert.progress"}
    calls = [
        f"line {node.lineno}"
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert calls == [] or module in terminals


# What importing costs, and what the package offers


def test_importing_jaxviz_imports_nothing_heavy(tmp_path: Path) -> None:
    heavy = "{'jax', 'jaxlib', 'numpy', 'flax', 'PIL', 'typer', 'h5py', 'jaxtyping', 'msgspec', 'jinja2'}"
    assert run_python(f"import sys, jaxviz; print(sorted({heavy} & sys.modules.keys()))", cwd=tmp_path) == "[]\n"


def test_using_the_config_does_not_import_jax(tmp_path: Path) -> None:
    code = "import sys, jaxviz; jaxviz.RenderConfig.keras(); print('jax' in sys.modules)"
    assert run_python(code, cwd=tmp_path) == "False\n"


@pytest.mark.parametrize(
    "module",
    [
        "jaxviz.store.folder",
        "jaxviz.store.catalogue",
        "jaxviz.view.comparison",
        "jaxviz.view.export",
        "jaxviz.view.gallery.site",
        "jaxviz.render.recipe",
        "jaxviz.pictures.images",
        "jaxviz.models",
        "jaxviz.loading",
        "jaxviz.jobs.schema",
        "jaxviz.jobs.task",
        "jaxviz.bench.settings",
        "jaxviz.bench.files",
    ],
)
def test_jax_is_not_imported_with(tmp_path: Path, module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'jax', 'flax'}} & sys.modules.keys()))"
    assert run_python(code, cwd=tmp_path) == "[]\n"


def test_all_is_sorted() -> None:
    assert list(jaxviz.__all__) == sorted(jaxviz.__all__)


@pytest.mark.parametrize("name", jaxviz.__all__)
def test_public_name_resolves(name: str) -> None:
    assert getattr(jaxviz, name) is not None


@pytest.mark.parametrize(
    "name", ["load_model", "RenderConfig", "render_layer", "iter_render", "visualize_filter", "Model", "list_models"]
)
def test_public_names_are_those_of_the_design(name: str) -> None:
    assert name in jaxviz.__all__


def test_dir_shows_the_public_names() -> None:
    assert set(jaxviz.__all__) <= set(dir(jaxviz))


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nope"):
        jaxviz.nope  # noqa: B018


def undocumented(node: ast.AST, path: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            if not ast.get_docstring(child):
                yield f"{path}.{child.name}"
            if isinstance(child, ast.ClassDef):
                yield from undocumented(child, f"{path}.{child.name}")


@pytest.mark.parametrize("module", SOURCES)
def test_everything_public_has_a_docstring_in(module: str) -> None:
    assert ast.get_docstring(TREES[module])
    assert list(undocumented(TREES[module], module)) == []
