"""Wheels are chosen as pip chooses them, and what cannot be had is said in one line."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from optimize.deploy.bundle import wheels
from optimize.deploy.bundle.needed_packages import NeededPackage
from optimize.deploy.bundle.wheels import chosen_wheels, download, wheel_of
from optimize.errors import InputError
from tests.deploy.bundle.wheel_files import wheel

OWN = f"cp{sys.version_info.major}{sys.version_info.minor}"
PACKAGE = NeededPackage("a-tool", "1.2")


def test_only_a_wheel_of_this_package_version_and_platform_fits(tmp_path: Path) -> None:
    others = [
        wheel(tmp_path, "a-tool", "1.3"),
        wheel(tmp_path, "b-tool", "1.2"),
        wheel(tmp_path, "a-tool", "1.2", "cp27-cp27m-win32"),
        tmp_path / "notes.txt",
        tmp_path / "broken.whl",
    ]
    assert wheel_of(PACKAGE, others) is None
    right = wheel(tmp_path, "a-tool", "1.2")
    assert wheel_of(PACKAGE, [*others, right]) == right


def test_the_nearest_tag_is_preferred_then_the_later_build(tmp_path: Path) -> None:
    general = wheel(tmp_path, "a-tool", "1.2")
    own = [wheel(tmp_path, "a-tool", "1.2", f"{OWN}-none-any", build=build) for build in ("", "1", "12", "2")]
    found = [general, *own]
    for seed in range(5):
        random.Random(seed).shuffle(found)
        assert wheel_of(PACKAGE, found) == own[2]
    assert wheel_of(PACKAGE, [general]) == general


def test_1_2_and_1_2_0_are_the_same_version(tmp_path: Path) -> None:
    right = wheel(tmp_path, "a-tool", "1.2.0")
    assert wheel_of(PACKAGE, [right]) == right


def test_links_are_no_wheels_and_a_folder_must_be_there(tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    (folder / "a_tool-1.2-py3-none-any.whl").symlink_to(wheel(tmp_path, "a-tool", "1.2"))
    assert chosen_wheels([PACKAGE], folder) == {}
    with pytest.raises(InputError, match="is no folder"):
        chosen_wheels([PACKAGE], tmp_path / "nowhere")


def test_pip_is_asked_for_exact_wheels_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def ran(call: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        calls.append(call)
        return subprocess.CompletedProcess(call, 0, "", "")

    monkeypatch.setattr(wheels.subprocess, "run", ran)
    download([PACKAGE, NeededPackage("numpy", "2.0")], tmp_path)
    ((python, *rest),) = calls
    assert (python, rest[:3]) == (sys.executable, ["-m", "pip", "download"])
    assert {"--no-deps", "--only-binary=:all:", "--no-input"} <= set(rest)
    assert rest[-2:] == ["a-tool==1.2", "numpy==2.0"]


@pytest.mark.parametrize("stderr", ["WARNING: x\nERROR: No matching\n  distribution\nlater\n", ""])
def test_an_index_that_cannot_be_reached_takes_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stderr: str) -> None:
    monkeypatch.setattr(wheels.subprocess, "run", lambda call, **_: subprocess.CompletedProcess(call, 1, "", stderr))
    with pytest.raises(InputError, match="--wheels FOLDER") as caught:
        download([PACKAGE], tmp_path)
    assert ("No matching" in str(caught.value)) == bool(stderr)
    assert "\n" not in str(caught.value)


def test_a_download_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(call: list[str], timeout: float, **_: Any) -> None:
        raise subprocess.TimeoutExpired(call, timeout)

    monkeypatch.setattr(wheels.subprocess, "run", endless)
    with pytest.raises(InputError, match="TimeoutExpired"):
        download([PACKAGE], tmp_path)
