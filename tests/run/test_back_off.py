"""Backing off: the boldest candidate whose compiled form has the chance ships; the likeliest one where none has it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

import optimize as opt
from optimize.backends.export import Parity
from optimize.candidate import Candidate
from optimize.guard.verdict import Verdict
from optimize.quantization.variant import Variant
from optimize.run import compile_artifact
from optimize.run.compile_artifact import Selection, _backed_off

PARITY = Parity(0.0, 0.0, 16, 17)


def of_width(width: int) -> Candidate:
    return opt.load_model(nn.Sequential(nn.Flatten(), nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2)), input_shape=(1, 2, 2))


def selection(candidate: Candidate, chance: float | None, milder: tuple[Candidate, ...]) -> Selection:
    verdict = None if chance is None else Verdict("pass" if chance >= 0.92 else "fail", ("why",), (), chance)
    variants = (Variant("f32", verdict=verdict, target="onnxruntime"), Variant("int8", "could not be made", target="onnxruntime"))
    return Selection(candidate, SimpleNamespace(), PARITY, variants, 0, milder)  # type: ignore[arg-type]


def backed_off(chances: dict[int, float | None], monkeypatch: pytest.MonkeyPatch) -> tuple[Selection, list[int]]:
    """Candidates of these widths, the original first and the boldest last; returns what ships, and the widths in the order tried."""
    candidates = {width: of_width(width) for width in chances}
    widths = {id(candidate): width for width, candidate in candidates.items()}
    original, *milder, best = candidates.values()
    tried: list[int] = []

    def chosen(job: Any, candidate: Candidate, context: Any, parity: Parity, earlier: Any) -> Selection:
        tried.append(widths[id(candidate)])
        return selection(candidate, chances[tried[-1]], tuple(earlier))

    monkeypatch.setattr(compile_artifact, "_chosen", chosen)
    monkeypatch.setattr(compile_artifact, "_own_context", lambda job, context, candidate: (context, PARITY))
    job: Any = SimpleNamespace(original=original)
    first = selection(best, chances[widths[id(best)]], tuple(milder))
    return _backed_off(job, first), tried


def test_the_next_milder_candidate_that_has_the_chance_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    ships, tried = backed_off({9: 0.99, 8: 0.98, 7: 0.96, 6: 0.85, 5: 0.7}, monkeypatch)
    assert tried == [6, 7], "the boldest first, and none after one that may ship"
    assert ships.chosen.verdict
    assert ships.candidate.parameters == of_width(7).parameters
    assert [candidate.parameters for candidate in ships.milder] == [of_width(8).parameters], "int8 of milder ones may still be tried"
    assert [variant.precision for variant in ships.variants] == ["f32", "int8"] * 3
    assert ships.position == 4
    assert ships.variants[0].why.startswith(f"of the candidate with {of_width(5).parameters:,} parameters")
    assert len(ships.notes) == 3
    assert "has a chance of acceptance of 70.0 %" in ships.notes[0]
    assert ships.notes[2].endswith("and may ship")


def test_the_original_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    ships, tried = backed_off({9: 0.99, 8: 0.5, 7: 0.4}, monkeypatch)
    assert tried == [8, 9]
    assert ships.notes[-1].startswith("the original, compiled as onnxruntime f32, has a chance of acceptance of 99.0 %")
    assert ships.milder == ()


def test_the_likeliest_ships_where_none_has_the_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    ships, tried = backed_off({9: 0.6, 8: 0.8, 7: None, 6: 0.4}, monkeypatch)
    assert tried == [7, 8, 9]
    assert ships.candidate.parameters == of_width(8).parameters
    assert not ships.chosen.verdict
    assert "has no precision that could be judged" in " ".join(ships.notes)
    assert sum(variant.why.startswith("of the candidate") for variant in ships.variants) == 6
