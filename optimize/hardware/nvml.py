"""Ask the NVIDIA Management Library what the driver counts: energy of a GPU, and the memory that a process holds on it.

It is asked through the package nvidia-ml-py (its module is `pynvml`), where that is installed; nothing here needs it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from typing import Any

from optimize.hardware.gpu import present

PACKAGE = "nvidia-ml-py"


def opened() -> tuple[Any, str]:
    """Return the library, initialized, and an empty reason; or None and the reason why it cannot be used."""
    if not present():
        return None, "no NVIDIA GPU or driver found"
    try:
        # By name: whoever checks the types of this project need not have it.
        library = importlib.import_module("pynvml")
    except ImportError:
        return None, f"{PACKAGE} is not installed, which asks the driver of the GPU; pip install 'optimize[gpu]'"
    try:
        library.nvmlInit()
    except library.NVMLError as problem:
        return None, f"NVML cannot be used: {problem}"
    return library, ""


def devices(library: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and handle of every GPU, the name with its number where there are several."""
    count = library.nvmlDeviceGetCount()
    for index in range(count):
        handle = library.nvmlDeviceGetHandleByIndex(index)
        name = library.nvmlDeviceGetName(handle)
        yield (name if count == 1 else f"{name} #{index}"), handle


def device_bytes(process_id: int | None = None) -> tuple[int | None, str]:
    """Return the memory that a process holds now on all GPUs together, in bytes; or None and the reason.

    It holds what its CUDA context takes, hundreds of MiB, as well as weights and buffers.

    Args:
        process_id: process whose memory is asked for; this process when None.
    """
    library, reason = opened()
    if library is None:
        return None, reason
    process_id = os.getpid() if process_id is None else process_id
    try:
        processes = [process for _, handle in devices(library) for process in library.nvmlDeviceGetComputeRunningProcesses(handle)]
    except library.NVMLError as problem:
        return None, f"NVML does not tell the memory of processes: {problem}"
    # Where the driver keeps the amount to itself, as under Windows, there is None.
    held = [process.usedGpuMemory for process in processes if process.pid == process_id]
    if not held:
        return None, "NVML names no process of this id: it counts by the ids of the host, which in a container are others"
    if None in held:
        return None, "NVML names this process without its memory, as it does where the system manages that of the GPU"
    return sum(held), ""
