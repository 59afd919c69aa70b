"""NVIDIA GPUs and their driver, as `nvidia-smi` tells them; neither a runtime nor torch is loaded for it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_QUERY = ("--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader,nounits")
_SECONDS = 1.5
_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Gpu:
    """NVIDIA GPUs: `devices` as the driver names them, or none and the reason in `note`."""

    devices: tuple[Mapping[str, str | int], ...]
    note: str


def gpu() -> Gpu:
    """The NVIDIA GPUs, from nvidia-smi."""
    program = shutil.which("nvidia-smi")
    if program is None:
        driver = "a driver is loaded, but nvidia-smi is not on the path" if _DRIVER.exists() else "no NVIDIA GPU or driver found"
        return Gpu((), driver)
    try:
        # The program that the user's own path names, and a query that holds nothing from outside.
        answer = subprocess.run([program, *_QUERY], capture_output=True, text=True, timeout=_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return Gpu((), f"nvidia-smi did not answer within {_SECONDS:g} s")
    except OSError as problem:
        return Gpu((), f"nvidia-smi cannot be run: {problem.strerror}")
    said = [line for line in answer.stdout.splitlines() + answer.stderr.splitlines() if line.strip()]
    if answer.returncode:
        return Gpu((), f"nvidia-smi: {said[0].strip() if said else f'exit code {answer.returncode}'}")
    devices = [device for device in map(_device, answer.stdout.splitlines()) if device]
    return Gpu(tuple(devices), "" if devices else "nvidia-smi names no GPU")


def _device(line: str) -> dict[str, str | int] | None:
    name, driver, memory, capability = ([part.strip() for part in line.rsplit(",", 3)] + [""] * 4)[:4]
    if not capability:
        return None
    return {"name": name, "driver": driver, "memory_mib": int(memory) if memory.isdecimal() else memory, "compute_capability": capability}
