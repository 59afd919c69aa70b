"""Installed packages, read from their metadata: none of them is imported."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Requirement:
    """A package that a part of this program needs.

    Args:
        name: name in the package registry.
        purpose: what the package is for.
        module: name to import it by; the package's name with underscores when empty.
        alternatives: other packages that bring the same module, such as a build for another version of CUDA.
        only_with_gpu: whether the package is of no use on a machine without an NVIDIA GPU.
    """

    name: str
    purpose: str
    module: str = ""
    alternatives: tuple[str, ...] = ()
    only_with_gpu: bool = False

    @property
    def import_name(self) -> str:
        """Name of the Python module that the package brings."""
        return self.module or self.name.replace("-", "_")


EXTRAS = {
    "gpu": (Requirement("nvidia-ml-py", "energy and memory of an NVIDIA GPU", module="pynvml", only_with_gpu=True),),
    "report": (Requirement("vl-convert-python", "charts in report.html", module="vl_convert"),),
    "sign": (Requirement("cryptography", "signatures"),),
    "serve": (
        Requirement("uvicorn", "the server of python -m bundle serve"),
        Requirement("starlette", "the routes of python -m bundle serve"),
        Requirement("prometheus-client", "the metrics of python -m bundle serve", module="prometheus_client"),
    ),
    "gate": (
        Requirement("pytest-benchmark", "the fixture benchmark_artifact of the pytest plugin", module="pytest_benchmark"),
        Requirement("ruptures", "change points in the history of a gate"),
    ),
    "huggingface": (Requirement("transformers", "Hugging Face folders as models"),),
    "demo": (Requirement("scikit-learn", "the data of optimize demo", module="sklearn"),),
    "files": (
        Requirement("pillow", "photographs of optimize plan --files", module="PIL"),
        Requirement("pydicom", "DICOM files of optimize plan --files"),
        Requirement("nibabel", "NIfTI files of optimize plan --files"),
    ),
    "tables": (Requirement("pyarrow", "data in a table of Parquet"),),
}
"""pip extra -> the packages it installs, but for the extras of targets, which the targets describe themselves.

pyproject.toml lists the same packages once more: an installer reads it without running code. A test compares the two.
"""

REQUIRED = (
    *("torch", "numpy", "scipy", "safetensors", "psutil", "click", "cloup", "rich", "tomli-w"),
    *("onnx", "onnxscript", "onnxsim", "jinja2", "rfc8785", "packaging"),
)
DECIDING = ("optimize", "torch", "torch-pruning", "numpy", "scipy", "onnx", "onnxscript", "onnxsim")
"""Packages whose versions decide what a run gives, besides the packages of the targets."""


@dataclass(frozen=True)
class Package:
    """One package that `optimize` uses.

    Args:
        name: name in the package registry.
        version: installed; None where it is not.
        purpose: what the package is for.
        remedy: command that installs it; None where it is installed.
    """

    name: str
    version: str | None
    purpose: str
    remedy: str | None


def torch_build() -> dict[str, str | None]:
    """Return the version of PyTorch and what it was built for, "CPU", "CUDA 13.0" or "ROCm 7.0", without loading it."""
    version = installed("torch")
    spec = importlib.util.find_spec("torch")
    if version is None or spec is None or spec.origin is None:
        return {"version": version, "build": None}
    try:
        # read as text: importing torch to ask for its build takes seconds
        source = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return {"version": version, "build": None}
    for name, label in (("cuda", "CUDA"), ("hip", "ROCm")):
        # version.py has lines such as `cuda: Optional[str] = '13.0'` and `hip = None`, annotated or not
        built = re.search(rf"^{name}\b[^=\n]*=\s*['\"]([^'\"]+)['\"]", source, re.MULTILINE)
        if built:
            return {"version": version, "build": f"{label} {built[1]}"}
    return {"version": version, "build": "CPU"}


def packages(optional: Iterable[tuple[str, Requirement]]) -> tuple[Package, ...]:
    """Return every package that `optimize` can use, those it cannot do without first.

    Args:
        optional: the command that installs a package, and the package, for each.
    """
    required = [_package(Requirement(name, "required"), "pip install 'optimize'") for name in REQUIRED]
    return (*required, *(_package(requirement, command) for command, requirement in optional))


def install_command(extra: str, requirements: Iterable[Requirement] = ()) -> str:
    """Return what to type to install packages.

    Args:
        extra: pip extra that brings them; empty where none does.
        requirements: the packages, named where there is no extra.

    Examples:
        >>> install_command("sign")
        "pip install 'optimize[sign]'"
    """
    if extra:
        return f"pip install 'optimize[{extra}]'"
    return " ".join(["pip install", *(f"'{requirement.name}'" for requirement in requirements)])


def is_installed(requirement: Requirement) -> bool:
    """Return whether the package, or another one that brings the same module, is installed; nothing is imported."""
    return installed_version(requirement) is not None


def installed_version(requirement: Requirement) -> str | None:
    """Return the version of the package, or of the first of its alternatives that is installed; None where none is."""
    return next(filter(None, map(installed, (requirement.name, *requirement.alternatives))), None)


def installed(package: str) -> str | None:
    """Return the version from the package's metadata: nothing is imported."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _package(requirement: Requirement, command: str) -> Package:
    version = installed_version(requirement)
    return Package(requirement.name, version, requirement.purpose, None if version else command)
