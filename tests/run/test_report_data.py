"""The report of every way a run can end holds to its schema; what makes two runs the same run."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import jsonschema
import pytest
from torch import nn

import optimize.report
from optimize.report.render import headline
from optimize.report.speed import qualifier, speed
from optimize.report.summary import summary
from optimize.run.report_data import layers, load_note
from tests import runs
from tests.runs import Run

SCHEMA = json.loads((Path(optimize.report.__file__).parent / "schema.json").read_text())
ENDS = ("accepted_onnxruntime", "accepted_openvino", "rejected", "inconclusive", "hopeless")


@pytest.fixture(params=ENDS)
def run(request: pytest.FixtureRequest) -> Run:
    found: Run = request.getfixturevalue(request.param)
    return found


def test_every_end_has_a_whole_report(run: Run) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(run.report)
    assert run.report["seed"] == 0
    assert run.report["classes"] == list(runs.CLASSES)
    assert run.report["data"]["test"]["per_class"].keys() == set(runs.CLASSES)
    assert sum(run.report["data"]["test"]["per_class"].values()) == run.report["data"]["test"]["cases"]
    assert run.report["reasons"]
    assert (run.out / "report.html").read_text().startswith("<!doctype html>")


def test_a_report_says_nothing_of_where_it_was_made(run: Run) -> None:
    home = str(run.out.parent)
    assert home not in (run.out / "report.json").read_text()
    assert home not in (run.out / "report.html").read_text()
    assert run.report["model"]["arch"] == "net.py:net"


def test_the_terminal_gets_the_verdict_first(run: Run) -> None:
    lines = list(summary(run.report))
    word = {"pass": "ACCEPTED", "fail": "REJECTED", "inconclusive": "INCONCLUSIVE"}[run.report["verdict"]]
    qualified = qualifier(run.report)
    assert lines[0] == f"{word}{f' ({qualified})' if qualified else ''}: {headline(run.report)}"
    assert run.report["speed"] == speed(run.report)
    assert lines[1].startswith("  the original reaches accuracy ")
    assert lines[2 : 2 + len(run.report["reasons"])] == [f"  {reason}" for reason in run.report["reasons"]]
    assert all("\n" not in line for line in lines)


def test_the_terminal_gets_the_figures(accepted: Run) -> None:
    report = accepted.report
    before, after = report["baseline"], report["compressed"]
    lines = [line.split() for line in summary(report)]
    parameters = next(words for words in lines if words[0] == "parameters")
    assert parameters[1:4] == [f"{before['parameters']:,}", "->", f"{after['parameters']:,}"]
    assert parameters[4] == f"({100 * (1 - after['parameters'] / before['parameters']):.1f}"
    assert [words[1] for words in lines if words[0] == "batch"] == ["1:", "2:"]


def test_versions_and_machine_travel_with_it(run: Run) -> None:
    assert {"torch", "numpy", "onnx"} <= run.report["versions"].keys()
    assert run.report["machine"]["logical_cores"] >= 1
    assert 0 <= run.report["machine"]["load"] <= 100


def test_the_largest_load_is_on_record_wherever_it_was(run: Run) -> None:
    loads = run.report["load_percent"]
    timed = {"every precision", "batch 1", "batch 2"} if run.report["compressed"] else set()
    assert loads.keys() == {"end"} | timed
    assert run.report["machine"]["load"] == max(loads.values())
    reliable = run.report["latency_reliability"]
    if not timed:
        assert reliable is None
    else:
        every = run.report["speedup"]["1"].keys() | {"artifact"}
        assert {batch: each.keys() for batch, each in reliable.items()} == {"1": every, "2": every}


@pytest.mark.parametrize(
    ("loads", "note"),
    [
        ({"batch 1": 19.9, "end": 0.0}, ()),
        ({"batch 1": 64.0, "end": 30.0}, ("other processes used 64 % of this machine while batch 1 was timed",)),
        ({"every precision": 20.0, "end": 1.0}, ("other processes used 20 % of this machine while every precision was timed",)),
        ({"batch 1": 5.0, "end": 60.0}, ()),
        ({"end": 100.0}, ("other processes used 100 % of this machine at the end of the run",)),
    ],
)
def test_a_load_that_ended_before_the_report_is_told_of(loads: dict[str, float], note: tuple[str, ...]) -> None:
    assert load_note(loads) == tuple(f"{each}: its timings are not to be relied on" for each in note)


def test_a_layer_that_was_split_has_two_rows() -> None:
    linear = partial(nn.Linear, bias=False)
    before = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), linear(10, 8), nn.Sequential(linear(8, 3)))
    after = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Sequential(linear(10, 2), nn.Linear(2, 8)), nn.Sequential(linear(8, 3)))
    assert layers(before, after) == [
        {"name": "0", "kind": "Conv2d", "before": [4, 1, 3, 3], "after": [2, 1, 3, 3]},
        {"name": "2.0", "kind": "Linear", "before": [8, 10], "after": [2, 10]},
        {"name": "2.1", "kind": "Linear", "before": [8, 10], "after": [8, 2]},
        {"name": "3.0", "kind": "Linear", "before": [3, 8], "after": [3, 8]},
    ]


def test_a_layer_of_a_kind_that_holds_others_has_one_row() -> None:
    class Activated(nn.Conv2d):
        def __init__(self) -> None:
            super().__init__(1, 4, 3)
            self.act = nn.ReLU()

    found = layers(nn.Sequential(Activated()), nn.Sequential(Activated()))
    assert found == [{"name": "0", "kind": "Activated", "before": [4, 1, 3, 3], "after": [4, 1, 3, 3]}]


def test_a_layer_that_was_taken_out_is_told_as_gone() -> None:
    before = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3))
    after = nn.Sequential(nn.Identity(), nn.Identity(), nn.ReLU(), nn.Conv2d(1, 2, 3))
    assert layers(before, after) == [
        {"name": "0", "kind": "Conv2d", "before": [4, 1, 3, 3], "after": None},
        {"name": "3", "kind": "Conv2d", "before": [2, 4, 3, 3], "after": [2, 1, 3, 3]},
    ]
