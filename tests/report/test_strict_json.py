from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimize.report.strict_json import parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_what_is_written_once_is_read(value: object) -> None:
    assert parse(json.dumps(value)) == value
    assert parse(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": 1, "a": 1}', "the name 'a' stands twice"),
        ('[{"b": {"é": 1, "x": 2, "\\u00e9": 3}}]', "the name '\\\\xe9' stands twice"),
        ("[NaN]", "NaN is no number of JSON"),
        ("-Infinity", "-Infinity is no number of JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ('{"a": 1} {}', "Extra data"),
        ("9" * 5000, "limit"),
        ("", "Expecting value"),
    ],
    ids=lambda text: text[:20],
)
def test_what_parsers_may_read_differently_is_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse(text)
