"""Every figure against the text written by hand; a narrow space is shown here as an underscore."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from optimize.report import wording


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (wording.count, 7863784, "7_863_784"),
        (wording.count, 999, "999"),
        (wording.percent, 0.97541, "97.54_%"),
        (wording.percent, 1.0, "100.00_%"),
        (wording.points, 0.0164, "1.64_pp"),
        (wording.points, -0.0041, "−0.41_pp"),
        (wording.points, -0.000001, "0.00_pp"),
        (wording.points, -0.2, "−20.00_pp"),
        (wording.limit, 0.02, "2_pp"),
        (wording.limit, 0.025, "2.5_pp"),
        (wording.limit, 0.0, "0_pp"),
        (wording.fraction, 0.96409, "0.964"),
        (wording.probability, 0.0312, "0.031"),
        (wording.probability, 0.0009, "< 0.001"),
        (wording.probability, 1, "1.000"),
        (wording.signed, 3, "+3"),
        (wording.signed, -2, "−2"),
        (wording.signed, 0, "0"),
        (wording.nonbreaking_units, "97.5 % in 3 ms, 2 pp of 4 percent", "97.5_% in 3_ms, 2_pp of 4 percent"),
        (wording.milliseconds, 0.5312, "0.531"),
        (wording.milliseconds, 0.9996, "1.00"),
        (wording.milliseconds, 20.71, "20.7"),
        (wording.milliseconds, 1399.2, "1399"),
        (wording.times, 5.218, "5.22×"),
        (wording.scaled, 61_572_800, "61.6_M"),
        (wording.scaled, 999_600, "1.00_M"),
        (wording.scaled, 12, "12"),
        (wording.shape, (64, 32, 3, 3), "64 × 32 × 3 × 3"),
        (wording.shape, (), "scalar"),
        (wording.duration, 12.34, "12.3 s"),
        (wording.duration, 75.2, "1 min 15 s"),
        (wording.duration, 3725.4, "1 h 02 min"),
        (wording.plain, [True, None, 0.5, "x"], "yes, –, 0.5, x"),
        (wording.plain, {"b": 1, "a": ()}, "a none, b 1"),
    ],
)
def test_figures(write: Callable[[Any], str], value: Any, text: str) -> None:
    assert write(value).replace("\u202f", "_") == text


@pytest.mark.parametrize("write", [wording.count, wording.percent, wording.points, wording.fraction, wording.milliseconds, wording.times])
def test_what_was_not_measured_is_a_dash(write: Callable[[Any], str]) -> None:
    assert write(None) == "–"


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (200, 50, "−75.0_%"),
        (100, 103.14, "+3.1_%"),
        (100, 100, "0.0_%"),
        (100_000, 99_999, "0.0_%"),
        (0, 5, "–"),
        (5, None, "–"),
        (None, 5, "–"),
    ],
)
def test_change(before: float | None, after: float | None, text: str) -> None:
    assert wording.change(before, after).replace("\u202f", "_") == text


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("memory_bytes", 25e9, "Memory 25.0_GB"),
        ("load_percent", 1.5, "Load 1.5_%"),
        ("cpu", "x", "CPU x"),
        ("logical_cores", 2, "Logical cores 2"),
    ],
)
def test_machine_facts(key: str, value: Any, text: str) -> None:
    assert f"{wording.label(key)} {wording.fact(key, value)}".replace("\u202f", "_") == text


def test_natural_order() -> None:
    assert sorted(["conv10", "conv2", "a", "conv"], key=wording.natural) == ["a", "conv", "conv2", "conv10"]


def test_pairs_read_as_names_and_values() -> None:
    assert wording.plain([["0", 19], ["layer1.conv", 3]]) == "0: 19, layer1.conv: 3"
    assert wording.plain([[1, 2, 3], [4]]) == "1, 2, 3, 4"
