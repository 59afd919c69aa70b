"""The folder of a run: what is refused, what is replaced, and whose files are never touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimize.backends.artifact import Artifact
from optimize.errors import InputError
from optimize.progress import shown
from optimize.run.workspace import MODEL, NOT_ACCEPTED, OURS, Workspace
from optimize.searching.walk import WORK_FOLDER

WHO = {"seed": 1}


def artifact(folder: Path) -> Artifact:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.bin").write_bytes(b"weights")
    return Artifact.save(folder, target="onnxruntime", precision="f32", input_shape=(1,), runtime="1", files=("model.bin",))


def an_earlier_run(out: Path) -> None:
    for name in ("ledger.jsonl", "recipe.lock.toml", "report.json", "report.html"):
        (out / name).write_text("old")
    artifact(out / "model")
    (out / WORK_FOLDER).mkdir()


def test_checking_leaves_nothing_behind_and_opening_makes_the_folder(tmp_path: Path) -> None:
    space = Workspace(tmp_path / "a" / "b")
    space.check(resume=False, overwrite=False)
    assert list(tmp_path.iterdir()) == []
    space.open({"seed": 0}, resume=False)
    assert [path.name for path in space.out.iterdir()] == ["ledger.jsonl"]
    assert space.scratch == space.out / WORK_FOLDER


@pytest.mark.parametrize("name", OURS)
def test_an_existing_run_is_refused_by_what_was_found(tmp_path: Path, name: str) -> None:
    if name == "model":
        artifact(tmp_path / name)
    else:
        (tmp_path / name).write_text("old")
    with pytest.raises(InputError, match=rf"already holds a run \({name}\): add --resume, --overwrite, or name another folder"):
        Workspace(tmp_path).check(resume=False, overwrite=False)
    Workspace(tmp_path).check(resume=False, overwrite=True)
    assert (tmp_path / name).exists()


@pytest.mark.parametrize("ledger", [None, "", "{}"], ids=["missing", "empty", "of no run"])
@pytest.mark.parametrize("name", [name for name in OURS if name != "ledger.jsonl"])
def test_what_cannot_be_resumed_is_not_lost(tmp_path: Path, name: str, ledger: str | None) -> None:
    if name == "model":
        artifact(tmp_path / name)
    else:
        (tmp_path / name).write_text("old")
    if ledger is not None:
        (tmp_path / "ledger.jsonl").write_text(ledger)
    with pytest.raises(InputError, match=rf"holds no ledger.jsonl to go on from, but a {name}, .*: add --overwrite instead, or name ano"):
        Workspace(tmp_path).check(resume=True, overwrite=False)
    Workspace(tmp_path).open(WHO, resume=True)  # as when it came there in the meantime
    assert (tmp_path / name).exists()
    Workspace(tmp_path).check(resume=True, overwrite=False)


def test_both_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`--resume` and `--overwrite` exclude each other"):
        Workspace(tmp_path).check(resume=True, overwrite=True)


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"`--out` \(=.*file.*\) cannot be written \(.+\): name another folder"):
            Workspace(out).check(resume=False, overwrite=False)


def test_a_folder_without_leave_to_write_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # root, who may write anywhere, must see this too
    with pytest.raises(InputError, match=r"cannot be written \(Permission denied\): name another folder"):
        Workspace(tmp_path).check(resume=False, overwrite=False)


@pytest.mark.parametrize("flags", [{"resume": False, "overwrite": True}, {"resume": True, "overwrite": False}])
def test_somebody_elses_model_is_never_lost(tmp_path: Path, flags: dict[str, bool]) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "net.py").write_text("years of work")
    with pytest.raises(InputError, match="holds a `model` that is no artifact of a run, and would lose it: name another folder"):
        Workspace(tmp_path).check(**flags)
    assert (tmp_path / "model" / "net.py").exists()


def test_overwriting_removes_the_run_and_nothing_else(tmp_path: Path) -> None:
    an_earlier_run(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    space = Workspace(tmp_path)
    space.check(resume=False, overwrite=True)
    assert (tmp_path / "report.json").read_text() == "old"  # until the input is known to be good
    space.open(WHO, resume=False)
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "ledger.jsonl"}
    assert space.trials == []


def test_a_run_is_taken_up_where_it_was(tmp_path: Path) -> None:
    first = Workspace(tmp_path)
    first.open(WHO, resume=False)
    first.ledger.append({"step": "Prune"})
    (first.fresh("compile") / "x").write_text("")
    first.release()
    second = Workspace(tmp_path)
    second.open(WHO, resume=True)
    second.release()
    assert second.trials == [{"step": "Prune"}]
    assert (tmp_path / WORK_FOLDER / "compile" / "x").exists()
    with pytest.raises(InputError, match=r"\(seed changed\)"):
        Workspace(tmp_path).open({"seed": 2}, resume=True)
    assert Workspace(tmp_path).trials == []


@pytest.mark.parametrize("name", ["new", "empty"])
def test_resuming_where_nothing_is_starts_and_says_so(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    space = Workspace(tmp_path / name)
    space.check(resume=True, overwrite=False)
    with shown():
        space.open(WHO, resume=True)
    assert space.ledger.has_run
    assert " ".join(capsys.readouterr().err.split()) == f"there is no run to resume in {tmp_path / name}: a new one starts"
    with shown():
        space.open(WHO, resume=True)
    assert capsys.readouterr().err == ""


def test_a_working_folder_is_empty_each_time(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    (space.fresh("compile") / "x").write_text("")
    assert list(space.fresh("compile").iterdir()) == []
    space.clean()
    assert list(tmp_path.iterdir()) == []


def test_what_is_delivered_replaces_what_an_earlier_run_left(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    made = artifact(space.fresh("compile") / "f32")
    space.deliver({MODEL: made.folder})
    assert Artifact.read(tmp_path / MODEL).sha256 == made.sha256
    assert not made.folder.exists()
    space.deliver({MODEL: artifact(space.fresh("compile") / "int8").folder})
    assert Artifact.read(tmp_path / MODEL).main.read_bytes() == b"weights"
    space.deliver({NOT_ACCEPTED: artifact(space.fresh("compile") / "int8").folder})
    assert not (tmp_path / MODEL).exists()
    assert Artifact.read(tmp_path / NOT_ACCEPTED).main.read_bytes() == b"weights"
    space.deliver({})
    assert not (tmp_path / NOT_ACCEPTED).exists()


def test_a_link_is_removed_and_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    artifact(tmp_path / "far" / "model")
    out = tmp_path / "out"
    out.mkdir()
    (out / "model").symlink_to(tmp_path / "far" / "model")
    Workspace(out).open(WHO, resume=False)
    assert not (out / "model").exists()
    assert (tmp_path / "far" / "model" / "model.bin").exists()
