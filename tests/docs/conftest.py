"""One finished run for all pages: the README's own first command, on small files."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from optimize.measure.peaks import Peaks
from tests import conftest, runs
from tests.docs import workshop as files
from tests.runs import Run


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory, accepted_openvino: Run) -> Path:
    """A folder with everything that the pages name; nobody writes into it."""
    conftest.require("onnxruntime")
    folder = tmp_path_factory.mktemp("workshop")
    files.bring(folder)
    line = files.command_line(files.readme("sh", "optimize compress"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        conftest.hurried(patch, memory=False)
        run = Run(*runs.command(*shlex.split(line, comments=True)[1:]), folder / "out")
    files.finished(run)
    shutil.copytree(folder / "out", folder / "model-onnxruntime")
    shutil.copytree(accepted_openvino.out, folder / "model-openvino")
    return folder


@pytest.fixture
def page_folder(workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the workshop to be in, where timing takes moments and the machine's peaks are made up."""

    def made_up(targets: list[str], threads: int | None = None) -> Peaks:
        return Peaks({target: dict.fromkeys(("f32", "bf16", "f16", "int8"), 1e9) for target in targets}, 1e15, threads)

    folder = files.copied(workshop, tmp_path / "page")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("optimize.measure.peaks.peaks", made_up)
    conftest.hurried(monkeypatch, memory=False)
    yield folder
    monkeypatch.delitem(sys.modules, "net", raising=False)
