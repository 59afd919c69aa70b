"""The main job on a network that gives masks: accepted, rejected, inconclusive, refused at once."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from sklearn.metrics import f1_score

import optimize.report
from optimize.backends import backend
from optimize.backends.artifact import Artifact
from optimize.data.dataset import Split
from optimize.errors import InputError
from optimize.guard.evaluate import score_split
from optimize.guard.limits import Limits
from optimize.run.compress import compress
from optimize.run.prepare import prepare
from optimize.run.recipe import resolve
from tests import scans
from tests.conftest import shortened
from tests.runs import Run

SCHEMA = json.loads((Path(optimize.report.__file__).parent / "schema.json").read_text())


def made(folder: Path, target: str, data: dict[str, np.ndarray] | None = None, *flags: object) -> Run:
    model = scans.bring(folder, data)
    return shortened(model, folder / "out", *flags, target=target)


@pytest.fixture(scope="module")
def accepted(any_target: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """By what was measured: eight patients are too few for a statistical verdict to pass."""
    return made(tmp_path_factory.mktemp("accepted"), any_target, None, "--min-agreement", "0.9", "--verdict", "point")


@pytest.fixture(scope="module")
def rejected(any_target: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The test split's masks are wrong, so that no model reaches the Dice that is asked for."""
    return made(tmp_path_factory.mktemp("rejected"), any_target, scans.arrays(wrong_test=True), "--min-class-f1", "0.8", "--force")


@pytest.fixture(scope="module")
def inconclusive(any_target: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One patient."""
    return made(tmp_path_factory.mktemp("inconclusive"), any_target, scans.arrays(test=1), "--force")


@pytest.fixture(scope="module")
def hopeless(any_target: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The original does not hold the limit itself."""
    return made(tmp_path_factory.mktemp("hopeless"), any_target, scans.arrays(wrong_val=True), "--min-class-f1", "80%", "--force")


def dice(masks: np.ndarray, true: np.ndarray, patients: np.ndarray) -> float:
    """Mean over the patients of the F1 of their pixels; all of the test's patients have something to find."""
    return float(np.mean([f1_score(true[patients == each].ravel(), masks[patients == each].ravel()) for each in np.unique(patients)]))


def known(split: Split) -> tuple[np.ndarray, np.ndarray]:
    assert split.patients is not None
    return split.labels[:, 0], split.patients


def test_the_shipped_files_do_what_the_report_says(accepted: Run) -> None:
    report = accepted.report
    assert (accepted.exit_code, report["verdict"], report["task"]) == (0, "pass", "segmentation")
    test = scans.split("test")
    true, patients = known(test)
    original = scans.original().predict(test.inputs())[:, 0] > 0
    artifact = Artifact.read(accepted.out / "model")
    with backend(artifact.target).build(artifact, threads=1) as session:
        marked = session.predict(test.inputs())[:, 0] > 0
    metrics = report["compressed"]["metrics"]
    assert metrics["overall"] == {
        "dice": pytest.approx(dice(marked, true, patients)),
        "agreement": pytest.approx(dice(marked, original, patients)),
    }
    assert metrics["per_class"] == {"spot": {"patients": 8, "dice": metrics["overall"]["dice"]}}
    assert report["baseline"]["metrics"]["overall"] == {"dice": pytest.approx(dice(original, true, patients)), "agreement": 1.0}
    assert report["compressed"]["parameters"] < report["baseline"]["parameters"]
    judged = {tried["precision"]: tried["layers_in_float"] for tried in report["precisions_tried"] if tried["verdict"] is not None}
    # Where the runtime has no integer kernel for the transposed convolution, the name and the list say so.
    assert judged["f32"] == []
    assert ("int8" in judged and not judged["int8"]) or len(judged["int8+f32"]) > 0


def test_the_guard_is_all_of_val_and_calibration_comes_out_of_train(accepted: Run) -> None:
    data = accepted.report["data"]
    assert {name: (each["cases"], each["patients"], each["per_class"]) for name, each in data.items()} == {
        "train": (30, 10, {"spot": 20}),
        "calibration": (30, 10, {"spot": 20}),
        "guard": (24, 8, {"spot": 16}),
        "test": (24, 8, {"spot": 16}),
    }
    guard = scans.split("val")
    true, patients = known(guard)
    assert accepted.report["guard"]["worst_class"]["name"] == "spot"
    original = dice(scans.original().predict(guard.inputs())[:, 0] > 0, true, patients)
    for step in accepted.report["steps"]:
        assert step["worst_class"]["drop"] == pytest.approx(original - step["overall"])


def test_the_lock_file_holds_what_was_asked(accepted: Run) -> None:
    lock = resolve(recipe_file=accepted.out / "recipe.lock.toml")
    assert (lock.standardize, lock.mean, lock.classes) == ("image", (), ("spot",))
    assert lock.limits == Limits(min_agreement=0.9, verdict="point")
    assert accepted.report["limits"]["min_agreement"] == 0.9


def test_masks_that_miss_a_limit_are_not_handed_over(rejected: Run) -> None:
    report = rejected.report
    assert (rejected.exit_code, report["verdict"], report["artifact"]) == (1, "fail", None)
    assert not (rejected.out / "model").exists()
    reached = report["compressed"]["metrics"]["per_class"]["spot"]["dice"]
    assert f"Dice of spot is {100 * reached:.2f} % on 8 patients" in report["reasons"][0]


def test_one_patient_cannot_tell(inconclusive: Run) -> None:
    report = inconclusive.report
    assert (inconclusive.exit_code, report["verdict"], report["artifact"]) == (3, "inconclusive", None)
    assert "1 patient does not decide this; at least 5 patients are needed" in report["reasons"][0]
    assert "the test split is too small to accept anything" in " ".join(inconclusive.stderr.split())


def test_an_original_that_does_not_hold_a_limit_is_refused_at_once(hopeless: Run) -> None:
    assert (hopeless.exit_code, hopeless.report["compressed"], hopeless.report["steps"]) == (1, None, [])
    assert hopeless.report["reasons"][0].startswith("the original itself does not hold a limit: Dice of spot is ")


@pytest.mark.parametrize("end", ["accepted", "rejected", "inconclusive", "hopeless"])
def test_every_end_has_a_whole_report_that_speaks_of_dice(end: str, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(end)
    jsonschema.Draft202012Validator(SCHEMA).validate(run.report)
    page = (run.out / "report.html").read_text(encoding="utf-8")
    assert "overall Dice" in page
    assert not [word for word in ("ccuracy", "ecall", "F1", "onfusion matri") if word in page]
    assert not [word for word in ("ccuracy", "ecall", "F1") if word in json.dumps([run.report["reasons"], run.ledger[1:]])]


def test_what_is_wrong_is_said_before_anything_is_written(any_target: str, tmp_path: Path) -> None:
    model = scans.bring(tmp_path)
    for overrides, words in (
        ({"classes": "a,b"}, r"`classes` \(=a,b\) must be 1 different names"),
        ({"pad": 1}, "`train_images` holds images of 16x16x2, which do not fit the network's input 2,16,16 with pad 1: pass --pad 0"),
        ({"mean": "0.5", "std": "0.5"}, r"`standardize` \(=image\) excludes `mean`"),
    ):
        with pytest.raises(InputError, match=words):
            compress(resolve(model, target=any_target, overrides={"out": tmp_path / "out", **overrides}))
    assert not (tmp_path / "out").exists()


def test_padded_masks_are_compared_without_the_padding(any_target: str, tmp_path: Path) -> None:
    """Images of 14 pixels, padded to the 16 that the network takes."""
    small = {key: value if key.endswith("_patient") else value[:, 1:-1, 1:-1] for key, value in scans.arrays().items()}
    model = scans.bring(tmp_path, small)
    asked = resolve(model, target=any_target, overrides={"out": tmp_path / "out", "pad": 1, "force": True})
    job = prepare(asked, resume=False, overwrite=False)
    assert job.data.guard.inputs().shape == (24, 2, 16, 16)
    assert job.data.guard.labels.shape == (24, 1, 14, 14)
    found = score_split(job.original.predict, job.data.guard, job.data.classes, "")
    marked = job.original.predict(job.data.guard.inputs())[:, 0, 1:-1, 1:-1] > 0
    assert found.overall == pytest.approx(dice(marked, *known(job.data.guard)))
