"""Mistakes of a new user, through the command: each ends with one line that names what to change, and no traceback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests import runs

MISTAKES = [
    (["--input", "8,8,1"], "channels last: pass --input 1,8,8"),
    (["--input", "2,1,8,8"], "the number of images is no part of --input: pass --input 1,8,8"),
    (["--input", "8,8"], "pass --input 1,8,8"),
    (["--mean", "127.5", "--std", "63.75"], "divide mean and std by 255"),
    (["--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5"], "the network's input has 1 channels"),
    (["--data", "one_hot.npz"], "or --task classification if they are one class of several"),
    (["--data", "five.npz"], "the network has 4 outputs, and labels name 5 classes"),
    (["--data", "dota.npz"], "does not exist: check the path"),
    (["--target", "openvno"], "did you mean 'openvino'?"),
    (["--strategy", "alocate"], "did you mean 'allocate'?"),
    (["--max-dorp", "2pp"], "'--max-drop'"),
    (["--max-drop", "2"], "write '2pp' if percentage points are meant"),
    (["--expect", "93"], "write '93%' if per cent are meant"),
    (["--arch", "net.py:nett"], "did you mean 'net'?"),
    (["--arch", "net.py"], "add the name of the function, as in net.py:build"),
    (["--arch", "nett.py:net"], "check the path"),
    (["--recipe", "."], "`--recipe` (=.) is a folder: name a toml file in it"),
    (["--recipe", "key.toml"], "did you mean `max_drop`?"),
    (["--recipe", "section.toml"], "did you mean `limits`?"),
    (["--recipe", "comma.toml"], "comma.toml is no valid toml"),
    (["data.npz"], "data are passed as --data data.npz"),
    (["--out", "data.npz"], "`--out`"),
]
"""(words behind a call that is right, what the error must say)."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small classifier with data beside it, and further files that are wrong."""
    model = runs.bring(tmp_path_factory.mktemp("mistakes"))
    folder, data = model.parent, runs.arrays()
    one_hot = {key: np.eye(4, dtype=int)[value.ravel()] if key.endswith("labels") else value for key, value in data.items()}
    np.savez(folder / "one_hot.npz", **one_hot)
    five = {
        key: np.where(np.arange(len(value)) % 5 == 4, 4, value.ravel()) if key.endswith("labels") else value for key, value in data.items()
    }
    np.savez(folder / "five.npz", **five)
    (folder / "key.toml").write_text("[limits]\nmax_dorp = '2pp'\n")
    (folder / "section.toml").write_text("[limit]\nmax_drop = '2pp'\n")
    (folder / "comma.toml").write_text("[data]\nmean = 0,5\n")
    return model


@pytest.mark.parametrize(("words", "said"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_one_line_that_names_the_remedy(
    words: list[str], said: str, model: Path, any_target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    code, _, told = runs.command("compress", model.name, "--target", any_target, "--out", "out", *words)
    lines = [line for line in told.splitlines() if line.startswith("error: ")]
    assert (code, len(lines)) == (2, 1), told
    assert said in lines[0]
    assert told.endswith(f"{lines[0]}\n")
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.npz"], "is a file of arrays (.npz), not a model: pass it as --data"),
        (["net.py"], "is a Python file: pass it as --arch"),
        (["."], "is a folder: name the file of weights inside it"),
        (["modl.pt"], "does not exist: check the path"),
        ([], "`model` is missing"),
    ],
)
def test_what_is_no_model_is_told_apart(words: list[str], said: str, model: Path, any_target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    code, _, told = runs.command("compress", *words, "--target", any_target, "--out", "out")
    assert code == 2
    assert said in told
    assert "Traceback" not in told
