"""The demo: its files are what a user would bring, its run is a real one, and it takes nobody's files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from optimize.backends import backend
from optimize.backends.artifact import Artifact
from optimize.data.dataset import Preprocessing, load_data
from optimize.errors import InputError, TargetUnavailable
from optimize.loading.load import load_model
from optimize.run import demo as module
from optimize.run.demo import NET, demo
from tests import conftest


@pytest.fixture(scope="module")
def made(any_target: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Path, dict[str, Any]]]:
    """One target, without the figures for memory."""
    folder = tmp_path_factory.mktemp("demo") / "new"
    with pytest.MonkeyPatch.context() as patch:
        conftest.hurried(patch, memory=False)
        patch.setattr(module, "target_names", lambda: (any_target,))
        patch.setattr("optimize.run.strategies.ENERGIES", (0.99,))
        return folder, demo(folder)


def test_it_is_never_rejected(made: tuple[Path, dict[Path, dict[str, Any]]], any_target: str) -> None:
    folder, reports = made
    assert list(reports) == [folder / any_target]
    report = reports[folder / any_target]
    # widths follow from latencies that are measured here, so the run differs from time to time, and 597 test images may leave it open
    assert report["verdict"] in ("pass", "inconclusive"), report["reasons"]
    assert report["baseline"]["metrics"]["overall"]["accuracy"] > 0.95
    assert report["compressed"]["parameters"] < report["baseline"]["parameters"] / 2
    assert report["data"]["test"]["cases"] == 597


def test_what_is_shipped_reads_digits(made: tuple[Path, dict[Path, dict[str, Any]]], any_target: str) -> None:
    folder, reports = made
    data = load_data(folder / "digits.npz", preprocessing=Preprocessing((0.305,), (0.376,)), input_shape=(1, 8, 8))
    shipped = "model" if reports[folder / any_target]["accepted"] else "not_accepted"
    with backend(any_target).build(Artifact.read(folder / any_target / shipped), threads=1) as session:
        right = session.predict(data.test.inputs()).argmax(1) == data.test.labels
    assert right.mean() == pytest.approx(reports[folder / any_target]["compressed"]["metrics"]["overall"]["accuracy"])


def test_its_files_are_what_a_user_would_bring(made: tuple[Path, dict[Path, dict[str, Any]]]) -> None:
    folder, _ = made
    candidate = load_model(folder / "model.pt", arch=f"{folder}/net.py:digits", input_shape=(1, 8, 8))
    assert candidate.predict(np.zeros((2, 1, 8, 8), dtype=np.float32)).shape == (2, 10)


def test_without_a_runtime_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "target_names", lambda: ("tensorrt",))
    with pytest.raises(TargetUnavailable, match=r"no runtime is installed: pip install 'optimize\[openvino,onnxruntime\]'"):
        demo(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_target_that_only_compiles_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = SimpleNamespace(NAME="tensorrt-rtx", preflight=lambda: None, unavailable_reason=lambda: "no GPU")
    said: list[str] = []
    monkeypatch.setattr(module, "backend", lambda _: runtime)
    monkeypatch.setattr(module, "target_names", lambda: ("tensorrt-rtx",))
    monkeypatch.setattr(module, "note", said.append)
    with pytest.raises(TargetUnavailable, match="no runtime is installed"):
        demo(tmp_path / "out")
    assert said == ["tensorrt-rtx is left out: target 'tensorrt-rtx' compiles here, but does not run: no GPU."]


@pytest.mark.parametrize("name", ["net.py", "optimize.toml", "digits.npz", "model.pt"])
def test_somebodys_files_are_not_replaced(name: str, any_target: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=rf"`--out` \(=.*\) holds a {name} that is no demo's, and would lose it: name another folder"):
        demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_an_earlier_demo_may_be_replaced(any_target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "model.pt").write_text("old")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_train", stop)
    with pytest.raises(KeyboardInterrupt):
        demo(tmp_path)
    assert (tmp_path / "digits.npz").exists()


def test_a_folder_that_cannot_be_made(any_target: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"`--out` \(=.*file.*\) cannot be written"):
        demo(tmp_path / "file" / "below")
