"""`--dry-run`: what is counted, what is measured, how it is scaled, and that nothing is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers_cli import QUICK, TINY, contents, install_tiny_model, run

from jaxviz.bench.figures import flop_per_image
from jaxviz.cli.dry_run import duration
from jaxviz.config import RenderConfig
from jaxviz.errors import OutputFolderError
from jaxviz.jobs import estimate as estimates
from jaxviz.jobs import short_run
from jaxviz.jobs.estimate import Estimate, estimate
from jaxviz.jobs.task import LayerTask, RenderRequest
from jaxviz.models import architecture
from jaxviz.render.batch_size import CPU_LARGEST
from jaxviz.render.batches import iter_pictures
from jaxviz.render.plan import Plan
from jaxviz.render.recipe import Picture

SMALL = RenderConfig.keras(image_size=64, crop=7, steps=40, batch_size=4)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    install_tiny_model(monkeypatch)


def task(layer: str = "wide_conv", filters: Any = "all", config: RenderConfig = SMALL, **options: Any) -> LayerTask:
    return LayerTask(RenderRequest(TINY, config, **options), layer, filters)


def job(text: str) -> str:
    Path("job.toml").write_text(text)
    return "job.toml"


# What needs no clock


def test_whole_resnet_has_53_convolutions_and_26560_filters_without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXVIZ_WEIGHTS_MIRROR", "http://127.0.0.1:9/")
    ran = run("run", job('[[atlas]]\nmodel = "resnet50v2"\n'), "--dry-run", "--no-measure", "--json")
    found = json.loads(ran.out)
    assert (ran.code, ran.err, found["measured"]) == (0, "", False)
    assert (len(found["layers"]), found["filters"], found["pictures"]) == (53, 26_560, 26_560)
    assert found["time_s"] is None
    assert found["memory_bytes"] is None
    assert sum(layer["flop"] for layer in found["layers"]) == found["flop"]


def test_text_says_the_same() -> None:
    ran = run("run", job('[[atlas]]\nmodel = "resnet50v2"\n'), "--dry-run", "--no-measure")
    assert "53 layers, 26,560 filters, 26,560 pictures to render" in ran.out
    assert len(ran.out.splitlines()) == 1 + 53 + 2
    assert "not measured" in ran.out


def test_flop_are_those_of_the_benchmark() -> None:
    macs = architecture("resnet50v2").layer("conv2_block1_1_conv", (180, 180)).macs
    render = LayerTask(RenderRequest("resnet50v2", RenderConfig.keras()), "conv2_block1_1_conv")
    assert estimate([render], measure=False).flop == 64 * flop_per_image(macs, 30)


def test_flop_are_of_the_views_that_the_network_sees() -> None:
    chain = (("crops", 8, 0.25, 0.75, 90),)
    plain, crops = (
        estimate([LayerTask(RenderRequest("resnet50v2", config), "conv1_conv", (0,))], measure=False).flop
        for config in (RenderConfig.keras(steps=1000), RenderConfig.keras(steps=1000, transforms=chain))
    )
    assert crops / plain == pytest.approx(8 / 4, rel=0.01)  # a quarter of the pixels each


def test_disk_is_at_least_what_a_run_writes(tiny: None, tmp_path: Path) -> None:
    text = f'[defaults]\nsize = 64\ncrop = 7\nsteps = 2\nsnapshots = [1]\n[[atlas]]\nmodel = "{TINY}"\n'
    most = json.loads(run("run", job(text), "--dry-run", "--no-measure", "--json").out)["disk_bytes"]
    assert run("run", job(text), "--progress", "none").code == 0
    written = sum(len(content) for name, content in contents(tmp_path).items() if name.endswith(".png"))
    assert 0.5 * most < written <= most


# What is measured


def test_measured_run_has_all_figures_and_writes_nothing(tiny: None, tmp_path: Path) -> None:
    found = estimate([task(), task("first_conv", config=replace(SMALL, batch_size="auto"))])
    assert [layer.batches for layer in found.layers] == [25, -(-8 // (found.layers[1].batch_size or 0))]
    for layer in found.layers:
        assert layer.time_s is not None
        assert layer.compile_s is not None
        assert 0 < layer.compile_s < layer.time_s
        assert (layer.memory_bytes or 0) > 2**26
        assert layer.disk_bytes > 0
    assert found.time_s == pytest.approx((found.start_s or 0) + sum(layer.time_s or 0 for layer in found.layers))
    assert contents(tmp_path) == {}


def test_only_what_is_missing_is_counted(tiny: None, tmp_path: Path) -> None:
    run("render", TINY, "first_conv", *QUICK, "--filters", "0-2", "--batch-size", "3", "--out", tmp_path)
    before = contents(tmp_path)
    config = RenderConfig.keras(image_size=64, crop=7, steps=2)
    (layer,) = estimate([task("first_conv", config=config, out=tmp_path)]).layers
    assert (layer.pictures, layer.already_there, layer.batches, layer.batch_size) == (8, 3, 2, 3)
    macs = architecture(TINY).layer("first_conv", (64, 64)).macs
    assert layer.flop == 5 * flop_per_image(macs, 2)
    (done,) = estimate([task("first_conv", (0, 1, 2), config=config, out=tmp_path)]).layers
    assert (done.already_there, done.batches, done.flop, done.disk_bytes) == (3, 0, 0, 0)
    (anew,) = estimate([task("first_conv", config=config, out=tmp_path, overwrite=True)]).layers
    assert (anew.already_there, anew.batch_size) == (0, CPU_LARGEST)  # `auto` chooses anew
    assert contents(tmp_path) == before


def test_folder_of_another_recipe_is_refused_as_by_a_run(tiny: None, tmp_path: Path) -> None:
    run("render", TINY, "first_conv", *QUICK, "--filters", "0", "--out", tmp_path)
    with pytest.raises(OutputFolderError, match="steps is 2 there, 40 here"):
        estimate([task("first_conv", out=tmp_path)])


def test_missing_weights_say_what_works_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXVIZ_WEIGHTS_MIRROR", "http://127.0.0.1:9/")
    ran = run("run", job('[[atlas]]\nmodel = "resnet50v2"\nlayers = ["conv1_conv"]\n'), "--dry-run")
    assert (ran.code, ran.out) == (1, "")
    assert "--no-measure" in ran.err


# How it is scaled, on a clock of its own


class Clock:
    """A machine with known times: 5 s to compile, 1 s more for the first call, 0.2 s a step, 0.01 s a picture."""

    def __init__(self) -> None:
        self.now = 0.0
        self.plans: list[Plan] = []

    def perf_counter(self) -> float:
        return self.now

    def iter_pictures(self, plan: Plan, *, on_compiled: Callable[[float], None]) -> Iterator[Picture]:
        self.plans.append(plan)
        real = iter_pictures(replace(plan, config=replace(plan.config, steps=1), snapshots=()))
        for place, picture in enumerate(real):
            if place == 0:
                self.now += 6
                on_compiled(5.0)
            if place % plan.recipe.batch_size == 0:
                self.now += 0.2 * (plan.config.steps + 0.5)
            self.now += 0.01
            yield picture


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, tiny: None) -> Clock:
    clock = Clock()
    monkeypatch.setattr(short_run, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    monkeypatch.setattr(estimates, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    monkeypatch.setattr(short_run, "iter_pictures", clock.iter_pictures)
    return clock


def test_time_is_scaled_to_all_steps_and_batches(clock: Clock) -> None:
    (layer,) = estimate([task(filters=range(10))]).layers
    assert clock.plans[0].config.steps < SMALL.steps
    assert layer.compile_s == 5
    assert layer.time_s == pytest.approx(6 + 3 * (0.2 * 40.5 + 4 * 0.01))  # the last batch is padded


def test_few_steps_are_measured_as_they_are(clock: Clock) -> None:
    (layer,) = estimate([task(filters=(0,), config=replace(SMALL, steps=1))]).layers
    assert clock.plans[0].config.steps == 1
    assert layer.time_s == pytest.approx(6 + 0.2 * 1.5 + 4 * 0.01)


def test_next_layer_is_measured_with_steps_for_the_speed_that_was_found(clock: Clock) -> None:
    estimate([task(), task("first_conv")])
    first, second = (plan.config.steps for plan in clock.plans)
    assert first == short_run.MOST_STEPS
    assert second == short_run.FEWEST_STEPS  # they take longer than CALL_S


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.44, "2.4 s"), (59.4, "59.4 s"), (200, "3 min 20 s"), (18120, "5 h 02 min")]
)
def test_duration_is_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_estimate_of_nothing_left_is_no_time(tiny: None, tmp_path: Path) -> None:
    config = RenderConfig.keras(image_size=64, crop=7, steps=2)
    run("render", TINY, "first_conv", *QUICK, "--out", tmp_path)
    found: Estimate = estimate([task("first_conv", config=config, out=tmp_path)])
    assert (found.flop, found.disk_bytes, found.memory_bytes) == (0, 0, None)
