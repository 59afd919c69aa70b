"""A network of which every figure can be had on paper; its runtime and the machine's peaks are made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate
from optimize.errors import OptimizeError
from optimize.measure import roofline_report as module
from optimize.measure.peaks import Peaks
from optimize.measure.roofline_report import roofline_of_artifact

INPUTS = np.zeros((2, 100), dtype=np.float32)
PEAKS = Peaks({"some": {"int8": 4e9, "f32": 1e9}}, 1e12, 3, 7.5)
MACS = 2 * 100 * 100  # of a batch of two in one layer


def network(layers: int) -> Candidate:
    """Linear layers of 100 x 100, named "0", "1", …."""
    return Candidate(nn.Sequential(*(nn.Linear(100, 100) for _ in range(layers))).eval(), torch.zeros(1, 100))


def found(monkeypatch: pytest.MonkeyPatch, answer: Any, *, layers: int = 2, peaks: Any = PEAKS, **asked: Any) -> tuple[Any, str]:
    """A runtime "some" whose profiler says `answer`, or raises it."""

    def give(value: Any) -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    monkeypatch.setattr(module, "peaks", lambda targets, threads: give(peaks))
    runtime: Any = SimpleNamespace(NAME="some", time_layers=lambda *_, **__: give(answer))
    artifact: Any = SimpleNamespace(precision="int8+f32")
    settings = {"p50_ms": 0.1, "threads": 3} | asked
    return roofline_of_artifact(network(layers), runtime, artifact, {"1": "f32"}, INPUTS, **settings)


def test_every_figure_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layer "0" runs in int8 and layer "1" in f32; memory is no limit."""
    whole, note = found(monkeypatch, {"0": 0.010, "1": 0.040})
    fast, slow = MACS / 4e9 * 1e3, MACS / 1e9 * 1e3
    roof = fast + slow
    assert note == ""
    slowest = [
        {"name": "1", "precision": "f32", "ms": 0.04, "of_median": 0.4, "roof_ms": slow, "share": slow / 0.04, "bound": "compute"},
        {"name": "0", "precision": "int8", "ms": 0.01, "of_median": 0.1, "roof_ms": fast, "share": fast / 0.01, "bound": "compute"},
    ]
    whole_slowest = whole["slowest"]
    assert [{key: pytest.approx(value) if isinstance(value, float) else value for key, value in each.items()} for each in slowest] == (
        whole.pop("slowest")
    )
    layers = whole.pop("layers")
    assert [(each.pop("calls"), each.pop("macs")) for each in layers] == [(1, MACS)] * 2
    assert layers == whole_slowest[::-1]
    assert whole.pop("untimed") == 0
    assert whole.pop("sentence").startswith("0.1 ms at the median, where the roofline allows 0.025 ms: 25 % of it is reached. Overhead")
    assert whole.pop("peak_macs_per_s") == {"int8": 4e9, "f32": 1e9}
    assert (whole.pop("limit"), whole.pop("batch")) == ("overhead", 2)
    expected = {"p50_ms": 0.1, "roof_ms": roof, "share": roof / 0.1, "compute_ms": roof, "memory_ms": 0, "overhead_ms": 0.1 - roof}
    assert whole == pytest.approx(expected | {"bandwidth_bytes_per_s": 1e12, "load_percent": 7.5})


def test_only_the_five_slowest_are_named_and_only_those_that_were_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = found(monkeypatch, {str(k): 0.001 * (k + 1) for k in range(6)} | {"pool": 9.0}, layers=8)
    assert [each["name"] for each in whole["slowest"]] == ["5", "4", "3", "2", "1"]
    assert found(monkeypatch, {"fused": 0.1})[0]["slowest"] == []


def test_every_layer_is_kept_and_those_without_a_time_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = found(monkeypatch, {str(k): 0.001 for k in range(1, 7)}, layers=8)
    assert [each["name"] for each in whole["layers"]] == [str(k) for k in range(8)]
    assert [each["name"] for each in whole["layers"] if each["ms"] is None] == ["0", "7"]
    assert (whole["layers"][7]["of_median"], whole["layers"][7]["share"], whole["untimed"]) == (None, None, 2)


@pytest.mark.parametrize(
    ("answer", "peaks", "note"),
    [
        (OptimizeError("the profiler of some 1 names no layer."), PEAKS, "the profiler of some 1 names no layer"),
        (RuntimeError("no\n profiling  here"), PEAKS, "no profiling here"),
        (NotImplementedError(), PEAKS, "NotImplementedError"),
        ({}, OSError("disk full"), "disk full"),
        ({}, Peaks({"some": {"f32": 1e9}}, 1e12), "there is no measured peak of some in int8 on this machine; measured: some f32"),
    ],
)
def test_what_goes_wrong_is_a_note_and_loses_no_run(answer: Any, peaks: Any, note: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, answer, peaks=peaks) == (None, f"the roofline was not taken: {note}")
