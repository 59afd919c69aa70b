"""The page of settings is written from the recipe's table and the commands' help, and names all of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from docs.render_settings import PAGE, documented, page
from optimize.run.recipe import Recipe, to_toml


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m docs.render_settings"


def test_every_setting_has_a_row_that_says_what_it_means() -> None:
    text = page()
    for line in to_toml(Recipe(model=Path("m"), target="t", out=Path("o"))).splitlines():
        if match := re.match(r"(\w+) = ", line):
            rows = [row for row in text.splitlines() if row.startswith(f"| `{match[1]}` |")]
            assert rows, line
            assert all(row.split(" | ")[-1].strip(" |") for row in rows), line


def test_arguments_are_read_from_a_docstring() -> None:
    @dataclass
    class Example:
        """An example.

        Args:
            one: the first
                of two.
            two: the second.

        Raises:
            ValueError: never.
        """

    assert documented(Example) == {"one": "The first of two.", "two": "The second."}
    assert set(documented(Recipe)) == set(Recipe.__dataclass_fields__)
