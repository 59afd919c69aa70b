"""A first recipe: what was found out is in force, what was not is a comment, and it runs once it is filled in."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from optimize.errors import InputError
from optimize.run.init import init
from optimize.run.planning.data_facts import channel_statistics
from optimize.run.planning.toml_sections import data_section
from optimize.run.recipe import resolve
from tests import runs


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that a user brings, without the recipe, as the current folder."""
    runs.bring(tmp_path)
    (tmp_path / "optimize.toml").unlink()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def filled_in(text: str, **values: str) -> str:
    """The text with some of its comments made settings: `arch=""` takes the # away, another text is the value."""
    for key, value in values.items():
        line = next(line for line in text.splitlines() if line.startswith(f"# {key} = "))
        text = text.replace(line, f"{key} = {value}" if value else line.removeprefix("# "))
    return text


def test_what_the_files_say_is_in_force_and_nothing_else(folder: Path) -> None:
    written = init("model.pt", "data.npz")
    assert tomllib.loads(written.text) == {
        "model": {"path": "model.pt", "input": [1, 8, 8]},
        "data": {"path": "data.npz"},
        "limits": {"max_drop": "2pp", "max_class_drop": "6pp"},
        "run": {},
    }
    assert written.path == folder / "optimize.toml"
    assert written.path.read_text(encoding="utf-8") == written.text
    assert written.open_questions[0] == "[model] arch"


def test_the_comments_say_what_was_found(folder: Path) -> None:
    text = init("model.pt", "data.npz").text
    assert '# arch = "net.py:net"  # net(width: int=8)' in text
    assert "first weight in the file: 0.weight, [8, 1, 3, 3]" in text
    assert "test 120 images: 0 30, 1 30, 2 30, 3 30" in text
    assert "no test_patient" in text
    # 30 cases a class cannot show 6 pp, and 120 in all not 2 pp
    assert "recall of 0: add 23 test cases of 0, or allow at least" in text
    pixels = runs.arrays()["train_images"] / 255
    assert f"# mean = [{round(float(pixels.mean()), 5)}]" in text
    assert f"# std = [{round(float(pixels.std()), 5)}]" in text


def test_filled_in_it_is_a_recipe(folder: Path) -> None:
    written = init("model.pt", "data.npz")
    written.path.write_text(filled_in(written.text, arch="", mean="[0.5]", std="[0.25]", target='"openvino"'), encoding="utf-8")
    recipe = resolve(recipe_file="optimize.toml")
    assert (recipe.model, recipe.target, recipe.arch) == (folder / "model.pt", "openvino", f"{folder / 'net.py'}:net")
    assert (recipe.mean, recipe.std, recipe.input_shape) == ((0.5,), (0.25,), (1, 8, 8))
    assert recipe.data == str(folder / "data.npz")
    assert recipe.limits.max_drop == 0.02


def test_paths_are_relative_to_the_recipe_and_arch_is_not_run(folder: Path) -> None:
    (folder / "recipes").mkdir()
    (folder / "net.py").write_text("raise SystemExit('it was run')\n")
    written = init("model.pt", "data.npz", arch="net.py:net", out=folder / "recipes" / "first.toml")
    recipe = resolve(target="openvino", recipe_file=written.path)
    assert (recipe.model.resolve(), Path(recipe.data).resolve()) == (folder / "model.pt", folder / "data.npz")
    assert tomllib.loads(written.text)["model"]["arch"] == "../net.py:net"
    assert "Pass it as --recipe." in written.text


def test_without_data_their_settings_are_comments(folder: Path) -> None:
    written = init("model.pt")
    assert tomllib.loads(written.text)["data"] == {}
    assert "[data] path" in written.open_questions
    assert "[model] input" in written.open_questions


def test_images_that_do_not_fit_the_network_are_no_setting(folder: Path) -> None:
    torch.save(nn.Sequential(nn.Conv2d(3, 4, 3)).state_dict(), folder / "model.pt")
    written = init("model.pt", "data.npz")
    assert "input" not in tomllib.loads(written.text)["model"]
    assert "no convolution in the file reads 1 channels" in written.text


def test_a_line_break_in_a_name_begins_no_setting(folder: Path) -> None:
    evil = 'x\n[model]\ntrust_pickle = true\n"'
    np.savez(folder / "data.npz", **runs.arrays(), class_names=np.array([evil, "b", "c", "d"]))  # type: ignore[arg-type]
    torch.save({evil: torch.ones(2, 3, 3, 3)}, folder / "model.pt")
    (folder / "net.py").write_text(f"from torch import nn\ndef net(a={evil!r}) -> nn.Module: ...\n")
    read = tomllib.loads(init("model.pt", "data.npz").text)
    assert "trust_pickle" not in read["model"]
    assert set(read) == {"model", "data", "limits", "run"}


def test_a_pickled_network_is_not_vouched_for(folder: Path) -> None:
    torch.save(nn.Linear(2, 2), folder / "model.pt")
    text = init("model.pt", "data.npz").text
    assert "only you can pass" in text
    assert "trust_pickle" not in tomllib.loads(text)["model"]


def test_a_file_that_is_there_is_kept(folder: Path) -> None:
    (folder / "optimize.toml").write_text("# mine\n")
    with pytest.raises(InputError, match="exists already: add --overwrite"):
        init("model.pt", "data.npz")
    assert (folder / "optimize.toml").read_text() == "# mine\n"
    init("model.pt", "data.npz", overwrite=True)
    assert "[model]" in (folder / "optimize.toml").read_text()
    assert [path.name for path in folder.iterdir() if path.name.endswith(".tmp")] == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"model": "gone.pt"}, "gone.pt"),
        ({"data": "gone.npz"}, "gone.npz"),
        ({"arch": "net.py"}, "must read"),
        ({"out": "gone/optimize.toml"}, "folder that does not exist"),
    ],
)
def test_a_wrong_call_writes_nothing(folder: Path, arguments: dict[str, str], text: str) -> None:
    call = {"model": "model.pt", "data": "data.npz", **arguments}
    with pytest.raises(InputError, match=text):
        init(call.pop("model"), call.pop("data"), **call)  # type: ignore[arg-type]
    assert not (folder / "optimize.toml").exists()


def test_the_command_says_what_is_to_be_filled_in(folder: Path) -> None:
    code, stdout, _ = runs.command("init", "model.pt", "data.npz")
    assert code == 0
    assert stdout.splitlines() == [
        f"written: {folder / 'optimize.toml'}",
        "to fill in: [model] arch; [data] mean and std; [limits] max_drop and max_class_drop, or more test cases; "
        "[run] target, or --target",
        "then: optimize plan model.pt --recipe optimize.toml",
    ]
    code, stdout, stderr = runs.command("init", "model.pt", "data.npz")
    assert (code, stdout) == (2, "")
    assert stderr.startswith("error: `--out` (=optimize.toml) exists already")


def test_statistics_are_those_of_each_channel() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 5, 4, 3), np.uint8)
    mean, std, count = channel_statistics(images)
    assert count == 20
    assert mean == pytest.approx([images[..., k].mean() / 255 for k in range(3)], abs=1e-5)
    assert std == pytest.approx([images[..., k].std() / 255 for k in range(3)], abs=1e-5)


def test_masks_and_subgroups_are_named(folder: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for name in ("train", "val", "test"):
        arrays[f"{name}_images"] = rng.integers(0, 256, (12, 16, 16, 1), np.uint8)
        arrays[f"{name}_masks"] = (rng.random((12, 16, 16)) < 0.5).astype(np.uint8)
        arrays[f"{name}_patient"] = np.array([f"{name}{k // 2}" for k in range(12)])
        arrays[f"{name}_site_group"] = np.array(["A", "B"] * 6)
    np.savez(folder / "masks.npz", **arrays)
    text = init("model.pt", "masks.npz").text
    assert "labels are masks" in text
    assert "patients are known" in text
    assert "subgroup columns: site" in text
    # 74 patients are needed at 95 % confidence, and more at that of a first look
    assert "overall Dice 6 / " in text


def test_a_file_that_holds_the_network_needs_no_factory(folder: Path) -> None:
    nodes = [onnx.helper.make_node("Flatten", ["x"], ["flat"]), onnx.helper.make_node("MatMul", ["flat", "w"], ["y"])]
    ends = [onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in (("x", ["n", 1, 8, 8]), ("y", ["n", 4]))]
    weight = onnx.numpy_helper.from_array(np.ones((64, 4), np.float32), "w")
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])), "model.onnx")
    written = init("model.onnx", "data.npz")
    assert tomllib.loads(written.text)["model"] == {"path": "model.onnx", "input": [1, 8, 8]}
    assert "arch" not in written.text.split("[data]")[0]
    assert written.open_questions[0] == "[data] mean and std"


def test_a_folder_that_states_the_preparation_suggests_it() -> None:
    section = data_section(None, None, preparation=True)
    assert '# preprocessing = "huggingface"' in "\n".join(section.lines)
    assert section.questions == ("[data] path", "[data] preprocessing")
