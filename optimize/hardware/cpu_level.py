"""Levels of CPU instructions for 8-bit products, which decide both the speed of int8 and its numbers.

AVX2 and AVX-512 without VNNI add pairs of 8-bit products in 16 bits, which overflows unless the weights keep to 7 bits; every later
instruction adds in 32. So an int8 model gives other numbers on another level, and one that was made for VNNI may lose classes without it.
"""

from __future__ import annotations

from collections.abc import Iterable

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
"""Levels that add two 8-bit products in 16 bits before they widen the sum.

Worked example: activations are 0 to 255 and weights -128 to 127, so two products reach 2 * 255 * 127 = 64770, while 16 bits hold 32767:
the sum is cut off there. With weights of 7 bits the largest sum is 2 * 255 * 63 = 32130, which fits.
"""


def level(sets: Iterable[str] | None = None) -> str | None:
    """Return the best level of these instruction sets, or of this machine's; None where nothing is known."""
    available = set(machine.instruction_sets() if sets is None else sets)
    return next((name for name, (_, required) in LEVELS.items() if required <= available), None)


def saturates(cpu_level: str | None = None) -> bool:
    """Return whether 8-bit products overflow 16 bits on a level, or on that of this machine when None."""
    return (level() if cpu_level is None else cpu_level) in SATURATING


def in_words(cpu_level: str | None) -> str:
    """Return the name of a level in words."""
    return "an unknown instruction set" if cpu_level is None else LEVELS.get(cpu_level, (cpu_level, set()))[0]
