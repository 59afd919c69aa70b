"""Guard-rails: how they are written, and what is no guard-rail."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimize.errors import InputError
from optimize.guard.limits import PRESETS, Limits, Relative, absolute, parse_limit, parse_points, stated


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
        (0.00001, 0.00001),
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
    assert Limits(0.0, 0.0, 0.0, verdict="point") != Limits(1.0, 1.0, 1.0, verdict="point")


@pytest.mark.parametrize("name", ["max_drop", "max_class_drop", "max_group_drop", "max_ece_rise", "max_regressed"])
def test_no_number_of_cases_shows_that_nothing_at_all_was_lost(name: str) -> None:
    with pytest.raises(InputError, match=rf"`{name}` \(=0\) can be shown by no number of cases"):
        Limits(**{name: 0})
    Limits(**{name: 0}, verdict="point")


@pytest.mark.parametrize("name", ["min_class_f1", "min_class_recall", "min_agreement"])
def test_no_number_of_cases_shows_that_all_is_reached(name: str) -> None:
    with pytest.raises(InputError, match=rf"`{name}` \(=1\) can be shown by no number of cases"):
        Limits(**{name: 1})
    Limits(**{name: 1}, verdict="point")


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("confidence", 0.5, "between 0.5 and 1"),
        ("confidence", 1.0, "between 0.5 and 1"),
        ("verdict", "sure", "one of statistical, point"),
        ("metric", "dice", "one of accuracy, macro_f1, auc"),
        ("class_metric", "auc", "one of recall, precision, f1"),
        ("threshold", 1.5, "between 0 and 1"),
        ("max_specificity_drop", 0.1, "needs the threshold"),
    ],
)
def test_what_is_no_setting_of_a_guard_rail(name: str, value: object, rule: str) -> None:
    with pytest.raises(InputError, match=rf"`{name}` \(=.*{re.escape(rule)}"):
        Limits(**{name: value})


@pytest.mark.parametrize(
    ("text", "limit", "words"),
    [
        ("2pp", 0.02, "2 pp"),
        ("1%", Relative(0.01), "1 % of the original’s"),
        ("0.03", 0.03, "3 pp"),
        (0.5, 0.5, "50 pp"),
        ("2.5 %", Relative(0.025), "2.5 % of the original’s"),
    ],
)
def test_points_and_shares_of_the_original_are_told_apart(text: str | float, limit: float, words: str) -> None:
    found = parse_limit(text)
    assert (found, isinstance(found, Relative), stated(found)) == (limit, isinstance(limit, Relative), words)


@given(st.decimals(0, 100, places=6))
def test_a_relative_limit_reads_back_as_it_was_written(percent: Decimal) -> None:
    found = parse_limit(f"{percent:f}%")
    assert isinstance(found, Relative)
    assert parse_limit(str(found)) == found


def test_every_preset_is_a_set_of_limits() -> None:
    found = {name: Limits(**settings) for name, settings in PRESETS.items()}
    assert (found["celeba"].max_drop, found["celeba"].max_class_drop, found["celeba"].verdict) == (0.02, 0.06, "point")
    assert (found["cifar"].max_drop, found["cifar"].max_class_drop) == (0.03, 0.09)
    assert found["bloodmnist"].min_class_f1 == 0.85
    assert (found["clinical"].verdict, found["clinical"].as_dict()["max_group_drop"]) == ("statistical", 0.05)


def test_the_report_says_which_limits_are_relative() -> None:
    whole = Limits(Relative(0.01), 0.05, positive=("a",)).as_dict()
    assert (whole["max_drop"], whole["max_group_drop"], whole["relative"]) == (0.01, 0.05, ["max_drop"])
    assert (whole["positive"], whole["preset"]) == (["a"], None)
    json.dumps(whole, allow_nan=False)


def test_defaults() -> None:
    assert Limits() == Limits(max_drop=0.02, max_class_drop=0.06, min_class_f1=0.0, min_agreement=0.0)


def test_a_scaled_relative_limit_is_relative() -> None:
    limit = Relative(0.02)
    for scaled, value in ((limit / 2, 0.01), (limit * 3, 0.06), (0.5 * limit, 0.01)):
        assert isinstance(scaled, Relative)
        assert scaled == pytest.approx(value)
    assert str(limit / 2) == "1.00%"
    # of an array it is a plain number
    np.testing.assert_allclose(limit * np.array([0.5, 1.0]), [0.01, 0.02])
    np.testing.assert_allclose(np.array([0.5, 1.0]) * limit, [0.01, 0.02])


def test_a_relative_limit_as_a_difference() -> None:
    assert absolute(Relative(0.02), 0.5) == pytest.approx(0.01)
    assert absolute(0.02, 0.5) == 0.02
