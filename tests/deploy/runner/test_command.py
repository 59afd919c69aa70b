"""The command: answers, masks, refusals and exit codes; and a bundle in a process of its own, as its README says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image

from optimize.deploy.runner.command import main
from optimize.deploy.runner.errors import WrongInput
from optimize.deploy.runner.model import Model
from tests.deploy.runner import handmade
from tests.deploy.runner.handmade import CLASSES, FLOATS, OVERLAPPING, WITH_BACKGROUND, edit, rehash, seal

DRAW = np.random.default_rng(7)
IMAGES = DRAW.integers(0, 256, (70, 8, 8), dtype=np.uint8)


def started(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python -m bundle …` in the bundle's folder, with no path to this repository."""
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    call = [sys.executable, "-W", "error", "-m", "bundle", *arguments]
    return subprocess.run(call, cwd=folder, env=quiet | variables, capture_output=True, text=True)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_bundle_runs_by_itself_and_leaves_no_compiled_code(copied: Path, key: Ed25519PrivateKey, tmp_path: Path) -> None:
    np.save(tmp_path / "cells.npy", IMAGES)
    for _ in range(2):
        done = started(copied, "infer", str(tmp_path / "cells.npy"), "--json", "--key", handmade.base64_of(key))
        assert (done.returncode, done.stderr) == (0, "")
    with Model(copied) as model:
        expected = model.predict(IMAGES)
    found = np.array([json.loads(line)["outputs"] for line in done.stdout.splitlines()], np.float32)
    assert found.tobytes() == expected.tobytes()
    assert [path for path in copied.rglob("*") if path.suffix == ".pyc" or (path.name == "__pycache__" and not path.is_file())] == []
    checked = started(copied, "check", BUNDLE_PUBLIC_KEY=handmade.base64_of(key))
    assert checked.returncode == 0
    assert "signed by key" in checked.stdout


def test_compiled_code_beside_the_sources_is_never_read(copied: Path) -> None:
    # where a file stands, Python finds no folder, and a .pyc beside the sources has lower rank than a source
    (copied / "bundle" / "command.pyc").write_bytes(b"not compiled code")
    done = started(copied, "check")
    assert done.returncode == 4
    assert done.stderr == (
        "bundle: refused: the bundle holds a file 'bundle/command.pyc' that its manifest does not list: "
        "take it out, or copy the bundle again.\n"
    )


def test_sources_are_compared_before_they_are_imported(copied: Path) -> None:
    path = copied / "bundle" / "command.py"
    path.write_text(path.read_text() + "print('I ran')\n")
    done = started(copied, "check")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("bundle: refused: `bundle/command.py` is not the file that was bundled")
    path.unlink()
    os.mkfifo(path)
    assert "lacks its file `bundle/command.py`" in started(copied, "check").stderr
    path.unlink()
    done = started(copied, "check")
    assert (done.returncode, done.stdout) == (4, "")
    assert "lacks its file `bundle/command.py`" in done.stderr


def test_a_module_in_the_current_folder_is_not_taken_for_pythons_own(copied: Path) -> None:
    for name in ("json.py", "numpy.py", "argparse.py", "onnxruntime.py", "hashlib.py"):
        (copied / name).write_text("print('I ran')\n")
    done = started(copied, "check")
    assert (done.returncode, done.stdout) == (4, "")
    assert "that its manifest does not list" in done.stderr


def test_images_of_all_kinds_in_one_call(sealed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    (folder / "more").mkdir(parents=True)
    for number in range(5):
        Image.fromarray(IMAGES[number]).save(folder / f"{number}.png")
    np.save(folder / "more" / "stack.npy", IMAGES[5:])
    (folder / "notes.txt").write_text("no image")
    assert main(["infer", str(folder), str(folder / "3.png"), "--json", "--bundle", str(sealed)]) == 0
    printed = capsys.readouterr()
    assert f"1 file in `{folder}` is of no known format" in printed.err
    answers = [json.loads(line) for line in printed.out.splitlines()]
    with Model(sealed) as model:
        expected = model.predict(IMAGES)
        classes = model.decide(expected)
    order = [*range(70), 3]
    assert [answer["class"] for answer in answers] == [classes[place] for place in order]
    np.testing.assert_array_equal([answer["outputs"] for answer in answers], expected[order].astype(float))
    assert [answer.get("index") for answer in answers] == [*[None] * 5, *range(65), None]
    assert all(abs(sum(answer["probabilities"].values()) - 1) < 1e-12 for answer in answers)
    assert tuple(answers[0]["probabilities"]) == CLASSES


def test_people_get_a_line_for_each_image(sealed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", IMAGES[:2])
    assert main(["infer", str(tmp_path / "x.npy"), "--bundle", str(sealed)]) == 0
    first = capsys.readouterr().out.splitlines()[0].split()
    assert first[0] == f"{tmp_path / 'x.npy'}[0]:"
    assert first[1] in CLASSES
    assert 0 < float(first[2]) <= 1


def test_what_does_not_fit_is_left_out_and_ends_in_exit_code_2(sealed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(IMAGES[0]).save(tmp_path / "good.png")
    Image.fromarray(IMAGES[0].repeat(2, 0)).save(tmp_path / "tall.png")
    paths = [str(tmp_path / name) for name in ("tall.png", "good.png", "none.png")]
    assert main(["infer", *paths, "--json", "--bundle", str(sealed)]) == 2
    printed = capsys.readouterr()
    assert [json.loads(line)["file"] for line in printed.out.splitlines()] == [paths[1]]
    first, second = printed.err.splitlines()
    assert first == (
        f"bundle: `{paths[0]}` is 16 x 8 with 1 channel, the network takes 8 x 8 with 1 channel: "
        "bring it to that size as for the run; nothing is resized here."
    )
    assert "cannot be read (No such file or directory)" in second


def test_whatever_is_left_out_of_a_folder_is_named(
    sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    for name in ("closed", "linked"):
        (tmp_path / name if name == "linked" else folder / name).mkdir(parents=True)
    Image.fromarray(IMAGES[0]).save(folder / "good.png")
    (folder / "away").symlink_to(tmp_path / "linked")
    call = ["infer", str(folder), "--bundle", str(sealed)]
    # a linked folder is said, and nothing is known to be left out
    assert main(call) == 0
    assert f"folder `{folder / 'away'}` is a link, which is not followed" in capsys.readouterr().err
    (folder / "gone.png").symlink_to(tmp_path / "none.png")
    for name, content in (("empty.png", b""), ("cut.nii", bytes(100)), ("text.NPY", b"text"), ("a.txt", b"a"), ("b.txt", b"")):
        (folder / name).write_bytes(content)
    os.mkfifo(folder / "pipe.dcm")
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert main(call) == 2
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 1
    for words in (
        f"bundle: folder `{folder / 'closed'}` cannot be read (Permission denied)",
        f"bundle: `{folder / 'gone.png'}` is a link that leads to no file",
        f"bundle: `{folder / 'empty.png'}` is named as an image and is empty",
        f"bundle: `{folder / 'cut.nii'}` is named as an image and begins as no image does",
        f"bundle: `{folder / 'text.NPY'}` is named as an image and begins",
        f"bundle: `{folder / 'pipe.dcm'}` is named as an image and is no file",
        f"bundle: 2 files in `{folder}` are of no known format",
    ):
        assert sum(line.startswith(words) for line in printed.err.splitlines()) == 1, words


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["infer", "EMPTY"], 2, "holds no image"),
        (["infer", "EMPTY", "--out", "EMPTY"], 2, "`--out` is for masks"),
        (["infer", "EMPTY", "--threads", "0"], 2, "`threads` (=0)"),
        (["check", "--key", "EMPTY/none"], 2, "'EMPTY/none' is neither a file nor a key in base64"),
        (["check", "--key", ""], 2, "the pinned key is an empty text"),
        (["check", "--bundle", "EMPTY"], 4, "refused: `EMPTY` is no bundle"),
    ],
)
def test_refusals_are_one_line(
    arguments: list[str], code: int, words: str, sealed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [] if "--bundle" in arguments else ["--bundle", str(sealed)]
    assert main([*(argument.replace("EMPTY", str(tmp_path)) for argument in arguments), *where]) == code
    printed = capsys.readouterr().err
    assert words.replace("EMPTY", str(tmp_path)) in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize("arguments", [[], ["train"], ["infer"], ["check", "x"]])
def test_a_wrong_call_ends_in_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2


def test_the_runner_of_this_package_lies_in_no_bundle(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 4
    assert "is no bundle: it holds no manifest.json" in capsys.readouterr().err


def test_masks_are_written_as_png(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = handmade.bundle(tmp_path / "cells", output=WITH_BACKGROUND)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(IMAGES[ord(name) % 2]).save(tmp_path / name / "x.png")
    call = ["infer", str(tmp_path / "a"), str(tmp_path / "b"), "--bundle", str(folder), "--json"]
    assert main([*call, "--out", str(tmp_path / "masks")]) == 0
    answers = lines(capsys)
    assert [Path(answer["masks"][0]).name for answer in answers] == ["x.png", "x~2.png"]
    with Model(folder) as model:
        for name, answer in zip("ab", answers, strict=True):
            expected = np.asarray(model.decide(model.predict(IMAGES[ord(name) % 2][None])))[0]
            np.testing.assert_array_equal(np.asarray(Image.open(answer["masks"][0])), expected)
            assert answer["pixels"] == {label: int((expected == number).sum()) for number, label in enumerate(CLASSES, 1)}
    assert main(call) == 0
    assert "masks" not in lines(capsys)[0]
    assert main(call[:2] + call[3:5]) == 0
    assert " pixels" in capsys.readouterr().out


def test_masks_that_may_overlap_get_a_file_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = handmade.bundle(tmp_path / "cells", output={**OVERLAPPING, "threshold": 0.0})
    edit(folder / "model" / "artifact.json", lambda said: said["use"]["output"].update(classes=["a/b", "..", "core"]))
    seal(folder)
    Image.fromarray(IMAGES[0]).save(tmp_path / "x.png")
    assert main(["infer", str(tmp_path / "x.png"), "--json", "--bundle", str(folder), "--out", str(tmp_path / "masks")]) == 0
    (answer,) = lines(capsys)
    assert [Path(path).relative_to(tmp_path / "masks").name for path in answer["masks"]] == ["x.a_b.png", "x.class.png", "x.core.png"]
    with Model(folder) as model:
        expected = np.asarray(model.decide(model.predict(IMAGES[:1])))[0]
    for path, mask in zip(answer["masks"], expected, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), mask * np.uint8(255))


def test_masks_of_nifti_lie_where_their_image_lies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape = (6, 5, 4)
    folder = handmade.bundle(tmp_path / "cells", shape=(1, *shape), output=WITH_BACKGROUND, preprocessing=FLOATS)
    values, affine = DRAW.normal(size=shape).astype(np.float32), np.array([[0, 2.0, 0, 7], [3, 0, 0, 8], [0, 0, 4, 9], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "brain.nii.gz")
    np.save(tmp_path / "brain.npy", values)
    paths = [str(tmp_path / name) for name in ("brain.nii.gz", "brain.npy")]
    assert main(["infer", *paths, "--json", "--bundle", str(folder), "--out", str(tmp_path / "masks")]) == 0
    first, second = (answer["masks"][0] for answer in lines(capsys))
    assert Path(first).name == "brain.nii.gz"
    image = nibabel.load(first)
    np.testing.assert_array_equal(image.affine, affine)
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.load(second))
    assert set(np.unique(np.load(second))) > {0}


def test_another_scale_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = handmade.bundle(tmp_path / "cells", preprocessing=FLOATS)
    np.save(tmp_path / "x.npy", np.stack([np.ones((1, 8, 8)), np.full((1, 8, 8), 200.0)]))
    call = ["infer", str(tmp_path / "x.npy"), "--bundle", str(folder)]
    assert main([*call, "--json"]) == 0
    usual, strange = lines(capsys)
    assert "warning" not in usual
    assert strange["warning"] == "input values from 200 to 200, calibration images had -2 to 2: check the scale"
    assert main(call) == 0
    assert "check the scale" in capsys.readouterr().out.splitlines()[1]


def test_outputs_that_are_not_finite_are_no_answer(
    sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", IMAGES[:3])
    real = Model.compute

    def run(self: Model, inputs: np.ndarray) -> np.ndarray:
        outputs = real(self, inputs)
        outputs[1, 0] = np.nan
        return outputs

    monkeypatch.setattr(Model, "compute", run)
    call = ["infer", str(tmp_path / "x.npy"), "--bundle", str(sealed)]
    assert main([*call, "--json"]) == 2
    good, bad, _ = lines(capsys)
    assert "class" in good
    assert set(bad) == {"file", "index", "error"}
    assert main(call) == 2
    assert "outputs for it are not finite" in capsys.readouterr().out.splitlines()[1]


def test_memory_stays_bounded_for_any_number_of_images(sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    sizes: list[int] = []
    real = Model.compute
    monkeypatch.setattr(Model, "compute", lambda self, inputs: sizes.append(len(inputs)) or real(self, inputs))
    assert main(["infer", str(tmp_path / "x.npy"), "--bundle", str(sealed)]) == 0
    assert sizes == [32, 32, 6]


def test_a_folder_for_masks_that_cannot_be_made_is_a_wrong_call(tmp_path: Path) -> None:
    from optimize.deploy.runner.answers import Answers

    folder = handmade.bundle(tmp_path / "cells", output=WITH_BACKGROUND)
    (tmp_path / "file").write_text("")
    with Model(folder) as model, pytest.raises(WrongInput, match="cannot be made"):
        Answers(model, tmp_path / "file")
    rehash(folder)


def test_a_damaged_check_of_the_sources_refuses_too(copied: Path) -> None:
    (copied / "bundle" / "sources.py").write_bytes(b"\xff")
    done = started(copied, "check")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == "bundle: refused: `sources.py` of the runner is damaged (SyntaxError): copy the bundle again.\n"


def test_the_example_of_the_page_runs_in_the_folder_of_a_bundle(copied: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "runner.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([sys.executable, "-W", "error", "-c", example], cwd=copied, env=quiet, capture_output=True, text=True)
    assert done.stderr == ""
    assert "(3, 3) 16 inputs, 0 decisions changed" in done.stdout
    assert not list(copied.rglob("*.pyc"))


@pytest.mark.parametrize("path", ["cells/bundle", "cells/bundle/__main__.py"])
def test_a_runner_that_is_started_by_its_path_says_how_to_call_it(path: str, tmp_path: Path) -> None:
    handmade.bundle(tmp_path / "cells", runner=True)
    done = subprocess.run([sys.executable, path, "check"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    said = "bundle: it was started by the path of a file or folder: call `python -m bundle` in the bundle's folder.\n"
    assert done.stderr == said
