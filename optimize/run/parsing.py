"""Read single settings from text or from toml values.

A reader is a function of a value as a flag or a toml file has it, of the setting's name for errors, and of the folder where relative paths
start. It returns the value that `Recipe` holds, or raises an InputError of one line.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import tomli_w

from optimize.data.label_kinds import AUTO, NAMES, require_judged
from optimize.errors import InputError, did_you_mean
from optimize.guard.limits import parse_limit, parse_points
from optimize.hardware.compute_capability import ordered
from optimize.loading.libraries import of_library
from optimize.searching.strategy_names import strategy_names

Reader: TypeAlias = Callable[[Any, str, Path], object]
Integer: TypeAlias = Callable[[Any, str, Path], int]

_SIZE = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([kKMGT]i?)?B?\s*")
_RANGE = re.compile(r"\s*([0-9]+)\s*-\s*([0-9]+)\s*")
_MAX_RANGE = 1024
"""Numbers that a range such as "1-4" may have."""
_DURATION = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(us|ms|s|)\s*")

_TIME = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(s|min|h|)\s*")


def optional(read: Reader) -> Reader:
    """Return a reader that also takes "none", as None."""
    return lambda value, name, folder: None if value == "none" else read(value, name, folder)


def word(value: Any, name: str, folder: Path) -> str:
    """Return text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"`{name}` (={value!r}) must be text, and not empty.")
    return value


def text(value: Any, name: str, folder: Path) -> str:
    """Return any text, which may be empty."""
    if not isinstance(value, str):
        raise InputError(f"`{name}` (={value!r}) must be text.")
    return value.strip()


def choice(*names: str) -> Reader:
    """Return a reader that takes one of these words."""

    def read(value: Any, name: str, folder: Path) -> str:
        if value not in names:
            raise InputError(f"`{name}` (={value!r}) must be one of {', '.join(names)}{did_you_mean(value, names)}.")
        return str(value)

    return read


def task(value: Any, name: str, folder: Path) -> str:
    """Return the name of a task; the one of boxes is refused by name, as it is not judged."""
    require_judged(value, name)
    return str(choice(AUTO, *NAMES)(value, name, folder))


def words(value: Any, name: str, folder: Path) -> tuple[str, ...]:
    """Return texts, from a list or from one text with commas between them."""
    return tuple(word(part, name, folder).strip() for part in _parts(value, name))


def capabilities(value: Any, name: str, folder: Path) -> tuple[str, ...]:
    """Return compute capabilities, from a list of texts or numbers or with commas between them; or "current"."""
    return ordered([str(part) for part in _parts([value] if isinstance(value, float) else value, name)], name)


def switch(value: Any, name: str, folder: Path) -> bool:
    """Return true or false, from a toml boolean or a flag."""
    if not isinstance(value, bool):
        raise InputError(f"`{name}` (={value!r}) must be true or false.")
    return value


def integer(lowest: int, highest: int = 2**31 - 1) -> Integer:
    """Return a reader of whole numbers from `lowest` to `highest`; by default at most what 32 bits hold, since runtimes count in these."""

    def read(value: Any, name: str, folder: Path) -> int:
        try:
            # True is an int in Python, and would read as 1
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
    """Return a reader of several whole numbers, from a list or with commas between them."""
    return lambda value, name, folder: tuple(read(part, name, folder) for part in _parts(value, name))


sizes = several(integer(1, 2**24))
"""Channels and spatial sizes."""
_BETWEEN = re.compile(r"\s*[,;x×*]\s*|\s+", re.IGNORECASE)


def shape(value: Any, name: str, folder: Path) -> tuple[int, ...]:
    """Return channels and spatial sizes, from a list or from text such as "3,28,28", "3x28x28", "3 28 28" or "(3, 28, 28)"."""
    if not isinstance(value, str):
        return sizes(value, name, folder)
    plain = value.strip().strip("()[]").strip()
    try:
        return sizes(_BETWEEN.split(plain) if plain else [], name, folder)
    except InputError:
        rule = "channels, then spatial sizes, each a whole number from 1, such as 3,32,32"
        raise InputError(f"`{name}` (={value!r}) must be {rule}.") from None


def counts(read: Integer) -> Callable[[Any, str, Path], tuple[int, ...]]:
    """Return a reader of several whole numbers and of ranges such as "1-4", which holds both of its ends."""
    return lambda value, name, folder: tuple(number for part in _parts(value, name) for number in _range(part, read, name, folder))


def sides(value: Any, name: str, folder: Path) -> tuple[int, ...]:
    """Return one side or two, from 224, "224" or "224,224"."""
    return tuple(integer(1)(part, name, folder) for part in ([value] if isinstance(value, int) else _parts(value, name)))


def numbers(value: Any, name: str, folder: Path) -> tuple[float, ...]:
    """Return numbers, from a list or with commas between them."""
    return tuple(_number(part, name) for part in _parts(value, name))


def share(value: Any, name: str, folder: Path) -> float:
    """Return a fraction in 0..1, from 0.02, "2pp" or "2%"."""
    # a plain number in 0..1 is taken as it is; through text, 0.1 pp could lose its last digit
    exact = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
    # "2pp", "2%" and 0.02 are the same here; where the difference matters, `points` and `limit` are the readers
    fraction = float(value) if exact else parse_points(value, name)
    if not 0 <= fraction <= 1:
        raise InputError(f"`{name}` (={value!r}) must lie between 0 and 1, or 0 % and 100 %.")
    return fraction


def fraction(example: str) -> Reader:
    """Return a reader of a number in 0..1, or of a percentage."""

    def read(value: Any, name: str, folder: Path) -> float:
        try:
            return share(value, name, folder)
        except InputError:
            raise InputError(f"`{name}` (={value!r}) must lie between 0 and 1, such as {example}{_as_percentage(value)}.") from None

    return read


def power(value: Any, name: str, folder: Path) -> float:
    """Return a chance of acceptance, in 0.5..1 without its ends."""
    chance = float(fraction("0.9")(value, name, folder))  # type: ignore[arg-type]
    if not 0.5 <= chance < 1:
        raise InputError(f"`{name}` (={value!r}) must be at least 0.5 and below 1, such as 0.9.")
    return chance


def points(value: Any, name: str, folder: Path) -> float:
    """Return a difference in 0..1, from 0.02 or "2pp". "2%" is refused: it does not say of what."""
    if isinstance(value, str) and "%" in value:
        raise InputError(f"`{name}` (={value!r}) is a difference: write it in percentage points, such as '2pp'.")
    return share(value, name, folder)


def limit(value: Any, name: str, folder: Path) -> float:
    """Return a limit of a drop, from 0.02 or "2pp", a difference, or from "2%", a share of the original's figure."""
    exact = share(value, name, folder)
    return parse_limit(value, name) if isinstance(value, str) else exact


def positive(value: Any, name: str, folder: Path) -> float:
    """Return a number above 0."""
    number = _number(value, name)
    if number <= 0:
        raise InputError(f"`{name}` (={value!r}) must be above 0.")
    return number


def positive_fractions(value: Any, name: str, folder: Path) -> tuple[float, ...]:
    """Return fractions above 0, from a list or with commas between them."""
    fractions = tuple(share(part, name, folder) for part in _parts(value, name))
    if not all(fractions):
        raise InputError(f"`{name}` (={value!r}) must hold shares above 0.")
    return fractions


def milliseconds(value: Any, name: str, folder: Path) -> float:
    """Return milliseconds above 0, from 5, "5ms", "0.005s" or "5000us"."""
    # without a unit a number is in milliseconds, the unit of the reports
    match = None if isinstance(value, bool) else _DURATION.fullmatch(str(value))
    duration = 0.0 if match is None else float(match[1]) * {"s": 1e3, "us": 1e-3}.get(match[2], 1.0)
    if not 0 < duration < math.inf:
        raise InputError(f"`{name}` (={value!r}) must be a duration above 0 such as '5ms'.")
    return duration


def seconds(value: Any, name: str, folder: Path) -> float:
    """Return seconds above 0, from 90, "90s", "3min" or "1.5h"."""
    match = None if isinstance(value, bool) else _TIME.fullmatch(str(value))
    duration = 0.0 if match is None else float(match[1]) * {"min": 60.0, "h": 3600.0}.get(match[2], 1.0)
    if not 0 < duration < math.inf:
        raise InputError(f"`{name}` (={value!r}) must be a time above 0 such as '90s', '3min' or '1h'.")
    return duration


def size_bytes(value: Any, name: str, folder: Path) -> int:
    """Return a number of bytes above 0, from 2000000000, "2GB" (1000^3 bytes each) or "512MiB" (1024^2 bytes each)."""
    match = None if isinstance(value, bool) else _SIZE.fullmatch(str(value))
    unit = "" if match is None else (match[2] or "")
    step = 1024 if unit.endswith("i") else 1000
    # " KMGT" puts the power of each letter at its own place: none 0, K 1, M 2, G 3, T 4
    count = 0 if match is None else float(match[1]) * step ** " KMGT".find(unit[:1].upper() or " ")
    if not 1 <= count < 2**63:
        raise InputError(f"`{name}` (={value!r}) must be a number of bytes such as '2GB' or '512MiB'.")
    return int(count)


def times(value: Any, name: str, folder: Path) -> float:
    """Return a factor above 1, from 4 or "4x"."""
    number = _number(value.strip().removesuffix("x") if isinstance(value, str) else value, name)
    if number <= 1:
        raise InputError(f"`{name}` (={value!r}) must be a factor above 1 such as '4x'.")
    return number


def path(value: Any, name: str, folder: Path) -> Path:
    """Return a path; a relative one starts at `folder`."""
    if isinstance(value, Path):
        return folder / value
    return folder / word(value, name, folder)


def factory_or_path(value: Any, name: str, folder: Path) -> str:
    """Return a path, or "file.py:factory" whose file is a path."""
    text = str(value) if isinstance(value, Path) else word(value, name, folder)
    return str(folder / text)


def architecture(value: Any, name: str, folder: Path) -> str:
    """Return "library:name" as it is, or "file.py:factory" whose file is a path."""
    return value if isinstance(value, str) and of_library(value) else factory_or_path(value, name, folder)


def source(value: Any, name: str, folder: Path) -> str:
    """Return a path or "file.py:factory" of the data; empty text where there are none."""
    return "" if value == "" else factory_or_path(value, name, folder)


def signal(value: Any, name: str, folder: Path) -> str:
    """Return the name of a signal."""
    from optimize.importance import signals  # late: only a recipe that names one needs torch, to see which there are

    return str(choice(*sorted(signals()))(value, name, folder))


def strategy(value: Any, name: str, folder: Path) -> str:
    """Return the name of a strategy. The names are read from the files, and not before one is needed."""
    return str(choice(*strategy_names())(value, name, folder))


def table(value: Any, name: str, folder: Path) -> dict[str, object]:
    """Return keyword arguments, from a toml table or from the text of an inline one such as '{width = 0.5}'."""
    if isinstance(value, str):
        try:
            value = tomllib.loads(f"table = {value}")["table"]
        except tomllib.TOMLDecodeError as problem:
            raise InputError(f"`{name}` (={value!r}) is no inline toml table such as '{{width = 0.5}}': {str(problem)[:200]}.") from problem
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InputError(f"`{name}` (={value!r}) must be a table of keyword arguments.")
    try:
        # Written and read again, so that the run uses exactly what its lock file will hold.
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
    # a typing error such as 1-4000000 must not fill the memory
    if not first <= last < first + _MAX_RANGE:
        raise InputError(f"`{name}` (={part!r}) must be a range that rises, of at most {_MAX_RANGE} numbers, such as 1-4.")
    return range(first, last + 1)


def _as_percentage(value: Any) -> str:
    """Return the percentage that a number of 2 to 100 may have meant, in words: "93" -> "; write '93%' if per cent are meant"."""
    try:
        number = _number(value, "")
    except InputError:
        return ""
    return f"; write '{number:g}%' if per cent are meant" if 1 < number <= 100 else ""


def _short(value: object) -> str:
    """Return a value as an error shows it: of a long one, the beginning."""
    return written if len(written := repr(value)) <= 40 else f"{written[:40]}…"


def _number(value: Any, name: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"`{name}` (={value!r}) must be a number.")
    return number
