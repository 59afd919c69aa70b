"""Wheels of a few lines, made with zipfile."""

from __future__ import annotations

import zipfile
from pathlib import Path


def wheel(folder: Path, name: str, version: str, tag: str = "py3-none-any", *, build: str = "", module: str = "") -> Path:
    """A wheel that pip installs; its module says its version."""
    stem = name.replace("-", "_")
    info = f"{stem}-{version}.dist-info"
    path = folder / "-".join((stem, version, *((build,) if build else ()), tag))
    path = path.with_name(path.name + ".whl")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{module or stem}.py", f"VERSION = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")
    return path
