"""What a CPU multiplies 8-bit numbers with, which decides both the speed of int8 and its numbers.

AVX2 and AVX-512 without VNNI add pairs of 8-bit products in 16 bits, which overflows unless the weights keep to 7 bits; every later
instruction adds in 32. So an int8 model gives other numbers on another level, and one that was made for VNNI may lose classes without it.
"""

from __future__ import annotations

from collections.abc import Iterable

from optimize.measure import machine

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

_SATURATING = {"avx512", "avx2"}


def level(sets: Iterable[str] | None = None) -> str | None:
    """The best level of these instruction sets, or of this machine's; None where nothing is known."""
    found = set(machine.instruction_sets() if sets is None else sets)
    return next((name for name, (_, needed) in LEVELS.items() if needed <= found), None)


def saturates(isa: str | None = None) -> bool:
    """Whether 8-bit products overflow 16 bits on this level, or on this machine's."""
    return (level() if isa is None else isa) in _SATURATING
