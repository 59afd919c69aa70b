"""The study's pure parts: what is chosen, what the tables say, what is kept; and the pruner and the roofs it measures with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from benchmarks.group_pruner import group_pruned
from benchmarks.studies.peers import cases, contenders, eager
from benchmarks.studies.peers.contenders import TARGETS, largest_holding
from benchmarks.studies.peers.contest import latencies, without_broken
from benchmarks.studies.peers.record import FILE, Record, identity, made, once
from benchmarks.studies.peers.roof import work
from benchmarks.studies.peers.table import COLUMNS, GOAL_COLUMNS, goals, median_interval, notes, row, rows, shares
from optimize.backends import backend
from optimize.backends.export import export_onnx
from optimize.candidate import Candidate
from optimize.data.dataset import Dataset, Preprocessing, Split
from optimize.errors import OptimizeError
from optimize.graph.macs import macs
from optimize.guard.classification_score import ClassificationScore
from optimize.guard.limits import Limits
from optimize.measure.latency import Latency
from optimize.steps.finetune import Finetune
from tests.searching.nets import untrained

ORIGINAL = Record("original, ONNX Runtime f32", "original", "onnxruntime", "f32", parameters=1000, macs=4000, overall=0.9, verdict="pass")
VINO = replace(ORIGINAL, name="original, OpenVINO int8", target="openvino", precision="int8+bf16")
OURS = Record(
    "optimize, OpenVINO int8", "ours", "openvino", "int8", parameters=100, macs=1000, size_bytes=30_000, overall=0.895, verdict="pass"
)
RIVAL = replace(OURS, name="group norm, global 0.5, OpenVINO int8", kind="assembled", prepared_s=61.4, worst_class="3", worst_drop=0.025)


def _times(**p50_ms: float) -> dict[int, dict[str, Latency]]:
    names = {"original": ORIGINAL, "vino": VINO, "ours": OURS, "rival": RIVAL}
    return {1: {names[key].name: Latency((each,) * 20) for key, each in p50_ms.items()}}


def test_each_form_is_kept_at_the_largest_ratio_that_holds() -> None:
    tried = []

    def holding(ratio: float, left: set[str]) -> dict[str, Any]:
        tried.append((ratio, frozenset(left)))
        return {form: ratio for form, most in {"int8": 0.3, "f32": 0.5, "bf16": 0.0}.items() if form in left and ratio <= most}

    assert largest_holding((0.1, 0.5, 0.3, 0.8), ("int8", "f32"), holding) == {"int8": 0.3, "f32": 0.5}
    assert tried == [(0.8, {"int8", "f32"}), (0.5, {"int8", "f32"}), (0.3, {"int8"})], "and no smaller ratio is tried"
    assert largest_holding((0.1, 0.5), ("bf16", "f32"), holding) == {"f32": 0.5}


def test_goals_by_hand() -> None:
    found = goals([ORIGINAL, VINO, OURS, RIVAL], _times(original=40.0, vino=5.0, ours=1.0, rival=2.0))
    assert [(goal.aim, goal.against, goal.measured and goal.measured.value) for goal in found] == [
        (1.5, RIVAL.name, 2.0),
        (30.0, ORIGINAL.name, 40.0),
        (6.0, "", None),  # nothing of ours for ONNX Runtime
        (6.0, VINO.name, 5.0),  # the layers left in float do not make it another precision
    ]
    assert [goal.outcome.partition(":")[0] for goal in found] == ["reached", "reached", "open", "missed"]
    assert found[2].outcome == "open: ours was made for OpenVINO alone"
    assert all(len(goal.row("case")) == len(GOAL_COLUMNS) for goal in found)


def test_a_goal_is_reached_only_when_the_whole_interval_is() -> None:
    taken = {1: {OURS.name: Latency((1.0,) * 20), RIVAL.name: Latency((1.2, 1.8) * 10)}}
    goal = goals([OURS, RIVAL], taken)[0]
    assert goal.measured is not None
    assert (goal.measured.low, goal.measured.value, goal.measured.high) == (1.2, 1.5, 1.8)
    assert goal.outcome == "missed, though the interval holds the goal"


@pytest.mark.parametrize("change", [{"verdict": "fail"}, {"failed": "does not open"}])
def test_what_does_not_hold_on_test_is_not_compared(change: dict[str, str]) -> None:
    times = _times(original=40.0, ours=1.0, rival=2.0)
    assert goals([ORIGINAL, OURS, replace(RIVAL, **change)], times)[0].outcome == "open: nothing to compare with holds the guard-rails"
    assert goals([ORIGINAL, replace(OURS, **change), RIVAL], times)[1].outcome == "missed: nothing of ours holds the guard-rails"


def test_rows_say_what_is_off_and_why_one_failed() -> None:
    times = _times(original=40.0, rival=2.0)
    table = rows([ORIGINAL, RIVAL, Record("BN scale, global", "assembled", failed="ValueError: no")], times)
    assert all(len(line) == len(COLUMNS) for line in table)
    assert table[1] == [
        *(RIVAL.name, "pass", "90.0 %", "75.0 %", "0.03 MB", "89.50 %", "-2.5 pp (3)"),
        *("2 ms [2, 2]", "-", "61 s"),
    ]
    assert table[2] == ["BN scale, global", "none: ValueError: no", *["-"] * 8]
    refused = row(replace(OURS, verdict="fail", failed="recall fell"), ORIGINAL, times)
    assert refused[1] == "fail: recall fell"


def test_the_interval_of_a_median_holds_it_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        found = median_interval(draw.exponential(size=25).tolist())
        assert found is not None
        held += found[0] <= np.log(2) <= found[1]
    assert held / 400 >= 0.95
    assert median_interval((1.0, 2.0)) is None


def test_notes_and_shares() -> None:
    contest = {"date": "2026-01-01", "load_percent": {"1": {"before": 1.0, "after": 42.0}}}
    lines = notes(contest, [replace(OURS, reasons=("held",)), replace(RIVAL, reasons=("held too",), remarks=("at 0.8 it did not",))])
    assert "42 % after batch 1" in lines[0]
    assert "busy" in lines[1]
    assert lines[2:] == [f"{OURS.name}: held.", f"{RIVAL.name}: at 0.8 it did not."]
    assert "busy" not in notes({**contest, "load_percent": {"1": {"before": 1.0, "after": 2.0}}}, [OURS])[-1]
    said = list(shares([OURS, RIVAL], _times(ours=1.0, rival=2.0), {"1": {OURS.name: 0.25}}))
    assert said == [f"batch 1, {OURS.name}: 25 % of the roofline (0.25 of 1 ms)"]


def test_records_are_made_once_and_failures_again(tmp_path: Path) -> None:
    answers: list[Record | Exception] = [ValueError("no | luck"), OURS, RIVAL]
    failure = Record("optimize", "ours")

    def make(folder: Path) -> list[Record]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [answer]

    assert made(tmp_path / "a", "x", failure, make, read_only=True) == [replace(failure, failed="not prepared")]
    assert made(tmp_path / "a", "x", failure, make, read_only=False) == [replace(failure, failed="ValueError: no / luck")]
    assert made(tmp_path / "a", "x", failure, make, read_only=True)[0].failed, "timing alone makes nothing"
    assert made(tmp_path / "a", "x", failure, make, read_only=False) == [OURS]
    assert made(tmp_path / "a", "x", failure, make, read_only=False) == [OURS]
    assert made(tmp_path / "a", "y", failure, make, read_only=False) == [RIVAL], "what depends on other settings is made again"
    assert json.loads((tmp_path / "a" / FILE).read_text(encoding="utf-8"))["made_for"] == "y"
    assert not answers
    assert identity("a", 1) == identity("a", 1) != identity("a", 2)


def test_a_ratio_is_tried_once_whatever_became_of_it(tmp_path: Path) -> None:
    refused = replace(RIVAL, failed="recall fell")
    answers = [[refused, OURS], [OURS]]
    for made_for, wanted in (("x", [refused, OURS]), ("x", [refused, OURS]), ("y", [OURS])):
        assert once(tmp_path / "0.5", made_for, lambda folder: answers.pop(0)) == wanted


def test_a_series_goes_on_after_the_ratios_that_were_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not hold with one batch is recovered with the other; from 0.5 on only int8 is left to be found."""
    ground, tried, held = _ground(tmp_path), list[tuple[float, int]](), {0.8: (), 0.5: ("f32", "bf16"), 0.2: ("f32", "bf16", "int8")}
    small = Finetune().batch_size(len(ground.data.train or ()))
    assert small < contenders.BATCH

    def at_ratio(ground: cases.Ground, signal: str, everywhere: bool, name: str, ratio: float, batch: int, folder: Path) -> list[Record]:
        tried.append((ratio, batch))
        if len(tried) == 3 and len(set(tried)) == 3:
            raise KeyboardInterrupt
        forms = [(target, precision) for target in TARGETS for precision in (*backend(target).precisions(), "int8")]
        whys = [None if precision in held[ratio] else f"fell by {ratio}" for _, precision in forms]
        return [Record(f"{name}, {form}", "assembled", *form, failed=why, prepared_s=10.0) for form, why in zip(forms, whys, strict=True)]

    monkeypatch.setattr(contenders, "_at_ratio", at_ratio)
    series = next(task for task in contenders.tasks(ground, retrain=False) if task.failure.kind == "assembled")
    with pytest.raises(KeyboardInterrupt):
        series.make(tmp_path)
    found = series.make(tmp_path)
    assert tried == [(0.8, 64), (0.8, small), (0.5, 64), (0.5, 64), (0.5, small), (0.2, 64)], "0.8 is not tried again"
    assert {each.name.split(",")[1].split(" ")[-1]: each.prepared_s for each in found if each.precision == "int8"} == {"0.2": 50.0}
    assert all(each.prepared_s == 30.0 for each in found if each.precision != "int8")
    assert not any(each.failed for each in found)
    held[0.2] = ("f32", "bf16")
    again = series.make(tmp_path / "anew")
    assert [each.failed for each in again if each.failed] == ["no ratio tried holds the guard-rails"] * 2
    said = next(each.remarks for each in again if each.remarks)
    assert said == (
        "ratio 0.8, batches of 64, all: fell by 0.8",
        f"ratio 0.8, batches of {small}, all: fell by 0.8",
        "ratio 0.5, batches of 64, OpenVINO int8, ONNX Runtime int8: fell by 0.5",
        f"ratio 0.5, batches of {small}, OpenVINO int8, ONNX Runtime int8: fell by 0.5",
        "ratio 0.2, batches of 64, OpenVINO int8, ONNX Runtime int8: fell by 0.2",
        f"ratio 0.2, batches of {small}, OpenVINO int8, ONNX Runtime int8: fell by 0.2",
    )


def _ground(folder: Path) -> cases.Ground:
    """A case of which only settings and ids are asked."""
    ratios: dict[str, Any] = {"ratios": (0.8, 0.5, 0.2), "pruners": (("group norm", True),)}
    case = cases.Case("case", "title", "", (3, 8, 8), folder, folder, {}, {}, (), **ratios)
    score = ClassificationScore(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), np.ones((1, 1), dtype=np.float32), ("a",))
    split = Split("any", np.zeros((2, 8, 8, 3), np.uint8), np.zeros(2, np.int64), Preprocessing())
    return cases.Ground(case, _net(), Dataset(None, split, split, split, ("a",)), Limits(), score, score)


def test_what_does_not_open_is_a_failure_and_samples_come_back() -> None:
    found = {"broken": {RIVAL.name: "gone"}, "samples_ms": {"8": {OURS.name: [1.0, 3.0]}}}
    assert without_broken([OURS, RIVAL], found) == [OURS, replace(RIVAL, failed="gone")]
    assert latencies(found)[8][OURS.name].p50 == 2.0


def _net() -> Candidate:
    return untrained(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, stride=2, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.ConvTranspose2d(8, 4, 2, stride=2),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1, groups=2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 2),
        ),
        *(3, 8, 8),
    )


def test_work_of_an_artifact_is_that_of_the_network(tmp_path: Path) -> None:
    net = _net()
    export_onnx(net, tmp_path / "net.onnx")
    made = [backend(target).convert(tmp_path / "net.onnx", tmp_path / target, "f32") for target in ("onnxruntime", "openvino")]
    found, again = (list(work(artifact, 5)) for artifact in made)
    assert [each[1:] for each in found] == [each[1:] for each in again]
    assert sum(each[-1] for each in found) == 5 * macs(net)
    weights = [parameter.numel() for name, parameter in net.module.named_parameters() if parameter.dim() > 1]
    assert [each[1] for each in found] == weights
    assert [each[2:4] for each in found] == [
        (5 * 3 * 64, 5 * 8 * 16),
        (5 * 8 * 16, 5 * 4 * 64),
        (5 * 4 * 64, 5 * 4 * 64),
        (5 * 4, 5 * 2),
    ]


def test_the_group_pruner_leaves_half_and_a_silent_no_op_is_refused() -> None:
    net = untrained(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(6 * 16, 2)), *(3, 8, 8))
    half = group_pruned(net, 0.5, ("4",), everywhere=False)
    assert half.parameters == (3 * 9 + 1) * 4 + (4 * 9 + 1) * 3 + (3 * 16 + 1) * 2
    with pytest.raises(OptimizeError, match="removed nothing"):
        group_pruned(net, 0.5, ("0", "2", "4"))


def test_compiled_by_inductor_it_answers_batches_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    # Only the pieces and their padding: what inductor makes takes a compiler and half a minute.
    net = _net()
    seen = []

    def compiled(module: nn.Module, **_: object) -> Any:
        return lambda inputs: (seen.append(len(inputs)), module(inputs))[1]

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(eager, "instruction_sets", lambda: ())
    inputs = np.random.default_rng(0).standard_normal((11, 3, 8, 8), dtype=np.float32)
    with eager.build(net, eager.COMPILED) as session:
        np.testing.assert_allclose(session.predict(inputs), net.predict(inputs), atol=1e-6)
        session.predict(inputs[:1])
    assert seen == [8, 8, 1]
    assert eager.precision(eager.COMPILED) == eager.precision(eager.EAGER) == "f32"


def test_weights_of_another_training_are_told_from_the_study_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    pixels, labels = draw.integers(0, 255, (33, 64, 64, 3), dtype=np.uint8), np.arange(33, dtype=np.uint8)[:, None] % 8
    arrays = {f"{name}_labels": labels for name in ("train", "val", "test")}
    images = {"train_images": pixels, "val_images": pixels[::-1] // 2, "test_images": np.concatenate([pixels[:1], pixels[1:] // 3])}
    np.savez(tmp_path / cases.BLOOD, **arrays, **images)
    monkeypatch.setattr(cases, "CACHE", tmp_path)
    monkeypatch.setattr(cases, "VGG_ARGS", {"width": 0.03125})
    monkeypatch.setattr(cases, "EPOCHS", 1)
    ours = cases.vgg19(tmp_path, tmp_path, quick=False)
    assert ours.remarks == ()
    weights = load_file(ours.weights)
    assert int(weights["1.num_batches_tracked"]) == 1, "32 images are one batch: the 33rd, a test image too, is left out"
    ours.weights.unlink()
    assert load_file(cases.vgg19(tmp_path, tmp_path, quick=False).weights)["0.weight"].equal(weights["0.weight"]), "the same bytes again"
    save_file(weights, ours.weights)
    theirs = cases.vgg19(tmp_path, tmp_path, quick=False)
    assert theirs.remarks == (cases.UNMARKED,)
    assert repr(theirs) == repr(ours), "what is only remarked makes no record anew"
