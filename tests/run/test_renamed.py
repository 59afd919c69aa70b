"""Keys and flags of version 0.1 that have another name now: they work, say so in one sentence, and give the same recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from optimize.errors import InputError
from optimize.progress import shown
from optimize.run.recipe import _SETTINGS, Recipe, resolve
from optimize.run.renamed import RENAMED, RENAMED_FLAGS, current_flags
from tests.runs import command

VALUES = {"cpu_level": "'avx2'", "horizontal_flip": "true"}
"""Setting -> a value as toml writes it."""


def resolved(folder: Path, text: str) -> Recipe:
    (folder / "recipe.toml").write_text(text, encoding="utf-8")
    with shown():
        return resolve(folder / "m.pt", target="openvino", recipe_file=folder / "recipe.toml")


@pytest.mark.parametrize(("section", "key"), RENAMED)
def test_an_old_key_gives_the_same_recipe_and_one_line(section: str, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = RENAMED[section, key]
    new = _SETTINGS[name].key
    wanted = resolved(tmp_path, f"[{section}]\n{new} = {VALUES[name]}\n")
    assert capsys.readouterr() == ("", "")
    assert getattr(wanted, name) != getattr(Recipe(wanted.model, wanted.target, wanted.out), name)
    assert resolved(tmp_path, f"[{section}]\n{key} = {VALUES[name]}\n") == wanted
    place = f"[{section}] in {tmp_path / 'recipe.toml'}"
    out, err = capsys.readouterr()
    assert out == ""
    assert " ".join(err.split()) == f"{place}: `{key}` is now called `{new}`: rename it there, a later version will refuse it."


def test_nobody_is_told_to_edit_the_lock_file_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = tmp_path / "recipe.lock.toml"
    lock.write_text("[run]\nisa = 'avx2'\n", encoding="utf-8")
    with shown():
        assert resolve(tmp_path / "m.pt", target="openvino", recipe_file=lock).cpu_level == "avx2"
    remedy = "leave the file as it is, since the report of its run lists its hash."
    assert " ".join(capsys.readouterr().err.split()) == f"[run] in {lock}: `isa` is now called `cpu_level`: {remedy}"


@pytest.mark.parametrize("order", ["isa = 'avx2'\ncpu_level = 'avx2'\n", "cpu_level = 'avx2'\nisa = 'avx2'\n"])
def test_both_names_at_once_are_refused(order: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"recipe.toml: \[run\] sets `cpu_level` twice, under its old name too: leave one of them out"):
        resolved(tmp_path, f"[run]\n{order}")


@pytest.mark.parametrize(
    ("words", "current"),
    [
        (["--isa", "avx2"], ["--cpu-level", "avx2"]),
        (["--isa=avx2", "--", "--isa"], ["--cpu-level=avx2", "--", "--isa"]),
        (["m.onnx", "--contend", "2", "--contend-with", "b.onnx"], ["m.onnx", "--background-load", "2", "--background-model", "b.onnx"]),
        (["--isaac", "isa", "a--isa", "x=--isa"], ["--isaac", "isa", "a--isa", "x=--isa"]),
    ],
)
def test_old_flags_are_replaced_up_to_the_end_of_flags(words: list[str], current: list[str]) -> None:
    given = list(words)
    found, replaced = current_flags(words)
    assert (found, words) == (current, given)
    assert [new for _, new in replaced] == [word.partition("=")[0] for word, old in zip(current, words, strict=True) if word != old]


def test_an_old_flag_gives_the_same_recipe_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run itself is a stand-in that stops with what it was asked for."""
    recipes: list[Recipe] = []

    def stopped(recipe: Recipe, **_: Any) -> None:
        recipes.append(recipe)
        raise InputError("stopped.")

    monkeypatch.setattr("optimize.run.compress.compress", stopped)
    call = ("compress", tmp_path / "m.pt", "--target", "openvino")
    assert command(*call, "--cpu-level", "avx2") == (2, "", "error: stopped.\n")
    said = "this call: `--isa` is now called `--cpu-level`: rename it there, a later version will refuse it.\n"
    assert command(*call, "--isa", "avx2") == (2, "", f"{said}error: stopped.\n")
    assert recipes[0] == recipes[1]
    assert recipes[0].cpu_level == "avx2"


def test_old_flags_are_no_flags_of_a_command_any_more() -> None:
    text = "".join(command(name, "--help")[1] for name in ("compress", "profile"))
    assert all(f"{new} " in text and f"{old} " not in text for old, new in RENAMED_FLAGS.items())
