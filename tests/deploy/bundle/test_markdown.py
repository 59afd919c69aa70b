"""Markdown that shows a text as it is, by reading it back with a reader of our own."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimize.deploy.bundle.markdown import bullets, document, escaped, table

MARKUP = "\\`*_{}[]()<>#|!~&$^"


def shown(text: str) -> str:
    """What CommonMark shows: a backslash before punctuation is left out."""
    return re.sub(rf"\\([{re.escape(string.punctuation)}])", r"\1", text)


@given(st.text())
def test_a_reader_sees_the_text_on_one_line(text: str) -> None:
    written = escaped(text)
    assert written.isprintable()
    assert shown(written) == " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    # no punctuation that is markup stands without a backslash
    assert not re.search(rf"(?<!\\)(?:\\\\)*[{re.escape(MARKUP.replace(chr(92), ''))}]", written)


@pytest.mark.parametrize("text", ["- a", "+ a", "1. a", "12) a", "-", "---", "===", "# a", "> a", "www.a.b", "https://a.b", "a@b.c"])
def test_no_line_begins_a_list_a_heading_or_a_link(text: str) -> None:
    assert "\\" in escaped(text)
    assert shown(escaped(text)) == text


@pytest.mark.parametrize("text", ["0.98", "-0.05", "1.5 ms", "a - b"])
def test_figures_stay_readable(text: str) -> None:
    assert escaped(text) == text


def test_a_cell_cannot_end_its_row() -> None:
    assert table(("a", "b"), [("x|y", "<img src=x>\n| z |")]).splitlines() == [
        "| a | b |",
        "| --- | --- |",
        "| x\\|y | \\<img src=x\\> \\| z \\| |",
    ]


def test_nothing_is_nothing() -> None:
    assert (table(("a",), []), bullets([])) == ("", "")
    assert document("# a", "", "b") == "# a\n\nb\n"
