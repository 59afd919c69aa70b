"""What a CPU multiplies 8-bit numbers with, which decides both the speed of int8 and its numbers.

AVX2 and AVX-512 without VNNI add pairs of 8-bit products in 16 bits, which overflows unless the weights keep to 7 bits; every later
instruction adds in 32. So an int8 model gives other numbers on another level, and one that was made for VNNI may lose classes without it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from optimize.errors import InputError
from optimize.hardware import machine

LEVELS = {
    "amx": ("AMX", {"amx_int8"}),
    "avx512_vnni": ("AVX-512 VNNI", {"avx512_vnni"}),
    "avx_vnni": ("AVX-VNNI", {"avx_vnni"}),
    "avx512": ("AVX-512 without VNNI", {"avx512f"}),
    "avx2": ("AVX2", {"avx2"}),
    "i8mm": ("i8mm", {"i8mm"}),
    "dotprod": ("Arm dot product", {"asimddp"}),
}
"""Level -> its name in words, and the instruction sets it needs; the fastest first."""

SATURATING = ("avx512", "avx2")
VARIABLES = ("ONEDNN_MAX_CPU_ISA", "OV_CPU_MAX_ISA")
"""What OpenVINO reads, once in the life of a process: the first for its convolutions and products, the second for everything else.

torch carries the same library, oneDNN, for its convolutions. That copy too reads the first, once, when it is first used.
"""

_SWITCH = {"amx": "AVX512_CORE_AMX", "avx512_vnni": "AVX512_CORE_VNNI", "avx_vnni": "AVX2_VNNI", "avx512": "AVX512_CORE", "avx2": "AVX2"}
_SWITCHED = "openvino"


def level(sets: Iterable[str] | None = None) -> str | None:
    """The best level of these instruction sets, or of this machine's; None where nothing is known."""
    found = set(machine.instruction_sets() if sets is None else sets)
    return next((name for name, (_, needed) in LEVELS.items() if needed <= found), None)


def saturates(isa: str | None = None) -> bool:
    """Whether 8-bit products overflow 16 bits on this level, or on this machine's."""
    return (level() if isa is None else isa) in SATURATING


def in_words(isa: str | None) -> str:
    """A level in words."""
    return "an unknown instruction set" if isa is None else LEVELS.get(isa, (isa, set()))[0]


def running(target: str) -> str | None:
    """The level that the kernels of a CPU runtime use in this process: this machine's, unless `VARIABLES` keep OpenVINO below it."""
    here = level()
    asked = {value: name for name, value in _SWITCH.items()}.get(os.environ.get(VARIABLES[0], "").upper())
    return asked if target == _SWITCHED and asked is not None and _below(asked, here) else here


def restrict(target: str, isa: str) -> bool:
    """Let a CPU runtime use no more than this level, for the rest of this process and in those that it starts; torch keeps its own here.

    Returns:
        Whether the runtime then computes as a machine of this level does. It does not where this machine lacks the level, and ONNX Runtime
        never does below this machine's: its kernels ask the processor alone.

    Raises:
        InputError: when the runtime is in use already, and looks no more.
    """
    if target != _SWITCHED or not _below(isa, level()):
        return running(target) == isa
    if running(target) != isa and _SWITCHED in sys.modules:
        raise InputError(f"`isa` (={isa!r}) must be known before OpenVINO is first used in a process: start another one for it.")
    for variable in VARIABLES:
        os.environ.pop(variable, None)
    _use_torch()
    os.environ.update(dict.fromkeys(VARIABLES, _SWITCH[isa]))
    return True


def _use_torch() -> None:
    """One convolution, after which torch's oneDNN looks at no variable any more."""
    import torch  # late: the other questions are asked where nobody needs torch

    with torch.inference_mode():
        torch.conv2d(torch.zeros(2, 16, 8, 8), torch.zeros(16, 16, 3, 3))


def _below(isa: str, here: str | None) -> bool:
    """Whether this machine can do what the level does, and more."""
    order = list(LEVELS)
    return here is not None and order.index(isa) > order.index(here) and LEVELS[isa][1] <= set(machine.instruction_sets())
