"""The artifact beside its baselines: everybody gets the same inputs, and a baseline that is missing is said to be."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from optimize import backends
from optimize.backends import Backend, onnx_target_names, title
from optimize.backends.artifact import Artifact
from optimize.backends.export import export_onnx
from optimize.errors import TargetUnavailable
from optimize.measure.latency import Latency
from optimize.measure.memory import Memory
from optimize.measure.warmup import Warmup
from optimize.run import baselines as module
from optimize.run.baselines import ARTIFACT, EAGER, Profile, profile
from tests import runs

Asked = tuple[object, int, int | None]


@pytest.fixture(scope="module")
def exported(any_target: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Artifact]:
    """The original as a file and as its own artifact."""
    folder = tmp_path_factory.mktemp("exported")
    export_onnx(runs.original(), folder / "model.onnx")
    return folder / "model.onnx", backends.backend(any_target).convert(folder / "model.onnx", folder / "artifact", "f32")


@pytest.mark.parametrize(("loads", "times", "kept"), [([64.0, 5.0], 2, 5.0), ([64.0, 64.0, 64.0], 3, 64.0), ([5.0], 1, 5.0)])
def test_what_a_busy_machine_timed_is_timed_again(
    loads: list[float],
    times: int,
    kept: float,
    exported: tuple[Path, Artifact],
    brought: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = list(loads)
    monkeypatch.setattr("optimize.measure.retake.TRIES", 3)
    monkeypatch.setattr("optimize.measure.retake.await_quiet", lambda: None)
    monkeypatch.setattr(module, "peak_memory", lambda *_, **__: Memory(1000, 0))
    monkeypatch.setattr(module, "interleave", lambda calls, **_: {name: Latency((2.0,) * 20) for name in calls})
    monkeypatch.setattr(module, "warm_up", lambda calls, most_s: Warmup({name: (1.0, 1.0) for name in calls}))
    monkeypatch.setattr(module, "watch_foreign_load", lambda: lambda: left.pop(0))
    settings: dict[str, Any] = {"scratch": tmp_path, "batches": (1,), "threads": 1}
    inputs = runs.split("test").inputs
    found = profile(runs.original(), brought, {"path": str(brought)}, *exported, lambda count: inputs(slice(0, count)), **settings)
    assert (found.load_percent, left) == ({1: kept}, [])
    assert bool(found.doubts(1)) == (kept > 20)
    said = [note for note in found.notes if note.startswith(f"batch 1 was timed {times} times")]
    assert len(said) == (times > 1)


def measured(exported: tuple[Path, Artifact], brought: Path, scratch: Path, patch: pytest.MonkeyPatch) -> tuple[Profile, list[Asked]]:
    """No process is started for memory: what was asked is kept, and the answer is 1000 times the number of the question."""
    asked: list[Asked] = []

    def answer(model: object, *, batch: int, threads: int | None) -> Memory:
        asked.append((model, batch, threads))
        return Memory(1000 * len(asked), 0)

    patch.setattr(module, "peak_memory", answer)
    patch.setattr(module, "MEMORY_PROCESSES", 1)
    patch.setattr(module, "SECONDS", 0.0)
    patch.setattr(module, "MIN_ROUNDS", 3)
    # Nothing stands still for the artifact, and others take a tenth of the machine, then half.
    patch.setattr(module, "warm_up", lambda calls, most_s: Warmup({name: (1.0, 1.0 + (name == ARTIFACT)) for name in calls}))
    loads = iter([10.0, 50.0])
    patch.setattr(module, "watch_foreign_load", lambda: lambda: next(loads))
    test = runs.split("test")
    settings: dict[str, Any] = {"scratch": scratch, "batches": (1, 3), "threads": 1}
    found = profile(runs.original(), brought, {"path": str(brought)}, *exported, lambda count: test.inputs(slice(0, count)), **settings)
    return found, asked


@pytest.fixture(scope="module")
def one(exported: tuple[Path, Artifact], brought: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Profile, list[Asked]]:
    with pytest.MonkeyPatch.context() as patch:
        return measured(exported, brought, tmp_path_factory.mktemp("profile") / "scratch", patch)


def installed() -> list[str]:
    """Runtimes that can be baselines here."""
    names = []
    for target, name in ((target, title(target)) for target in onnx_target_names()):
        try:
            backends.backend(target).preflight()
        except TargetUnavailable:
            continue
        names.append(f"{name} f32")
    return names


def test_every_contender_is_timed_in_the_same_rounds(one: tuple[Profile, list[Asked]]) -> None:
    found, _ = one
    contenders = [EAGER, *installed(), ARTIFACT]
    assert list(found.latency) == [1, 3]
    for rounds in found.latency.values():
        assert list(rounds) == contenders
        assert {each.n for each in rounds.values()} == {3}
    assert list(found.baselines) == contenders[:-1]
    assert {batch: list(gains) for batch, gains in found.speedup.items()} == {"1": contenders[:-1], "3": contenders[:-1]}


def test_every_latency_says_whether_to_rely_on_it(one: tuple[Profile, list[Asked]]) -> None:
    found, _ = one
    assert found.load_percent == {1: 10, 3: 50}
    assert {batch: list(each) for batch, each in found.reliability.items()} == {batch: [EAGER, *installed(), ARTIFACT] for batch in "13"}
    quiet, busy = (found.reliability[batch][ARTIFACT] for batch in "13")
    unsettled, load = "had not settled when warm-up was given up", "other processes used 50 % of the CPU during the measurement"
    assert quiet["answer"] == busy["answer"] == "not to be relied on"
    assert [any(unsettled in reason for reason in each["reasons"]) for each in (quiet, busy)] == [True, True]
    assert [any(load in reason for reason in each["reasons"]) for each in (quiet, busy)] == [False, True]
    assert not any(unsettled in reason for reason in found.reliability["1"][EAGER]["reasons"])


def test_memory_is_asked_of_each_with_the_larger_batch_and_the_same_threads(
    one: tuple[Profile, list[Asked]], exported: tuple[Path, Artifact], brought: Path
) -> None:
    found, asked = one
    assert [(batch, threads) for _, batch, threads in asked] == [(3, 1)] * len(asked)
    assert asked[0][0] == {"path": str(brought)}
    assert all(isinstance(model, Artifact) for model, _, _ in asked[1:])
    assert asked[-1][0] == exported[1]
    assert [found.of(name)["peak_memory_bytes"] for name in found.size_bytes] == [1000 * k for k in range(1, len(asked) + 1)]


def test_sizes_are_those_of_the_files(one: tuple[Profile, list[Asked]], exported: tuple[Path, Artifact], brought: Path) -> None:
    found, _ = one
    assert found.size_bytes[EAGER] == brought.stat().st_size
    files = [path for path in exported[1].folder.iterdir() if path.name != "artifact.json"]
    assert found.size_bytes[ARTIFACT] == sum(path.stat().st_size for path in files)


def test_a_missing_baseline_is_left_out_and_said_to_be(
    exported: tuple[Path, Artifact], brought: Path, any_target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = next(target for target in onnx_target_names() if target != any_target)

    def absent(name: str) -> Backend:
        found = backends.backend(name)
        return cast(Backend, SimpleNamespace(preflight=refuse)) if name == other else found

    def refuse() -> None:
        raise TargetUnavailable("it is not installed")

    monkeypatch.setattr(module, "backend", absent)
    found, _ = measured(exported, brought, tmp_path / "scratch", monkeypatch)
    assert list(found.baselines) == [EAGER, f"{title(any_target)} f32"]
    assert found.notes == (f"{title(other)} is not among the baselines: it is not installed",)


def test_figures_by_hand() -> None:
    rounds = {EAGER: Latency((4.0, 4.0, 6.0)), ARTIFACT: Latency((2.0, 2.0, 3.0))}
    found = Profile({1: rounds}, {EAGER: 50, ARTIFACT: 20}, {EAGER: 7, ARTIFACT: 5}, ())
    assert found.speedup == {"1": {EAGER: {"value": 2.0, "low": 2.0, "high": 2.0}}}
    assert found.of(ARTIFACT)["latency_ms"]["1"]["p50"] == 2.0
    assert found.baselines[EAGER]["peak_memory_bytes"] == 50
    assert found.baselines[EAGER]["size_bytes"] == 7
