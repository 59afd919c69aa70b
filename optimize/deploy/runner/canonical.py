"""Reads and writes canonical JSON (RFC 8785), in which one content has one form, so that it can be hashed and signed as bytes."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

MAX_WHOLE = 2**53 - 1
"""Largest whole number that every parser of JSON reads exactly."""


def parse(content: bytes) -> Any:
    """Return the value of a JSON text in UTF-8, read strictly.

    Raises:
        ValueError: when it is not JSON, an object holds a name twice, a number is not finite, or the nesting is too deep.
    """
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def canonical(value: Any) -> bytes:
    """Return the canonical form of a value of JSON.

    Names are sorted by their UTF-16 code units, there are no spaces, and numbers are written as ECMAScript writes them.

    Raises:
        ValueError: when the value has no such form, such as a number that is not finite.

    Example:
        >>> canonical({"b": [1e-4, 1e-7, 2.0], "a": None})
        b'{"a":null,"b":[0.0001,1e-7,2]}'
    """
    try:
        return _text(value).encode("utf-8")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _text(value: Any) -> str:
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise ValueError("a name is no text")
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(f"{_text(name)}:{_text(value[name])}" for name in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MAX_WHOLE:
        raise ValueError(f"a whole number is beyond {MAX_WHOLE}")
    if value is None or isinstance(value, str | int | bool):
        return json.dumps(value, ensure_ascii=False)
    raise ValueError(f"{type(value).__name__} is no type of JSON")


def _number(value: float) -> str:
    """Return a number as ECMAScript's Number::toString does: Python finds the same shortest digits, and places the point otherwise.

    Worked example: 1e-05 in Python is "0.00001" there, since only below 1e-6 an exponent is written; 1e+21 keeps its exponent.
    """
    if not math.isfinite(value):
        raise ValueError("a number is not finite")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    # position of the point after the first digit of `digits`: 12.5 has digits 125 and point 2
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if 0 < point <= 21:
        if len(digits) <= point:
            return sign + digits.ljust(point, "0")
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{'+' if point > 0 else '-'}{abs(point - 1)}"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        # `!a` and 60 characters: a hostile file must not write control characters or a page of text to the terminal
        raise ValueError(f"the name {twice[:60]!a} stands twice in one object")
    return value


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")
