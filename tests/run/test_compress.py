"""The main job end to end: what is shipped is what was measured, and nothing is shipped that misses a limit."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import re
from dataclasses import replace
from math import ceil, log, prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from sklearn.metrics import confusion_matrix, f1_score

from optimize.backends import backend, runtimes
from optimize.backends.artifact import MANIFEST, Artifact, ArtifactFile
from optimize.backends.export import export_onnx
from optimize.candidate import Reference
from optimize.errors import Inconclusive, InputError, TargetUnavailable
from optimize.guard.limits import Limits
from optimize.measure.latency import Latency
from optimize.quantization.int8_retry import SLOWER
from optimize.run import final_verdict as module
from optimize.run.compile_artifact import _weighted_layers
from optimize.run.compress import SHARES, compress, left_alone
from optimize.run.prepare import Job, prepare
from optimize.run.recipe import Recipe, resolve
from optimize.run.verification.integrity import examine
from optimize.searching.trial import NOT_SMALLER
from optimize.searching.walk import WORK_FOLDER
from tests import runs
from tests.conftest import hurried
from tests.runs import Run


def recipe(model: Path, out: Path, target: str, **overrides: object) -> Recipe:
    return resolve(model, target=target, overrides={"out": out, "history": runs.history(out), **overrides})


def test_the_shipped_files_do_what_the_report_says(accepted: Run) -> None:
    report = accepted.report
    assert (accepted.exit_code, report["verdict"], report["accepted"]) == (0, "pass", True)
    artifact = Artifact.read(accepted.out / "model")
    assert (artifact.target, artifact.precision) == (report["target"], report["precision"])
    manifest = ArtifactFile.of(artifact.folder / MANIFEST)
    assert report["artifact"]["files"] == [file.as_dict() for file in (*artifact.files, artifact.golden, manifest) if file is not None]
    assert report["compressed"]["size_bytes"] == artifact.size_bytes
    test = runs.split("test")
    with backend(artifact.target).build(artifact, threads=1) as session:
        decided = session.predict(test.inputs()).argmax(1)
    metrics = report["compressed"]["metrics"]
    assert metrics["confusion"] == confusion_matrix(test.labels, decided).tolist()
    assert metrics["overall"]["macro_f1"] == pytest.approx(f1_score(test.labels, decided, average="macro"))


def test_the_baseline_is_the_original_in_torch(accepted: Run) -> None:
    test, original = runs.split("test"), runs.original()
    baseline = accepted.report["baseline"]
    assert baseline["metrics"]["confusion"] == confusion_matrix(test.labels, original.predict(test.inputs()).argmax(1)).tolist()
    assert baseline["parameters"] == original.parameters == 8 * 9 + 8 + 128 * 32 + 32 + 32 * 4 + 4
    assert baseline["macs"] == 8 * 9 * 64 + 128 * 32 + 32 * 4
    assert accepted.report["compressed"]["parameters"] < baseline["parameters"]


def test_figures_belong_together(accepted: Run) -> None:
    report = accepted.report
    runtimes = {"torch eager", "ONNX Runtime f32", "OpenVINO f32"}
    missing = {note.split(" is not among")[0] for note in report["notes"] if "is not among the baselines" in note}
    assert set(report["baselines"]) == {name for name in runtimes if name.removesuffix(" f32") not in missing}
    assert set(report["speedup"]) == set(report["compressed"]["latency_ms"]) == {"1", "2"}
    for batch, gains in report["speedup"].items():
        for name, gain in gains.items():
            medians = report["baselines"][name]["latency_ms"][batch]["p50"] / report["compressed"]["latency_ms"][batch]["p50"]
            assert gain["value"] == pytest.approx(medians)
            assert gain["low"] <= gain["value"] <= gain["high"]
    kept = [tried for tried in report["precisions_tried"] if tried["kept"]]
    assert [tried["precision"] for tried in kept] == [report["precision"]]
    assert {"f32", "int8"} <= {tried["precision"] for tried in report["precisions_tried"]}
    weights = sum(prod(row["after"]) for row in report["layers"] if row["after"])
    assert 0 < report["compressed"]["parameters"] - weights < 100  # biases
    assert report["layer_precisions"]


def test_the_artifact_stands_under_the_roofline(accepted: Run) -> None:
    """With the same made-up peak of 1e9 MACs per second for every precision, and memory that is no limit, the roof is the work."""
    report = accepted.report
    roof, compressed = report["roofline"], report["compressed"]
    assert roof["p50_ms"] == compressed["latency_ms"]["1"]["p50"]
    assert roof["roof_ms"] == pytest.approx(compressed["macs"] / 1e9 * 1e3)
    assert (roof["share"], roof["memory_ms"]) == (pytest.approx(roof["roof_ms"] / roof["p50_ms"]), 0)
    assert 0 < len(roof["slowest"]) <= 5
    assert {each["name"] for each in roof["slowest"]} <= {row["name"] for row in report["layers"]}
    assert sum(each["ms"] is None for each in roof["layers"]) == roof["untimed"]
    assert sum(each["macs"] for each in roof["layers"]) == compressed["macs"]
    assert report["unused_parameters"] == {}


def test_the_profile_adds_up_to_the_run(accepted: Run) -> None:
    report = accepted.report
    profile, rows = report["profile"], report["profile"]["rows"]
    assert list(dict.fromkeys(row["part"] for row in rows)) == ["start", *SHARES]
    for name in ("seconds", "cpu_seconds"):
        assert profile[name] == pytest.approx(sum(row[name] for row in rows), abs=0.01)
    # the duration counts from when the inputs are read, a moment after the profile begins
    assert 0 <= profile["seconds"] - report["duration_s"] < 5
    calls = {(row["part"], row["stage"]): row["calls"] for row in rows}
    assert calls["load", "load the model"] == calls["load", "judge the original"] == 1
    assert calls["search", "judge"] == sum(step["reasons"] != [NOT_SMALLER] for step in report["steps"])
    assert (profile["resumed"], profile["taken_over_seconds"]) == (False, 0)
    assert 10**7 < profile["peak_memory_bytes"] == max(row["peak_memory_bytes"] for row in rows)
    assert report["time_budget"] is None


def test_memory_was_measured_of_everyone(accepted_onnxruntime: Run) -> None:
    report = accepted_onnxruntime.report
    assert all(each["peak_memory_bytes"] > 10**7 for each in (*report["baselines"].values(), report["compressed"]))


def test_every_proposal_was_timed_on_the_target(accepted_onnxruntime: Run) -> None:
    steps = accepted_onnxruntime.report["steps"]
    assert any(step["kept"] for step in steps)
    assert all((step["latency_ms"] is not None) == step["kept"] for step in steps)


def test_what_stands_in_the_folder(accepted: Run) -> None:
    assert {path.name for path in accepted.out.iterdir()} == {
        *("report.json", "report.html", "flips.csv", "model", "onnx", "ledger.jsonl", "recipe.lock.toml")
    }
    assert not (accepted.out / WORK_FOLDER).exists()
    assert accepted.report["steps"] == accepted.ledger[1:]
    lock = resolve(recipe_file=accepted.out / "recipe.lock.toml")
    assert lock.out == accepted.out
    assert lock.budgets == (0.002, 0.02)
    assert lock.energy == 0.99
    assert lock.limits == Limits(0.04, 0.12)


def test_the_networks_as_they_were_compiled_stand_beside_the_model(accepted: Run) -> None:
    """ONNX Runtime, on the file that the artifact was made from, computes what torch does; the original's file has the original's size."""
    assert {path.name for path in (accepted.out / "onnx").iterdir()} == {"model.onnx", "original.onnx"}
    listed = {file["name"]: file["sha256"] for file in accepted.report["files"]}
    for name in ("model.onnx", "original.onnx"):
        file = accepted.out / "onnx" / name
        assert listed[f"onnx/{name}"] == hashlib.sha256(file.read_bytes()).hexdigest()
    weights = {
        part: sum(prod(tensor.dims) for tensor in onnx.load(accepted.out / "onnx" / name).graph.initializer if len(tensor.dims) > 1)
        for part, name in (("baseline", "original.onnx"), ("compressed", "model.onnx"))
    }
    for part, count in weights.items():
        assert 0.8 * accepted.report[part]["parameters"] < count <= accepted.report[part]["parameters"]


def test_the_report_says_who_gave_a_second_opinion(accepted: Run, job: Job) -> None:
    assert job.data.training_split is not None
    asked = f"{len(job.data.training_split)} training images, which the original may have memorized, were a second check"
    assert any(note.startswith(asked) for note in accepted.report["notes"])


def test_the_output_layer_was_left_alone_and_the_report_says_so(accepted: Run) -> None:
    assert any(note.startswith("channels of 6 were left alone: they are an output") for note in accepted.report["notes"])


def test_a_model_that_misses_a_limit_is_not_handed_over(rejected: Run) -> None:
    report = rejected.report
    assert (rejected.exit_code, report["verdict"], report["accepted"], report["artifact"]) == (1, "fail", False, None)
    assert not (rejected.out / "model").exists()
    assert Artifact.read(rejected.out / "not_accepted").target == report["target"]
    assert not (rejected.out / WORK_FOLDER).exists()
    worst = min(each["f1"] for each in report["compressed"]["metrics"]["per_class"].values())
    said = rf"is {100 * worst:.2f} % on 30 cases \(at most [\d.]+ %, at 96 % confidence\); the limit is 95.00 %"
    assert re.search(said, " ".join(report["reasons"]))
    assert report["compressed"]["latency_ms"]["1"]["p50"] > 0


def test_five_test_cases_cannot_tell(inconclusive: Run) -> None:
    report = inconclusive.report
    assert (inconclusive.exit_code, report["verdict"], report["artifact"]) == (3, "inconclusive", None)
    assert report["data"]["test"]["cases"] == 5
    # with none lost n cases bound the loss by 1 - 0.04^(1 / n) at a first look; a little of the 4 % is spent on cases that may be gained
    assert (report["rails"][0]["needed"], report["rails"][0]["power"]) == (ceil(log(0.98 * 0.04) / log(1 - 0.04)), 0.0)
    assert report["reasons"][0].endswith("5 cases are too few; about 80 cases would give a chance of 80 % for a decision")
    assert not (inconclusive.out / "model").exists()
    assert "the test split is too small to accept anything" in " ".join(inconclusive.stderr.split())


def test_an_original_that_does_not_hold_a_limit_is_refused_at_once(hopeless: Run) -> None:
    report = hopeless.report
    assert (hopeless.exit_code, report["verdict"]) == (1, "fail")
    measured = r"F1 of \w+ is [\d.]+ % on 25 cases \(at most [\d.]+ %, at 95 % confidence\)"
    said = re.compile(rf"the original itself does not hold a limit: {measured}; the limit is 95.00 %")
    assert all(said.fullmatch(reason) for reason in report["reasons"])
    assert (report["compressed"], report["baselines"], report["artifact"], report["steps"]) == (None, None, None, [])
    assert report["data"]["guard"]["cases"] + report["data"]["calibration"]["cases"] == 200
    assert {path.name for path in hopeless.out.iterdir()} == {"report.json", "report.html", "ledger.jsonl", "recipe.lock.toml"}


@pytest.fixture(scope="module")
def job(brought: Path, any_target: str, tmp_path_factory: pytest.TempPathFactory) -> Job:
    return prepare(recipe(brought, tmp_path_factory.mktemp("job"), any_target), resume=False, overwrite=False)


def test_splits_are_disjoint_and_the_guard_holds_every_class(job: Job) -> None:
    held = [split for split in (job.data.train, job.data.calibration, job.data.guard, job.data.test) if split is not None]
    hashes = [{image.tobytes() for image in split.images} for split in held]
    assert not any(one & other for one, other in itertools.combinations(hashes, 2))
    assert set(job.data.guard.class_counts(job.data.classes).values()) == {25}


class Stopped(Exception):
    pass


def stopped_at_the_search(monkeypatch: pytest.MonkeyPatch) -> list[Reference]:
    """Let the next run stop where its search would begin; what the search would have been given."""
    given: list[Reference] = []

    def stop(reference: Reference, *_: object, **__: object) -> None:
        given.append(reference)
        raise Stopped

    monkeypatch.setattr("optimize.run.compress.Search", stop)
    return given


def test_repair_sees_calibration_and_training_and_never_guard_or_test(
    brought: Path, any_target: str, tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search is a stand-in that keeps what it is given and stops the run."""
    given = stopped_at_the_search(monkeypatch)
    with pytest.raises(Stopped):
        compress(recipe(brought, tmp_path / "out", any_target))
    assert job.data.train is not None
    allowed = np.concatenate([job.data.calibration.inputs(), job.data.train.inputs()])
    assert {case.tobytes() for case in given[0].calibration} == {case.tobytes() for case in allowed}
    assert given[0].original.lineage == ()


def test_the_strategy_is_the_recipes_and_a_run_of_another_cannot_be_resumed(
    brought: Path, any_target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is stopped where the search has ended."""

    def stop(*_: object) -> None:
        raise Stopped

    monkeypatch.setattr("optimize.run.compress.compile_artifact", stop)
    asked = recipe(brought, tmp_path / "out", any_target, strategy="stepwise", floors="none", stopping="z-score")
    with pytest.raises(Stopped):
        compress(asked)
    tried = [json.loads(line) for line in (tmp_path / "out" / "ledger.jsonl").read_text().splitlines()][1:]
    assert {each["step"] for each in tried} == {"RemoveChannels"}
    assert any(each["kept"] for each in tried)
    for other in ({"strategy": "budget"}, {"floors": "S2"}, {"stopping": "floor"}):
        with pytest.raises(InputError, match=r"found another run in .* \(strategy changed\)"):
            compress(replace(asked, **other), resume=True)


def test_int8_ranges_come_from_every_class_of_a_sorted_file(
    brought: Path, any_target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runtime is a stand-in that keeps what it is given and stops the run."""
    given: list[np.ndarray] = []

    def stop(_: Any, bench: Any) -> None:
        given.append(bench.calibration)
        raise Stopped

    monkeypatch.setattr("optimize.run.compile_artifact.choose", stop)
    monkeypatch.setattr("optimize.run.prepare.INT8_CASES", 20)
    with pytest.raises(Stopped):
        compress(replace(recipe(brought, tmp_path / "out", any_target), budgets=(1e-30,), energy=1.0))
    val = runs.split("val")
    label = dict(zip((case.tobytes() for case in val.inputs()), val.labels.tolist(), strict=True))
    assert len(given[0]) == 20
    assert {label[case.tobytes()] for case in given[0]} == {0, 1, 2, 3}


def refused(brought: Path, out: Path, target: str, **overrides: object) -> str:
    """The text of the error; and nothing but an empty folder is left."""
    with pytest.raises(InputError) as raised:
        compress(recipe(brought, out, target, **overrides))
    assert not out.exists() or list(out.iterdir()) == []
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_what_is_wrong_is_said_before_anything_is_written(brought: Path, any_target: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "`data` is missing: pass --data" in refused(brought, out, any_target, data="")
    assert "nope.pt) does not exist: check the path." in refused(brought.parent / "nope.pt", out, any_target, data="")
    isa = "`--cpu-level` (='avx2') is for targets that run on a processor, not for tensorrt-rtx: leave it out."
    assert refused(brought, out, "tensorrt-rtx", cpu_level="avx2") == isa
    assert "must be one of openvino, onnxruntime, tensorrt" in refused(brought, out, "tpu")
    assert "does not exist" in refused(brought, out, any_target, data=tmp_path / "no.npz")
    assert "`classes` (=a,b) must be 4 different names" in refused(brought, out, any_target, classes="a,b")
    assert "`min_agreement` (=0.9) is for masks" in refused(brought, out, any_target, min_agreement="0.9")
    assert "`standardize` (=image) excludes `mean` (=0.5)" in refused(brought, out, any_target, standardize="image")


@pytest.mark.parametrize("strategy", ["budget", "stepwise", "local"])
@pytest.mark.parametrize("asked", [{"retrain": True}, {"speedup": "2x"}, {"latency_target_ms": "5ms"}, {"prefer": "size"}], ids=str)
def test_what_only_allocate_can_do_is_not_passed_over(
    asked: dict[str, object], strategy: str, brought: Path, any_target: str, tmp_path: Path
) -> None:
    text = refused(brought, tmp_path / "out", any_target, strategy=strategy, **asked)
    flag = "--" + next(iter(asked)).removesuffix("_ms").replace("_", "-")
    assert f"`{flag}` needs the strategy 'allocate', not '{strategy}'" in text


def test_recovery_training_needs_a_train_split(any_target: str, tmp_path: Path) -> None:
    data = {name: array for name, array in runs.arrays().items() if not name.startswith("train")}
    model = runs.bring(tmp_path / "brought", data)
    assert "`--retrain` needs a train split: add train_images" in refused(model, tmp_path / "out", any_target, retrain=True)
    two = {name: runs.arrays()[name][::80] for name in ("train_images", "train_labels")}
    model = runs.bring(tmp_path / "two", data | two)
    assert "`train` (2 item(s)) is too small" in refused(model, tmp_path / "out", any_target, retrain=True)


@pytest.mark.parametrize("retrain", [True, False])
def test_of_the_steps_recovery_training_alone_sees_labels(
    retrain: bool, brought: Path, any_target: str, tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = stopped_at_the_search(monkeypatch)
    with pytest.raises(Stopped):
        compress(recipe(brought, tmp_path / "out", any_target, retrain=retrain))
    train = given[0].train
    assert (train is not None) is retrain
    assert given[0].scratch == tmp_path / "out" / WORK_FOLDER
    if train is not None and job.data.training_split is not None:
        rows = np.array([5, 2])
        assert np.array_equal(train.inputs(rows), job.data.training_split.inputs(rows))
        assert train.labels.tolist() == job.data.training_split.labels.tolist()


def test_a_second_opinion_is_asked_of_train_where_there_is_one(job: Job, any_target: str, tmp_path: Path) -> None:
    assert job.train_check is not None
    assert job.data.training_split is not None
    assert job.train_check is job.train_check
    assert job.train_check.split.ids.tolist() == job.data.training_split.ids.tolist()
    assert job.train_check.limits.max_drop == job.recipe.limits.max_drop
    alone = runs.bring(tmp_path / "brought", {name: array for name, array in runs.arrays().items() if not name.startswith("train")})
    assert prepare(recipe(alone, tmp_path / "out", any_target), resume=False, overwrite=False).train_check is None


@pytest.mark.parametrize(
    ("last", "shape"),
    [
        ("nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(2))", r"\(1, 2, 64\)"),
        ("nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(1, 2))", r"\(1, 16, 8\)"),
    ],
)
def test_only_classes_and_masks(last: str, shape: str, any_target: str, brought: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(f"from torch import nn\ndef net(): return {last}\n")
    scope: dict[str, Any] = {"nn": torch.nn}
    torch.save(eval(last, scope).state_dict(), tmp_path / "model.pt")
    settings = {"arch": f"{tmp_path}/net.py:net", "input_shape": "1,8,8", "data": str(brought.parent / "data.npz")}
    asked = recipe(tmp_path / "model.pt", tmp_path / "out", any_target, **settings)
    with pytest.raises(InputError, match=rf"gives outputs of shape {shape}: it must give classes, "):
        compress(asked)


def test_a_target_that_cannot_run_is_found_out_before_the_model_is_read(tmp_path: Path) -> None:
    with pytest.raises(TargetUnavailable):
        compress(recipe(tmp_path / "no.pt", tmp_path / "out", "tensorrt"))
    assert not (tmp_path / "out").exists()


def test_compute_capabilities_reach_the_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def backend(*arguments: Any) -> Any:
        asked.append(arguments)
        raise TargetUnavailable("enough")

    monkeypatch.setattr("optimize.backends.backend", backend)
    with pytest.raises(TargetUnavailable, match="enough"):
        compress(recipe(tmp_path / "no.pt", tmp_path / "out", "tensorrt-rtx", compute_capability="12.0,8.6"))
    assert asked == [("tensorrt-rtx", ("8.6", "12.0"))]


def test_an_accepted_run_is_not_touched_by_a_call_that_is_wrong(accepted: Run, brought: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in accepted.out.rglob("*") if path.is_file()}
    target = accepted.report["target"]
    with pytest.raises(InputError, match="already holds a run"):
        compress(recipe(brought, accepted.out, target))
    with pytest.raises(InputError, match="does not exist"):
        compress(recipe(brought, accepted.out, target, data=tmp_path / "no.npz"), overwrite=True)
    with pytest.raises(InputError, match=r"found another run in .* \(limits changed\)"):
        compress(recipe(brought, accepted.out, target, max_drop="3pp"), resume=True)
    assert {path: path.read_bytes() for path in accepted.out.rglob("*") if path.is_file()} == before


def test_the_report_says_which_look_it_was(accepted: Run, hopeless: Run) -> None:
    looks = accepted.report["looks"]
    assert (looks["number"], looks["confidence"], looks["all_looks"], looks["earlier"]) == (1, 0.96, 0.95, [])
    assert looks["record"] == runs.history(accepted.out).name
    lines = [json.loads(line) for line in runs.history(accepted.out).read_text().splitlines()]
    assert [sorted(line)[0] for line in lines] == ["format", "artifact", "of"]
    assert lines[-1]["verdict"] == accepted.report["verdict"]
    assert hopeless.report["looks"] is None, "the test split was not read"
    assert not runs.history(hopeless.out).exists()


def test_a_run_that_is_resumed_is_one_look(brought: Path, any_target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is stopped while the test split is read; whatever it ships then, nobody has seen the first answer."""

    def stop(*_: object) -> None:
        raise Stopped

    hurried(monkeypatch, memory=False)
    asked = replace(recipe(brought, tmp_path / "out", any_target), budgets=(1e-30,), energy=1.0)
    with monkeypatch.context() as patch:
        patch.setattr("optimize.run.final_verdict.scores_on_test", stop)
        with pytest.raises(Stopped):
            compress(asked)
    looks = compress(asked, resume=True)["looks"]
    assert (looks["number"], looks["earlier"]) == (1, [])
    before = runs.history(asked.out).read_bytes()
    assert compress(asked, resume=True)["looks"] == looks, "and a finished run is not judged again"
    assert runs.history(asked.out).read_bytes() == before


def test_a_split_that_was_looked_at_is_not_fresh(accepted: Run, brought: Path, tmp_path: Path) -> None:
    asked = recipe(brought, tmp_path / "out", accepted.report["target"], fresh_test=True, history=runs.history(accepted.out))
    with pytest.raises(InputError, match="`--fresh-test`: 120 of the 120 test images were looked at before"):
        compress(asked)


def test_a_test_split_that_is_too_small_ends_the_run_before_the_search(inconclusive: Run, tmp_path: Path) -> None:
    """With one case of a class and two of another, beside five in all, at 12 and 4 pp."""
    asked = recipe(inconclusive.out.parent / "model.pt", tmp_path / "out", inconclusive.report["target"])
    with pytest.raises(Inconclusive) as raised:
        compress(asked)
    text = str(raised.value)
    assert text.startswith("the test split is too small to accept anything: overall accuracy: 5 cases, about 80 are needed; ")
    assert "recall of 4 classes (bar, disc, cross, ring): 1 to 2 cases each, about " in text
    assert text.endswith("add test cases, allow larger drops, or search all the same with --force.")
    assert "\n" not in text
    assert not (tmp_path / "out").exists()
    code, stdout, _ = runs.command("compress", asked.model, "--target", asked.target, "--out", asked.out, "--json")
    assert (code, json.loads(stdout)) == (3, {"error": text, "exit_code": 3})


def test_the_report_lists_every_other_file_of_the_run(accepted: Run) -> None:
    """And nobody who was not given them needs to believe a word: the folder is as its report says."""
    there = {str(path.relative_to(accepted.out)): path for path in accepted.out.rglob("*") if path.is_file()}
    expected = {name: ArtifactFile.of(path) for name, path in there.items() if not name.startswith("report.")}
    assert accepted.report["files"] == [expected[name].as_dict() | {"name": name} for name in sorted(expected)]
    assert examine(accepted.out).findings == ("unsigned: anyone could have changed it",)


def test_resuming_a_finished_run_leaves_what_its_report_lists(accepted: Run, brought: Path) -> None:
    before = {path: path.read_bytes() for path in accepted.out.rglob("*") if path.is_file()}
    asked = replace(resolve(recipe_file=accepted.out / "recipe.lock.toml"), threads=2)
    assert compress(asked, resume=True) == accepted.report
    assert {path: path.read_bytes() for path in accepted.out.rglob("*") if path.is_file()} == before


def test_left_alone_names_layer_and_reason(job: Job) -> None:
    found = left_alone(job.original, Reference(job.original, job.data.calibration.inputs()))
    assert found == ("channels of 6 were left alone: they are an output of the network",)


def test_target_cpu_ships_what_is_measured_to_be_fastest(brought: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two stand-ins for the runtimes' speed: the search goes by the one that is faster, and every precision of both is tried."""
    installed = [each.NAME for each in runtimes("cpu")]
    if len(installed) < 2:
        pytest.skip(f"only {installed[0]} is installed")
    asked: list[str] = []

    def clocked(runtime: Any, *_: Any) -> float:
        asked.append(runtime.NAME)
        return {"openvino": 2.0, "onnxruntime": 1.0}[runtime.NAME]

    monkeypatch.setattr("optimize.run.compress.latency_ms", clocked)
    report = compress(replace(recipe(brought, tmp_path / "out", "cpu"), budgets=(1e-30,), energy=1.0))
    assert asked == ["openvino", "onnxruntime"]
    tried = report["precisions_tried"]
    assert (tried[0]["target"], tried[0]["precision"]) == ("onnxruntime", "f32")
    assert {each["target"] for each in tried} == {"openvino", "onnxruntime"}
    kept = next(each for each in tried if each["kept"])
    assert (report["target"], report["precision"]) == (kept["target"], kept["precision"])
    assert Artifact.read(tmp_path / "out" / "model").target == kept["target"]
    assert any(line.startswith("target cpu was asked for: ") for line in report["notes"])


def test_int8_of_a_milder_candidate_ships_with_its_own_figures(
    brought: Path, any_target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which int8 is wanted and how long it takes is scripted; everything is really compiled, run and judged."""
    monkeypatch.setattr("optimize.run.compile_artifact.runtimes_with_faster_int8", lambda runtimes, *_: list(runtimes))
    slow, fast = Latency((2.0,) * 30), Latency((1.0,) * 30)
    monkeypatch.setattr("optimize.quantization.int8_retry.interleave", lambda calls, **_: {"ships": slow, "int8": fast})
    report = compress(recipe(brought, tmp_path / "out", any_target))
    # the same widths may be kept twice, repaired at once and then from layer to layer
    kept = list({step["parameters"]: step for step in report["steps"] if step["kept"]}.values())
    assert report["accepted"]
    assert report["compressed"]["parameters"] == kept[-2]["parameters"] > kept[-1]["parameters"]
    assert report["precision"] == "int8"
    tried = report["precisions_tried"]
    (ships,) = [row for row in tried if row["kept"]]
    (instead_of,) = [row for row in tried if row["why"].endswith(SLOWER)]
    parameters, speed = f"{kept[-2]['parameters']:,} parameters", f"2.00x the speed of {instead_of['precision']}"
    assert ships["why"] == f"of a milder candidate, with {parameters}: {speed} (95 % interval 2.00 to 2.00)"
    (bolder,) = [row for row in tried if row["precision"] == "int8" and not row["kept"]]
    assert bolder["size_bytes"] < ships["size_bytes"], "and it is the wider network that lies in the artifact"
    assert Artifact.read(tmp_path / "out" / "model").precision == "int8"


def test_target_cpu_makes_do_with_one_runtime_and_names_both_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise TargetUnavailable("not there.")

    monkeypatch.setattr(backend("openvino"), "preflight", missing)
    if importlib.util.find_spec("onnxruntime"):
        assert [each.NAME for each in runtimes("cpu")] == ["onnxruntime"]
    monkeypatch.setattr(backend("onnxruntime"), "preflight", missing)
    with pytest.raises(TargetUnavailable, match=r"not there\. not there\."):
        runtimes("cpu")


def test_only_layers_with_weights_are_named_when_they_ran_in_float(tmp_path: Path) -> None:
    """A pooling between layers that were kept in float runs in float with them, and nobody asked it for anything else."""
    export_onnx(runs.original(), tmp_path / "model.onnx")
    ran = {"0": "int8", "node_max_pool2d": "f32", "4": "f32", "6": "int8"}
    assert _weighted_layers(ran, tmp_path / "model.onnx") == {"0": "int8", "4": "f32", "6": "int8"}
    assert _weighted_layers({"fused": "f32"}, tmp_path / "model.onnx") == {"fused": "f32"}


@pytest.mark.parametrize(
    ("target", "asked", "here", "said"),
    [
        ("openvino", None, "avx512_vnni", None),
        ("openvino", "avx512_vnni", "avx512_vnni", None),
        ("tensorrt", None, "avx512_vnni", None),
        (
            "openvino",
            "avx2",
            "avx2",
            "OpenVINO computed as with AVX2: the verdict and its timings are for that; other runtimes' are this machine's own",
        ),
        (
            "onnxruntime",
            "avx2",
            "avx512_vnni",
            "the artifact was made for AVX2 and verified on this machine, with AVX-512 VNNI: "
            "optimize verify, on a machine with AVX2, decides there",
        ),
        (
            "openvino",
            "amx",
            "avx512_vnni",
            "the artifact was made for AMX and verified on this machine, with AVX-512 VNNI: "
            "optimize verify, on a machine with AMX, decides there",
        ),
    ],
)
def test_what_a_verdict_says_of_the_processor(
    target: str, asked: str | None, here: str, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine, with AVX-512 VNNI, and what its runtimes are kept to are made up."""
    monkeypatch.setattr(module, "effective_level", lambda _: here)
    monkeypatch.setattr(module, "machine_level", lambda: "avx512_vnni")
    assert module._cpu_level_note(target, asked) == said
