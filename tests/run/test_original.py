"""The original is looked at first: random weights, constant answers, sigmoids, wrong preprocessing, the figure that is expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from optimize.errors import InputError
from optimize.run.prepare import Job, prepare
from optimize.run.recipe import resolve
from tests import runs, scans

SIGMOID = scans.NET.replace("return self.head(", "return torch.sigmoid(self.head(").replace(
    "self.up(deep)], 1))))", "self.up(deep)], 1)))))"
)


def prepared(model: Path, target: str, **overrides: Any) -> Job:
    settings = resolve(model, target=target, overrides={"out": model.parent / "out", "force": True, **overrides})
    return prepare(settings, resume=False, overwrite=False)


def random(model: Path) -> Path:
    torch.manual_seed(5)
    torch.save({name: torch.randn_like(tensor) * 0.1 for name, tensor in torch.load(model).items()}, model)
    return model


def test_the_original_is_judged_and_told(any_target: str, tmp_path: Path) -> None:
    job = prepared(runs.bring(tmp_path), any_target)
    told = job.baseline.as_dict()
    assert told["guard"] == job.baseline_score.overall > 0.9
    assert (told["constant"], told["better_than_constant"], told["outputs"], told["expected"]) == (0.25, True, "logits", None)


def test_random_weights_are_refused_before_anything_is_written(any_target: str, tmp_path: Path) -> None:
    model = random(runs.bring(tmp_path))
    with pytest.raises(InputError, match=r"^the original is no better than a constant answer: accuracy .* --allow-weak-original"):
        prepared(model, any_target)
    assert not (tmp_path / "out").exists()


def test_a_constant_answer_is_refused_and_can_be_allowed(any_target: str, tmp_path: Path) -> None:
    model = runs.bring(tmp_path)
    state = torch.load(model)
    torch.save(state | {"6.weight": torch.zeros_like(state["6.weight"])}, model)
    with pytest.raises(InputError, match=r"1\. the weights were never trained, or the network does not look at its input"):
        prepared(model, any_target)
    job = prepared(model, any_target, allow_weak_original=True)
    assert "which was allowed: limits around it protect nothing" in job.baseline.notes[0]
    assert not job.baseline.as_dict()["better_than_constant"]


def test_masks_that_know_nothing_are_refused(any_target: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no better than a constant answer: Dice .* patients of the guard split"):
        prepared(random(scans.bring(tmp_path)), any_target)


def test_a_network_that_ends_in_a_sigmoid_is_judged_at_a_half(any_target: str, tmp_path: Path) -> None:
    model = scans.bring(tmp_path)
    plain = prepared(model, any_target).baseline_score.overall
    (tmp_path / "net.py").write_text(SIGMOID)
    job = prepared(model, any_target, out=tmp_path / "sigmoid")
    assert job.original.outputs == "probabilities"
    assert job.baseline_score.overall == pytest.approx(plain, abs=1e-6)
    assert job.data.test.outputs == "probabilities"
    assert "cut at 0.5" in job.baseline.notes[0]
    with pytest.raises(InputError, match=r"no better than a constant answer.* 1. --outputs probabilities \(then Dice is"):
        prepared(model, any_target, outputs="logits", out=tmp_path / "forced")


def test_the_preprocessing_that_helps_is_named(any_target: str, tmp_path: Path) -> None:
    """Images 25 times brighter than the network knows them: most of its answers are the same class."""
    model = runs.bring(tmp_path)
    with pytest.raises(InputError, match=r"1. images are prepared by .* \(then accuracy is 100.0 %\)"):
        prepared(model, any_target, mean="-1", std="0.01")


def test_the_order_of_the_classes_is_named(any_target: str, tmp_path: Path) -> None:
    data = {key: (value + 1) % 4 if key.endswith("labels") else value for key, value in runs.arrays().items()}
    with pytest.raises(InputError, match=r"1. the labels are in another order \(.*\) \(then accuracy is \d\d"):
        prepared(runs.bring(tmp_path, data), any_target)


def test_inverted_masks_are_named(any_target: str, tmp_path: Path) -> None:
    data = {key: 1 - value if key.endswith("masks") else value for key, value in scans.arrays().items()}
    with pytest.raises(InputError, match=r"1\. the masks mark the background: invert them"):
        prepared(scans.bring(tmp_path, data), any_target)


def test_what_is_expected_must_be_reached(any_target: str, tmp_path: Path) -> None:
    model = runs.bring(tmp_path, runs.arrays(wrong_val=0.3))
    with pytest.raises(InputError, match=r"^`--expect` \(=99 %\) is missed by the original: accuracy (6|7)\d"):
        prepared(model, any_target, expect="99%")
    assert prepared(model, any_target, expect="0.70").baseline.as_dict()["expected"] == 0.7


def test_float_images_of_another_scale_are_refused(any_target: str, tmp_path: Path) -> None:
    data = {key: value.astype(np.float32) if key.endswith("images") else value for key, value in runs.arrays().items()}
    with pytest.raises(InputError, match="divide the images by 255, or store them as uint8"):
        prepared(runs.bring(tmp_path, data), any_target)


def test_one_cause_that_explains_everything_is_named_alone(any_target: str, tmp_path: Path) -> None:
    """The other order of the labels explains it; that the images may be prepared otherwise as well adds nothing."""
    data = {key: (value + 1) % 4 if key.endswith("labels") else value for key, value in runs.arrays().items()}
    with pytest.raises(InputError) as refused:
        prepared(runs.bring(tmp_path, data), any_target)
    assert str(refused.value).count("the labels are in another order (") == 1


def test_too_few_cases_to_tell_are_no_fault_of_the_network(any_target: str, tmp_path: Path) -> None:
    """Two cases of each class for the guard: a perfect network could be a lucky one."""
    chosen = np.concatenate([np.arange(2) + 50 * k for k in range(2)])
    data = {key: value[chosen] if key.startswith("val") else value for key, value in runs.arrays().items()}
    model = runs.bring(tmp_path, data)
    with pytest.raises(InputError, match=r"^the 2 cases of the guard split are too few to show .*: accuracy 100.00 %.*Add val cases"):
        prepared(model, any_target)
    assert "too few to show" in prepared(model, any_target, allow_weak_original=True).baseline.notes[0]
