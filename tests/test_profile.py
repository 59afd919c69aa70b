"""The artifact beside its baselines: everybody gets the same inputs, and a baseline that is missing is said to be."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from optimize import backends
from optimize import profile as module
from optimize.artifact import Artifact
from optimize.backends import Backend
from optimize.errors import TargetUnavailable
from optimize.export import export_onnx
from optimize.measure.latency import Latency
from optimize.measure.memory import Memory
from optimize.profile import ARTIFACT, EAGER, Profile, profile
from tests import runs


def measured(folder: Path, brought: Path, target: str, **changed: Any) -> Profile:
    """A profile of the original as its own artifact."""
    start = runs.original()
    export_onnx(start, folder / "model.onnx")
    artifact = backends.backend(target).convert(folder / "model.onnx", folder / "artifact", "f32")
    settings: dict[str, Any] = {"scratch": folder / "scratch", "batches": (1, 3), "threads": 1, **changed}
    test = runs.split("test")
    return profile(start, {"path": str(brought)}, folder / "model.onnx", artifact, lambda count: test.inputs(slice(0, count)), **settings)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, int, int | None]]:
    """No process is started for memory: what was asked is kept, and the answer is 1000 times the number of the question."""
    found: list[tuple[object, int, int | None]] = []

    def answer(model: object, *, batch: int, threads: int | None) -> Memory:
        found.append((model, batch, threads))
        return Memory(1000 * len(found), 0)

    monkeypatch.setattr(module, "peak_memory", answer)
    monkeypatch.setattr(module, "SECONDS", 0.0)
    monkeypatch.setattr(module, "MIN_ROUNDS", 3)
    return found


def installed() -> list[str]:
    """Runtimes that can be baselines here."""
    names = []
    for target, name in module.RUNTIMES.items():
        try:
            backends.backend(target).preflight()
        except TargetUnavailable:
            continue
        names.append(f"{name} f32")
    return names


def test_every_contender_is_timed_in_the_same_rounds(tmp_path: Path, brought: Path, any_target: str, asked: list[Any]) -> None:
    found = measured(tmp_path, brought, any_target)
    contenders = [EAGER, *installed(), ARTIFACT]
    assert list(found.latency) == [1, 3]
    for rounds in found.latency.values():
        assert list(rounds) == contenders
        assert {each.n for each in rounds.values()} == {3}
    assert list(found.baselines) == contenders[:-1]
    assert {batch: list(gains) for batch, gains in found.speedup.items()} == {"1": contenders[:-1], "3": contenders[:-1]}


def test_memory_is_asked_of_each_with_the_larger_batch_and_the_same_threads(
    tmp_path: Path, brought: Path, any_target: str, asked: list[Any]
) -> None:
    found = measured(tmp_path, brought, any_target)
    assert [(batch, threads) for _, batch, threads in asked] == [(3, 1)] * len(asked)
    assert asked[0][0] == {"path": str(brought)}
    assert all(isinstance(model, Artifact) for model, _, _ in asked[1:])
    assert asked[-1][0].folder == tmp_path / "artifact"
    assert [found.of(name)["peak_memory_bytes"] for name in found.size_bytes] == [1000 * k for k in range(1, len(asked) + 1)]


def test_sizes_are_those_of_the_files(tmp_path: Path, brought: Path, any_target: str, asked: list[Any]) -> None:
    found = measured(tmp_path, brought, any_target)
    assert found.size_bytes[EAGER] == brought.stat().st_size
    files = [path for path in (tmp_path / "artifact").iterdir() if path.name != "artifact.json"]
    assert found.size_bytes[ARTIFACT] == sum(path.stat().st_size for path in files)


def test_a_missing_baseline_is_left_out_and_said_to_be(
    tmp_path: Path, brought: Path, any_target: str, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = next(target for target in module.RUNTIMES if target != any_target)

    def absent(name: str) -> Backend:
        found = backends.backend(name)
        return cast(Backend, SimpleNamespace(preflight=refuse)) if name == other else found

    def refuse() -> None:
        raise TargetUnavailable("it is not installed")

    monkeypatch.setattr(module, "backend", absent)
    found = measured(tmp_path, brought, any_target)
    assert list(found.baselines) == [EAGER, f"{module.RUNTIMES[any_target]} f32"]
    assert found.notes == (f"{module.RUNTIMES[other]} is not among the baselines: it is not installed",)


def test_figures_by_hand() -> None:
    rounds = {EAGER: Latency((4.0, 4.0, 6.0)), ARTIFACT: Latency((2.0, 2.0, 3.0))}
    found = Profile({1: rounds}, {EAGER: 50, ARTIFACT: 20}, {EAGER: 7, ARTIFACT: 5}, ())
    assert found.speedup == {"1": {EAGER: {"value": 2.0, "low": 2.0, "high": 2.0}}}
    assert found.of(ARTIFACT)["latency_ms"]["1"]["p50"] == 2.0
    assert found.baselines[EAGER]["peak_memory_bytes"] == 50
    assert found.baselines[EAGER]["size_bytes"] == 7
