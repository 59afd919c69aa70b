"""Pages and help use the words of the glossary, and none of those that it replaced."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from optimize.cli import main
from tests.docs.pages import PAGES, ROOT, name, prose

REPLACED = {
    "second opinion": "train check",
    "by heart": "memorized",
    "witness": "train check",
    "contender": "model",
    "entrant": "model",
    "crew": "processes",
    "lends": "is taken from",
    "talked? (?:down|away)": "outweighed",
    "wears? out": "is used too often",
    "survey": "removal plan",
}
"""Words of earlier versions, as patterns -> what to write instead."""


def replaced(text: str) -> list[str]:
    """Words in a text that have a better one."""
    found = {word: re.search(rf"\b{word}", text, re.IGNORECASE) for word in REPLACED}
    return [f"{match[0]!r}: write {REPLACED[word]!r}" for word, match in found.items() if match]


def glossary() -> list[str]:
    """The words that the glossary defines, in its order."""
    rows = (ROOT / "docs/glossary.md").read_text(encoding="utf-8").splitlines()
    return [match[1] for row in rows if (match := re.match(r"\| \*\*(.+?)\*\*", row))]


def helps() -> dict[str, str]:
    """Every command and option -> its help."""
    context = click.Context(main, info_name="optimize")
    found = {}
    for word in main.list_commands(context):
        command = main.get_command(context, word)
        assert command is not None
        found[word] = command.help or ""
        found |= {f"{word} {option.name}": getattr(option, "help", "") or "" for option in command.params}
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_pages_use_the_words_of_today(page: Path) -> None:
    assert replaced(prose(page.read_text(encoding="utf-8"))) == []


def test_help_uses_the_words_of_today() -> None:
    assert {word: found for word, text in helps().items() if (found := replaced(text))} == {}


def test_the_glossary_has_each_word_once_and_in_order() -> None:
    words = glossary()
    assert len(words) > 40
    assert words == sorted(words, key=str.lower)
    assert len(words) == len(set(words))


WORDS = ("flips", "group", "guard", "guard-rail", "harm", "original", "parity", "reader", "repair", "self-test", "verdict")


@pytest.mark.parametrize("word", WORDS)
def test_special_words_are_defined(word: str) -> None:
    assert any(re.match(rf"{word}\b", entry) for entry in glossary())


def test_an_old_word_is_noticed() -> None:
    assert replaced("A second opinion, by heart.") == ["'second opinion': write 'train check'", "'by heart': write 'memorized'"]
    assert replaced(prose("`second opinion` in code is a name")) == []
