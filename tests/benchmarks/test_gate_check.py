"""The gate on itself: which outcomes it takes; the comparisons are made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import gate_check
from tests.conftest import require


@pytest.mark.parametrize(
    ("same", "slower", "code", "said"),
    [
        ("pass", "fail", 0, ""),
        ("inconclusive", "fail", 0, ""),
        ("fail", "fail", 1, "slower than itself"),
        ("pass", "inconclusive", 1, "not called slower"),
        ("pass", "pass", 1, "not called slower"),
    ],
)
def test_outcomes(
    same: str, slower: str, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require("onnxruntime")

    def compare(baseline: Any, candidate: Any, **settings: Any) -> SimpleNamespace:
        return SimpleNamespace(outcome=same if baseline is candidate else slower, reason="made up")

    monkeypatch.setattr(gate_check, "compare_latency", compare)
    assert gate_check.main() == code
    assert said in capsys.readouterr().err
