from __future__ import annotations

import numpy as np
import pytest

from optimize.measure.latency import Latency
from optimize.measure.reliability import reliability

QUIET = {"before": 20.0, "during": 20.0, "after": 0.0}
STEADY = Latency((4.0,) * 60)


def test_one_that_nothing_disturbed_is_steady() -> None:
    assert reliability({"a": STEADY}, load_percent=QUIET)["a"].as_dict() == {"answer": "steady", "reasons": []}


@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_a_busy_machine_makes_all_unsure(when: str) -> None:
    found = reliability({"a": STEADY, "b": STEADY}, load_percent=QUIET | {when: 20.6})
    reasons = [f"other processes used 21 % of the CPU {when} the measurement, more than 20 %"]
    assert [each.as_dict() for each in found.values()] == [{"answer": "not to be relied on", "reasons": reasons}] * 2


def test_medians_that_wander_make_one_unsure() -> None:
    """Ten block medians in equal steps from about 10 to 11: 3.03 steps of standard deviation, 2.9 % of their mean."""
    found = reliability({"a": STEADY, "b": Latency(tuple(np.linspace(10, 11, 60)))}, load_percent=QUIET)
    assert found["a"].reasons == ()
    assert found["b"].reasons == ("the block medians of b vary by 2.9 %, more than 2.5 %",)


def test_two_and_a_half_percent_is_allowed() -> None:
    assert reliability({"a": Latency(tuple(np.linspace(10, 10.8, 60)))}, load_percent=QUIET)["a"].answer == "steady"


def test_warm_up_that_was_given_up_makes_one_unsure() -> None:
    found = reliability({"a": STEADY, "b": STEADY}, load_percent=QUIET, unsettled=("a",))
    assert found["a"].reasons == ("the medians of a had not settled when warm-up was given up",)
    assert found["b"].reasons == ()
