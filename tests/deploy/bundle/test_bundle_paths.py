"""Paths that a bundle may hold."""

from __future__ import annotations

from pathlib import PureWindowsPath

import pytest

from optimize.deploy.bundle.bundle_paths import PathSet, path_fault

GOOD = ("a", "model/model.onnx", "bundle/__pycache__", "wheels/numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.whl", "é/ü.txt", "con-1", ".x")
BAD = (
    *("", "/", "/a", "a/", "a//b", ".", "./a", "..", "../a", "a/../b", "a\\b", "..\\a", "C:a", "C:/a", "a:b", "a\0b", "a\nb", "a\u202eb"),
    *(
        "con",
        "CON",
        "a/nul.txt",
        "Com1",
        "lpt9.json",
        "aux .txt",
        "conin$ ",
        "a ",
        "a.",
        "a*",
        "a?",
        "<a",
        "a|b",
        'a"',
        "a" * 256,
        "é" * 128,
    ),
    "/".join("a" * 17),
)


@pytest.mark.parametrize("path", GOOD)
def test_usual_paths_are_kept(path: str) -> None:
    assert path_fault(path) == ""
    # Python's own list of names that Windows keeps for devices
    assert not PureWindowsPath(path).is_reserved()


@pytest.mark.parametrize("path", BAD)
def test_others_are_not(path: str) -> None:
    assert path_fault(path).startswith("it ")


def test_what_is_one_file_elsewhere_clashes() -> None:
    for first, second, reason in (
        ("README.md", "readme.md", "capitals"),
        ("model/a", "Model/b", "capitals"),
        ("straße", "STRASSE", "capitals"),
        ("caf\u00e9", "cafe\u0301", "capitals"),
        ("a", "a/b", "both a file and a folder"),
        ("a/b", "a", "both a file and a folder"),
        ("a", "a", "twice"),
    ):
        paths = PathSet()
        assert paths.add(first) == ""
        assert reason in paths.add(second)


def test_a_folder_may_be_named_often() -> None:
    paths = PathSet()
    assert [paths.add("a", folder=True), paths.add("a", folder=True), paths.add("a/b"), paths.add("a", folder=True)] == [""] * 4
    assert "both" in paths.add("a/b", folder=True)
