"""Keep a runtime to the instruction set of a lesser CPU, so that a model can be judged as a machine of that kind would run it.

OpenVINO carries oneDNN, which reads the first of `VARIABLES` once in the life of a process: for convolutions and products. The second is
OpenVINO's own, for everything else. torch carries oneDNN too, for its convolutions, and its copy reads the first variable once as well,
when it is first used.

Worked example, on a machine with AVX-512 VNNI that compresses for machines with AVX2:

    restrict_level("openvino", "avx2")    True: ONEDNN_MAX_CPU_ISA=AVX2, OV_CPU_MAX_ISA=AVX2 from now on
    effective_level("openvino")           "avx2": int8 products overflow here as they will there
"""

from __future__ import annotations

import os
import sys

from optimize.backends import description, target_names
from optimize.errors import InputError
from optimize.hardware import machine
from optimize.hardware.cpu_level import LEVELS, level

VARIABLES = ("ONEDNN_MAX_CPU_ISA", "OV_CPU_MAX_ISA")
"""Environment variables that hold the highest level to use."""

_VALUES = {"amx": "AVX512_CORE_AMX", "avx512_vnni": "AVX512_CORE_VNNI", "avx_vnni": "AVX2_VNNI", "avx512": "AVX512_CORE", "avx2": "AVX2"}
"""Level -> the value of the variables that allows it and nothing above."""


def limitable() -> tuple[str, ...]:
    """Return the names of the targets whose runtime can be kept to a lesser CPU.

    Example:
        >>> limitable()
        ('openvino',)
    """
    return tuple(name for name in target_names() if description(name).obeys_cpu_level)


def effective_level(target: str) -> str | None:
    """Return the level that a CPU runtime's kernels use in this process: this machine's, unless `VARIABLES` keep the runtime below it."""
    here = level()
    asked = {value: name for name, value in _VALUES.items()}.get(os.environ.get(VARIABLES[0], "").upper())
    return asked if asked is not None and description(target).obeys_cpu_level and _below(asked, here) else here


def restrict_level(target: str, cpu_level: str) -> bool:
    """Let a CPU runtime use no more than a level, for the rest of this process and in those that it starts; torch keeps its own here.

    Args:
        target: name of a target that runs on the processor.
        cpu_level: level of `hardware.cpu_level.LEVELS`.

    Returns:
        Whether the runtime then computes as a machine of this level does. It does not where this machine lacks the level, nor below this
        machine's where the runtime asks the processor alone, as ONNX Runtime does.

    Raises:
        InputError: when the runtime is in use already: it does not read the variables again.
    """
    about = description(target)
    if not about.obeys_cpu_level or not _below(cpu_level, level()):
        return effective_level(target) == cpu_level
    if effective_level(target) != cpu_level and about.packages[0].import_name in sys.modules:
        raise InputError(
            f"`cpu_level` (={cpu_level!r}) must be known before {about.title} is first used in a process: start another one for it."
        )
    for variable in VARIABLES:
        # torch must not see the limit: its oneDNN is made to read the variables while they are empty, and only then are they set
        os.environ.pop(variable, None)
    _use_torch()
    os.environ.update(dict.fromkeys(VARIABLES, _VALUES[cpu_level]))
    return True


def _use_torch() -> None:
    """Run one convolution: after it torch's oneDNN looks at no variable any more, and goes on computing as this machine does."""
    import torch  # late: the other questions are asked where nobody needs torch

    with torch.inference_mode():
        torch.conv2d(torch.zeros(2, 16, 8, 8), torch.zeros(16, 16, 3, 3))


def _below(cpu_level: str, here: str | None) -> bool:
    """Return whether this machine can do what the level does, and more."""
    order = list(LEVELS)
    return here is not None and order.index(cpu_level) > order.index(here) and LEVELS[cpu_level][1] <= set(machine.instruction_sets())
