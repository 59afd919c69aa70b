from __future__ import annotations

import os
import sys

import pytest

from optimize.errors import InputError
from optimize.measure import machine
from optimize.measure.isa import LEVELS, VARIABLES, in_words, level, restrict, running, saturates


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


@pytest.fixture
def sapphire(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with AVX-512 VNNI in which nobody has used OpenVINO yet, nor restricted it."""
    monkeypatch.setattr(machine, "instruction_sets", lambda: ("avx2", "avx512f", "avx512_vnni"))
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "")  # so that what is set is taken back
        monkeypatch.delenv(variable)


@pytest.mark.usefixtures("sapphire")
def test_openvino_is_kept_to_a_level_below() -> None:
    assert restrict("openvino", "avx2")
    assert [os.environ[variable] for variable in VARIABLES] == ["AVX2", "AVX2"]
    assert (running("openvino"), running("onnxruntime"), level()) == ("avx2", "avx512_vnni", "avx512_vnni")
    assert restrict("openvino", "avx2")  # again, in a process that it started


@pytest.mark.usefixtures("sapphire")
@pytest.mark.parametrize(
    ("target", "isa", "kept"),
    [
        ("openvino", "avx512_vnni", True),
        ("onnxruntime", "avx512_vnni", True),
        ("openvino", "amx", False),
        ("openvino", "avx_vnni", False),
        ("openvino", "i8mm", False),
        ("onnxruntime", "avx2", False),
    ],
)
def test_what_the_machine_is_needs_no_switch_and_what_it_lacks_has_none(target: str, isa: str, kept: bool) -> None:
    assert restrict(target, isa) is kept
    assert not {*VARIABLES} & {*os.environ}


@pytest.mark.usefixtures("sapphire")
def test_a_switch_that_comes_too_late_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", sys)
    with pytest.raises(InputError, match=r"`isa` \(='avx2'\) must be known before OpenVINO is first used in a process"):
        restrict("openvino", "avx2")


@pytest.mark.usefixtures("sapphire")
@pytest.mark.parametrize("value", ["", "AVX512_CORE_AMX", "nonsense", "avx512_core_vnni"])
def test_a_switch_that_asks_for_no_less_changes_nothing(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLES[0], value)
    assert running("openvino") == "avx512_vnni"


def test_levels_have_names() -> None:
    assert (in_words("avx2"), in_words(None)) == ("AVX2", "an unknown instruction set")
