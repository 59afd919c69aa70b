"""Every study can be started: the names that it takes from the library are there. What it measures takes minutes and is no test."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import benchmarks

FOUND = pkgutil.walk_packages(benchmarks.__path__, "benchmarks.")
MODULES = sorted(module.name for module in FOUND if not module.name.endswith("__main__"))


def test_the_studies_are_found() -> None:
    assert {"benchmarks.results", "benchmarks.studies.coverage_power", "benchmarks.studies.peers.cases"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_every_study_can_be_imported(name: str) -> None:
    assert importlib.import_module(name).__doc__
