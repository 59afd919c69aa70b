"""Writes figures as text. Each kind of figure has one form, so that the same value reads the same in every table.

Thousands are set apart by a narrow space, never by a comma or a point, which mean different things in different countries.
What was not measured is `None` and is written as a dash.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

Report: TypeAlias = Mapping[str, Any]
FORMAT = 2
"""Of report.json; its schema is `schema.json`."""

DASH = "–"
_NARROW = "\u202f"
_MINUS = "\u2212"
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def _signed(text: str) -> str:
    """The text with a true minus sign (U+2212), and without a sign on zero: '-0.00' -> '0.00'."""
    # -0.004 pp rounds to "-0.00", which reads as a gain that is none.
    return text.lstrip("-") if not any(digit in text for digit in "123456789") else text.replace("-", _MINUS)


def _three_digits(value: float) -> str:
    """Three significant digits, never an exponent."""
    # The limits are those of rounding: 9.996 is written 10.0 and not 10.00, which would be four digits.
    digits = 3 if abs(value) < 0.9995 else 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f}"


def count(value: int | None) -> str:
    """7863784 -> '7 863 784'."""
    return DASH if value is None else f"{value:,}".replace(",", _NARROW)


def scaled(value: float | None, unit: str = "") -> str:
    """31457280 with unit 'B' -> '31.5 MB' (powers of ten)."""
    if value is None:
        return DASH
    for size, prefix in _UNITS:
        # 999 600 B would be "1000 kB" with three digits, so it is 1.00 MB already.
        if abs(value) >= 0.9995 * size:
            return f"{_three_digits(value / size)}{_NARROW}{prefix}{unit}"
    return f"{value:.0f}{_NARROW}{unit}".rstrip(_NARROW)


def percent(value: float | None) -> str:
    """0.97541 -> '97.54 %'."""
    return DASH if value is None else f"{value * 100:.2f}{_NARROW}%"


def points(value: float | None) -> str:
    """0.0164 -> '1.64 pp'; a gain, which is a negative drop, keeps its minus sign."""
    return DASH if value is None else _signed(f"{value * 100:.2f}") + f"{_NARROW}pp"


def limit(value: float) -> str:
    """0.02 -> '2 pp': a limit as it was set, without digits nobody wrote."""
    # Six digits, as 0.07 * 100 is 7.000000000000001.
    return f"{value * 100:.6g}{_NARROW}pp"


def fraction(value: float | None) -> str:
    """0.9641 -> '0.964'."""
    return DASH if value is None else f"{value:.3f}"


def probability(value: float | None) -> str:
    """0.0312 -> '0.031'; a value below 0.001 is written '< 0.001'."""
    return DASH if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def milliseconds(value: float | None) -> str:
    """20.71 -> '20.7', 0.5312 -> '0.531', 1399.2 -> '1399'."""
    return DASH if value is None else _three_digits(value)


def times(value: float | None) -> str:
    """5.218 -> '5.22×'."""
    return DASH if value is None else f"{_three_digits(value)}×"


def change(baseline: float | None, candidate: float | None) -> str:
    """31.5 -> 3.87 gives '−87.7 %'."""
    # Nothing can be said in percent of 0.
    if not baseline or candidate is None:
        return DASH
    text = f"{(candidate / baseline - 1) * 100:+.1f}"
    return ("0.0" if float(text) == 0 else text.replace("-", _MINUS)) + f"{_NARROW}%"


def signed(value: int) -> str:
    """3 -> '+3', -2 -> '−2', 0 -> '0'."""
    return f"{value:+d}".replace("-", _MINUS) if value else "0"


def shape(value: Sequence[int]) -> str:
    """(64, 32, 3, 3) -> '64 × 32 × 3 × 3'."""
    return " × ".join(map(str, value)) or "scalar"


def duration(seconds: float | None) -> str:
    """3725.4 -> '1 h 02 min'; below a minute, seconds."""
    if seconds is None:
        return DASH
    if seconds < 60:
        return f"{seconds:.1f} s"
    # Rounded before it is split, so that 7,199 s are "2 h 00 min" and not "1 h 60 min".
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def plain(value: Any) -> str:
    """A setting or a machine fact as text: lists are joined, booleans are yes and no, None is a dash."""
    if value is None:
        return DASH
    # Before numbers, since True is an int in Python and would read "1".
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, (list, tuple)) and len(item) == 2 for item in value):
        return ", ".join(f"{plain(name)}: {plain(item)}" for name, item in value)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(value[key])}" for key in sorted(value)) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def label(key: str) -> str:
    """'memory_bytes' -> 'Memory'; the unit moves to the value."""
    # The unit stands at the value, so "Memory bytes: 16 GB" would name two.
    words = re.sub(r"_(bytes|ms|s|percent)$", "", key).replace("_", " ")
    return {"cpu": "CPU", "os": "Operating system", "isa": "Instruction sets"}.get(words, words[:1].upper() + words[1:])


def fact(key: str, value: Any) -> str:
    """A machine fact with the unit its key names."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return plain(value)
    if key.endswith("_bytes"):
        return scaled(value, "B")
    unit = {"percent": "%", "ms": "ms", "s": "s"}.get(key.rpartition("_")[2])
    return plain(value) if unit is None else f"{plain(value)}{_NARROW}{unit}"


def nonbreaking_units(text: str) -> str:
    """The text with narrow no-break spaces between numbers and units, so that a line never ends between them."""
    # A line that ends in "0.5" and goes on with "pp" is easily read as another figure.
    return re.sub(r"(?<=\d) (?=%|pp\b|ms\b)", _NARROW, text)


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts 'conv2' before 'conv10'."""
    # Numbers and words are never compared with each other, which Python refuses: each part starts with 0 or 1.
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name))


_NUMBERS = (count, scaled, percent, points, limit, fraction, probability, milliseconds, times, signed)
_WORDS = (shape, nonbreaking_units, duration, plain, label)
FILTERS: Mapping[str, Callable[..., str]] = {filter_.__name__: filter_ for filter_ in (*_NUMBERS, *_WORDS)}
