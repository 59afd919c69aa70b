"""The Python packages that a bundle needs, with everything that these need in turn, read from the metadata of what is installed here.

    run     numpy and the runtime of the target
    sign    cryptography, for `python -m bundle check --key`
    serve   uvicorn, starlette and prometheus-client, for `python -m bundle serve`

The runtime and numpy have the versions that the run was verified with, as its report has them. What they need in turn has the version that
is installed here. None of the packages is imported.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from optimize.backends import description
from optimize.deploy.bundle.bundled_run import BundledRun
from optimize.hardware.installed_packages import installed

OPTIONAL: Mapping[str, tuple[str, ...]] = {"sign": ("cryptography",), "serve": ("uvicorn", "starlette", "prometheus-client")}
"""Purpose -> packages that the runner needs for it, beyond what it needs to run."""
PURPOSES = ("run", *OPTIONAL)


@dataclass(frozen=True)
class NeededPackage:
    """One package that a bundle needs.

    Args:
        name: normalised name in the package registry, such as "prometheus-client".
        version: version that is pinned.
        needs: normalised names of the packages that it needs itself, of those on this platform.
        licence: its licence as its metadata states it; "" where it states none.
        is_expression: whether that is an SPDX expression, such as "MIT OR Apache-2.0"; else it is any text.
        licence_files: names of the licence files that it installs.
        installed: version that is installed here; None where it is not.
    """

    name: str
    version: str
    needs: tuple[str, ...] = ()
    licence: str = ""
    is_expression: bool = False
    licence_files: tuple[str, ...] = ()
    installed: str | None = None

    @property
    def pin(self) -> str:
        """The exact version as a requirement, such as "numpy==2.4.6"."""
        return f"{self.name}=={self.version}"

    @property
    def purl(self) -> str:
        """The package as a package URL, such as "pkg:pypi/numpy@2.4.6"."""
        return f"pkg:pypi/{self.name}@{self.version}"


def needed(run: BundledRun, purpose: str = "run") -> tuple[NeededPackage, ...]:
    """Return the packages that the runner needs for a purpose, sorted by name; empty where one of its own is not installed here.

    Args:
        run: the run that is bundled.
        purpose: one of `PURPOSES`.
    """
    verified = {str(canonicalize_name(name)): version for name, version in run.report["versions"].items() if version}
    roots = (runtime_package(run), "numpy") if purpose == "run" else OPTIONAL[purpose]
    if purpose != "run" and not all(map(installed, roots)):
        return ()
    return closure(roots, verified)


def runtime_package(run: BundledRun) -> str:
    """Return the name of the package that brings the runtime: of several that do, the one that the run recorded or that is installed."""
    package = description(run.artifact.target).packages[0]
    names = (package.name, *package.alternatives)
    recorded = [name for name in names if run.report["versions"].get(name)]
    return next(iter([*recorded, *filter(installed, names), package.name]))


def closure(roots: Sequence[str], verified: Mapping[str, str]) -> tuple[NeededPackage, ...]:
    """Return packages and all that they need on this platform, sorted by name.

    Args:
        roots: names of the packages to begin with.
        verified: normalised name -> version that is pinned in place of the installed one.
    """
    found: dict[str, NeededPackage] = {}
    waiting = [str(canonicalize_name(name)) for name in roots]
    while waiting:
        name = waiting.pop()
        package = None if name in found else _package(name, verified.get(name))
        if package is not None:
            found[name] = package
            waiting += package.needs
    return tuple(found[name] for name in sorted(found))


def _package(name: str, version: str | None) -> NeededPackage | None:
    """Return one package; None where neither a version is known nor one is installed."""
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        # its own needs are not known then; the pin is still right
        return None if version is None else NeededPackage(name, version)
    metadata: Any = distribution.metadata
    return NeededPackage(
        name=name,
        version=version or distribution.version,
        needs=tuple(sorted(_needs(distribution.requires or ()))),
        licence=_licence(metadata),
        is_expression=bool(metadata.get("License-Expression")),
        licence_files=tuple(sorted(metadata.get_all("License-File") or ())),
        installed=distribution.version,
    )


def _needs(requirements: Sequence[str]) -> set[str]:
    needs = set()
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:  # old packages state what no present tool can read
            continue
        # extras are left out: a marker such as `extra == "test"` is false for the empty extra
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            needs.add(str(canonicalize_name(requirement.name)))
    return needs


def _licence(metadata: Any) -> str:
    """Return the licence as the metadata states it: the expression, else the field's first line, else the classifiers."""
    expression, field = metadata.get("License-Expression"), (metadata.get("License") or "").strip()
    if expression:
        return str(expression)
    if field:
        return str(field.splitlines()[0])[:120]
    classifiers = [text for text in metadata.get_all("Classifier") or () if text.startswith("License ::")]
    return ", ".join(text.rpartition("::")[2].strip() for text in classifiers)
