"""Two runs in one folder: the second one is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from optimize.errors import InputError
from optimize.run.folder_lock import FolderLock
from optimize.run.workspace import Workspace

pytest.importorskip("fcntl")


def test_a_folder_has_one_run_at_a_time(tmp_path: Path) -> None:
    first = Workspace(tmp_path / "out")
    first.open({"seed": 0}, resume=False)
    second = Workspace(tmp_path / "out")
    for attempt in (lambda: second.check(resume=False, overwrite=True), lambda: second.open({"seed": 0}, resume=True)):
        with pytest.raises(InputError, match=r"`--out` \(=.*out\) is the folder of a run that is still going on: wait for it"):
            attempt()
    assert first.ledger.has_run
    first.release()
    second.check(resume=True, overwrite=False)
    second.open({"seed": 0}, resume=True)
    second.release()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ledger.jsonl"]


def test_a_process_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from optimize.run.folder_lock import FolderLock; lock = FolderLock(pathlib.Path(sys.argv[1])); "
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="still going on"):
            FolderLock(tmp_path)
        other.kill()
        other.wait()
    FolderLock(tmp_path).release()


def test_a_lock_that_nobody_releases_is_given_back_with_its_owner(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    del lock
    again = FolderLock(tmp_path)
    with pytest.raises(InputError, match="still going on"):
        FolderLock(tmp_path)
    again.release()
    again.release()
