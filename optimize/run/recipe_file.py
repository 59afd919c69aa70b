"""Read settings from a toml file, and explain keys that are no settings."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimize.errors import InputError, did_you_mean
from optimize.run.renamed import LEAVE, RENAME, RENAMED, notice

LOCK = "recipe.lock.toml"
"""The file of a run with its resolved settings. Nobody edits it: the run's report lists its hash."""


@dataclass(frozen=True)
class Setting:
    """The place of a setting in a toml file, and the reader of its value.

    Args:
        section: name of the section.
        key: name of the key in that section.
        read: function of the value, its name for errors and the folder where relative paths start.
    """

    section: str
    key: str
    read: Callable[[Any, str, Path], object]


def read_settings(file: Path, known: Mapping[str, Setting]) -> dict[str, object]:
    """Return the settings in a toml file, by their names in `known`.

    Raises:
        InputError: when the file is no toml, or a section, key or value in it is wrong.
    """
    names = {(setting.section, setting.key): name for name, setting in known.items()}
    settings: dict[str, object] = {}
    for section, table in _parsed(file).items():
        _require_section(section, table, names, file)
        for key, value in table.items():
            name = _name(section, key, names, file)
            # the old and the new name of one key are two keys for toml, which would not notice
            if name in settings:
                raise InputError(f"{file}: [{section}] sets `{known[name].key}` twice, under its old name too: leave one of them out.")
            settings[name] = known[name].read(value, f"[{section}] {key} in {file}", file.absolute().parent)
    return settings


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a question that names the most similar known word, for the end of an error; empty where none is similar."""
    # the text is " (did you mean 'x'?)", and stands at the end of a line here
    near = did_you_mean(word, known)
    return f": {near[2:-1]}".replace("'", "`") if near else ""


def _parsed(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as problem:
        raise InputError(f"{file} is no valid toml: {str(problem)[:200]}: mend it there.") from problem
    except (OSError, UnicodeDecodeError) as problem:
        if file.is_dir():
            raise InputError(f"`--recipe` (={file}) is a folder: name a toml file in it, such as {file / 'optimize.toml'}.") from problem
        raise InputError(f"{file} cannot be read as UTF-8 text: {' '.join(str(problem).split())[:200]}: name a toml file.") from problem


def _require_section(section: str, table: object, names: Mapping[tuple[str, str], str], file: Path) -> None:
    sections = {known for known, _ in names}
    if section not in sections:
        home = _home(section, names)
        hint = f": as a setting it belongs in [{home}]" if home else nearest(section, sections)
        raise InputError(f"{file}: [{section}] is no section{hint}; sections: {', '.join(sorted(sections))}.")
    if not isinstance(table, dict):
        raise InputError(f"{file}: {section} (={table!r}) must be a section: write [{section}].")


def _name(section: str, key: str, names: Mapping[tuple[str, str], str], file: Path) -> str:
    """Return the name of the setting that a key stands for, also where it is the key's old name."""
    if (section, key) in RENAMED:
        name = RENAMED[section, key]
        remedy = LEAVE if file.name == LOCK else RENAME
        notice(key, next(now for (_, now), known in names.items() if known == name), f"[{section}] in {file}", remedy)
        return name
    if (section, key) in names:
        return names[section, key]
    # a right key in a wrong section is the most frequent mistake, so the section is named
    home = _home(key, names)
    hint = f": it belongs in [{home}]." if home else nearest(key, [known for _, known in names]) or ": leave it out."
    raise InputError(f"{file}: `{key}` is no setting of [{section}]{hint}")


def _home(key: str, names: Mapping[tuple[str, str], str]) -> str | None:
    """Return the section that a key belongs in; None where no section has it."""
    return next((section for section, known in names if known == key), None)
