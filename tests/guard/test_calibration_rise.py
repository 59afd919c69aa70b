"""The rise of the calibration error: its figures against the plain ones, its bounds at a rise of exactly the limit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from optimize.guard.calibration_rise import rise_of_error
from optimize.guard.confidence_calibration import expected_calibration_error

Side = tuple[np.ndarray, np.ndarray]


def drawn(rng: np.random.Generator, cases: int, gaps: tuple[float, float], alike: float) -> tuple[Side, Side]:
    """Too sure by `gaps`; a share `alike` of the cases is answered with the same luck."""
    sure = rng.uniform(0.55, 0.95, cases)
    luck, own = rng.random(cases), rng.random(cases)
    new_luck = np.where(rng.random(cases) < alike, luck, own)
    return (sure, luck < sure - gaps[0]), (sure, new_luck < sure - gaps[1])


def test_the_figures_are_those_of_the_plain_error() -> None:
    before, after = drawn(np.random.default_rng(0), 500, (0.02, 0.05), 0.9)
    found, old, new = rise_of_error(before, after, 0.95)
    assert (old, new) == (pytest.approx(expected_calibration_error(*before)), pytest.approx(expected_calibration_error(*after)))
    assert found.low <= found.value <= found.high
    assert found.value == pytest.approx(new - old)
    assert found.usual[0] <= found.value <= found.usual[1]


@pytest.mark.parametrize(("cases", "gap", "alike"), [(150, 0.0, 0.95), (300, 0.0, 0.9), (1000, 0.0, 0.97), (600, 0.05, 0.97)])
def test_a_rise_of_exactly_the_limit_passes_one_in_twenty_times_at_most(cases: int, gap: float, alike: float) -> None:
    """A well calibrated original is where measured errors mislead: as they are, three in four of these rises look smaller."""
    rng, passed, plain = np.random.default_rng(cases), 0, 0
    for _ in range(150):
        found, _, _ = rise_of_error(*drawn(rng, cases, (gap, gap + 0.02), alike), 0.95)
        passed += found.high <= 0.02
        plain += found.value <= 0.02
    assert passed <= stats.binom.ppf(0.999, 150, 0.05)
    assert plain > 60


def test_without_a_rise_it_passes_where_few_answers_changed_and_cases_are_many() -> None:
    rng = np.random.default_rng(3)
    passed = [rise_of_error(*drawn(rng, 1500, (0.03, 0.03), 0.98), 0.95)[0].high <= 0.02 for _ in range(40)]
    assert np.mean(passed) > 0.9


@pytest.mark.parametrize(("cases", "held"), [(148, False), (152, True)])
def test_equal_answers_pass_from_as_many_cases_on_as_one_wrong_case_takes(cases: int, held: bool) -> None:
    before, _ = drawn(np.random.default_rng(4), cases, (0.0, 0.0), 1.0)
    found, _, _ = rise_of_error(before, before, 0.95)
    assert found.value == 0.0
    assert (found.high <= 0.02) == held


def test_a_large_rise_is_shown_although_the_original_has_no_sign() -> None:
    right = np.arange(1000) % 5 > 0
    found, _, _ = rise_of_error((np.full(1000, 0.8), right), (np.full(1000, 0.99), right), 0.95)
    assert found.value == pytest.approx(0.19)
    assert found.low > 0.1


def test_the_cases_of_a_patient_are_added_up() -> None:
    """Every case three times under one patient: no more is known than from each once."""
    before, after = drawn(np.random.default_rng(5), 200, (0.02, 0.04), 0.9)
    rows = np.repeat(np.arange(200), 3)
    tripled = [(side[0][rows], side[1][rows]) for side in (before, after)]
    once, thrice = rise_of_error(before, after, 0.95)[0], rise_of_error(*tripled, 0.95, rows)[0]
    assert (thrice.low, thrice.high) == (pytest.approx(once.low), pytest.approx(once.high))
    assert rise_of_error(*tripled, 0.95)[0].high < once.high
    assert (thrice.n, thrice.unit) == (200, "patients")


def test_without_cases_there_is_no_error() -> None:
    empty = np.zeros(0), np.zeros(0, dtype=bool)
    found, _, _ = rise_of_error(empty, empty, 0.95)
    assert (found.n, found.low, found.high) == (0, -1.0, 1.0)
