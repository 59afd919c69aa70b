"""The instruction set of this machine's processor, as far as it decides the numbers of a network.

AVX2 and AVX-512 without VNNI add pairs of 8-bit products in 16 bits, which overflows unless the weights keep to 7 bits. So an int8 model
that was made for VNNI gives other numbers there.
"""

from __future__ import annotations

import os
from pathlib import Path

LEVELS = {
    "amx": ("AMX", "amx_int8"),
    "avx512_vnni": ("AVX-512 VNNI", "avx512_vnni"),
    "avx_vnni": ("AVX-VNNI", "avx_vnni"),
    "avx512": ("AVX-512 without VNNI", "avx512f"),
    "avx2": ("AVX2", "avx2"),
    "i8mm": ("i8mm", "i8mm"),
    "dotprod": ("Arm dot product", "asimddp"),
}
"""Level -> its name in words, and the flag of the processor that it needs; the fastest first."""
SATURATING = ("avx512", "avx2")
"""Levels that add two 8-bit products in 16 bits before they widen the sum."""
_LIMITS = {"AVX512_CORE_AMX": "amx", "AVX512_CORE_VNNI": "avx512_vnni", "AVX2_VNNI": "avx_vnni", "AVX512_CORE": "avx512", "AVX2": "avx2"}
"""Value of `ONEDNN_MAX_CPU_ISA`, which keeps OpenVINO below the processor's level, -> that level."""


def cpu_level(target: str) -> str | None:
    """Return the level that a runtime's kernels use in this process; None where the processor's flags cannot be read."""
    flags = _flags()
    here = next((level for level, (_, flag) in LEVELS.items() if flag in flags), None)
    asked = _LIMITS.get(os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper())
    if target != "openvino" or asked is None or here is None:
        return here
    order = list(LEVELS)
    # a limit above the processor's own level, or one that it does not have, changes nothing
    return asked if order.index(asked) > order.index(here) and LEVELS[asked][1] in flags else here


def in_words(level: str | None) -> str:
    """Return the name of a level in words."""
    return "an unknown instruction set" if level is None else LEVELS.get(level, (level, ""))[0]


def _flags() -> frozenset[str]:
    """Return the processor's flags, as /proc/cpuinfo names them; empty where there is no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    named = (line.partition(":") for line in lines)
    return next((frozenset(value.split()) for name, _, value in named if name.strip() in ("flags", "Features")), frozenset())
