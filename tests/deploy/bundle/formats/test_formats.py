"""A finished run in every format: the bundle inside is whole, and passes its own checks after it was unpacked."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from optimize.deploy.bundle.formats import format_names
from optimize.deploy.runner.model import Model
from optimize.errors import InputError
from optimize.run.bundle import bundle
from tests.deploy.bundle.formats.test_oci import base_image
from tests.deploy.finished_run import finished

IMAGES = np.arange(32, dtype=np.uint8).reshape(2, 4, 4, 1) * 8


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nobody writes into it."""
    return finished(tmp_path_factory.mktemp("finished") / "out")


def test_there_are_four() -> None:
    assert format_names() == ("docker", "oci", "plain", "triton")


@pytest.mark.parametrize("name", ["docker", "triton"])
def test_the_bundle_beside_passes_its_checks(run: Path, tmp_path: Path, name: str) -> None:
    bundled = bundle(run, tmp_path / "out", format=name)
    with Model(tmp_path / "out" / "bundle") as model:
        assert model.predict(IMAGES).shape == (2, 3)
    # the same again is an earlier one, which may be replaced when that is asked for
    with pytest.raises(InputError, match="--overwrite"):
        bundle(run, tmp_path / "out", format=name)
    assert bundle(run, tmp_path / "out", format=name, overwrite=True).manifest.sha256 == bundled.manifest.sha256


def test_an_image_in_an_archive_has_its_files_at_the_top_and_a_whole_bundle_in_its_last_layer(run: Path, tmp_path: Path) -> None:
    base = base_image(tmp_path / "base")
    archives = [bundle(run, tmp_path / f"{name}.tar.gz", format="oci", base_image=base).path for name in ("a", "b")]
    assert archives[0].read_bytes() == archives[1].read_bytes()
    layout = tmp_path / "layout"
    with tarfile.open(archives[0]) as archive:
        assert {entry.name.split("/")[0] for entry in archive} == {"blobs", "index.json", "oci-layout"}
        archive.extractall(layout, filter="data")
    digest = json.loads((layout / "index.json").read_bytes())["manifests"][0]["digest"]
    manifest = json.loads((layout / "blobs" / "sha256" / digest[7:]).read_bytes())
    with tarfile.open(layout / "blobs" / "sha256" / manifest["layers"][-1]["digest"][7:]) as layer:
        layer.extractall(tmp_path / "root", filter="data")
    with Model(tmp_path / "root" / "opt" / "bundle") as model:
        assert model.predict(IMAGES).shape == (2, 3)


def test_a_base_image_goes_with_its_format_only(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no use with `--format docker`"):
        bundle(run, tmp_path / "out", format="docker", base_image=tmp_path)
    with pytest.raises(InputError, match="no OCI layout"):
        bundle(run, tmp_path / "out", format="oci", base_image=tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()
