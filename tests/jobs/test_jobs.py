"""The job file: what it means, what is refused and how, and `--set`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers_cli import run
from helpers_jobs import EXAMPLES, SMALL

from jaxviz.config import RenderConfig
from jaxviz.errors import JobFileError
from jaxviz.jobs.job_file import Job, check_job, job_tasks, read_job
from jaxviz.jobs.schema import Atlas, JobFile
from jaxviz.jobs.task import LayerTask
from jaxviz.models import architecture

pytestmark = pytest.mark.quick

ATLAS = '[[atlas]]\nmodel = "efficientnet_lite0"\nlayers = ["stem_conv"]\n'


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(text: str, *overrides: str) -> Job:
    Path("job.toml").write_text(text)
    return read_job("job.toml", overrides)


def one_task(text: str, *overrides: str) -> LayerTask:
    (task,) = check_job(read(text, *overrides))
    return task


def refused(text: str, overrides: Sequence[str] = ()) -> str:
    """What a job is refused with."""
    with pytest.raises(JobFileError) as caught:
        check_job(read(text, *overrides))
    assert caught.value.exit_code == 2
    return str(caught.value)


# What it means


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.stem)
def test_example_plans(example: Path) -> None:
    assert check_job(read_job(example))


def test_night_has_both_networks_cheapest_layer_first() -> None:
    (night,) = [file for file in EXAMPLES if file.stem == "night"]
    tasks = job_tasks(read_job(night))
    assert [task.request.model for task in tasks].count("resnet50v2") == 3 + 1 - 1 + 1
    assert tasks[0].request.model == "efficientnet_lite0"
    assert tasks[-1].layer in ("conv5_block3_3_conv", "head_conv")


def test_nothing_but_a_model_is_every_convolution_in_preset_keras() -> None:
    tasks = job_tasks(read('[[atlas]]\nmodel = "resnet50v2"\n'))
    assert len(tasks) == 53
    assert {task.request.config for task in tasks} == {RenderConfig.keras()}
    assert {task.filters for task in tasks} == {"all"}


def test_atlas_stands_above_defaults_and_both_above_the_preset() -> None:
    defaults = '[defaults]\npreset = "distill"\nsteps = 7\nseed = 1\n'
    config = one_task(defaults + ATLAS + 'preset = "keras"\nseed = 2\n').request.config
    assert (config.preset, config.steps, config.seed, config.crop) == ("keras", 7, 2, 25)


def test_texts_of_the_command_line_mean_the_same() -> None:
    text = 'size = "128x192"\nfilters = "0-2,7"\ntransforms = "pad:12,jitter:8"\nsnapshots = "1,8"\nbatch_size = "4"\n'
    lists = 'size = [128, 192]\nfilters = [0, 1, 2, 7]\ntransforms = [["pad", 12], ["jitter", 8]]\n'
    assert one_task(ATLAS + text) == one_task(ATLAS + lists + "snapshots = [1, 8]\nbatch_size = 4\n")


def test_last_layer_table_that_fits_counts() -> None:
    tables = '[[atlas.layer]]\nglob = "*"\nfilters = "all"\n[[atlas.layer]]\nglob = "stem*"\nfilters = [3]\n'
    assert one_task(ATLAS + "filters = [5]\n" + tables).filters == (3,)


def test_order_given_is_the_files() -> None:
    two = '[[atlas]]\nmodel = "efficientnet_lite0"\nlayers = ["head_conv", "stem_conv"]\n'
    assert [task.layer for task in job_tasks(read('order = "given"\n' + two))] == ["head_conv", "stem_conv"]
    assert [task.layer for task in job_tasks(read('order = "network"\n' + two))] == ["stem_conv", "head_conv"]


def test_cheapest_counts_steps_over_all_atlases() -> None:
    two = ATLAS + 'label = "long"\nsteps = 50\n' + ATLAS + 'label = "short"\nsteps = 5\n'
    assert [task.request.label for task in job_tasks(read(two))] == ["short", "long"]


def test_animation_without_snapshots_shows_doubling_steps() -> None:
    assert one_task(ATLAS + 'animate = "gif"\n').request.snapshots == (0, 1, 2, 4, 8, 16)


def test_paths_are_relative_to_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    job = tmp_path / "jobs" / "job.toml"
    job.write_text('out = "here"\n' + ATLAS)
    assert job_tasks(read_job(job))[0].folder == Path("here/efficientnet_lite0/stem_conv/keras")


def test_byte_order_mark_of_an_editor_is_no_matter(tmp_path: Path) -> None:
    Path("job.toml").write_bytes(b"\xef\xbb\xbf" + ATLAS.replace("\n", "\r\n").encode())
    assert len(job_tasks(read_job("job.toml"))) == 1


# What is refused


WRONG = [
    ("steps = 0", "atlas.0: steps 0", "1 to 1000000"),
    ("steps = 2.5", "atlas.0: steps 2.5", "a whole number"),
    ('steps = "8"', "atlas.0: steps '8'", "a whole number"),
    ("stepz = 8", "unknown key 'stepz'", "nearest: 'steps'"),
    ('name = "x"', "unknown key 'name'", "'label'"),
    ("overwrite = true", "unknown key 'overwrite'", "jaxviz run JOB.toml --overwrite"),
    ('out = "x"', "unknown key 'out'", "at the top of the file"),
    ("steps = 99999999999999999999", "atlas.0: steps", "64 bits"),
    ("steps = 2026-01-01", "2026-01-01 (a date or time)", "a whole number"),
    ("step_size = nan", "step_size nan", "a finite number above 0"),
    ("diversity = inf", "inf", "finite"),
    ("size = 40", "crop 25", "give size 51 or more, or crop 19 or less"),
    ('size = "big"', "size 'big'", "PX nor HxW"),
    ("size = [1, 2, 3]", "[1, 2, 3]", "(height, width)"),
    ("filters = [32]", "filters 32", "0-31"),
    ("filters = [1, 1]", "filters [1, 1]", "distinct"),
    ('filters = "3-1"', "'3-1' is no range", "smaller number comes first"),
    ('preset = "lucid"', "preset 'lucid'", "keras, distill, maco"),
    ('label = "../x"', "label '../x'", "letters"),
    ("snapshots = [31]", "snapshots 31", "30 steps"),
    ('animate = "mp4"', "animate 'mp4'", "webp, gif"),
    ('format = "jpg"', "'jpg'", "png"),
    ('transforms = [["pan", 1]]', "pan", "pad, jitter"),
    ("replicas = 0", "replicas 0", "1 to 1000"),
    ("replicas = 4\ndiversity = 3\nbatch_size = 6", "batch_size 6", "a multiple of 4"),
    ('objective = "neuron:99,99"', "99", "stem_conv"),
    ('objective = "class_logit"', "class_logit", "predictions"),
    ('weights = "gone.safetensors"', "weights 'gone.safetensors'", "relative to the current folder"),
    ('objective = "direction"\nvectors = "gone.npy"', "vectors 'gone.npy'", "relative to the current folder"),
    ('images = "gone"', "images 'gone' is no folder", "relative to the current folder"),
    ('weights = "a\\u0000b"', "weights", "NUL"),
    ('weights = "~nobody-of-that-name/x"', "weights", "home folder"),
    ('exclude = ["*"]', "exclude *", "leaves no layer"),
    ('exclude = ["nothing*"]', "exclude 'nothing*'", "fits no layer"),
    ('[[atlas.layer]]\nglob = "block*"\nfilters = [0]', "filters 'block*'", "fits none of the 1 chosen layers"),
    ('[[atlas.layer]]\nglob = "*"\nfilters = "x"', "layer.0: filters 'x'", "neither a number nor a range"),
    ('[[atlas.layer]]\nglob = "*"', "layer.0 lacks 'filters'", "give"),
]


@pytest.mark.parametrize(("line", "said", "also"), WRONG, ids=[line.partition("\n")[0] for line, *_ in WRONG])
def test_wrong_line_is_refused(line: str, said: str, also: str) -> None:
    message = refused(ATLAS + line)
    assert message.startswith("job.toml: atlas.0")
    assert said in message
    assert also in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "lacks 'atlas'"),
        ("atlas = []", "[[atlas]]"),
        ("[[atlas]]\n", "atlas.0 lacks 'model'"),
        ('[[atlas]]\nmodel = "resnet50"', "MODEL 'resnet50' is unknown; nearest: 'resnet50v2'"),
        ("steps = 3\n" + ATLAS, "unknown key 'steps'; it belongs into [defaults] or into [[atlas]]"),
        ('order = "fastest"\n' + ATLAS, "order 'fastest' is unknown; allowed: cheapest, network, given"),
        ('out = "job.toml"\n' + ATLAS, "which is a file"),
        ('out = "' + "x" * 5000 + '"\n' + ATLAS, "cannot be a folder"),
        ("[defaults]\nsteps = 3\nsteps = 4\n" + ATLAS, "line 3"),
        (ATLAS + "x = [", "end of document"),
        ("a = " + "[" * 3000, "too deep"),
        ("a = " + "9" * 6000, "is no TOML"),
    ],
    ids=lambda value: value[:20],
)
def test_wrong_file_is_refused(text: str, said: str) -> None:
    message = refused(text)
    assert message.startswith("job.toml")
    assert said in message


def test_table_is_named_with_its_number_and_label() -> None:
    assert "job.toml: atlas.1 (label 'slow'): steps 0" in refused(ATLAS + ATLAS + 'label = "slow"\nsteps = 0\n')


def test_two_atlases_that_write_to_the_same_folder_are_refused() -> None:
    message = refused(ATLAS + ATLAS + 'label = "keras"\n')
    assert message.startswith("job.toml: atlas.1 (label 'keras'): layer 'stem_conv'")
    assert "as that of atlas.0; give one of them another label" in message


def test_bytes_that_are_no_text_are_refused_with_their_line() -> None:
    Path("job.toml").write_bytes(b"# \n# caf\xe9\n")
    with pytest.raises(JobFileError, match="line 2 is not UTF-8"):
        read_job("job.toml")


@pytest.mark.parametrize(
    ("name", "said"), [("gone.toml", "is not there"), (".", "is a folder"), ("a\0b", "is not there")]
)
def test_file_that_is_none_is_refused(name: str, said: str) -> None:
    with pytest.raises(JobFileError, match=said):
        read_job(name)


def test_vectors_are_looked_into() -> None:
    np.save("two.npy", np.ones((2, 32), np.float32))
    direction = ATLAS + 'objective = "direction"\nvectors = "two.npy"\n'
    assert one_task(direction + "filters = [0, 1]\n").filters == (0, 1)
    assert "filters 2 is out of range" in refused(direction + "filters = [2]\n")


def test_animation_larger_than_its_format_is_refused() -> None:
    big = '[[atlas]]\nmodel = "resnet50v2"\nlayers = ["conv5_block3_3_conv"]\nsize = 512\nanimate = "webp"\n'
    assert 'animate = "gif"' in refused(big)


# --set


def test_set_reaches_every_place() -> None:
    job = read(
        SMALL, "out=elsewhere", "defaults.steps=9", "atlas.0.label=x", 'atlas.0.layers=["stem*"]',
        "atlas.0.layer.0.filters=[5]", "atlas.1.negative=true", "atlas.1.size=96x128",
    )  # fmt: skip
    first, second = job.atlases
    assert (str(first.request.out), first.request.label, first.request.config.steps) == ("elsewhere", "x", 9)
    assert first.choice.layers == ("stem*",)
    assert first.choice.filters[-1] == ("stem*", (5,))
    assert second.request.objective.negative
    assert second.request.config.size == (96, 128)


def test_set_makes_the_table_of_defaults() -> None:
    assert one_task(ATLAS, "defaults.steps=3").request.config.steps == 3


def test_last_set_counts() -> None:
    assert one_task(ATLAS, "defaults.steps=3", "defaults.steps=4").request.config.steps == 4


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("steps", "is not KEY=VALUE"),
        ("=3", "is not KEY=VALUE"),
        ("a..b=3", "is not KEY=VALUE"),
        ("atlas.1.steps=3", "no '1' in atlas; its tables are atlas.0 to atlas.0"),
        ("atlas.x.steps=3", "no 'x' in atlas"),
        ("atlas.steps=3", "no 'steps' in atlas"),
        ("atlas.0.model.x=3", "'atlas.0.model' is 'efficientnet_lite0', no table"),
        ("defaults.stepz=3", "defaults: unknown key 'stepz'; nearest: 'steps'"),
        ("default.steps=3", "unknown key 'default'; nearest: 'defaults'"),
        ("defaults.steps=x", "defaults.steps 'x' is wrong; allowed: a whole number"),
        ("defaults.steps=", "defaults.steps '' is wrong"),
        ("defaults.steps=0", "atlas.0: steps 0"),
    ],
)
def test_wrong_set_is_refused(override: str, said: str) -> None:
    assert said in refused(ATLAS, [override])


# The command


def test_run_refuses_with_one_message_and_renders_nothing(tmp_path: Path) -> None:
    Path("job.toml").write_text(ATLAS + "steps = 0\n")
    ran = run("run", "job.toml")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: job.toml: atlas.0: steps 0")
    assert [file.name for file in tmp_path.iterdir()] == ["job.toml"]


def test_check_says_that_a_file_is_in_order() -> None:
    Path("job.toml").write_text(ATLAS)
    assert run("run", "job.toml", "--check").out == "job.toml is in order: 1 layer in 1 atlas\n"
    assert run("run", "job.toml", "--check", "--set", "atlas.0.layers=[]", "--json").out == (
        f'{{"file": "job.toml", "atlases": 1, "layers": {len(_convolutions())}}}\n'
    )


def _convolutions() -> list[str]:
    table = architecture("efficientnet_lite0").table()
    return [layer.name for layer in table if layer.kind in ("conv", "depthwise_conv")]


@pytest.mark.parametrize("arguments", [["--no-measure"], ["--dry-run", "--shard", "1/2"], ["--check", "--dry-run"]])
def test_options_that_do_not_go_together_are_refused(arguments: list[str]) -> None:
    Path("job.toml").write_text(ATLAS)
    ran = run("run", "job.toml", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert arguments[0] in ran.err


def test_struct_fields_do_not_repeat() -> None:
    assert not set(JobFile.__struct_fields__) & set(Atlas.__struct_fields__)
