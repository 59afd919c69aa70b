"""The layout is read again by the text of the OCI specification alone; where skopeo and umoci are installed, they read it too."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from optimize.deploy.bundle.base_image import read_base
from optimize.deploy.bundle.formats import bundle_format, oci
from optimize.errors import InputError
from tests.deploy.bundle.formats.bundles import bundle, content

WHEEL = "numpy-2.0-cp311-cp311-manylinux_2_28_x86_64.whl"


def blob(layout: Path, descriptor: dict[str, Any]) -> bytes:
    """The bytes that a descriptor names, after a comparison with its digest and size."""
    algorithm, _, digest = descriptor["digest"].partition(":")
    found = (layout / "blobs" / algorithm / digest).read_bytes()
    assert (hashlib.sha256(found).hexdigest(), len(found)) == (digest, descriptor["size"])
    return found


def image(layout: Path) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, tuple[tarfile.TarInfo, bytes]]]]:
    """Manifest, configuration and the entries of each layer, as the specification asks for them."""
    assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((layout / "index.json").read_bytes())
    assert index["schemaVersion"] == 2
    (descriptor,) = index["manifests"]
    assert re.fullmatch(r"[A-Za-z0-9]+([-._:@/+][A-Za-z0-9]+)*", descriptor["annotations"]["org.opencontainers.image.ref.name"])
    manifest = json.loads(blob(layout, descriptor))
    config = json.loads(blob(layout, manifest["config"]))
    layers = []
    for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        unpacked = gzip.decompress(blob(layout, layer))
        assert f"sha256:{hashlib.sha256(unpacked).hexdigest()}" == diff_id
        with tarfile.open(fileobj=io.BytesIO(unpacked)) as archive:
            layers.append({entry.name: (entry, archive.extractfile(entry).read() if entry.isfile() else b"") for entry in archive})  # type: ignore[union-attr]
    named = {layout / "blobs" / "sha256" / item["digest"][7:] for item in (descriptor, manifest["config"], *manifest["layers"])}
    assert set((layout / "blobs" / "sha256").iterdir()) == named
    return manifest, config, layers


def with_wheels(folder: Path, name: str = WHEEL, server: bool = True) -> Path:
    """A bundle with wheels: one of a package with an extension, and a script that has no place in `site-packages`."""
    made = bundle(folder)
    (made / "wheels").mkdir()
    with zipfile.ZipFile(made / "wheels" / name, "w") as archive:
        archive.writestr("numpy/__init__.py", "version = 2\n")
        archive.writestr("numpy-2.0.data/platlib/numpy/more.py", "more = 1\n")
        archive.writestr("numpy-2.0.data/scripts/f2py", "#!python\n")
        tool = zipfile.ZipInfo("numpy/tool.so")
        tool.external_attr = 0o100755 << 16
        archive.writestr(tool, b"\x7fELF")
    (made / "requirements-serve.txt").write_text("uvicorn==0.40 \\\n    --hash=sha256:00\n")
    (made / "requirements-sign.txt").write_text("cryptography==1.0\n")
    if server:
        with zipfile.ZipFile(made / "wheels" / "uvicorn-0.40-py3-none-any.whl", "w") as archive:
            archive.writestr("uvicorn/__init__.py", "")
    return made


def base_image(layout: Path, *, python: str = "3.11.9", architecture: str = "amd64", media: str = oci.MANIFEST) -> Path:
    """A layout with a base image by hand: one layer with one file, for one processor beside another one's."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def store(content: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    unpacked = io.BytesIO()
    with tarfile.open(fileobj=unpacked, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("usr/bin/python3"))
    layer = store(gzip.compress(unpacked.getvalue()), "application/vnd.oci.image.layer.v1.tar+gzip")
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Env": ["PATH=/usr/bin", f"PYTHON_VERSION={python}"], "Cmd": ["python3"], "Labels": {"maker": "hand"}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(unpacked.getvalue()).hexdigest()}"]},
        "history": [{"created_by": "hand"}],
    }
    manifest = {
        "schemaVersion": 2,
        "config": store(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [layer],
    }
    here = {**store(json.dumps(manifest).encode(), media), "platform": {"os": "linux", "architecture": architecture}}
    other = {**here, "platform": {"os": "linux", "architecture": "s390x"}}
    index = store(json.dumps({"schemaVersion": 2, "manifests": [other, here]}).encode(), "application/vnd.oci.image.index.v1+json")
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [index]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return layout


def test_a_data_image_holds_the_bundle_and_says_that_it_cannot_run(tmp_path: Path) -> None:
    made = bundle(tmp_path / "bundle")
    bundle_format("oci").write(made, tmp_path / "out")
    manifest, config, (layer,) = image(tmp_path / "out")
    assert {path: read for path, (entry, read) in layer.items() if entry.isfile()} == {
        f"opt/bundle/{path}": read for path, read in content(made).items()
    }
    assert (config["os"], config["architecture"]) == ("linux", "amd64")
    assert "Entrypoint" not in config["config"]
    assert "Cmd" not in config["config"]
    said = manifest["annotations"]["org.opencontainers.image.description"]
    assert "cannot run" in said
    assert config["config"]["Labels"]["org.opencontainers.image.description"] == said


def test_layers_are_sorted_and_belong_to_nobody(tmp_path: Path) -> None:
    oci.write(bundle(tmp_path / "bundle"), tmp_path / "out")
    _, _, (layer,) = image(tmp_path / "out")
    assert list(layer) == sorted(layer)
    for name, (entry, _) in layer.items():
        assert (entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime) == (0, 0, "", "", 0)
        assert entry.mode == (0o755 if entry.isdir() else 0o644)
        # a folder stands before what lies in it
        assert "/" not in name or name.rpartition("/")[0] in list(layer)[: list(layer).index(name)]


def test_same_bundle_same_bytes(tmp_path: Path) -> None:
    made, base = with_wheels(tmp_path / "bundle"), base_image(tmp_path / "base")
    for out in ("a", "b"):
        oci.write(made, tmp_path / out, base)
        shutil.copytree(made, tmp_path / f"copy {out}")
    oci.write(tmp_path / "copy a", tmp_path / "c", base)
    assert content(tmp_path / "a") == content(tmp_path / "b") == content(tmp_path / "c")


def test_with_a_base_image_it_runs_the_bundle(tmp_path: Path) -> None:
    made, base = with_wheels(tmp_path / "bundle"), base_image(tmp_path / "base")
    oci.write(made, tmp_path / "out", base)
    manifest, config, (below, packages, own) = image(tmp_path / "out")
    assert list(below) == ["usr/bin/python3"]
    assert {path: read for path, (entry, read) in packages.items() if entry.isfile()} == {
        "opt/site-packages/numpy/__init__.py": b"version = 2\n",
        "opt/site-packages/numpy/more.py": b"more = 1\n",
        "opt/site-packages/numpy/tool.so": b"\x7fELF",
        "opt/site-packages/uvicorn/__init__.py": b"",
    }
    assert packages["opt/site-packages/numpy/tool.so"][0].mode == 0o755
    assert "opt/bundle/manifest.json" in own
    runs = config["config"]
    assert (runs["User"], runs["WorkingDir"]) == ("65532:65532", "/opt/bundle")
    assert [*runs["Entrypoint"], *runs["Cmd"]] == ["python3", "-m", "bundle", "serve", "--host", "0.0.0.0", "--port", "8080"]
    assert {"PATH=/usr/bin", "PYTHONPATH=/opt/site-packages", "PYTHONDONTWRITEBYTECODE=1"} <= set(runs["Env"])
    assert (runs["ExposedPorts"], runs["Labels"]["maker"]) == ({"8080/tcp": {}}, "hand")
    assert len(config["history"]) == len(config["rootfs"]["diff_ids"]) == 3
    assert "cannot run" not in manifest["annotations"]["org.opencontainers.image.description"]
    assert manifest["annotations"]["org.opencontainers.image.base.digest"] == read_base(base, "amd64").digest


def test_without_a_server_among_the_packages_it_checks_the_bundle(tmp_path: Path) -> None:
    oci.write(with_wheels(tmp_path / "bundle", server=False), tmp_path / "out", base_image(tmp_path / "base"))
    _, config, _ = image(tmp_path / "out")
    assert config["config"]["Cmd"] == ["check"]
    assert "ExposedPorts" not in config["config"]


def damaged_blob(layout: Path) -> None:
    largest = max((layout / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1] + b"?")


@pytest.mark.parametrize(
    ("settings", "change", "text"),
    [
        ({}, lambda layout: (layout / "index.json").unlink(), "no OCI layout"),
        ({}, damaged_blob, "has another hash"),
        ({}, lambda layout: shutil.rmtree(layout / "blobs"), "no readable blob"),
        ({}, lambda layout: (layout / "index.json").write_text('{"manifests": [7]}'), "is damaged"),
        ({}, lambda layout: (layout / "index.json").write_text('{"manifests": []}'), "holds 0 images for linux/amd64"),
        ({"python": "3.12.1"}, None, f"Python 3.12.1, for which `wheels/{WHEEL}` is not made"),
        ({"architecture": "arm64"}, None, "holds 0 images for linux/amd64"),
        ({"media": "application/vnd.docker.distribution.manifest.v2+json"}, None, "skopeo copy --format oci"),
    ],
)
def test_a_base_image_that_does_not_fit_is_refused_and_leaves_nothing(tmp_path: Path, settings: Any, change: Any, text: str) -> None:
    made, base = with_wheels(tmp_path / "bundle"), base_image(tmp_path / "base", **settings)
    if change is not None:
        change(base)
    with pytest.raises(InputError, match=re.escape(text)):
        oci.write(made, tmp_path / "out", base)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("path", "mode"), [("../evil.py", 0o100644), ("/evil.py", 0o100644), ("a\\..\\evil.py", 0o100644), ("link", 0o120777)]
)
def test_a_wheel_that_leads_out_of_it_is_refused(tmp_path: Path, path: str, mode: int) -> None:
    made = with_wheels(tmp_path / "bundle")
    entry = zipfile.ZipInfo(path)
    entry.external_attr = mode << 16
    with zipfile.ZipFile(made / "wheels" / "evil-1-py3-none-any.whl", "w") as archive:
        archive.writestr(entry, "x")
    with pytest.raises(InputError, match="leads out of it"):
        oci.write(made, tmp_path / "out", base_image(tmp_path / "base"))
    assert not (tmp_path / "out").exists()


def test_wheels_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    made = with_wheels(tmp_path / "bundle")
    with zipfile.ZipFile(made / "wheels" / "other-1-py3-none-any.whl", "w") as archive:
        archive.writestr("numpy/__init__.py", "version = 3\n")
    with pytest.raises(InputError, match="with other bytes"):
        oci.write(made, tmp_path / "out", base_image(tmp_path / "base"))


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed: apt-get install skopeo")
def test_skopeo_reads_and_copies_it(tmp_path: Path) -> None:
    oci.write(with_wheels(tmp_path / "bundle"), tmp_path / "out", base_image(tmp_path / "base"))
    source = f"oci:{tmp_path / 'out'}:cells-onnxruntime"
    call = ["skopeo", "--insecure-policy", "copy", "--quiet", source, f"dir:{tmp_path / 'copied'}"]
    subprocess.run(call, check=True, capture_output=True)
    copied = json.loads((tmp_path / "copied" / "manifest.json").read_bytes())
    assert copied == image(tmp_path / "out")[0]


@pytest.mark.skipif(shutil.which("umoci") is None, reason="umoci is not installed: apt-get install umoci")
def test_umoci_unpacks_it(tmp_path: Path) -> None:
    made = bundle(tmp_path / "bundle")
    oci.write(made, tmp_path / "out")
    call = ["umoci", "unpack", "--rootless", "--image", f"{tmp_path / 'out'}:cells-onnxruntime", str(tmp_path / "unpacked")]
    subprocess.run(call, check=True, capture_output=True)
    assert content(tmp_path / "unpacked" / "rootfs" / "opt" / "bundle") == content(made)


def test_a_data_image_is_no_base_image(tmp_path: Path) -> None:
    made = bundle(tmp_path / "bundle")
    bundle_format("oci").write(made, tmp_path / "data")
    with pytest.raises(InputError, match="is a data image of a bundle"):
        oci.write(made, tmp_path / "out", tmp_path / "data")
    assert not (tmp_path / "out").exists()
    # an image that runs a bundle may lie below another one's
    oci.write(with_wheels(tmp_path / "with wheels"), tmp_path / "runs", base_image(tmp_path / "base"))
    oci.write(with_wheels(tmp_path / "again"), tmp_path / "out", tmp_path / "runs")
