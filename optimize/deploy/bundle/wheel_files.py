"""Packages of a bundle's folder `wheels/`, unpacked as an installer would put them into `site-packages`.

A wheel is a zip file whose files lie as they are installed, apart from its folder NAME.data: what lies in its `purelib` and `platlib`
belongs beside the rest; scripts, headers and data have their places elsewhere, and a bundle does not need them (PEP 427).
"""

from __future__ import annotations

import re
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from optimize.deploy.bundle.image_layer import EXECUTABLE, PLAIN, Member
from optimize.errors import InputError

_TAGS = re.compile(r"-(?P<python>[a-z0-9_.]+)-(?P<abi>[a-z0-9_.]+)-(?P<platform>[a-z0-9_.]+)\.whl")
_LIMIT = 8 << 30
"""Most bytes that all files of one wheel may take unpacked; the largest runtimes take about three gigabytes."""


def runs_on(wheel: Path, python: str) -> bool:
    """Return whether a wheel is made for a version of Python.

    Args:
        wheel: its file, whose name has the tags.
        python: version of Python, such as "3.11.7".

    Example:
        >>> [runs_on(Path("a-1-cp39-abi3-linux_x86_64.whl"), "3.11.7"), runs_on(Path("a-1-cp311-cp311-linux_x86_64.whl"), "3.12.1")]
        [True, False]
    """
    tags = _TAGS.search(wheel.name.lower())
    if tags is None:
        return False
    major, minor = (int(part) for part in python.split(".")[:2])
    for tag in tags["python"].split("."):
        if tag in (f"py{major}", f"cp{major}{minor}", f"py{major}{minor}"):
            return True
        # a wheel of the stable interface runs on its version of Python and on later ones
        later = re.fullmatch(rf"cp{major}(\d+)", tag)
        if later and "abi3" in tags["abi"].split(".") and int(later[1]) <= minor:
            return True
    return False


def site_packages(wheels: Sequence[Path], prefix: str) -> dict[str, Member]:
    """Return path in the image -> file, for the files of all wheels.

    Args:
        wheels: their files; each is a zip file.
        prefix: path of `site-packages` in the image.

    Raises:
        InputError: when a wheel is damaged, has a path that leads out of it, or brings a file that another one brings with other bytes.
    """
    members: dict[str, Member] = {}
    for wheel in sorted(wheels):
        for path, member in _unpacked(wheel).items():
            earlier = members.setdefault(f"{prefix}/{path}", member)
            if earlier.source != member.source:
                raise InputError(f"`{wheel.name}` brings `{path}`, and another wheel brings it with other bytes: leave one of them out.")
    return members


def _unpacked(wheel: Path) -> dict[str, Member]:
    found: dict[str, Member] = {}
    try:
        with zipfile.ZipFile(wheel) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if sum(entry.file_size for entry in entries) > _LIMIT:
                raise InputError(f"`{wheel.name}` takes more than {_LIMIT} bytes unpacked, which no package does: make the bundle again.")
            for entry in entries:
                place = _place(wheel, entry)
                if place is not None:
                    mode = EXECUTABLE if entry.external_attr >> 16 & 0o111 else PLAIN
                    found[place] = Member(archive.read(entry), mode)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as problem:
        raise InputError(f"`{wheel.name}` is no wheel ({' '.join(str(problem).split())[:200]}): make the bundle again.") from None
    return found


def _place(wheel: Path, entry: zipfile.ZipInfo) -> str | None:
    """Return where a file of a wheel lies in `site-packages`; None where it belongs elsewhere."""
    path = PurePosixPath(entry.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or stat.S_ISLNK(entry.external_attr >> 16):
        raise InputError(f"`{wheel.name}` has the path {entry.filename[:200]!r}, which leads out of it: make the bundle again.")
    if not path.parts[0].endswith(".data"):
        return str(path)
    # NAME.data/purelib/… is installed as …
    return str(PurePosixPath(*path.parts[2:])) if len(path.parts) > 2 and path.parts[1] in ("purelib", "platlib") else None
