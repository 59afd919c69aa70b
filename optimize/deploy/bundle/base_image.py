"""The image below a bundle's own: an OCI layout on disk, such as `skopeo copy docker://python:3.12-slim oci:base` leaves.

Every blob is compared with the digest that names it before it is used.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimize.errors import InputError

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
DESCRIPTION = "org.opencontainers.image.description"
DATA_IMAGE = "Data image: it holds the bundle at "
"""How the description of an image begins that holds a bundle and no system."""
_JSON_BYTES = 4 << 20
"""Largest manifest or configuration that is read; the specification recommends to accept this much."""


@dataclass(frozen=True)
class BaseImage:
    """An image to build on.

    Args:
        blobs: folder of its blobs.
        digest: digest of its manifest, as "sha256:…".
        config: its configuration.
        layers: descriptors of its layers, the lowest first.
    """

    blobs: Path
    digest: str
    config: Mapping[str, Any]
    layers: Sequence[Mapping[str, Any]]

    @property
    def diff_ids(self) -> list[str]:
        """Hashes of the unpacked layers."""
        return list(self.config["rootfs"]["diff_ids"])

    @property
    def environment(self) -> dict[str, str]:
        """Its environment variables."""
        return dict(entry.partition("=")[::2] for entry in self.config.get("config", {}).get("Env") or [])

    def copy_layers(self, blobs: Path) -> None:
        """Copy its layers into another folder of blobs, and check that each is what its digest says.

        Raises:
            InputError: when one is missing or damaged.
        """
        for layer in self.layers:
            source = self.blobs / str(layer["digest"]).removeprefix("sha256:")
            if not source.is_file():
                raise _damaged(self.blobs.parent.parent, f"it has no blob {layer['digest']}")
            copy = blobs / source.name
            shutil.copyfile(source, copy)
            with copy.open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != source.name:
                    raise _damaged(self.blobs.parent.parent, f"blob {layer['digest']} has another hash")


def read_base(layout: Path, architecture: str) -> BaseImage:
    """Return the image of an OCI layout.

    Args:
        layout: folder of the layout.
        architecture: processor that the image must be for, as OCI calls it: "amd64" or "arm64".

    Raises:
        InputError: when the folder is no layout, is damaged, holds no image for Linux on that processor or several, or one of a
            bundle without a system.
    """
    try:
        index = json.loads((layout / "index.json").read_bytes())
    except (OSError, ValueError):
        raise InputError(
            f"`--base-image` (={str(layout)!r}) is no OCI layout, which has index.json: make one with `skopeo copy … oci:FOLDER`."
        ) from None
    try:
        found = _images(layout, index, architecture)
        if len({digest for digest, _ in found}) != 1:
            raise InputError(
                f"`--base-image` (={str(layout)!r}) holds {len(found)} images for linux/{architecture}, and must hold one:"
                " copy one image into a layout of its own."
            )
        digest, manifest = found[0]
        config = _blob(layout, manifest["config"], CONFIG)
        layers = manifest["layers"]
        if any(not str(layer["mediaType"]).startswith(_LAYER) for layer in layers) or len(layers) != len(config["rootfs"]["diff_ids"]):
            raise _damaged(layout, "its layers are not those of its configuration")
        data = any(map(_is_data_image, (manifest.get("annotations"), (config.get("config") or {}).get("Labels"))))
    except (KeyError, TypeError, AttributeError) as problem:
        raise _damaged(layout, f"{type(problem).__name__}: {str(problem)[:80]}") from None
    if (config["os"], config["architecture"]) != ("linux", architecture):
        raise InputError(
            f"`--base-image` (={str(layout)!r}) is for {config['os']}/{config['architecture']}, the bundle for linux/{architecture}:"
            " take a base image for that."
        )
    if data:
        raise InputError(
            f"`--base-image` (={str(layout)!r}) is a data image of a bundle, which has neither Python nor a system:"
            " take an image with Python, such as python:3.12-slim."
        )
    return BaseImage(layout / "blobs" / "sha256", digest, config, layers)


def _is_data_image(annotations: object) -> bool:
    """Return whether annotations or labels are those of a data image."""
    return isinstance(annotations, Mapping) and str(annotations.get(DESCRIPTION)).startswith(DATA_IMAGE)


def _images(layout: Path, index: Mapping[str, Any], architecture: str) -> list[tuple[str, dict[str, Any]]]:
    """Return digest and manifest of the images in an index; an index in it is followed, images for other machines are left out."""
    found: list[tuple[str, dict[str, Any]]] = []
    for descriptor in index["manifests"]:
        platform = descriptor.get("platform")
        if platform is not None and (platform.get("os"), platform.get("architecture")) != ("linux", architecture):
            continue
        if descriptor["mediaType"] == INDEX:
            found += _images(layout, _blob(layout, descriptor, INDEX), architecture)
        else:
            found.append((descriptor["digest"], _blob(layout, descriptor, MANIFEST)))
    return found


def _blob(layout: Path, descriptor: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the JSON that a descriptor names, after a comparison with its digest."""
    if descriptor["mediaType"] != kind:
        raise InputError(
            f"`--base-image` (={str(layout)!r}) holds {descriptor['mediaType']!r} where OCI has {kind!r}:"
            " convert it with `skopeo copy --format oci … oci:FOLDER`."
        )
    algorithm, _, digest = str(descriptor["digest"]).partition(":")
    path = layout / "blobs" / algorithm / digest
    if algorithm != "sha256" or not digest.isalnum() or not path.is_file() or path.stat().st_size > _JSON_BYTES:
        raise _damaged(layout, f"it has no readable blob {str(descriptor['digest'])[:80]!r}")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise _damaged(layout, f"blob {descriptor['digest']} has another hash")
    try:
        return dict(json.loads(content))
    except ValueError:
        raise _damaged(layout, f"blob {descriptor['digest']} is no JSON") from None


def _damaged(layout: Path, why: str) -> InputError:
    return InputError(f"`--base-image` (={str(layout)!r}) is damaged ({why}): copy the image again.")
