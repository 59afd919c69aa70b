"""An image layout of the Open Container Initiative, written without Docker, to be carried to a machine without a network.

    oci-layout                  version of the layout
    index.json                  the one image in it, under the name NAME-TARGET
    blobs/sha256/…              manifest, configuration and layers, each under its hash

Without a base image this is a *data image*: it holds the bundle at /opt/bundle, and neither Python nor a system, so it cannot run. Its
annotations say so. It is for carrying the bundle through a registry, or for mounting. With a base image, a layout on disk, the layers of
that image lie below and the image runs the bundle. Packages of `wheels/` are unpacked into a layer of their own, so no installer runs.

    layers of the base image
    /opt/site-packages          packages from `wheels/`; only with a base image
    /opt/bundle                 the bundle as it is
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optimize.deploy.bundle.base_image import CONFIG, DATA_IMAGE, DESCRIPTION, MANIFEST, BaseImage, read_base
from optimize.deploy.bundle.container import FOLDER, PACKAGES, PORT, USER, command, serves
from optimize.deploy.bundle.image_layer import Layer, members_of, write_layer
from optimize.deploy.bundle.wheel_files import runs_on, site_packages
from optimize.deploy.runner.served_name import served_name
from optimize.errors import InputError

NAME = "oci"
AT_TOP = True
"""An importer looks for `index.json` at the top of an archive."""
MARK = "index.json"
"""Path that shows a folder to be an earlier layout."""
_ARM = ("i8mm", "dotprod")


def write(bundle: Path, out: Path, base_image: Path | None = None) -> None:
    """Write the layout.

    Args:
        bundle: folder of the complete bundle.
        out: folder to make.
        base_image: layout of the image to build on; None for a data image.

    Raises:
        InputError: when the base image is damaged, is for another processor, or has another version of Python than the wheels.
    """
    said = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    base = None if base_image is None else read_base(base_image, _architecture(said))
    wheels = sorted((bundle / "wheels").glob("*.whl")) if base is not None else []
    if base is not None:
        _require_python(base, wheels)
    blobs = out / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    try:
        _fill(bundle, out, said, base, wheels)
    except BaseException:
        shutil.rmtree(out)
        raise


def _fill(bundle: Path, out: Path, said: Mapping[str, Any], base: BaseImage | None, wheels: Sequence[Path]) -> None:
    blobs = out / "blobs" / "sha256"
    layers = []
    if base is not None:
        base.copy_layers(blobs)
    if wheels:
        layers.append((write_layer(site_packages(wheels, PACKAGES.lstrip("/")), blobs), "packages of the bundle's wheels"))
    layers.append((write_layer(members_of(bundle, FOLDER.lstrip("/")), blobs), "the bundle"))
    annotations = _annotations(said, base)
    config = _store(blobs, _config(bundle, said, base, layers, annotations, wheels), CONFIG)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": [*([] if base is None else base.layers), *(layer.descriptor for layer, _ in layers)],
        "annotations": annotations,
    }
    descriptor = _store(blobs, manifest, MANIFEST)
    name = f"{served_name(said['name'])}-{said['target']}".lower()
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{**descriptor, "annotations": {"org.opencontainers.image.ref.name": name}}],
    }
    (out / "index.json").write_bytes(_json(index))
    (out / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))


def _config(
    bundle: Path,
    said: Mapping[str, Any],
    base: BaseImage | None,
    layers: Sequence[tuple[Layer, str]],
    labels: Mapping[str, str],
    wheels: Sequence[Path],
) -> dict[str, Any]:
    """Return the image's configuration: what runs, as whom, and the hashes of the unpacked layers."""
    runs: dict[str, Any] = {"User": USER, "WorkingDir": FOLDER, "Labels": dict(labels)}
    if base is not None:
        own = {"PYTHONPATH": PACKAGES, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
        if not wheels:
            # the packages are the base image's own, wherever it looks for them
            own.pop("PYTHONPATH")
        runs |= {
            "Env": [f"{key}={value}" for key, value in {**base.environment, **own}.items()],
            "Entrypoint": ["python3", "-m", "bundle"],
            "Cmd": command(bundle),
            "StopSignal": "SIGTERM",
            **({"ExposedPorts": {f"{PORT}/tcp": {}}} if serves(bundle) else {}),
            "Labels": {**(base.config.get("config", {}).get("Labels") or {}), **labels},
        }
    earlier = [] if base is None else base.config.get("history")
    history = [{"created": said["created"], "created_by": "optimize bundle --format oci", "comment": comment} for _, comment in layers]
    return {
        "created": said["created"],
        "architecture": _architecture(said),
        "os": "linux",
        "config": runs,
        "rootfs": {"type": "layers", "diff_ids": [*([] if base is None else base.diff_ids), *(layer.diff_id for layer, _ in layers)]},
        # the history must have an entry for every layer, so without the base image's there is none
        **({} if earlier is None else {"history": [*earlier, *history]}),
    }


def _annotations(said: Mapping[str, Any], base: BaseImage | None) -> dict[str, str]:
    verdict = "accepted" if said["accepted"] else f"NOT accepted: verdict {said['verdict']}"
    kind = (
        f"{DATA_IMAGE}{FOLDER} and cannot run, since it has neither Python nor a system."
        if base is None
        else f"Runs the bundle at {FOLDER}."
    )
    found = {
        "org.opencontainers.image.title": f"{said['name']} for {said['target']}",
        DESCRIPTION: f"{kind} Precision {said['precision']}, {verdict}.",
        "org.opencontainers.image.created": said["created"],
    }
    if said.get("warning"):
        found[DESCRIPTION] += f" {said['warning']}"
    if base is not None:
        found["org.opencontainers.image.base.digest"] = base.digest
    return found


def _architecture(said: Mapping[str, Any]) -> str:
    """Return the processor that the bundle was verified on, as OCI calls it."""
    return "arm64" if said.get("machine", {}).get("isa") in _ARM else "amd64"


def _require_python(base: BaseImage, wheels: Sequence[Path]) -> None:
    """Check that the wheels are made for the base image's Python, where that is said: official images have PYTHON_VERSION."""
    version = base.environment.get("PYTHON_VERSION")
    wrong = [] if version is None else [wheel.name for wheel in wheels if not runs_on(wheel, version)]
    if wrong:
        raise InputError(
            f"`--base-image` has Python {version}, for which `wheels/{wrong[0]}` is not made:"
            " take a base image with the Python of the bundle."
        )


def _store(blobs: Path, content: Mapping[str, Any], media_type: str) -> dict[str, Any]:
    """Write JSON under its hash, and return its descriptor."""
    written = _json(content)
    digest = hashlib.sha256(written).hexdigest()
    (blobs / digest).write_bytes(written)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(written)}


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
