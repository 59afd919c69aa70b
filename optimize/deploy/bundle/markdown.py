"""Markdown of documents: every text that comes from a file is escaped, so that it is shown as it is and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#|!~&$^])")
_START = re.compile(r"^(\d{1,9}[.)](?=\s|$)|[-+](?=\s|$)|[-=](?=[-=]+$))")


def escaped(value: object) -> str:
    r"""Return one line of Markdown that shows a text as it is.

    What could be markup gets a backslash, which CommonMark allows before any punctuation; line ends and control characters become spaces.

    >>> escaped("a*b | <script> [x](y)")
    'a\\*b \\| \\<script\\> \\[x\\]\\(y\\)'
    """
    # also characters that turn the direction of what follows, which could make one line look like another
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in str(value)).split())
    text = _MARKUP.sub(r"\\\1", text)
    # a list or a heading begins at the start of a line only; "1." becomes "1\."
    text = _START.sub(lambda start: f"{start[1][:-1]}\\{start[1][-1]}", text)
    # GitHub makes links of bare addresses
    return text.replace("://", ":\\//").replace("www.", "www\\.").replace("@", "\\@")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; the cells are escaped. Empty text where there are no rows."""
    lines = [f"| {' | '.join(map(escaped, row))} |" for row in rows]
    return "\n".join([f"| {' | '.join(map(escaped, head))} |", f"|{' --- |' * len(head)}", *lines]) if lines else ""


def bullets(texts: Iterable[object]) -> str:
    """Return a list; the texts are escaped."""
    return "\n".join(f"- {escaped(text)}" for text in texts)


def document(*blocks: str) -> str:
    """Return a document of blocks, such as headings and tables; empty blocks are left out."""
    return "\n\n".join(block for block in blocks if block) + "\n"
