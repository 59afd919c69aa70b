"""Parses JSON strictly, so that every parser reads the same values.

The standard leaves open what {"verdict": "fail", "verdict": "pass"} means: some parsers take the first value, some the last. A file that
one program checks and another shows must not hold a name twice. `NaN` and `Infinity` are not JSON, though Python reads them.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn


def parse(text: str | bytes) -> Any:
    """The value that a JSON text holds.

    Raises:
        ValueError: when the text is not JSON, an object holds a name twice, a number is `NaN` or infinite, or the nesting is too deep.
    """
    try:
        # The hook sees an object's pairs before they become a dict, which would silently keep the last of two equal names.
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        # `!a` and 60 characters: a hostile file must not write control characters or a page of text to the terminal.
        raise ValueError(f"the name {twice[:60]!a} stands twice in one object")
    return value


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")
