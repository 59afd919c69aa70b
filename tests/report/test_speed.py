"""No headline from a figure that is not to be relied on; an artifact that is no faster says so. Reports are made up, answers by hand."""

from __future__ import annotations

from typing import Any

import pytest

from optimize.report.change_control import evidence
from optimize.report.compare import comparison, row
from optimize.report.render import headline, render
from optimize.report.speed import doubts, qualifier, smaller, speed
from optimize.report.summary import summary
from tests.report.read import Page
from tests.report.sample import ended_early, failing, passing

BUSY = "other processes used 64 % of the CPU during the measurement, more than 20 %"
BASELINES = ("torch eager", "ONNX Runtime f32", "OpenVINO f32")


def ratios(*values: float, share: float = 0.02) -> dict[str, dict[str, float]]:
    """Of torch eager, ONNX Runtime f32 and OpenVINO f32, each with an interval of that share to both sides."""
    ends = (("value", 1.0), ("low", 1 - share), ("high", 1 + share))
    return {name: {end: value * part for end, part in ends} for name, value in zip(BASELINES, values, strict=True)}


def reliable(**reasons: str) -> dict[str, dict[str, Any]]:
    """Of both batch sizes; `artifact`, `torch`, `onnx` or `openvino` with a reason is not to be relied on."""
    names = {"artifact": "artifact", "torch": "torch eager", "onnx": "ONNX Runtime f32", "openvino": "OpenVINO f32"}
    each = {
        name: {"answer": "not to be relied on" if key in reasons else "steady", "reasons": [reasons[key]] if key in reasons else []}
        for key, name in names.items()
    }
    return {"1": each, "16": each}


def made(size_bytes: int = 1_000_000, **parts: Any) -> dict[str, Any]:
    report = passing() | {"latency_reliability": reliable()} | parts
    report["compressed"] |= {"size_bytes": size_bytes}
    return report


def slower() -> dict[str, Any]:
    """Faster than torch eager, and not than OpenVINO without any compression, whose median is the lowest."""
    return {batch: ratios(4.0, 1.5, 0.9) for batch in ("1", "16")}


LARGE = 30_000_000
WIDE = {batch: ratios(16.0, 8.0, 6.0, share=0.3) for batch in ("1", "16")}


@pytest.mark.parametrize(
    ("report", "answer", "words"),
    [
        (made(), "faster", ""),
        (made(speedup=slower()), "not faster", "smaller, not faster"),
        (made(speedup={batch: ratios(4.0, 1.5, 1.01) for batch in ("1", "16")}), "not faster", "smaller, not faster"),
        (made(LARGE), "faster", "faster, not smaller"),
        (made(LARGE, speedup=slower()), "not faster", "neither smaller nor faster"),
        (made(latency_reliability=reliable(artifact=BUSY)), "not measured reliably", "speed not measured reliably"),
        (made(latency_reliability=reliable(openvino=BUSY)), "not measured reliably", "speed not measured reliably"),
        (made(LARGE, latency_reliability=reliable(openvino=BUSY)), "not measured reliably", "not smaller, speed not measured reliably"),
        (made(latency_reliability=reliable(torch=BUSY)), "faster", ""),
        (made(speedup=WIDE), "not measured reliably", "speed not measured reliably"),
        (made(latency_reliability=None), "faster", ""),
        (made(latency_reliability=None, load_percent={"batch 1": 20.0, "end": 90.0}), "faster", ""),
        (made(latency_reliability=None, load_percent={"batch 1": 21.0}), "not measured reliably", "speed not measured reliably"),
    ],
)
def test_the_fastest_baseline_decides_whether_it_is_faster(report: dict[str, Any], answer: str, words: str) -> None:
    assert (speed(report), qualifier(report)) == (answer, words)
    first = next(iter(summary(report)))
    assert first == f"ACCEPTED{f' ({words})' if words else ''}: {headline(report)}"
    assert Page(render(report)).headings[1] == f"Verdict: Accepted{f' ({words})' if words else ''}"
    found = row("a", report)
    assert (found["speed"], found["qualifier"]) == (answer, words or None)


def test_what_was_not_accepted_or_not_timed_is_not_praised() -> None:
    assert qualifier(failing() | {"speedup": slower()}) == ""
    untimed = made(baselines=None, speedup=None)
    untimed["baseline"] |= {"latency_ms": None}
    assert (speed(untimed), qualifier(untimed)) == (None, "")
    ended = ended_early()
    assert (smaller(ended), speed(ended), qualifier(ended)) == (None, None, "")


def test_a_smaller_file_is_smaller_than_the_original_in_every_form() -> None:
    report = made(10_000_000)
    assert smaller(report)
    report["baselines"]["ONNX Runtime f32"]["size_bytes"] = 9_000_000
    assert not smaller(report)


def test_an_absurd_ratio_is_no_headline_anywhere() -> None:
    """On a busy machine: 2950 times torch eager, 6.91 times the fastest; the tables keep both, marked."""
    gains = {batch: ratios(2950.54, 8.0, 6.91) for batch in ("1", "16")}
    report = made(speedup=gains, latency_reliability=reliable(artifact=BUSY, torch=BUSY, onnx=BUSY, openvino=BUSY))
    lines = list(summary(report))
    assert not [line for line in lines if "2950" in line or "6.91" in line]
    assert f"  batch 1: latency not measured reliably ({BUSY}); the report has the figures" in lines
    page = Page(render(report))
    glance = page.text[: page.text.index("1. Acceptance criteria")]
    assert "6.91" not in glance
    assert "Against the fastest baselinenot measured reliably" in glance
    assert [line[7] for line in page.tables["t-latency-1"][1:4]] == [
        "2951×2892× to 3010×, not measured reliably",
        "8.00×7.84× to 8.16×, not measured reliably",
        "6.91×6.77× to 7.05×, not measured reliably",
    ]
    assert page.tables["t-latency-1"][4][0] == "OpenVINO int8, this artifactnot measured reliably"
    assert dict(evidence(report))["Speed at batch 1"] == "not measured reliably"
    assert "This median was not measured reliably." in page.text
    costs = Page(comparison({"a": report, "b": report})["comparison.html"]).tables["t-costs"]
    assert costs[1][7] == "not measured reliablyOpenVINO f32"
    assert costs[1][6] == "0.500not measured reliably"


def test_one_baseline_that_wandered_is_left_out_of_the_line() -> None:
    report = made(latency_reliability=reliable(torch="the block medians of torch eager vary by 9.0 %, more than 2.5 %"))
    assert "  batch 1: 0.500 ms; torch eager not measured reliably, 8.00x over ONNX Runtime f32, 6.00x over OpenVINO f32" in summary(report)


def test_a_difference_that_is_none_is_said_to_be_none() -> None:
    report = made(speedup={batch: ratios(4.0, 0.5, 1.01) for batch in ("1", "16")})
    ends = "0.50x the speed of ONNX Runtime f32, 1.01x the speed of OpenVINO f32, no clear difference"
    assert f"  batch 1: 0.500 ms; 4.00x over torch eager, {ends}" in summary(report)


def test_reasons_are_of_the_pair_and_each_stands_once() -> None:
    report = made(speedup=WIDE, latency_reliability=reliable(artifact=BUSY, torch=BUSY))
    wide = "the interval of the ratio to OpenVINO f32, 4.20 to 7.80, is wider than a factor of 1.5"
    assert doubts(report, "1") == [BUSY]
    assert doubts(report, "1", "OpenVINO f32") == [BUSY, wide]
    assert doubts(made(), "1", "torch eager") == []
