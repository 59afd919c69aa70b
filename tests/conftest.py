"""What all tests share: one thread, a cache of their own, and whole runs of the command, made once for all who look at what they left."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from torch.onnx._internal.exporter import _registration as registration

from optimize.backends import backend
from optimize.errors import TargetUnavailable
from optimize.measure.memory import Memory
from optimize.measure.peaks import Peaks
from optimize.measure.warmup import warm_up
from tests import runs
from tests.runs import Run

CPU_TARGETS = ("onnxruntime", "openvino")


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Latency tables belong to the user: the tests keep theirs elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> Iterator[None]:
    """Whatever else this machine is doing, latency tables are not timed twice: the tests that ask for a busy one make it up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("optimize.measure.table.watch_foreign_load", lambda: lambda: 0.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def _once() -> Iterator[None]:
    """Nor is anything else: the tests of retaking say how often."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("optimize.measure.retake.TRIES", 1)
        patch.setattr("optimize.searching.goal.await_quiet", lambda: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _peaks() -> Iterator[None]:
    """What this machine reaches takes seconds to measure, in each run on a busy one: the tests' reports have made-up peaks."""

    def made_up(targets: Sequence[str], threads: int | None) -> Peaks:
        return Peaks({target: dict.fromkeys(("f32", "bf16", "f16", "int8"), 1e9) for target in targets}, 1e15, threads)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("optimize.measure.roofline_report.peaks", made_up)
        patch.setattr("optimize.measure.roofline_report.SECONDS", 0.02)
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks as small as the tests' only wait for their threads; so do the processes that a test starts."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def _frozen() -> None:
    """What a module finds loaded is no garbage: every collection, and there is one before each timing, would look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_registry() -> Iterator[None]:
    """The exporter parses the source of a thousand operators for every file that it writes: half of what an export takes.

    They are always the same ones, and it only looks them up. Where another torch has no such function, its exports are what they are.
    """
    with pytest.MonkeyPatch.context() as patch:
        made = getattr(registration.ONNXRegistry, "from_torchlib", None)
        if made is not None:
            patch.setattr(registration.ONNXRegistry, "from_torchlib", staticmethod(cache(made)))
        yield


def require(target: str) -> str:
    """The target, or a skip in its own words."""
    try:
        backend(target).preflight()
    except TargetUnavailable as missing:
        pytest.skip(str(missing))
    return target


def runnable() -> str:
    """The first target that runs here."""
    for target in CPU_TARGETS:
        try:
            backend(target).preflight()
        except TargetUnavailable:
            continue
        return target
    pytest.skip("no runtime is installed")


@pytest.fixture(scope="session")
def any_target() -> str:
    return runnable()


@pytest.fixture(scope="session")
def brought(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with everything it needs beside it."""
    return runs.bring(tmp_path_factory.mktemp("brought"))


def hurried(patch: pytest.MonkeyPatch, *, memory: bool = True) -> None:
    """Time as briefly as can be; without `memory`, no process is started to measure it, and no proposal is timed."""
    patch.setattr("optimize.quantization.precision_choice.TIMING_SECONDS", 0.02)
    patch.setattr("optimize.run.baselines.SECONDS", 0.02)
    patch.setattr("optimize.searching.goal.TIMING_SECONDS", 0.02)
    patch.setattr("optimize.searching.goal.WARMUP_WINDOW_S", 0.01)
    for module in ("quantization.precision_choice", "run.baselines"):
        patch.setattr(f"optimize.{module}.warm_up", partial(warm_up, window_s=0, window_rounds=1, most_windows=2))
    patch.setattr("optimize.measure.latency._RESAMPLES", 200)
    if not memory:
        patch.setattr("optimize.run.compress.makes_few_proposals", lambda _: False)
        patch.setattr("optimize.run.baselines.peak_memory", lambda *_, **__: Memory(2_000, 1_000))


def shortened(model: Path, out: Path, *flags: object, target: str) -> Run:
    """A run without the figures for memory."""
    with pytest.MonkeyPatch.context() as patch:
        hurried(patch, memory=False)
        return runs.compressed(model, out, *flags, target=target)


@pytest.fixture(scope="session")
def accepted_onnxruntime(brought: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Nothing stands in for anything."""
    require("onnxruntime")
    with pytest.MonkeyPatch.context() as patch:
        hurried(patch)
        return runs.compressed(brought, tmp_path_factory.mktemp("onnxruntime") / "out", target="onnxruntime")


@pytest.fixture(scope="session")
def accepted_openvino(brought: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return shortened(brought, tmp_path_factory.mktemp("openvino") / "out", target=require("openvino"))


@pytest.fixture(params=CPU_TARGETS)
def accepted(request: pytest.FixtureRequest) -> Run:
    """A run that ended well, for every CPU runtime."""
    found: Run = request.getfixturevalue(f"accepted_{request.param}")
    return found


@pytest.fixture(scope="session")
def rejected(any_target: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A fifth of the test split is labelled wrong, so that no model reaches the F1 that is asked for."""
    folder = tmp_path_factory.mktemp("rejected")
    model = runs.bring(folder, runs.arrays(wrong_test=0.2))
    return shortened(model, folder / "out", "--min-class-f1", "0.95", "--force", target=any_target)


@pytest.fixture(scope="session")
def inconclusive(any_target: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Five test cases."""
    folder = tmp_path_factory.mktemp("inconclusive")
    data = runs.arrays()
    five = {name: data[name][::29] for name in data if "test" in name}
    return shortened(runs.bring(folder, data | five), folder / "out", "--force", target=any_target)


@pytest.fixture(scope="session")
def hopeless(any_target: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The original does not hold the limit itself."""
    folder = tmp_path_factory.mktemp("hopeless")
    model = runs.bring(folder, runs.arrays(wrong_val=0.3))
    return shortened(model, folder / "out", "--min-class-f1", "95%", "--force", target=any_target)
