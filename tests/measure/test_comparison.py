from __future__ import annotations

import pytest

from optimize.measure.comparison import compared
from optimize.measure.latency import Latency
from optimize.measure.reliability import Reliability

STEADY = dict.fromkeys("abc", Reliability(()))


def steady(ms: float, n: int = 60) -> Latency:
    return Latency((ms,) * n)


@pytest.mark.parametrize(("ms", "answer", "value"), [(2.0, "faster", 2.0), (8.0, "slower", 0.5)])
def test_steady_contenders_get_an_answer(ms: float, answer: str, value: float) -> None:
    found = compared({"a": steady(4), "b": steady(ms)}, STEADY)
    assert set(found) == {"b"}
    ratio = {"value": value, "low": value, "high": value}
    assert found["b"].as_dict() == {"against": "a", "ratio": ratio, "answer": answer, "reasons": []}


def test_everyone_is_compared_with_the_first() -> None:
    found = compared({"a": steady(4), "b": steady(2), "c": steady(8)}, STEADY)
    assert {name: (each.against, each.answer) for name, each in found.items()} == {"b": ("a", "faster"), "c": ("a", "slower")}
    assert compared({"a": steady(4)}, STEADY) == {}


def test_equal_contenders_give_no_answer() -> None:
    found = compared({"a": steady(4), "b": steady(4)}, STEADY)["b"]
    assert (found.answer, found.reasons) == ("inconclusive", ("the interval of the ratio, 1.000 to 1.000, contains 1",))


@pytest.mark.parametrize("unsure", ["a", "b"])
def test_figures_not_to_be_relied_on_give_no_answer(unsure: str) -> None:
    found = compared({"a": steady(4), "b": steady(2)}, STEADY | {unsure: Reliability(("it drifts",))})["b"]
    assert (found.answer, found.reasons) == ("inconclusive", ("it drifts",))


def test_what_two_have_in_common_is_said_once_and_a_third_does_not_matter() -> None:
    reliable = {"a": Reliability(("a drifts", "busy")), "b": Reliability(("busy",)), "c": Reliability(("c drifts", "busy"))}
    found = compared({"a": steady(4), "b": steady(2), "c": steady(8)}, reliable)
    assert found["b"].reasons == ("a drifts", "busy")
    assert found["c"].reasons == ("a drifts", "busy", "c drifts")
