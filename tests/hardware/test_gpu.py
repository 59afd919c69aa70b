from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from optimize.hardware import gpu as module
from optimize.hardware.gpu import Gpu, gpu, slices

H100 = {"name": "NVIDIA H100, 80GB", "driver": "580.65.06", "memory_mib": 81559, "compute_capability": "9.0"}


def answers(monkeypatch: pytest.MonkeyPatch, answer: object) -> list[tuple[Sequence[str], Any]]:
    """nvidia-smi is there and says `answer`, or raises it; what it was asked is kept."""
    asked: list[tuple[Sequence[str], Any]] = []

    def run(command: Sequence[str], **settings: Any) -> object:
        asked.append((command, settings))
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(module.shutil, "which", lambda name: f"/opt/bin/{name}")
    monkeypatch.setattr(module.subprocess, "run", run)
    return asked


def said(stdout: str = "", stderr: str = "", returncode: int = 0) -> SimpleNamespace:
    return SimpleNamespace(stdout=stdout, stderr=stderr, returncode=returncode)


def test_every_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(monkeypatch, said("NVIDIA H100, 80GB, 580.65.06, 81559, 9.0\nTesla T4, 550.1, [N/A], 7.5\n\n"))
    t4 = {"name": "Tesla T4", "driver": "550.1", "memory_mib": "[N/A]", "compute_capability": "7.5"}
    assert gpu() == Gpu((H100, t4), "")
    (command, settings), (listing, _) = asked
    assert listing == ["/opt/bin/nvidia-smi", "-L"]
    assert command == ["/opt/bin/nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    assert settings["timeout"] < 3


@pytest.mark.parametrize(
    ("answer", "note"),
    [
        (said("NVIDIA-SMI has failed because it couldn't talk to the driver.\n", "", 9), r"^nvidia-smi: NVIDIA-SMI has failed because"),
        (said("", "\nno permission\n", 4), r"^nvidia-smi: no permission$"),
        (said("", "", 9), r"^nvidia-smi: exit code 9$"),
        (said("No devices were found\n"), r"^nvidia-smi names no GPU$"),
        (subprocess.TimeoutExpired("nvidia-smi", 1), r"^nvidia-smi did not answer within 1\.5 s$"),
        (PermissionError(13, "Permission denied"), r"^nvidia-smi cannot be run: Permission denied$"),
    ],
)
def test_no_device_has_a_reason(answer: object, note: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, answer)
    found = gpu()
    assert found.devices == ()
    assert re.match(note, found.note)


@pytest.mark.parametrize(
    ("driver", "note"), [(True, "a driver is loaded, but nvidia-smi is not on the path"), (False, "no NVIDIA GPU or driver found")]
)
def test_without_the_program_nothing_is_run(driver: bool, note: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = answers(monkeypatch, said())
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    monkeypatch.setattr(module, "_DRIVER", tmp_path if driver else tmp_path / "none")
    assert gpu() == Gpu((), note)
    assert not asked


def test_mig_slices_are_read_from_a_sample_of_the_listing() -> None:
    """The text as the driver's manual shows it; no GPU that is cut was at hand."""
    listing = """GPU 0: NVIDIA H100 PCIe (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-e86cb44c-6756-fd30-cd4a-1e6da3caf9b0)
  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)
  MIG 1g.5gb+me   Device  1: (UUID: MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d)
GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-00000000-6756-fd30-cd4a-1e6da3caf9b0)
  MIG 7g.40gb     Device  0: (UUID: MIG-00000000-a75d-5afc-978f-d2f1294409fd)
"""
    assert slices(listing) == ("3g.20gb, device 0 of GPU 1", "1g.5gb+me, device 1 of GPU 1", "7g.40gb, device 0 of GPU 2")
    assert slices("GPU 0: NVIDIA MIG 1g (UUID: GPU-1)\n") == slices("") == ()
