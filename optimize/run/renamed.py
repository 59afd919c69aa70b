"""Old names of keys and flags from version 0.1: they still work in this version, each with a notice of one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from optimize.progress import note

RENAMED: Mapping[tuple[str, str], str] = {("run", "isa"): "cpu_level", ("retrain", "flips"): "horizontal_flip"}
"""(section, old key) of a recipe -> the key's name now, in the same section."""
RENAMED_FLAGS: Mapping[str, str] = {"--isa": "--cpu-level", "--contend": "--background-load", "--contend-with": "--background-model"}
"""Old flag -> its name now."""


RENAME = "rename it there, a later version will refuse it"
LEAVE = "leave the file as it is, since the report of its run lists its hash"


def notice(old: str, new: str, place: str, remedy: str = RENAME) -> None:
    """Say that `place`, a file or the call, uses an old name, and what to do about it."""
    note(f"{place}: `{old}` is now called `{new}`: {remedy}.")


def current_flags(words: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the words of a call with its old flags replaced, and the pairs (old flag, new flag) that were replaced.

    >>> current_flags(["m.pt", "--isa=avx2", "--seed", "1", "--", "--isa"])
    (['m.pt', '--cpu-level=avx2', '--seed', '1', '--', '--isa'], [('--isa', '--cpu-level')])
    """
    current, replaced = list(words), []
    last = current.index("--") if "--" in current else len(current)  # after `--` there are no flags
    for position, word in enumerate(current[:last]):
        flag, equals, value = word.partition("=")
        if flag in RENAMED_FLAGS:
            current[position] = RENAMED_FLAGS[flag] + equals + value
            replaced.append((flag, RENAMED_FLAGS[flag]))
    return current, replaced
