"""What ours is held against: the best peer of its type, the goals for a kind of CPU, its own scores in float32."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # `benchmarks` is not installed

from helpers_facts import race_raw, result_of  # noqa: E402

from benchmarks import contestants, cpu  # noqa: E402
from benchmarks.contestants import ENTRIES, UnavailableError, build  # noqa: E402
from benchmarks.measure import race, race_table, summary  # noqa: E402
from benchmarks.measure.goals import GOALS  # noqa: E402
from benchmarks.settings import CONTESTANTS, FLOAT32_FORMS, LAYERS, OURS, PEERS, Task  # noqa: E402

pytestmark = pytest.mark.quick

LINUX = "processor\t: 0\nflags\t\t: fpu avx2 fma avx512f {}\nbogomips\t: 1\n"


def case(raw, name, layer=LAYERS[0]):
    return race.figures(raw)[race_table.case(layer, name)]


@pytest.mark.parametrize(
    ("flags", "found", "kind"),
    [
        ("amx_tile amx_bf16 avx512_bf16", ["amx_bf16", "amx_tile", "avx2", "avx512_bf16", "avx512f", "fma"], "AMX"),
        ("avx512_bf16", ["avx2", "avx512_bf16", "avx512f", "fma"], "AVX512_BF16"),
        ("avx512_vnni", ["avx2", "avx512_vnni", "avx512f", "fma"], "AVX2"),
    ],
)
def test_kind_of_cpu_follows_from_its_instruction_sets(tmp_path, flags, found, kind):
    file = tmp_path / "cpuinfo"
    file.write_text(LINUX.format(flags))
    assert cpu.instruction_sets(file) == found
    assert cpu.kind_of_cpu(found) == kind


def test_cpu_of_a_system_that_does_not_tell_is_of_no_kind(tmp_path):
    assert cpu.instruction_sets(tmp_path / "nowhere") == []
    assert cpu.kind_of_cpu([]) is None


def test_everybody_who_is_named_in_the_settings_is_in_the_table():
    assert set(ENTRIES) == set(CONTESTANTS)
    assert {name: ENTRIES[name].dtype for peers in PEERS.values() for name in peers} == {
        name: dtype for dtype, peers in PEERS.items() for name in peers
    }
    assert {ENTRIES[name].dtype for name in FLOAT32_FORMS} == {"bfloat16"}
    assert {ENTRIES[name].dtype for name in FLOAT32_FORMS.values()} == {"float32"}
    assert all(len(goals) == len(LAYERS) and kind in cpu.KINDS for (kind, _), goals in GOALS.items())


def test_bfloat16_of_the_others_needs_its_instructions(monkeypatch):
    task = Task(weights="", starts="", size=64, steps=1, batch=1)
    monkeypatch.setattr(contestants, "instruction_sets", lambda: ["avx2", "fma"])
    monkeypatch.setattr(contestants.importlib.util, "find_spec", lambda _: True)
    for name in PEERS["bfloat16"]:
        with pytest.raises(UnavailableError, match="this CPU has none of amx_bf16, avx512_bf16"):
            build(name, task)


@pytest.mark.parametrize(
    ("name", "best", "ratio"),
    [("jaxviz_float32", "tensorflow_batched", 0.7 / 0.3), ("jaxviz_bfloat16", "pytorch_bfloat16", 0.4 / 0.25)],
)
def test_best_peer_is_the_fastest_of_the_same_type(name, best, ratio):
    figures = case(race_raw(), name)
    assert figures["best_peer"] == best
    assert figures["times_as_fast_as_best_peer"] == pytest.approx(ratio, rel=1e-5)


def test_no_peer_is_none_of_the_others():
    raw = race_raw()
    for run in raw["layers"][LAYERS[0]]["contestants"]["keras_jax"]["runs"]:
        run["seconds"] = 0.001
    assert case(raw, "jaxviz_float32")["best_peer"] == "tensorflow_batched"


def test_without_peers_there_is_nothing_to_be_held_against():
    figures = case(race_raw(absent=PEERS["bfloat16"]), "jaxviz_bfloat16")
    assert not {"best_peer", "times_as_fast_as_best_peer", "goal", "of_goal"} & figures.keys()


def test_each_cell_has_its_own_goal():
    raw = race_raw(instructions=("amx_bf16", "avx2"))
    assert [case(raw, "jaxviz_float32", layer)["goal"] for layer in LAYERS] == [2.0, 1.15, 1.1]
    figures = case(raw, "jaxviz_float32", LAYERS[1])
    assert figures["of_goal"] == pytest.approx(0.7 / 0.3 / 1.15, rel=1e-5)
    assert not {"goal", "of_goal"} & case(raw, "pytorch").keys()


def test_cpu_without_bfloat16_has_no_goal_for_it():
    raw = race_raw(instructions=("avx2",))
    assert {name: "goal" in case(raw, name) for name in OURS} == {"jaxviz_float32": True, "jaxviz_bfloat16": False}


@pytest.mark.parametrize(("share", "broken"), [(0.35, []), (0.36, ["jaxviz_float32"])])
def test_goal_at_its_border(share, broken):
    """0.7 of Keras's time is the best peer's, and 2.0 times as fast the goal."""
    raw = race_raw()
    at_layer = raw["layers"][LAYERS[0]]["contestants"]
    for mine, peer in zip(at_layer["jaxviz_float32"]["runs"], at_layer["tensorflow_batched"]["runs"], strict=True):
        mine["seconds"] = peer["seconds"] * share / 0.7
    found = summary.broken(result_of("race", raw))
    assert [text.rpartition(", ")[2].rstrip(")") for text in found] == broken
    assert all("race: jaxviz reaches its goals" in text for text in found)


@pytest.mark.parametrize(("drift", "holds"), [(-0.05, True), (0.051, False)])
def test_bfloat16_is_held_against_its_own_float32(drift, holds):
    raw = race_raw(drift=drift)
    assert {name: case(raw, name)["drift"] for name in FLOAT32_FORMS} == pytest.approx(
        dict.fromkeys(FLOAT32_FORMS, drift), rel=1e-4
    )
    assert "drift" not in case(raw, "pytorch")
    assert "jaxviz_drift" not in case(raw, "pytorch_bfloat16")
    (claim,) = (claim for claim in race.FACT.claims if claim.figure == "jaxviz_drift")
    assert claim.verdict(race.figures(raw)).holds is holds
