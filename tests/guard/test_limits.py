"""Guard-rails: how they are written, and what is no guard-rail."""

from __future__ import annotations

import math
import re

import pytest

from optimize.errors import InputError
from optimize.guard.limits import Limits, parse_points


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("2pp", 0.02),
        ("2%", 0.02),
        (" 2.5 pp ", 0.025),
        (".5%", 0.005),
        ("0.02", 0.02),
        (0.02, 0.02),
        (0, 0.0),
        ("0", 0.0),
        (1.0, 1.0),
        ("100%", 1.0),
    ],
)
def test_a_share_has_three_spellings(text: str | float, share: float) -> None:
    assert parse_points(text) == pytest.approx(share, abs=1e-15)


@pytest.mark.parametrize("text", ["", "two", "2 points", "-2pp", "2,5pp", "nan", "inf", "2pp 3pp", "--", "1.2.3"])
def test_what_is_no_share_is_refused_by_name(text: str) -> None:
    with pytest.raises(InputError, match=r"`max_drop` \(=" + re.escape(repr(text)) + r"\) must be a share such as '2pp' or 0.02"):
        parse_points(text, "max_drop")


@pytest.mark.parametrize("text", ["1", "2", "20"])
def test_a_bare_number_of_one_or_more_is_not_guessed_at(text: str) -> None:
    with pytest.raises(InputError, match=rf"`max_drop` \(='{text}'\) has no unit and is 1 or more: write '{text}pp'"):
        parse_points(text, "max_drop")


@pytest.mark.parametrize("name", ["max_drop", "max_class_drop", "min_class_f1", "min_agreement"])
@pytest.mark.parametrize("value", [-0.01, 1.01, math.nan, math.inf])
def test_limits_lie_between_nothing_and_all(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"`{name}` \(={value}\) must lie between 0 and 1"):
        Limits(**{name: value})


def test_the_ends_are_allowed() -> None:
    assert Limits(0.0, 0.0, 0.0) != Limits(1.0, 1.0, 1.0)


def test_defaults() -> None:
    assert Limits() == Limits(max_drop=0.02, max_class_drop=0.06, min_class_f1=0.0, min_agreement=0.0)
