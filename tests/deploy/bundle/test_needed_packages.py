"""The closure of packages, against pip's own list of what is installed and against made-up metadata."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from optimize.deploy.bundle.needed_packages import OPTIONAL, PURPOSES, NeededPackage, closure, needed, runtime_package
from tests.deploy.bundled_run import bundled


def made_up(folder: Path, name: str, *fields: str, files: tuple[str, ...] = ()) -> None:
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *fields]) + "\n", encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_what_is_needed_in_turn_is_found_once(site: Path) -> None:
    made_up(site, "aa-root", "Requires-Dist: Bb_Leaf>=1", "Requires-Dist: cc-loop", "Requires-Dist: gone", "Requires-Dist: not a name!")
    made_up(site, "bb-leaf", "License-Expression: MIT", "License-File: LICENSE")
    made_up(
        site, "cc-loop", "Requires-Dist: aa-root", "Requires-Dist: dd-extra ; extra == 'test'", "Requires-Dist: dd-extra; os_name == 'x'"
    )
    made_up(site, "dd-extra")
    found = closure(("AA.root",), {})
    assert [package.pin for package in found] == ["aa-root==1.0", "bb-leaf==1.0", "cc-loop==1.0"]
    assert found[0].needs == ("bb-leaf", "cc-loop", "gone")
    assert (found[1].licence, found[1].is_expression, found[1].licence_files) == ("MIT", True, ("LICENSE",))


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        (("License: Apache 2.0",), "Apache 2.0"),
        (("License: First line",), "First line"),
        (("Classifier: License :: OSI Approved :: MIT License", "Classifier: Topic :: X"), "MIT License"),
        ((), ""),
    ],
)
def test_older_metadata_states_licences_in_other_ways(site: Path, fields: tuple[str, ...], licence: str) -> None:
    made_up(site, "ee-old", *fields)
    (package,) = closure(("ee-old",), {})
    assert (package.licence, package.is_expression) == (licence, False)


def test_the_version_of_the_run_is_pinned_and_the_installed_one_is_told(site: Path) -> None:
    made_up(site, "ff-run")
    verified = {"ff-run": "0.9", "not-here": "3"}
    assert closure(("ff-run", "not-here", "nowhere"), verified) == (
        NeededPackage("ff-run", "0.9", installed="1.0"),
        NeededPackage("not-here", "3"),
    )


def test_a_run_needs_its_runtime_numpy_and_all_that_these_need(tmp_path: Path) -> None:
    run = bundled(tmp_path, versions={"optimize": "0.1.0", "numpy": "1.99", "onnxruntime": None})
    found = {package.name: package for package in needed(run)}
    assert runtime_package(run) == "onnxruntime"
    assert {"numpy", "onnxruntime"} <= found.keys()
    assert found["numpy"].version == "1.99"
    # nothing that a listed package needs is missing, by the metadata as `packaging` reads it
    for package in found.values():
        for text in importlib.metadata.requires(package.name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                assert requirement.name.lower().replace("_", "-") in found


def test_a_purpose_whose_packages_are_not_installed_has_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = bundled(tmp_path)
    assert all(needed(run, purpose) for purpose in PURPOSES)
    monkeypatch.setitem(OPTIONAL, "sign", ("not-here-at-all",))  # type: ignore[arg-type]
    assert needed(run, "sign") == ()
