"""The options of `optimize bundle` that the documents follow, by the command itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from optimize.deploy.bundle.needed_packages import closure
from tests.deploy.bundle.wheel_files import wheel
from tests.deploy.finished_run import finished
from tests.runs import command


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("run") / "out")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels of what the run needs, by their names and versions."""
    folder = tmp_path_factory.mktemp("wheels")
    for package in closure(("onnxruntime", "numpy"), {}):
        wheel(folder, package.name, package.version)
    return folder


def test_a_folder_of_wheels_goes_into_the_bundle(run: Path, wheels: Path, tmp_path: Path) -> None:
    flags = ("--wheels", wheels, "--model-licence", "CC-BY-4.0", "--data-licence", "own")
    code, _, stderr = command("bundle", run, "--out", tmp_path / "a", *flags)
    assert code == 0, stderr
    taken = {file.name for file in (tmp_path / "a" / "wheels").iterdir()}
    assert taken == {file.name for file in wheels.iterdir()}
    listed = {file["path"] for file in json.loads((tmp_path / "a" / "manifest.json").read_bytes())["files"]}
    assert {f"wheels/{name}" for name in taken} < listed
    assert "| CC-BY-4.0 |" in (tmp_path / "a" / "LICENSES.md").read_text(encoding="utf-8")
    assert command("bundle", run, "--out", tmp_path / "b", *flags)[0] == 0
    assert (tmp_path / "a" / "manifest.json").read_bytes() == (tmp_path / "b" / "manifest.json").read_bytes()


def test_without_a_name_the_wheels_are_downloaded(run: Path, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(_: object, folder: Path) -> None:
        for file in wheels.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())

    monkeypatch.setattr("optimize.deploy.bundle.documents.requirements.download", fetched)
    code, _, stderr = command("bundle", run, "--wheels", "--out", tmp_path / "a")
    assert code == 0, stderr
    assert "--hash=sha256:" in (tmp_path / "a" / "requirements.txt").read_text(encoding="utf-8")


def test_a_folder_without_them_takes_one_line_and_leaves_nothing(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, _, stderr = command("bundle", run, "--out", tmp_path / "a", "--wheels", tmp_path / "empty")
    assert (code, len(stderr.splitlines())) == (2, 1)
    assert "has no wheel of" in stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]


def test_a_licence_is_one_line_of_text(run: Path, tmp_path: Path) -> None:
    code, _, stderr = command("bundle", run, "--out", tmp_path / "a", "--model-licence", "MIT\nand more")
    assert (code, len(stderr.splitlines())) == (2, 1)
    assert "`model_licence`" in stderr
