from __future__ import annotations

import pytest

from optimize.errors import InputError
from optimize.hardware.compute_capability import DEFAULT, SUPPORTED, has_bf16, ordered


def test_lowest_first_and_each_once() -> None:
    assert ordered(["12.0", " 8.6", "8.9", "8.6"]) == ("8.6", "8.9", "12.0")
    assert ordered(()) == ()
    assert ordered(["current"]) == ("current",)


@pytest.mark.parametrize("given", [["9.0"], ["8.6", "9.0"], ["8.6", "current"], ["sm86"], [""], ["8"]])
def test_what_there_are_no_kernels_for_is_named_with_what_there_is(given: list[str]) -> None:
    with pytest.raises(InputError, match=r"^`--compute-capability` \(='.*'\) must be some of 7\.5, 8\.0, .*12\.1, or 'current' alone"):
        ordered(given, "--compute-capability")


def test_bf16_came_with_8_0() -> None:
    assert [each for each in SUPPORTED if not has_bf16(each)] == ["7.5"]
    assert all(map(has_bf16, (*DEFAULT, "9.0", "10.3")))
    assert not has_bf16("6.1")
