"""Readers of single settings: each takes a value as a flag or toml gives it, its name for errors, and the folder of relative paths."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import tomli_w

from optimize.errors import InputError, did_you_mean
from optimize.guard.limits import parse_limit, parse_points
from optimize.hardware.compute_capability import ordered

Reader: TypeAlias = Callable[[Any, str, Path], object]
Integer: TypeAlias = Callable[[Any, str, Path], int]

_SIZE = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([kKMGT]i?)?B?\s*")
_RANGE = re.compile(r"\s*([0-9]+)\s*-\s*([0-9]+)\s*")
_LONGEST = 1024
_DURATION = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(us|ms|s|)\s*")


def optional(read: Reader) -> Reader:
    """A reader that also takes "none"."""
    return lambda value, name, folder: None if value == "none" else read(value, name, folder)


def word(value: Any, name: str, folder: Path) -> str:
    """Text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"`{name}` (={value!r}) must be text, and not empty.")
    return value


def text(value: Any, name: str, folder: Path) -> str:
    """Any text, also none."""
    if not isinstance(value, str):
        raise InputError(f"`{name}` (={value!r}) must be text.")
    return value.strip()


def choice(*names: str) -> Reader:
    """A reader of one of these words."""

    def read(value: Any, name: str, folder: Path) -> str:
        if value not in names:
            raise InputError(f"`{name}` (={value!r}) must be one of {', '.join(names)}{did_you_mean(value, names)}.")
        return str(value)

    return read


def words(value: Any, name: str, folder: Path) -> tuple[str, ...]:
    """A list of texts, or one text with commas."""
    return tuple(word(part, name, folder).strip() for part in _parts(value, name))


def capabilities(value: Any, name: str, folder: Path) -> tuple[str, ...]:
    """Compute capabilities, as a list of texts or numbers or with commas; or "current"."""
    return ordered([str(part) for part in _parts([value] if isinstance(value, float) else value, name)], name)


def switch(value: Any, name: str, folder: Path) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise InputError(f"`{name}` (={value!r}) must be true or false.")
    return value


def integer(lowest: int, highest: int = 2**31 - 1) -> Integer:
    """A reader of whole numbers from `lowest` to `highest`: what runs later counts in 32 bits, or starts as many of something."""

    def read(value: Any, name: str, folder: Path) -> int:
        try:
            number = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else lowest - 1
        except ValueError:
            number = lowest - 1
        if not lowest <= number <= highest:
            raise InputError(f"`{name}` (={_short(value)}) must be a whole number, at least {lowest} and at most {highest}.")
        return number

    return read


threads = integer(1, 1024)
batch = integer(1, 2**16)
processes = integer(0, 1024)
seed = integer(0, 2**32 - 1)


def several(read: Integer) -> Callable[[Any, str, Path], tuple[int, ...]]:
    """A reader of more than one, as a list or with commas."""
    return lambda value, name, folder: tuple(read(part, name, folder) for part in _parts(value, name))


sizes = several(integer(1, 2**24))
"""Channels and spatial sizes."""
_BETWEEN = re.compile(r"\s*[,;x×*]\s*|\s+", re.IGNORECASE)


def shape(value: Any, name: str, folder: Path) -> tuple[int, ...]:
    """Channels and spatial sizes, as a list or as text: "3,28,28", "3x28x28", "3 28 28", "(3, 28, 28)"."""
    if not isinstance(value, str):
        return sizes(value, name, folder)
    plain = value.strip().strip("()[]").strip()
    try:
        return sizes(_BETWEEN.split(plain) if plain else [], name, folder)
    except InputError:
        rule = "channels, then spatial sizes, each a whole number from 1, such as 3,32,32"
        raise InputError(f"`{name}` (={value!r}) must be {rule}.") from None


def counts(read: Integer) -> Callable[[Any, str, Path], tuple[int, ...]]:
    """As `several`, and ranges such as "1-4", both ends of which are among them."""
    return lambda value, name, folder: tuple(number for part in _parts(value, name) for number in _range(part, read, name, folder))


def numbers(value: Any, name: str, folder: Path) -> tuple[float, ...]:
    """Numbers, as a list or with commas."""
    return tuple(_number(part, name) for part in _parts(value, name))


def share(value: Any, name: str, folder: Path) -> float:
    """A fraction in 0..1: 0.02, "2pp" or "2%"."""
    exact = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
    fraction = float(value) if exact else parse_points(value, name)
    if not 0 <= fraction <= 1:
        raise InputError(f"`{name}` (={value!r}) must lie between 0 and 1, or 0 % and 100 %.")
    return fraction


def fraction(example: str) -> Reader:
    """A reader of a number in 0..1, or of a percentage."""

    def read(value: Any, name: str, folder: Path) -> float:
        try:
            return share(value, name, folder)
        except InputError:
            raise InputError(f"`{name}` (={value!r}) must lie between 0 and 1, such as {example}.") from None

    return read


def points(value: Any, name: str, folder: Path) -> float:
    """A difference, 0.02 or "2pp"; "2%" would leave open of what."""
    if isinstance(value, str) and "%" in value:
        raise InputError(f"`{name}` (={value!r}) is a difference: write it in percentage points, such as '2pp'.")
    return share(value, name, folder)


def limit(value: Any, name: str, folder: Path) -> float:
    """A limit of a drop: 0.02 or "2pp" is a difference, "2%" a share of the original's figure."""
    exact = share(value, name, folder)
    return parse_limit(value, name) if isinstance(value, str) else exact


def positive(value: Any, name: str, folder: Path) -> float:
    """A number above 0."""
    number = _number(value, name)
    if number <= 0:
        raise InputError(f"`{name}` (={value!r}) must be above 0.")
    return number


def shares(value: Any, name: str, folder: Path) -> tuple[float, ...]:
    """Fractions above 0, as a list or with commas."""
    found = tuple(share(part, name, folder) for part in _parts(value, name))
    if not all(found):
        raise InputError(f"`{name}` (={value!r}) must hold shares above 0.")
    return found


def milliseconds(value: Any, name: str, folder: Path) -> float:
    """A duration above 0: 5, "5ms", "0.005s" or "5000us"."""
    match = None if isinstance(value, bool) else _DURATION.fullmatch(str(value))
    duration = 0.0 if match is None else float(match[1]) * {"s": 1e3, "us": 1e-3}.get(match[2], 1.0)
    if not 0 < duration < math.inf:
        raise InputError(f"`{name}` (={value!r}) must be a duration above 0 such as '5ms'.")
    return duration


def size_bytes(value: Any, name: str, folder: Path) -> int:
    """A number of bytes above 0: 2000000000, "2GB" (of 1000^3 bytes each), "512MiB" (of 1024^2)."""
    match = None if isinstance(value, bool) else _SIZE.fullmatch(str(value))
    unit = "" if match is None else (match[2] or "")
    step = 1024 if unit.endswith("i") else 1000
    found = 0 if match is None else float(match[1]) * step ** " KMGT".find(unit[:1].upper() or " ")
    if not 1 <= found < 2**63:
        raise InputError(f"`{name}` (={value!r}) must be a number of bytes such as '2GB' or '512MiB'.")
    return int(found)


def times(value: Any, name: str, folder: Path) -> float:
    """A factor above 1: 4, or "4x"."""
    number = _number(value.strip().removesuffix("x") if isinstance(value, str) else value, name)
    if number <= 1:
        raise InputError(f"`{name}` (={value!r}) must be a factor above 1 such as '4x'.")
    return number


def path(value: Any, name: str, folder: Path) -> Path:
    """A path; a relative one starts at `folder`."""
    if isinstance(value, Path):
        return folder / value
    return folder / word(value, name, folder)


def factory_or_path(value: Any, name: str, folder: Path) -> str:
    """A path, or "file.py:factory" whose file is a path."""
    text = str(value) if isinstance(value, Path) else word(value, name, folder)
    return str(folder / text)


def source(value: Any, name: str, folder: Path) -> str:
    """Where data come from, as `factory_or_path`; empty text says that there are none."""
    return "" if value == "" else factory_or_path(value, name, folder)


def table(value: Any, name: str, folder: Path) -> dict[str, object]:
    """A table of keyword arguments, or the text of an inline one: '{width = 0.5}'."""
    if isinstance(value, str):
        try:
            value = tomllib.loads(f"table = {value}")["table"]
        except tomllib.TOMLDecodeError as problem:
            raise InputError(f"`{name}` (={value!r}) is no inline toml table such as '{{width = 0.5}}': {str(problem)[:200]}.") from problem
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InputError(f"`{name}` (={value!r}) must be a table of keyword arguments.")
    try:
        # There and back, so that what runs is exactly what the lock file will say.
        return tomllib.loads(tomli_w.dumps(dict(value)))
    except TypeError as problem:
        raise InputError(f"`{name}` (={value!r}) holds what toml cannot write ({problem}): use numbers and text.") from problem


def _parts(value: Any, name: str) -> list[Any]:
    if isinstance(value, str):
        return value.split(",") if value.strip() else []
    if isinstance(value, list | tuple):
        return list(value)
    raise InputError(f"`{name}` (={value!r}) must be a list, or values with commas between them.")


def _range(part: Any, read: Integer, name: str, folder: Path) -> Sequence[int]:
    ends = _RANGE.fullmatch(part) if isinstance(part, str) else None
    if ends is None:
        return [read(part, name, folder)]
    first, last = (read(end, name, folder) for end in ends.groups())
    if not first <= last < first + _LONGEST:
        raise InputError(f"`{name}` (={part!r}) must be a range that rises, of at most {_LONGEST} numbers, such as 1-4.")
    return range(first, last + 1)


def _short(value: object) -> str:
    """A value in an error: of a number of many digits, its first ones."""
    return said if len(said := repr(value)) <= 40 else f"{said[:40]}…"


def _number(value: Any, name: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"`{name}` (={value!r}) must be a number.")
    return number
