"""Background processes are at work while the block runs, and gone afterwards, however it ends."""

from __future__ import annotations

import dataclasses
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from optimize.backends import backend
from optimize.backends.artifact import Artifact
from optimize.errors import OptimizeError
from optimize.measure import background_load, child_process
from optimize.measure.background_load import READY, contending
from tests.measure import small

PARENT = """
import sys, time
from optimize.backends.artifact import Artifact
from optimize.measure.background_load import contending
with contending(Artifact.read(sys.argv[1]), 1, batch=1, threads=1) as ids:
    print(*ids, flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def artifact(any_target: str, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("contend")
    return backend(any_target).convert(small.write(folder / "m.onnx"), folder / "artifact", "f32")


def works(number: int) -> bool:
    """A process that ended but that nobody has asked about does not."""
    try:
        return str(psutil.Process(number).status()) != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def soon(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()


@pytest.mark.parametrize(("end", "count"), [(KeyboardInterrupt, 2), (ValueError, 1)])
def test_none_is_left_when_the_block_ends_badly(end: type[BaseException], count: int, artifact: Artifact) -> None:
    seen: list[int] = []

    def measured() -> None:
        with contending(artifact, count, batch=2, threads=1) as ids:
            seen.extend(ids)
            assert all(map(works, ids))
            # It predicts again and again: its CPU time goes on growing.
            before = sum(psutil.Process(ids[0]).cpu_times()[:2])
            assert soon(lambda: sum(psutil.Process(ids[0]).cpu_times()[:2]) > before)
            raise end

    with pytest.raises(end):
        measured()
    assert len(set(seen)) == count
    assert not any(map(works, seen))


def test_none_is_left_when_the_one_who_measures_is_killed(artifact: Artifact) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(artifact.folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        ids = [int(word) for word in parent.stdout.readline().split()]
        assert len(ids) == 1
        assert works(ids[0])
    finally:
        parent.kill()
    assert parent.wait() == -signal.SIGKILL
    parent.stdout.close()
    assert soon(lambda: not works(ids[0]))


def test_one_that_fails_is_named_by_its_last_words(artifact: Artifact) -> None:
    lost = dataclasses.replace(artifact, folder=artifact.folder / "nowhere")
    with (
        pytest.raises(OptimizeError, match=r"^latency under load of `model` \(=.*nowhere\) could .* failed \(`.*nowhere` is no artifact"),
        contending(lost, 1, batch=1, threads=1),
    ):
        pytest.fail("the block was entered without a load")


def test_one_that_ends_early_spoils_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in says that it is ready, and leaves."""
    script = f"import sys; print({READY!r}); sys.stderr.write('Traceback\\nkilled: no memory')"
    real = subprocess.Popen
    monkeypatch.setattr(child_process.subprocess, "Popen", lambda _, **more: real([sys.executable, "-c", script], **more))
    with (
        pytest.raises(OptimizeError, match=r"of `model` \(=m.pt\) could not be measured: its process failed \(killed: no memory\)"),
        contending({"path": "m.pt"}, 1, batch=1, threads=1) as ids,
    ):
        assert soon(lambda: not works(ids[0]))


def test_the_loop_ends_with_its_input(artifact: Artifact) -> None:
    request = json.dumps({"artifact": str(artifact.folder), "batch": 1, "threads": 1})
    answers = io.StringIO()
    background_load.serve(io.StringIO(f"{request}\n"), answers)
    assert answers.getvalue() == f"{READY}\n"


@pytest.mark.parametrize(("limit_bytes", "share"), [(20, 0.25), (80, 1.0), (200, 1.0)])
def test_a_ceiling_of_gpu_memory_is_a_share_of_a_made_up_gpu(
    limit_bytes: int, share: float, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: SimpleNamespace(total_memory=80))
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", lambda *each: asked.append(each))
    request = {"artifact": str(artifact.folder), "batch": 1, "threads": 1, "gpu_limit_bytes": limit_bytes}
    background_load.serve(io.StringIO(f"{json.dumps(request)}\n"), io.StringIO())
    assert asked == [(share, 0)]


def test_nobody_is_started_for_a_count_of_none() -> None:
    with contending({"path": Path("nowhere")}, 0, batch=1, threads=None) as ids:
        assert ids == []
