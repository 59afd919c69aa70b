"""Requirement files, read by `packaging`, hashed by hashlib, and taken by pip itself."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from optimize.deploy.bundle.bundled_run import BundledRun
from optimize.deploy.bundle.documents import requirements
from optimize.deploy.bundle.needed_packages import NeededPackage
from optimize.errors import InputError
from tests.deploy.bundle.wheel_files import wheel
from tests.deploy.bundled_run import bundled

NEEDED = {
    "run": (NeededPackage("a-runtime", "1.0", ("b-array",), installed="1.0"), NeededPackage("b-array", "2.1", installed="2.1")),
    "sign": (NeededPackage("b-array", "2.1", installed="2.1"), NeededPackage("c-crypto", "3", installed="3")),
    "serve": (),
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BundledRun:
    """A run that needs two small packages."""
    monkeypatch.setattr(requirements, "needed", lambda _, purpose: NEEDED[purpose])
    return bundled(tmp_path)


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "have"
    folder.mkdir()
    wheel(folder, "a-runtime", "1.0")
    wheel(folder, "b-array", "2.1")
    wheel(folder, "b-array", "2.2")
    return folder


def lines(text: object) -> list[str]:
    """Requirements without comments, one a line."""
    assert isinstance(text, str)
    return [line for line in text.replace(" \\\n   ", "").splitlines() if line and not line.startswith("#")]


def test_without_wheels_versions_are_exact_and_no_hash_is_made_up(run: BundledRun) -> None:
    found = requirements.render(run)
    assert set(found) == {"requirements.txt", "requirements-sign.txt"}
    read = [Requirement(line) for line in lines(found["requirements.txt"])]
    assert [(each.name, str(each.specifier)) for each in read] == [("a-runtime", "==1.0"), ("b-array", "==2.1")]
    assert "sha256" not in str(found["requirements.txt"])
    assert "There are no hashes" in str(found["requirements.txt"])


def test_of_an_installation_all_is_pinned(tmp_path: Path) -> None:
    for text in requirements.render(bundled(tmp_path)).values():
        for line in lines(text):
            (specifier,) = Requirement(line).specifier
            assert specifier.operator == "=="


def test_hashes_are_those_of_the_wheels_in_the_bundle(run: BundledRun, wheels: Path) -> None:
    found = requirements.render(replace(run, wheels=wheels))
    for line, file in zip(lines(found["requirements.txt"]), ("a_runtime-1.0", "b_array-2.1"), strict=True):
        path = wheels / f"{file}-py3-none-any.whl"
        assert line.endswith(f"--hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}")
        assert found[f"wheels/{path.name}"] == path
    # of one optional package there is no wheel: pip wants all hashes of a file or none
    assert lines(found["requirements-sign.txt"]) == ["b-array==2.1", "c-crypto==3"]
    assert len([path for path in found if path.startswith("wheels/")]) == 2


def test_a_missing_wheel_is_named(run: BundledRun, wheels: Path) -> None:
    (wheels / "b_array-2.1-py3-none-any.whl").unlink()
    with pytest.raises(InputError, match=r"no wheel of b-array==2\.1"):
        requirements.render(replace(run, wheels=wheels))


def test_what_is_downloaded_is_taken_like_a_folder(run: BundledRun, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(packages: list[NeededPackage], folder: Path) -> None:
        assert [package.pin for package in packages] == ["a-runtime==1.0", "b-array==2.1", "c-crypto==3"]
        for package in packages:
            wheel(folder, package.name, package.version)

    monkeypatch.setattr(requirements, "download", fetched)
    found = requirements.render(replace(run, wheels=True))
    assert all("--hash=sha256:" in line for name in ("requirements.txt", "requirements-sign.txt") for line in lines(found[name]))
    assert len([path for path in found if path.startswith("wheels/")]) == 3


def test_what_is_not_as_it_was_in_the_run_is_told() -> None:
    packages = (NeededPackage("a", "1", installed="2"), NeededPackage("b", "1"))
    text = requirements.text("run", packages, {})
    assert "a 1 is what the run used; what it needs was read from 2" in text
    assert "b was not installed where the bundle was made" in text


def test_pip_installs_from_it_with_hashes_and_refuses_another_wheel(run: BundledRun, wheels: Path, tmp_path: Path) -> None:
    found = requirements.render(replace(run, wheels=wheels))
    (tmp_path / "requirements.txt").write_text(str(found["requirements.txt"]), encoding="utf-8")
    options = ["--no-index", "--find-links", str(wheels), "--require-hashes", "--no-compile", "--disable-pip-version-check"]
    call = [sys.executable, "-m", "pip", "install", *options, "--target", str(tmp_path / "site"), "-r", str(tmp_path / "requirements.txt")]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "b_array.py").read_text() == "VERSION = '2.1'\n"
    spoilt = re.sub("sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", str(found["requirements.txt"]))
    (tmp_path / "requirements.txt").write_text(spoilt, encoding="utf-8")
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "HASHES" in done.stderr.upper()
