"""Canonical JSON is compared with another implementation of RFC 8785."""

from __future__ import annotations

import struct

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from optimize.deploy.runner.canonical import canonical, parse

NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53) + 1, 2**53 - 1)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4)
)


@given(VALUES)
def test_it_is_what_another_implementation_writes(value: object) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@given(st.integers(0, 2**64 - 1))
def test_numbers_are_written_as_ecmascript_does(bits: int) -> None:
    (number,) = struct.unpack("<d", struct.pack("<Q", bits))
    if number == number and abs(number) != float("inf"):
        assert canonical(number) == rfc8785.dumps(number)


@pytest.mark.parametrize(
    ("number", "text"), [(1e21, b"1e+21"), (1e20, b"100000000000000000000"), (1e-6, b"0.000001"), (-0.0, b"0"), (12.5, b"12.5")]
)
def test_the_point_moves_where_the_standard_says(number: float, text: bytes) -> None:
    assert canonical(number) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"a":1,"a":2}', "twice"),
        (b"[NaN]", "no number"),
        (b"[" * 100_000, "too deeply"),
        (b"{", "Expecting"),
        (b"\xff", "utf-8"),
    ],
)
def test_what_parsers_read_differently_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse(text)


@pytest.mark.parametrize("value", [2**53, float("inf"), {1: 2}, {2, 3}, "\ud800"])
def test_what_has_no_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  each says it in its own words
        canonical(value)
