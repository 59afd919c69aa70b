"""Write a first `optimize.toml` for a model and its data: what was found out as settings, what is not known as comments.

A value that was read from the files is a setting. Whatever only the training code knows is a comment that says how to find it out: a wrong
mean would not be noticed by its look. The user fills in the comments, and `optimize plan` checks the whole.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from optimize.errors import InputError
from optimize.files import write_atomically
from optimize.loading.factory import parse
from optimize.loading.libraries import of_library
from optimize.run.planning.data_facts import DataFacts, inspect_data, relative
from optimize.run.planning.model_file import ModelFile, inspect_model
from optimize.run.planning.toml_sections import data_section, limits_section, model_section, run_section
from optimize.run.recipe import resolve

NAME = "optimize.toml"
ANY_TARGET = "onnxruntime"
"""Target with which the written file is read back, since every recipe needs one."""


@dataclass(frozen=True)
class Written:
    """A recipe that was written.

    Args:
        path: the file.
        text: its content.
        open_questions: settings that the user has to fill in, by their names.
    """

    path: Path
    text: str
    open_questions: tuple[str, ...]


def init(
    model: str | Path,
    data: str | None = None,
    *,
    arch: str | None = None,
    out: str | Path = NAME,
    overwrite: bool = False,
) -> Written:
    """Inspect a model and its data, and write a commented recipe.

    Args:
        model: file of weights; it is read and never run.
        data: an `.npz`, or "file.py:factory", which is run; None for none.
        arch: "file.py:factory" that builds the network; it is named in the recipe and not run. None where it is not known.
        out: file to write.
        overwrite: whether a file that is there already is replaced.

    Raises:
        InputError: when the model or the data cannot be read, or the file is there already.
    """
    path, file = Path(out).absolute(), Path(model)
    if path.is_dir():
        path = path / NAME
    if path.exists() and not overwrite:
        raise InputError(f"`--out` (={out}) exists already: add --overwrite to replace it, or name another file.")
    if not path.parent.is_dir():
        raise InputError(f"`--out` (={out}) lies in a folder that does not exist: make it, or name another file.")
    if arch is not None and not of_library(arch):
        source, function = parse(arch, "--arch")
        arch = f"{relative(source, path.parent)}:{function}"
    held = inspect_model(file)
    facts = None if data is None else inspect_data(data)
    text, questions = recipe_text(file, held, data, facts, arch, path.parent)
    _require_readable(text)
    try:
        write_atomically(path, text)
    except OSError as problem:
        raise InputError(f"`--out` (={out}) cannot be written ({problem.strerror}): name another file.") from problem
    return Written(path, text, questions)


def recipe_text(
    model: Path, held: ModelFile, data: str | None, facts: DataFacts | None, arch: str | None, folder: Path
) -> tuple[str, tuple[str, ...]]:
    """Return the recipe as text, and the names of the settings that the user has to fill in.

    Args:
        model: file of weights.
        held: what it holds.
        data: the data as the user named them.
        facts: what they hold; None where none were named.
        arch: the factory, relative to `folder`; None where it is not known.
        folder: folder of the recipe, where relative paths start.
    """
    sections = [
        model_section(relative(model, folder), held, facts, arch),
        data_section(None if data is None else _source(data, folder), facts, held.preparation),
        limits_section(facts),
        run_section(),
    ]
    beside = "It lies beside the model, so `optimize` reads it by itself." if model.absolute().parent == folder else "Pass it as --recipe."
    head = ["# Settings of `optimize compress`, written by `optimize init`.", f"# {beside} Lines that begin with # are not in force.", ""]
    lines = [*head, *(line for section in sections for line in (*section.lines, ""))]
    return "\n".join(lines[:-1]) + "\n", tuple(name for section in sections for name in section.questions)


def _source(data: str, folder: Path) -> str:
    file, colon, function = data.rpartition(":") if ".py:" in data else (data, "", "")
    return f"{relative(Path(file), folder)}{colon}{function}"


def _require_readable(text: str) -> None:
    """See that the recipe's own reader takes the text; anything else would be a mistake of this program."""
    with tempfile.TemporaryDirectory() as scratch:
        draft = Path(scratch) / f"draft-{os.getpid()}.toml"
        draft.write_text(text, encoding="utf-8")
        resolve("model.pt", target=ANY_TARGET, recipe_file=draft)
