"""Which packages are installed, from their metadata: none of them is imported."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

RUNTIMES = {
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime",),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "tensorrt-rtx": ("tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu12"),
}
"""Target -> the packages that bring its runtime; the first one found counts."""

EXTRAS = {
    "openvino": (("openvino", "runtime of target openvino"), ("nncf", "int8 for target openvino")),
    "onnxruntime": (("onnxruntime", "runtime of target onnxruntime"),),
    "tensorrt": (("tensorrt", "runtime of target tensorrt"), ("onnxruntime", "int8 for target tensorrt")),
    "tensorrt-rtx": (("tensorrt-rtx-cu13", "runtime of target tensorrt-rtx"), ("onnxruntime", "int8 for target tensorrt-rtx")),
    "gpu": (("nvidia-ml-py", "energy and memory of an NVIDIA GPU"),),
    "report": (("vl-convert-python", "charts in report.html"),),
    "sign": (("cryptography", "signatures"),),
    "demo": (("scikit-learn", "the data of optimize demo"),),
}
"""pip extra -> the packages it brings, and what each is for."""

ONLY_WITH_GPU = ("tensorrt", "nvidia-ml-py")
"""Packages that are of no use without an NVIDIA GPU; the first is also the target that cannot compile without one."""

REQUIRED = (*("torch", "numpy", "scipy", "safetensors", "psutil", "click", "rich", "tomli-w"), *("onnx", "onnxscript", "onnxsim", "jinja2"))


@dataclass(frozen=True)
class Package:
    """One package that `optimize` uses.

    Args:
        name: in the package registry.
        version: installed; None where it is not.
        purpose: what it is for.
        remedy: what to type to get it; None where it is installed.
    """

    name: str
    version: str | None
    purpose: str
    remedy: str | None


def torch_build() -> dict[str, str | None]:
    """Version of PyTorch and what it was built for, "CPU", "CUDA 13.0" or "ROCm 7.0", without loading it."""
    version = installed("torch")
    spec = importlib.util.find_spec("torch")
    if version is None or spec is None or spec.origin is None:
        return {"version": version, "build": None}
    try:
        source = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return {"version": version, "build": None}
    for name, label in (("cuda", "CUDA"), ("hip", "ROCm")):
        built = re.search(rf"^{name}\b[^=\n]*=\s*['\"]([^'\"]+)['\"]", source, re.MULTILINE)
        if built:
            return {"version": version, "build": f"{label} {built[1]}"}
    return {"version": version, "build": "CPU"}


def packages() -> tuple[Package, ...]:
    """Every package that `optimize` can use, those it cannot do without first."""
    required = [_package(name, "required", "optimize") for name in REQUIRED]
    return (*required, *(_package(name, purpose, f"optimize[{extra}]") for extra, each in EXTRAS.items() for name, purpose in each))


def installed(package: str) -> str | None:
    """Version from the package's metadata: nothing is imported."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def remedy(target: str) -> str | None:
    """What to type to install what a target lacks; None where it lacks no package, or no extra brings it."""
    absent = any(_any_of_its_kind(package) is None for package, _ in EXTRAS.get(target, ()))
    return f"pip install 'optimize[{target}]'" if absent else None


def _any_of_its_kind(package: str) -> str | None:
    """Version of the package, or of another one that brings the same runtime."""
    alternatives = next((each for each in RUNTIMES.values() if package in each), (package,))
    return next(filter(None, map(installed, alternatives)), None)


def _package(name: str, purpose: str, source: str) -> Package:
    version = _any_of_its_kind(name)
    return Package(name, version, purpose, None if version else f"pip install '{source}'")
