"""NVIDIA GPUs and their driver, read from `nvidia-smi`; neither a runtime nor torch is loaded for it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_QUERY = ("--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader,nounits")
_SLICE = re.compile(r"^\s+MIG\s+(?P<profile>\S+)\s+Device\s+(?P<device>\d+):")
_SECONDS = 1.5
_NO_DRIVER, _NONE_NAMED = "no NVIDIA GPU or driver found", "nvidia-smi names no GPU"
_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Gpu:
    """NVIDIA GPUs: `devices` as the driver names them, or none and the reason in `note`; `mig` names the slices of those that are cut."""

    devices: tuple[Mapping[str, str | int], ...]
    note: str
    mig: tuple[str, ...] = ()

    @property
    def absent(self) -> bool:
        """Whether there is none, rather than one that does not answer."""
        return self.note in (_NO_DRIVER, _NONE_NAMED)


def present() -> bool:
    """Return whether there is any sign of an NVIDIA driver; nothing is run to find out."""
    return shutil.which("nvidia-smi") is not None or _DRIVER.exists()


def gpu() -> Gpu:
    """Return the NVIDIA GPUs, from nvidia-smi."""
    program = shutil.which("nvidia-smi")
    if program is None:
        # as in a container that was given the driver's modules and not its programs
        driver = "a driver is loaded, but nvidia-smi is not on the path" if _DRIVER.exists() else _NO_DRIVER
        return Gpu((), driver)
    said, note = _answer(program, *_QUERY)
    if note:
        return Gpu((), note)
    devices = [device for device in map(_device, said.splitlines()) if device]
    return Gpu(tuple(devices), "", slices(_answer(program, "-L")[0])) if devices else Gpu((), _NONE_NAMED)


def slices(listed: str) -> tuple[str, ...]:
    """Return the MIG slices in what `nvidia-smi -L` lists, each with its GPU, as "3g.20gb, device 0 of GPU 1".

    Its lines are `GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-…)` and, indented below, `MIG 3g.20gb     Device  0: (UUID: MIG-…)`.
    """
    names, owner = [], ""
    for line in listed.splitlines():
        if line.startswith("GPU "):
            owner = line.partition(":")[0]
        elif match := _SLICE.match(line):
            names.append(f"{match['profile']}, device {match['device']} of {owner}")
    return tuple(names)


def _answer(program: str, *query: str) -> tuple[str, str]:
    """Return the output of nvidia-smi for a query, and an empty note; or no output, and why there is none."""
    try:
        # The program that the user's own path names, and a query that holds nothing from outside.
        answer = subprocess.run([program, *query], capture_output=True, text=True, timeout=_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return "", f"nvidia-smi did not answer within {_SECONDS:g} s"
    except OSError as problem:
        return "", f"nvidia-smi cannot be run: {problem.strerror}"
    said = [line for line in answer.stdout.splitlines() + answer.stderr.splitlines() if line.strip()]
    if answer.returncode:
        return "", f"nvidia-smi: {said[0].strip() if said else f'exit code {answer.returncode}'}"
    return answer.stdout, ""


def _device(line: str) -> dict[str, str | int] | None:
    # from the right: a name may hold a comma, the other three do not
    name, driver, memory, capability = ([part.strip() for part in line.rsplit(",", 3)] + [""] * 4)[:4]
    if not capability:
        return None
    return {"name": name, "driver": driver, "memory_mib": int(memory) if memory.isdecimal() else memory, "compute_capability": capability}
