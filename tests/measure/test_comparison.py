from __future__ import annotations

import numpy as np
import pytest

from optimize.measure.comparison import compared
from optimize.measure.latency import Latency

QUIET = {"before": 20.0, "after": 0.0}


def steady(ms: float, n: int = 60) -> Latency:
    return Latency((ms,) * n)


@pytest.mark.parametrize(("ms", "answer", "value"), [(2.0, "faster", 2.0), (8.0, "slower", 0.5)])
def test_steady_contenders_get_an_answer(ms: float, answer: str, value: float) -> None:
    found = compared({"a": steady(4), "b": steady(ms)}, load_percent=QUIET)
    assert set(found) == {"b"}
    ratio = {"value": value, "low": value, "high": value}
    assert found["b"].as_dict() == {"against": "a", "ratio": ratio, "answer": answer, "reasons": []}


def test_everyone_is_compared_with_the_first() -> None:
    found = compared({"a": steady(4), "b": steady(2), "c": steady(8)}, load_percent=QUIET)
    assert {name: (each.against, each.answer) for name, each in found.items()} == {"b": ("a", "faster"), "c": ("a", "slower")}
    assert compared({"a": steady(4)}, load_percent=QUIET) == {}


def test_a_busy_machine_gives_no_answer() -> None:
    found = compared({"a": steady(4), "b": steady(2)}, load_percent={"before": 3.0, "after": 20.6})["b"]
    assert found.answer == "inconclusive"
    assert found.reasons == ("other processes used 21 % of the CPU after the measurement, more than 20 %",)


def test_equal_contenders_give_no_answer() -> None:
    found = compared({"a": steady(4), "b": steady(4)}, load_percent=QUIET)["b"]
    assert (found.answer, found.reasons) == ("inconclusive", ("the interval of the ratio, 1.000 to 1.000, contains 1",))


@pytest.mark.parametrize("drifting", ["a", "b"])
def test_medians_that_wander_give_no_answer(drifting: str) -> None:
    ramp = Latency(tuple(np.linspace(10, 11, 60)))
    found = compared({"a": steady(20), "b": steady(5), drifting: ramp}, load_percent=QUIET)["b"]
    assert found.answer == "inconclusive"
    # Ten medians in equal steps of 0.1 and about 0.1: 3.03 steps of standard deviation.
    assert found.reasons == (f"the block medians of {drifting} vary by 2.9 %, more than 2.5 %",)


def test_two_and_a_half_percent_is_allowed() -> None:
    ramp = Latency(tuple(np.linspace(10, 10.8, 60)))
    assert compared({"a": ramp, "b": steady(5)}, load_percent=QUIET)["b"].answer == "faster"
