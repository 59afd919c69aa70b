from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from optimize.backends import description, target_names
from optimize.hardware import installed_packages as module
from optimize.hardware.installed_packages import EXTRAS, REQUIRED, Requirement, install_command, installed_version, packages, torch_build

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FOR_DEVELOPERS = {"studies", "dev"}


def names(requirements: list[str]) -> list[str]:
    return [re.split(r"[<>=!~;\[ ]", each)[0] for each in requirements]


def has(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]) -> None:
    """Only these packages are installed."""

    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr("importlib.metadata.version", version)


def test_the_lists_are_the_projects_own() -> None:
    """An installer reads pyproject.toml without running code, so the packages of the extras stand there a second time."""
    extras = {name: names(each) for name, each in PROJECT["optional-dependencies"].items() if name not in FOR_DEVELOPERS}
    of_targets = {description(name).extra: description(name).packages for name in target_names()}
    assert {extra: [package.name for package in required] for extra, required in (of_targets | EXTRAS).items()} == extras
    assert sorted(REQUIRED) == sorted(names(PROJECT["dependencies"]))


def test_every_missing_package_has_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, {"torch": "2.13.0", "openvino": "2026.4"})
    optional = [("pip install a", package) for package in description("openvino").packages]
    optional += [(install_command("sign"), package) for package in EXTRAS["sign"]]
    found = {each.name: (each.version, each.remedy) for each in packages(optional)}
    assert found["torch"] == ("2.13.0", None)
    assert found["scipy"] == (None, "pip install 'optimize'")
    assert found["openvino"] == ("2026.4", None)
    assert found["nncf"] == (None, "pip install a")
    assert found["cryptography"] == (None, "pip install 'optimize[sign]'")
    assert all(each.purpose for each in packages(optional))


def test_an_alternative_package_brings_the_same_module(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, {"fast-cu12": "1.2"})
    assert installed_version(Requirement("fast-cu13", "x", alternatives=("fast", "fast-cu12"))) == "1.2"
    assert installed_version(Requirement("fast-cu13", "x")) is None


def test_without_an_extra_the_packages_are_named() -> None:
    assert install_command("", [Requirement("a", "x"), Requirement("b-c", "x")]) == "pip install 'a' 'b-c'"
    assert (Requirement("b-c", "x").import_name, Requirement("b-c", "x", module="d").import_name) == ("b_c", "d")


@pytest.mark.parametrize(
    ("source", "build"),
    [
        ("cuda: Optional[str] = None\nhip: Optional[str] = None\n", "CPU"),
        ("cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n", "CUDA 13.0"),
        ('cuda = "12.6"\n', "CUDA 12.6"),
        ("cuda: Optional[str] = None\nhip: Optional[str] = '7.0.5'\n", "ROCm 7.0.5"),
        (None, None),
    ],
)
def test_torch_is_read_not_loaded(source: str | None, build: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, {"torch": "9.9"})
    if source is not None:
        (tmp_path / "version.py").write_text(source)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: SimpleNamespace(origin=str(tmp_path / "__init__.py")))
    assert torch_build() == {"version": "9.9", "build": build}


def test_torch_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, {})
    assert torch_build() == {"version": None, "build": None}


def test_torch_of_this_machine() -> None:
    built = "CPU" if torch.version.cuda is None and torch.version.hip is None else None
    found = torch_build()
    assert found["version"] == torch.__version__
    assert built is None or found["build"] == built
