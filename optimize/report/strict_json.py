"""JSON that every parser reads alike.

The standard leaves open what a name that stands twice in one object means: some parsers take the first value, some the last. A file that
is checked by one and shown by another must hold no such name. `NaN` and `Infinity` are no JSON, though Python reads them.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn


def parse(text: str | bytes) -> Any:
    """The value that a JSON text holds.

    Raises:
        ValueError: when it is no JSON, a name stands twice in one object, a number is none, or it is nested too deeply to be read.
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice[:60]!a} stands twice in one object")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")
