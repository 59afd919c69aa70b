"""Write `docs/settings.md` from the recipe's table and the commands' own help: `python -m docs.render_settings`.

A test sees that the page is up to date.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import click

from optimize.cli import main
from optimize.guard.limits import PRESETS
from optimize.run.recipe import _SETTINGS, RENAMED, Recipe, to_toml

PAGE = Path(__file__).parent / "settings.md"
HEAD = """# Settings

This page is written by `python -m docs.render_settings` from the recipe's table and the help of the commands.

A setting of `optimize compress` is a flag, or a key of a toml file. Command-line flags override `--recipe FILE`, which overrides the
`optimize.toml` beside the model, which overrides the defaults. Every run writes all of them, fully resolved, to `recipe.lock.toml`. Paths
in a toml file are relative to that file.

A limit such as `"2pp"` is a difference in percentage points; `"2%"` is a share of the original's figure. `"none"` in a toml file asks for
nothing.
"""
SECTIONS = {
    "model": "the network and its weights",
    "data": "images, labels and how they are prepared",
    "limits": "what the artifact may lose ([guard.md](guard.md))",
    "change": "change control",
    "search": "how networks are proposed ([search.md](search.md))",
    "retrain": "recovery training, where `--retrain` allows it ([recovery.md](recovery.md))",
    "profile": "how the artifact is timed ([latency.md](latency.md))",
    "run": "target and folder",
}
"""What each section is about; a section that is missing here is shown without it."""


def page() -> str:
    """The whole page."""
    flags = {option.name: option for option in main.get_command(_context(), "compress").params}  # type: ignore[union-attr]
    texts = documented(Recipe)
    defaults = tomllib.loads(to_toml(Recipe(model=Path("MODEL"), target="NAME", out=Path("MODEL-NAME"))))
    parts = [HEAD]
    for section in dict.fromkeys(setting.section for setting in _SETTINGS.values()):
        about = f": {SECTIONS[section]}" if section in SECTIONS else ""
        rows = [_row("key", "flag", "default", "meaning"), _row("---", "---", "---", "---")]
        for name, setting in _SETTINGS.items():
            if setting.section == section:
                option = flags.get(name)
                default = _default(name, defaults[section][setting.key])
                meaning = (option.help if isinstance(option, click.Option) else None) or texts.get(name, "")
                rows.append(_row(f"`{setting.key}`", _flag(option), default, meaning))
        parts += [f"## `[{section}]`{about}\n", *rows, ""]
    parts += ["## Presets\n", *_presets(), ""]
    parts += ["## Renamed keys\n", "This version still reads the old name, with a one-line notice.\n", *_renamed(), ""]
    parts += ["## Flags that are no settings\n", "They belong to one call of `optimize compress` and are not kept in `recipe.lock.toml`.\n"]
    parts += [*_options("compress", leave_out=_SETTINGS), ""]
    for command in main.list_commands(_context()):
        if command != "compress":
            parts += [f"## `optimize {command}`\n", _summary(command) + "\n", *_own_options(command), ""]
    return "\n".join(parts)


def documented(cls: type) -> dict[str, str]:
    """Field -> what the `Args:` section of the class's docstring says of it, on one line."""
    arguments = re.split(r"^\S", inspect.cleandoc(cls.__doc__ or "").partition("Args:\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(r"^ {4}(\w+): (.*?)(?=^ {4}\w+: |\Z)", arguments, flags=re.MULTILINE | re.DOTALL)
    return {name: _sentence(text) for name, text in found}


def _context() -> click.Context:
    return click.Context(main, info_name="optimize")


def _sentence(text: str) -> str:
    plain = " ".join(text.split())
    return plain[:1].upper() + plain[1:]


def _default(name: str, value: object) -> str:
    if name in ("model", "target"):
        return "required"
    if name == "out":
        return "`MODEL-TARGET`"
    if value in ("none", "", [], {}):
        return "-"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _flag(option: click.Parameter | None) -> str:
    if option is None:
        return "-"
    if isinstance(option, click.Argument):
        return f"`{(option.name or '').upper()}`"
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    return names if getattr(option, "is_flag", False) or not option.metavar else f"{names} `{option.metavar}`"


def _options(command: str, leave_out: Mapping[str, object] | tuple[str, ...] = ()) -> list[str]:
    params = main.get_command(_context(), command).params  # type: ignore[union-attr]
    options = [option for option in params if isinstance(option, click.Option) and option.name not in leave_out]
    rows = [_row(_flag(option), option.help or "") for option in options if option.help]
    return [_row("flag", "meaning"), _row("---", "---"), *rows] if rows else ["It has no flags."]


def _own_options(command: str) -> list[str]:
    """The flags of a command; of one that takes all settings of a run, only those that `optimize compress` lacks."""
    names, shared = ({option.name for option in main.get_command(_context(), one).params} for one in (command, "compress"))  # type: ignore[union-attr]
    if not shared & set(_SETTINGS) <= names:
        return _options(command)
    return ["It takes the settings and flags of `optimize compress`, and:\n", *_options(command, leave_out=tuple(map(str, shared)))]


def _summary(command: str) -> str:
    return " ".join((main.get_command(_context(), command).help or "").split("\n\n")[0].split())  # type: ignore[union-attr]


def _presets() -> list[str]:
    rows = [_row(f"`{name}`", ", ".join(f"`{key} = {value!r}`" for key, value in limits.items())) for name, limits in PRESETS.items()]
    return [_row("preset", "sets"), _row("---", "---"), *rows]


def _renamed() -> list[str]:
    new = {name: f"`[{setting.section}] {setting.key}`" for name, setting in _SETTINGS.items()}
    rows = [_row(f"`[{section}] {key}`", new[name]) for (section, key), name in RENAMED.items()]
    return [_row("old", "new"), _row("---", "---"), *rows]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
