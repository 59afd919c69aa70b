from __future__ import annotations

import pytest

from optimize.hardware import machine
from optimize.hardware.cpu_level import LEVELS, in_words, level, saturates


@pytest.mark.parametrize(
    ("sets", "expected", "overflows"),
    [
        (("avx2", "avx512f", "avx512_vnni", "amx_int8"), "amx", False),
        (("avx2", "avx512f", "avx512_vnni"), "avx512_vnni", False),
        (("avx2", "avx_vnni"), "avx_vnni", False),
        (("avx2", "avx512f"), "avx512", True),
        (("avx", "fma", "avx2"), "avx2", True),
        (("asimd", "asimddp"), "dotprod", False),
        ((), None, False),
    ],
)
def test_the_best_level_counts(
    sets: tuple[str, ...], expected: str | None, overflows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "instruction_sets", lambda: sets)
    assert level(sets) == level() == expected
    assert saturates() == overflows


def test_a_named_level_counts_instead_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "instruction_sets", lambda: ("amx_int8",))
    assert {name for name in LEVELS if saturates(name)} == {"avx2", "avx512"}


def test_levels_have_names() -> None:
    assert (in_words("avx2"), in_words(None)) == ("AVX2", "an unknown instruction set")
