from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from optimize.errors import InputError
from optimize.run import parsing
from optimize.run.parsing import capabilities, counts, size_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GB", 2_000_000_000),
        ("2 GiB", 2 * 1024**3),
        ("512MiB", 512 * 1024**2),
        ("1.5k", 1500),
        ("1.5KB", 1500),
        ("7", 7),
        ("9B", 9),
        (8, 8),
    ],
)
def test_sizes(text: Any, size: int) -> None:
    assert size_bytes(text, "--memory-limit", Path()) == size


@pytest.mark.parametrize("text", ["", "0", "-1GB", "2XB", "GB", "nan", True, None, "0.5", "9" * 400, "9223372036854775808", "9400000TB"])
def test_what_is_no_size(text: Any) -> None:
    with pytest.raises(InputError, match=r"`--memory-limit` \(=.*\) must be a number of bytes such as '2GB' or '512MiB'"):
        size_bytes(text, "--memory-limit", Path())


@pytest.mark.parametrize(
    ("name", "highest"),
    [("threads", 1024), ("batch", 65536), ("processes", 1024), ("seed", 4294967295)],
)
def test_whole_numbers_have_an_end(name: str, highest: int) -> None:
    read = getattr(parsing, name)
    assert read(str(highest), "--n", Path()) == read(highest, "--n", Path()) == highest
    for wrong in (highest + 1, str(highest + 1), "9" * 22, "-1", 1.0, True, "", None):
        with pytest.raises(InputError, match=rf"^`--n` \(=.*\) must be a whole number, at least [01] and at most {highest}\.$"):
            read(wrong, "--n", Path())


def test_a_number_of_many_digits_is_not_repeated_whole() -> None:
    with pytest.raises(InputError, match=rf"^`--input` \(='{'9' * 39}…\) must be a whole number, at least 1 and at most {2**24}\.$"):
        parsing.sizes(f"3,{'9' * 5000}", "--input", Path())


@pytest.mark.parametrize("given", ["12.0,8.6", ["8.6", "12.0"], [8.6, 12.0], "8.6, 12.0,8.6"])
def test_compute_capabilities_as_flag_or_toml_has_them(given: Any) -> None:
    assert capabilities(given, "--compute-capability", Path()) == ("8.6", "12.0")
    assert capabilities(8.9, "--compute-capability", Path()) == ("8.9",)
    assert capabilities("current", "--compute-capability", Path()) == ("current",)
    assert capabilities("", "--compute-capability", Path()) == ()


@pytest.mark.parametrize("given", ["9.0", "8.6,current", "ada", 9, True, [True]])
def test_what_is_no_compute_capability(given: Any) -> None:
    with pytest.raises(InputError, match=r"`--compute-capability` \(=.*\) must be"):
        capabilities(given, "--compute-capability", Path())


@pytest.mark.parametrize(
    ("given", "found"), [("1-4", (1, 2, 3, 4)), ("8,1-3", (8, 1, 2, 3)), ("2-2", (2,)), ("4", (4,)), ([1, "3 - 4"], (1, 3, 4))]
)
def test_counts_may_be_ranges(given: Any, found: tuple[int, ...]) -> None:
    assert counts(parsing.threads)(given, "--threads", Path()) == found


@pytest.mark.parametrize(
    ("text", "rule"),
    [("4-1", "a range that rises"), ("1-99999", "at most 1024"), ("0-2", "at least 1"), ("-2", "at least 1"), ("1-", "a whole number")],
)
def test_what_is_no_range(text: str, rule: str) -> None:
    with pytest.raises(InputError, match=f"`--threads` .*{rule}"):
        counts(parsing.threads)(text, "--threads", Path())


@pytest.mark.parametrize("text", ["3,28,28", "3x28x28", "3 28 28", "3 × 28 × 28", "(3, 28, 28)", "[3,28,28]", "3X28X28", "3*28*28"])
def test_a_shape_is_read_as_people_write_it(text: str) -> None:
    assert parsing.shape(text, "--input", Path()) == (3, 28, 28)
    assert parsing.shape([3, 28, 28], "input", Path()) == (3, 28, 28)


@pytest.mark.parametrize("text", ["a,b,c", "3,0,28", "3,,28", "3x-2x28", "3.5,28,28"])
def test_what_is_no_shape_is_named_whole(text: str) -> None:
    with pytest.raises(InputError, match=rf"^`--input` \(='{re.escape(text)}'\) must be channels, then spatial sizes"):
        parsing.shape(text, "--input", Path())


def test_a_power_is_a_chance_from_a_half_to_below_one() -> None:
    assert [parsing.power(value, "--power", Path()) for value in ("0.9", "80%", 0.5)] == [0.9, 0.8, 0.5]
    for value in (0.49, 1.0, "100%"):
        with pytest.raises(InputError, match=r"^`--power` \(='?[\d.%]+'?\) must be at least 0.5 and below 1, such as 0.9"):
            parsing.power(value, "--power", Path())
    with pytest.raises(InputError, match=r"^`--power` \(='often'\) must lie between 0 and 1, such as 0.9"):
        parsing.power("often", "--power", Path())
