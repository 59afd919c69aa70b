"""What is passed where another kind of object belongs: every public function says in one line what it takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import optimize as opt

opt_: Any = opt
"""The package without its types, which forbid all of this."""
NET = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval()
LABELS = np.arange(20) % 2


def loaded() -> Any:
    return opt.load_model(NET, input_shape=(1, 4, 4))


def data() -> Any:
    rng = np.random.default_rng(0)
    return opt.load_data({name: (rng.random((20, 1, 4, 4), np.float32), LABELS) for name in ("val", "test")})


def score(split: str) -> Any:
    return opt.evaluate(loaded().predict, getattr(data(), split))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: opt_.macs(NET), r"`candidate` is of class Sequential: pass `load_model\("),
        (lambda: opt_.trace(NET), "`candidate` is of class Sequential"),
        (lambda: opt_.export_onnx(NET, "net.onnx"), "`candidate` is of class Sequential"),
        (lambda: opt_.export_onnx(loaded(), "nowhere/net.onnx"), r"`path` \(=nowhere/net.onnx\) cannot be written"),
        (lambda: opt_.search(NET, data()), "`candidate` is of class Sequential"),
        (lambda: opt_.search(loaded(), {}), "`data` is of class dict"),
        (lambda: opt_.search(loaded(), data(), 0.02), r"`limits` \(=0.02\) must be `Limits`"),
        (lambda: opt_.search(loaded(), data(), strategy="budget"), r"`strategy` \(='budget'\) must be an object"),
        (lambda: opt_.search(loaded(), data(), time_budget_s="3min"), r"`time_budget_s` \(='3min'\) must be a number of seconds above 0"),
        (lambda: opt_.search(loaded(), data(), time_budget_s=0), r"`time_budget_s` \(=0\) must be a number of seconds above 0"),
        (lambda: opt_.evaluate(loaded(), data().test), "`predict` is of class Candidate: pass a function"),
        (lambda: opt_.evaluate(NET, data().test), "`predict` is of class Sequential"),
        (lambda: opt_.evaluate(loaded().predict, data()), "`split` is of class Dataset: pass one split"),
        (lambda: opt_.judge(opt.Limits(), score("guard"), score("test")), "`baseline` and `candidate` are scores of 10 and 20 cases"),
        (lambda: opt_.Limits(max_drop="2pp"), r"`max_drop` \(='2pp'\) must be a number in 0..1: write 0.02"),
        (lambda: opt_.Preprocessing(mean=0.5, std=0.5), r"`mean` \(=0.5\) must hold one value per channel"),
        (lambda: opt_.backend(None), r"`target` \(=None\) must be one of"),
        (lambda: opt_.load_model({}, input_shape=(1, 4, 4)), "`path` is of class dict"),
        (lambda: opt_.load_model(NET, input_shape=4), r"`input_shape` \(=4\) must be a tuple"),
        (lambda: opt_.load_model(NET, input_shape="1,4,4"), r"`input_shape` \(='1,4,4'\) must be a tuple"),
        (lambda: opt_.compare("run", "out"), r"`folders` \(='run'\) must be a list"),
        (lambda: opt_.compare([3], "out"), r"`folders` \(=3\) must be a path"),
        (lambda: opt_.verify(3), r"`folder` \(=3\) must be a path"),
        (lambda: opt_.demo(3), r"`out` \(=3\) must be a path"),
    ],
)
def test_it_is_refused_in_one_line(call: Callable[[], object], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(opt.InputError, match=words) as refusal:
        call()
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())
