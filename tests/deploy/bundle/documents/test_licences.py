"""Licence notes: what packages state, what the user states, and what nobody stated."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from optimize.deploy.bundle.bundled_run import BundledRun
from optimize.deploy.bundle.documents import licences
from optimize.deploy.bundle.needed_packages import NeededPackage
from tests.deploy.bundled_run import bundled, with_files
from tests.docs.pages import ROOT

NUMPY = NeededPackage("numpy", "2.1", licence="BSD-3-Clause", is_expression=True, licence_files=("LICENSE.txt",), installed="2.1")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BundledRun:
    packages = {"run": (NUMPY, NeededPackage("x|y", "1")), "sign": (), "serve": (NUMPY,)}
    monkeypatch.setattr(licences, "needed", lambda _, purpose: packages[purpose])
    return bundled(tmp_path)


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line[2:-2].split(" | ")] for line in text.splitlines() if line.startswith("| ")]


def test_packages_are_listed_as_they_state_their_licences(run: BundledRun) -> None:
    found = rows(licences.render(run))
    assert ["numpy", "2.1", "BSD-3-Clause", "LICENSE.txt", "to run the model"] in found
    assert ["x\\|y", "1", "not stated in its metadata: ask its maker", "–", "to run the model"] in found


def test_the_licence_of_model_and_data_is_the_users_to_state(run: BundledRun) -> None:
    text = licences.render(run)
    assert "Not stated: add it, with optimize bundle --model-licence." in text
    assert "Not stated: add it, with optimize bundle --data-licence." in text
    text = licences.render(replace(run, model_licence="CC-BY-4.0", data_licence="own *data*"))
    assert "| CC-BY-4.0 |" in text
    assert "own \\*data\\*" in text
    assert "Not stated: add it" not in text


def test_the_runners_licence_is_that_of_the_project(run: BundledRun) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (project["name"], project["license"]) == (licences.OWN, licences.OWN_LICENCE)
    assert "under Apache-2.0" in licences.render(run)


def test_where_the_packages_are(run: BundledRun) -> None:
    assert "They are not in this bundle." in licences.render(run)
    assert "Their wheels are in `wheels/`" in licences.render(with_files(run, "wheels/numpy-2.1-py3-none-any.whl"))
