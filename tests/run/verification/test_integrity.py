"""A run's folder, tampered with in every way: what is refused, by what name, and what is said where nothing can be known."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cryptography")
pytest.importorskip("onnxruntime")

from benchmarks.tampering import KINDS, fingerprint, tampered
from optimize.errors import InputError
from optimize.run.verification.integrity import examine
from optimize.run.verification.verify import verify
from tests import keys, runs, sealed


@dataclass(frozen=True)
class Scene:
    """A signed run and an unsigned one, another signed by the same key, and the keys."""

    run: Path
    unsigned: Path
    other: Path
    key: Path
    public: Path
    attackers: Path


@pytest.fixture(scope="module", autouse=True)
def _no_charts() -> Iterator[None]:
    """A page without pictures is a page too, and takes a tenth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("optimize.report.charts.available", lambda: False)
        yield


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("scene")
    (key, public), (attackers, _) = keys.pair(folder, "own"), keys.pair(folder, "attacker")
    run, other = sealed.run(folder / "run", key), sealed.run(folder / "other", key, seed=1)
    return Scene(run, sealed.run(folder / "unsigned"), other, key, public, attackers)


@pytest.fixture
def copy(scene: Scene, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scene.run, tmp_path / "copy"))


@pytest.fixture
def bare(scene: Scene, tmp_path: Path) -> Path:
    """The unsigned run, to be changed."""
    return Path(shutil.copytree(scene.unsigned, tmp_path / "bare"))


def refused(folder: Path, key: Path | None = None) -> str:
    with pytest.raises(InputError) as caught:
        examine(folder, None if key is None else str(key))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_was_left_alone_is_verified_and_its_signer_named(scene: Scene) -> None:
    with_key = verify(scene.run, public_key=str(scene.public))
    assert with_key.outcome == "pass"
    signer = sealed.read(scene.run)["signature"]["public_key"]
    assert with_key == verify(scene.run, public_key=signer)
    found = examine(scene.run, signer)
    assert (found.trusted, found.signed_by) == (True, with_key.findings[0].split()[3].rstrip(","))
    assert with_key.findings[0].endswith(", the key that you gave")
    assert verify(scene.run).findings[0].endswith("; not compared with a key of yours: pass --public-key")
    assert verify(scene.unsigned).findings[0] == "unsigned: anyone could have changed it"
    assert verify(scene.run / "model", public_key=signer) == with_key


@pytest.mark.parametrize("seed", range(4 * len(KINDS)))
def test_with_a_key_every_tampering_is_refused_and_named(seed: int, scene: Scene, tmp_path: Path) -> None:
    kind, touched = tampered(tmp_path / "copy", seed, scene.run, scene.other, scene.attackers)
    said = refused(tmp_path / "copy", scene.public)
    names = {*touched, *(part for path in touched for part in path.split("/")[:-1]), "report.json"}
    assert any(name in said or ascii(name)[1:-1] in said for name in names), f"{kind}: {said}"


@pytest.mark.parametrize("seed", range(2 * len(KINDS)))
def test_without_a_key_only_what_contradicts_nothing_passes(seed: int, scene: Scene, tmp_path: Path) -> None:
    """Where a report is left that the folder is true of, nobody can know; anything else is refused, or said."""
    kind, touched = tampered(tmp_path / "copy", seed, scene.unsigned, scene.other, scene.attackers)
    try:
        found = verify(tmp_path / "copy")
    except InputError:
        return
    beside = {path for path in touched if path.split("/")[0] != "model"} - {"report.json"}
    assert "report.json" in touched or (beside and len(found.findings) > 4), kind


def test_from_within_the_model_the_run_is_found(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, named in ((scene.run / "model", "."), (scene.run, "model")):
        monkeypatch.chdir(place)
        assert examine(Path(named), str(scene.public)).trusted


@pytest.mark.parametrize("part", ["artifact", "steps", "verdict", "data", "precision"])
def test_a_part_that_is_missing_is_named(part: str, bare: Path) -> None:
    report = sealed.read(bare)
    del report[part]
    (bare / "report.json").write_text(json.dumps(report, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    assert f"its part '{part}' is not what a run writes" in refused(bare)


def test_unsigned_where_a_key_is_given_is_refused(scene: Scene) -> None:
    assert "report.json` is unsigned, and `--public-key` asks for a signature" in refused(scene.unsigned, scene.public)


def test_another_key_is_refused_and_both_are_named(scene: Scene, tmp_path: Path) -> None:
    _, others = keys.pair(tmp_path, "others")
    said = refused(scene.run, others)
    assert "is signed by key " in said
    assert "not by the key of `--public-key`, " in said
    assert examine(scene.run).signed_by in said


def test_a_key_that_lies_in_the_folder_vouches_for_nothing(copy: Path, scene: Scene) -> None:
    shutil.copy(scene.public, copy / "key.pub")
    assert "lies in the folder that it is to vouch for" in refused(copy, copy / "key.pub")


def test_a_model_alone_says_so_and_cannot_be_signed(scene: Scene, tmp_path: Path) -> None:
    model = Path(shutil.copytree(scene.run / "model", tmp_path / "elsewhere"))
    assert verify(model).findings[0].startswith("no report.json: only faults of copying can be noticed")
    assert "holds no report.json, and it is the report that is signed" in refused(model, scene.public)
    (model / "model.onnx.data").write_bytes(b"x")
    assert "holds model.onnx.data, which artifact.json does not name: remove it" in refused(model)
    (model / "model.onnx.data").unlink()
    (model / "golden.npz").rename(tmp_path / "away.npz")
    (model / "golden.npz").symlink_to(tmp_path / "away.npz")
    assert "holds a symbolic link, golden.npz" in refused(model)


def test_a_run_whose_report_is_gone_is_a_model_alone(copy: Path, scene: Scene) -> None:
    (copy / "report.json").unlink()
    assert verify(copy).findings[0].startswith("no report.json")
    assert "holds no report.json" in refused(copy, scene.public)


@pytest.mark.parametrize("name", ["model/x", "model/.x", "unverified/x"])
def test_what_a_model_folder_does_not_list_is_refused_always(name: str, bare: Path) -> None:
    (bare / name).parent.mkdir(exist_ok=True)
    (bare / name).write_text("")
    assert name.split("/")[0] in refused(bare)


def test_what_lies_beside_it_is_said_without_a_key_and_refused_with_one(copy: Path, scene: Scene) -> None:
    (copy / "notes.txt").write_text("mine")
    (copy / "ba\nd").mkdir()
    assert verify(copy).findings[1:3] == ("the folder 'ba\\nd' is not of the run", "notes.txt is not of the run")
    assert "holds the folder 'ba\\nd', which the report does not list, and `--public-key` lets nothing pass" in refused(copy, scene.public)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"accepted": False}, "verdict 'pass', accepted False"),
        ({"verdict": "fail", "accepted": False}, "verdict 'fail' beside what it says was handed over"),
        ({"verdict": "fail", "accepted": False, "artifact": None}, "holds model/, which is not of this run (its verdict is 'fail')"),
        ({"verdict": "great"}, "its part 'verdict'"),
        ({"precision": "int8"}, "artifact.json` says precision 'f32', the report 'int8'"),
        ({"target": "openvino"}, "artifact.json` says target 'onnxruntime', the report 'openvino'"),
        ({"seed": True}, "its part 'seed'"),
        ({"limits": []}, "its part 'limits'"),
        ({"classes": "ab"}, "its part 'classes'"),
        ({"data": {"test": {}}}, "its part 'data'"),
        ({"model": {}}, "its part 'model'"),
        ({"steps": [1]}, "its part 'steps'"),
        ({"notes": [1]}, "its part 'reasons'"),
        ({"looks": 1}, "its part 'looks'"),
        ({"looks": {"share": 0.8}}, "its part 'looks'"),
        ({"looks": {"number": "1", "share": 0.8}}, "its part 'looks'"),
        ({"looks": {"number": 1, "share": None}}, "its part 'looks'"),
        ({"looks": {"number": 0, "share": 0.8}}, "its part 'looks'"),
        ({"looks": {"number": 1, "share": 1.5}}, "its part 'looks'"),
        ({"unverified": {"parameters": 1, "macs": 1, "compiled": []}}, "verdict 'pass' beside what it says was handed over"),
        ({"format": 3}, "is no report of format 2 (format 3)"),
        ({"format": 2.0}, "is no report of format 2 (format 2.0)"),
    ],
    ids=str,
)
def test_an_unsigned_report_must_be_one_story(change: dict[str, Any], told: str, bare: Path) -> None:
    report = sealed.read(bare) | change
    if change.get("artifact", 0) is None:
        report["files"] = [file for file in report["files"] if not file["name"].startswith("model/")]
    (bare / "report.json").write_text(json.dumps(report, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    assert told in refused(bare)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"name": "../model.onnx"}, "lists '../model.onnx', which names no file of the run"),
        ({"name": "/etc/passwd"}, "lists '/etc/passwd'"),
        ({"name": "model//model.onnx"}, "lists 'model//model.onnx'"),
        ({"name": "./x"}, "lists './x'"),
        ({"name": "x\\y"}, "lists 'x\\\\y'"),
        ({"name": "report.json"}, "lists 'report.json'"),
        ({"name": ""}, "lists ''"),
        ({"name": 3}, "lists 3"),
        ({"name": "flips.csv "}, "its file flips.csv  is missing"),
        ({"sha256": "A" * 64}, "its part 'files'"),
        ({"bytes": -1}, "its part 'files'"),
        ({"bytes": True}, "its part 'files'"),
        ({"mode": 1}, "its part 'files'"),
    ],
    ids=str,
)
def test_a_list_of_files_reaches_nowhere(entry: dict[str, Any], told: str, bare: Path) -> None:
    report = sealed.read(bare)
    report["files"] = [file | entry if file["name"] == "flips.csv" else file for file in report["files"]]
    sealed.write(bare, report)
    assert told in refused(bare)


def test_lists_that_differ_are_refused(bare: Path) -> None:
    whole = sealed.read(bare)
    fewer = {"files": [file for file in whole["artifact"]["files"] if file["name"] != "golden.npz"]}
    sealed.write(bare, whole | {"artifact": fewer})
    assert "'artifact' lacks model/golden.npz, which `files` lists" in refused(bare)
    sealed.write(bare, whole | {"files": [file for file in whole["files"] if file["name"] != "model/golden.npz"]})
    assert "`files` and 'artifact' differ on model/golden.npz" in refused(bare)


def test_a_report_of_an_earlier_version_is_read_and_says_what_it_does_not_cover(copy: Path, scene: Scene) -> None:
    """It lists the model's files alone: with a key, what it does not list is refused by name, and without it said."""
    report = sealed.read(copy)
    del report["files"]
    sealed.told(copy, report, scene.key)
    assert "holds flips.csv, which the report does not list" in refused(copy, scene.public)
    said = "the report is of an earlier version, which does not vouch for flips.csv, ledger.jsonl, recipe.lock.toml"
    assert examine(copy).findings[1] == said
    for name in ("flips.csv", "ledger.jsonl", "recipe.lock.toml"):
        (copy / name).unlink()
    assert examine(copy, str(scene.public)).trusted


def test_a_signed_page_needs_no_rendering_and_a_rendered_one_no_signature(
    copy: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was signed where there were charts, say, and there are none here; whoever renders it again has the page of this machine."""
    monkeypatch.setattr("optimize.report.render.render", lambda _: "another page")
    assert examine(copy, str(scene.public)).trusted
    (copy / "report.html").write_text("another page")
    assert examine(copy, str(scene.public)).trusted
    (copy / "report.html").write_text("a third page")
    assert "report.html` is not the page of report.json" in refused(copy, scene.public)
    assert "report.html` is not the page of report.json" in refused(copy)


def test_the_page_of_an_unsigned_report_is_said_to_be_another(bare: Path) -> None:
    (bare / "report.html").write_text("ACCEPTED")
    assert "report.html is not the page of report.json" in examine(bare).findings[1]
    (bare / "report.html").unlink()
    assert examine(bare).findings[1].startswith("report.html is missing")


def test_nothing_is_opened_before_all_is_compared(copy: Path, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A self-test that would run code when unpickled, and a model, are not even read by their readers."""

    class Evil:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return Path.touch, (tmp_path / "run",)

    (copy / "model" / "golden.npz").write_bytes(pickle.dumps(Evil()))
    monkeypatch.setattr("numpy.load", lambda *_, **__: pytest.fail("it was loaded"))
    monkeypatch.setattr("optimize.run.verification.verify.backend", lambda *_: pytest.fail("it was opened"))
    for key in (str(scene.public), None):
        with pytest.raises(InputError, match=r"its file model/golden\.npz is not the one"):
            verify(copy, public_key=key)
    assert not (tmp_path / "run").exists()


def test_a_pickled_self_test_is_never_unpickled(copy: Path, tmp_path: Path) -> None:
    """Not in a model alone either, whose manifest anyone can make true of it."""

    class Evil:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return Path.touch, (tmp_path / "run",)

    from benchmarks.tampering import reseal

    objects = np.empty((16, 3), dtype=object)
    objects[...] = Evil()
    np.savez(copy / "model" / "golden.npz", inputs=objects, outputs=objects)
    reseal(copy)
    model = Path(shutil.copytree(copy / "model", tmp_path / "alone"))
    code, _, told = runs.command("verify", model)
    assert (code, told.count("\n")) == (2, 1)
    assert "is no self-test" in told
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_replaced_meanwhile_is_noticed(copy: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    from optimize.run.verification import verify as module

    def swapped(artifact: Any) -> tuple[str, tuple[str, ...]]:
        (copy / "model" / "model.onnx").write_bytes((scene.other / "model" / "model.onnx").read_bytes())
        return "pass", ()

    monkeypatch.setattr(module, "run_self_test", swapped)
    with pytest.raises(InputError, match=r"its file model/model\.onnx is not the one that the report lists"):
        verify(copy, public_key=str(scene.public))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda run, other: (run / "report.json").write_bytes((other / "report.json").read_bytes()), "its file report.json is not the one"),
        (lambda run, other: (run / "report.html").write_bytes((other / "report.html").read_bytes()), "its file report.html is not the one"),
        (lambda run, _: (run / "report.html").unlink(), "its file report.html is missing"),
        (lambda run, _: (run / "model" / "libx.so").touch(), "holds model/libx.so, which the report does not list"),
        (lambda run, _: (run / "net.py").touch(), "holds net.py, which the report does not list"),
        (lambda run, _: shutil.rmtree(run), "was removed while it was verified"),
    ],
)
def test_a_report_that_is_replaced_meanwhile_or_a_file_that_is_added_is_noticed(
    change: Callable[[Path, Path], object], told: str, copy: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    from optimize.run.verification import verify as module

    def changed(_: object) -> tuple[str, tuple[str, ...]]:
        change(copy, scene.other)
        return "pass", ()

    monkeypatch.setattr(module, "run_self_test", changed)
    with pytest.raises(InputError, match=told):
        verify(copy, public_key=str(scene.public))


@pytest.mark.parametrize("name", ["report.html", "report.json"])
def test_a_file_of_gigabytes_is_not_read(name: str, copy: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    os.truncate(copy / name, 2**33)  # takes no room on the disk
    size = os.path.getsize(copy / name)
    assert f"({size} bytes)" in refused(copy, scene.public)


def test_a_rejected_run_is_whole_and_has_no_model(copy: Path, scene: Scene) -> None:
    shutil.rmtree(copy / "model")
    sealed.told(copy, sealed.read(copy) | {"verdict": "fail", "accepted": False, "artifact": None}, scene.key)
    code, _, told = runs.command("verify", copy, "--public-key", scene.public)
    assert (code, told.count("\n")) == (2, 1)
    assert "holds no compiled model (its verdict is 'fail')" in told
    (copy / "ledger.jsonl").write_text("")
    assert "its file ledger.jsonl" in runs.command("verify", copy, "--public-key", scene.public)[2]


def test_the_command_says_who_signed_and_refuses_in_one_line(copy: Path, scene: Scene) -> None:
    code, told, _ = runs.command("verify", copy, "--public-key", scene.public)
    assert (code, told.splitlines()[0]) == (0, "VERIFIED on this machine")
    assert told.splitlines()[1].endswith(", the key that you gave")
    code, told, problem = runs.command("verify", copy, "--public-key", scene.key, "--json")
    assert (code, json.loads(told)["exit_code"], problem.count("\n")) == (2, 2, 1)
    assert "holds a private key, which belongs to its owner alone" in problem
    assert runs.command("verify", copy / "report.json")[0] == 2


def test_a_report_too_large_to_be_one_is_not_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.run.verification.claims.LARGEST_REPORT", 100)
    assert "is larger than any report" in refused(copy)


def test_the_tools_of_the_attacker_change_something(scene: Scene, tmp_path: Path) -> None:
    """Else nothing of the above would say anything: the same seed gives the same change, another gives another."""
    before = fingerprint(scene.run)
    made = []
    for seed in (0, 0, len(KINDS)):
        tampered(tmp_path / "copy", seed, scene.run, scene.other, scene.attackers)
        made.append(fingerprint(tmp_path / "copy"))
    assert made[0] == made[1] != made[2]
    assert before not in made
    assert fingerprint(scene.run) == before
    assert os.path.lexists(scene.run / "report.json")
