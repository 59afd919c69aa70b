"""The runner's own table of instruction sets gives what that of the package gives, for every processor."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from optimize.backends.cpu_limit import VARIABLES, effective_level
from optimize.deploy.runner import machine, processor
from optimize.deploy.runner.checks import check
from optimize.deploy.runner.errors import Refused
from optimize.hardware import cpu_level
from tests.deploy.runner.handmade import edit, seal

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


def test_this_machine_is_of_the_same_level() -> None:
    assert machine.cpu_level("onnxruntime") == cpu_level.level()
    assert machine.in_words(None) == cpu_level.in_words(None)


@pytest.mark.parametrize("limit", ["", "AVX2", "avx512_core", "AVX512_CORE_VNNI", "AVX2_VNNI", "AVX512_CORE_AMX", "SSE41"])
def test_every_processor_gets_the_same_level(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLES[0], limit)
    for count in range(len(FLAGS) + 1):
        for flags in itertools.combinations(FLAGS, count):
            monkeypatch.setattr(machine, "_flags", lambda flags=flags: frozenset(flags))
            monkeypatch.setattr("optimize.hardware.machine.instruction_sets", lambda flags=flags: flags)
            for target in ("onnxruntime", "openvino"):
                here = machine.cpu_level(target)
                assert here == effective_level(target)
                assert machine.in_words(here) == cpu_level.in_words(here)
    assert machine.SATURATING == cpu_level.SATURATING


@pytest.mark.parametrize(
    ("text", "flags"), [("flags\t\t: avx2 fma\n", {"avx2", "fma"}), ("Features : asimddp\n", {"asimddp"}), ("", set())]
)
def test_flags_are_those_of_the_system(text: str, flags: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: text)
    assert machine._flags() == flags


def test_a_system_without_such_a_file_has_an_unknown_level(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: Path, encoding: str) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert machine.cpu_level("onnxruntime") is None


@pytest.mark.parametrize(
    ("precision", "verified", "made_for", "here", "refused"),
    [
        ("int8", "avx512_vnni", None, "avx2", True),
        ("int8+f32", "amx", None, "avx512", True),
        ("int8", None, None, "avx2", True),
        ("int8", "avx512_vnni", "avx2", "avx2", False),
        ("int8", "avx2", None, "avx512", False),
        ("int8", "avx2", None, "avx512_vnni", False),
        ("int8", "avx512_vnni", None, None, False),
        ("f32", "avx512_vnni", None, "avx2", False),
    ],
)
def test_int8_made_for_vnni_is_refused_where_it_overflows(
    precision: str,
    verified: str | None,
    made_for: str | None,
    here: str | None,
    refused: bool,
    copied: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def change(said: dict[str, object]) -> None:
        levels = {"isa": verified, "made_for": made_for}
        said.update(precision=precision, built={name: level for name, level in levels.items() if level is not None})

    edit(copied / "model" / "artifact.json", change)
    edit(copied / "report.json", lambda report: report.update(precision=precision))
    seal(copied)
    monkeypatch.setattr(processor, "cpu_level", lambda target: here)
    if refused:
        with pytest.raises(Refused, match=r"int8 model was made for .* where it overflows: .* --cpu-level"):
            check(copied)
        return
    notes = check(copied).notes
    assert notes == (f"verified on {machine.in_words(verified)}, here is {machine.in_words(here)}",)


def test_the_same_level_says_nothing(sealed: Path) -> None:
    assert check(sealed).notes == ()
