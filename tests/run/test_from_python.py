"""The commands as functions: objects give the same run as files do, and what is wrong is said in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import optimize.report
from optimize.data.dataset import Preprocessing, load_data
from optimize.errors import Inconclusive, InputError
from optimize.guard.limits import Limits
from optimize.run.from_python import _resolved, compress, verify
from optimize.run.in_memory import weights_file
from optimize.run.recipe import resolve
from optimize.run.report import Report
from tests import runs
from tests.conftest import hurried
from tests.runs import Run

SETTINGS: dict[str, Any] = {
    **{"mean": (0.5,), "std": (0.25,), "classes": runs.CLASSES, "strategy": "budget", "budgets": [0.002, 0.02], "energy": 0.99},
    **{"threads": 1, "batch": 2, "max_drop": "4pp", "max_class_drop": "12pp"},
}


@pytest.fixture(scope="module")
def filed(brought: Path, any_target: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The command on files."""
    with pytest.MonkeyPatch.context() as patch:
        hurried(patch, memory=False)
        out = tmp_path_factory.mktemp("filed") / "out"
        return runs.compressed(brought, out, "--strategy", "budget", target=any_target)


@pytest.fixture(scope="module")
def live(any_target: str, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The function on a network and arrays of this process."""
    with pytest.MonkeyPatch.context() as patch:
        hurried(patch, memory=False)
        out = tmp_path_factory.mktemp("live") / "out"
        return compress(runs.trained(), runs.arrays(), target=any_target, out=out, history=runs.history(out), **SETTINGS)


def plain(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in step.items() if name not in ("seconds", "latency_ms")} for step in steps]


def test_objects_give_the_figures_of_files(filed: Run, live: Report) -> None:
    report = filed.report
    for name in ("data", "classes", "limits", "original", "layers", "health", "target", "task", "seed", "verdict"):
        assert live[name] == report[name]
    assert plain(live["steps"]) == plain(report["steps"])
    for name in ("metrics", "parameters", "macs", "runtime"):
        assert live["baseline"][name] == report["baseline"][name]
    for name in ("parameters", "macs"):
        assert live["compressed"][name] == report["compressed"][name]
    if live["precision"] == report["precision"]:  # which precision is fastest is measured
        assert live["compressed"]["metrics"] == report["compressed"]["metrics"]


def test_the_report_holds_to_its_schema_and_says_what_was_not_measured(live: Report) -> None:
    schema = json.loads((Path(optimize.report.__file__).parent / "schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(dict(live))
    assert live["baseline"]["peak_memory_bytes"] is None
    assert live["compressed"]["peak_memory_bytes"] > 0
    assert any(note.startswith("peak memory of torch eager was not measured: the network was given as an object") for note in live["notes"])
    assert live["model"] == {"name": "Sequential", "sha256": live["model"]["sha256"], "arch": None}
    assert str(live.folder.parent) not in (live.folder / "report.json").read_text()


def test_the_network_that_was_given_is_unchanged(live: Report) -> None:
    fresh = runs.trained.__wrapped__().state_dict()
    assert all(torch.equal(fresh[name], tensor) for name, tensor in runs.trained().state_dict().items())
    assert live.candidate.parameters == live["compressed"]["parameters"]
    assert live.candidate.module is not runs.trained()


def test_an_ended_run_is_taken_up_and_another_network_is_not(live: Report, any_target: str) -> None:
    settings = {**SETTINGS, "history": runs.history(live.folder), "target": any_target, "out": live.folder, "resume": True}
    again = compress(runs.trained(), runs.arrays(), **settings)
    assert dict(again) == dict(live)
    with pytest.raises(InputError, match="is not in this process"):
        _ = again.candidate
    other = runs.trained.__wrapped__()
    with torch.no_grad():
        other.get_parameter("0.bias").add_(1e-3)
    with pytest.raises(InputError, match=r"found another run in .* \(model changed\)"):
        compress(other, runs.arrays(), **settings)


def test_it_is_verified_again_on_data_in_memory(live: Report) -> None:
    found = verify(live.folder, model=runs.trained(), data=runs.arrays(), history=runs.history(live.folder))
    assert found.outcome == "pass"
    with pytest.raises(InputError, match=r"`--model`: the model is not that of the run"):
        verify(live.folder, model=nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), data=runs.arrays())


def test_the_lock_file_names_no_file_that_is_gone(live: Report) -> None:
    lock = resolve(recipe_file=live.folder / "recipe.lock.toml")
    assert (lock.model.name, lock.data, lock.input_shape) == ("Sequential", "", (1, 8, 8))
    assert lock.limits == Limits(0.04, 0.12)


def test_data_in_memory_stand_in_for_those_that_the_settings_name(brought: Path, any_target: str) -> None:
    with _resolved(brought, runs.arrays(), any_target, Limits(0.1), "out", None, {"seed": 3}) as (recipe, objects):
        assert (recipe.model, recipe.data, recipe.seed, recipe.out) == (brought, "", 3, Path.cwd() / "out")
        assert (recipe.mean, recipe.limits, objects.module) == ((0.5,), Limits(0.1), None)
        assert objects.data is not None
    with _resolved(brought, DATASET, any_target, {"max_drop": "3pp"}, None, None, {}) as (recipe, objects):
        assert (recipe.std, recipe.limits.max_drop, objects.data) == ((0.25,), 0.03, DATASET)
    with _resolved(runs.trained(), "data.npz", any_target, None, None, None, {"input_shape": (1, 8, 8)}) as (recipe, objects):
        assert (recipe.data, objects.data, recipe.model.is_file()) == (str(Path.cwd() / "data.npz"), None, True)
    assert not recipe.model.exists()


def test_equal_networks_have_equal_files_and_others_do_not() -> None:
    def content(module: nn.Module) -> bytes:
        with weights_file(module) as path:
            return path.read_bytes()

    plainly, other = (nn.Sequential(nn.Linear(3, 2), activation) for activation in (nn.ReLU(), nn.GELU()))
    other.load_state_dict(plainly.state_dict())
    assert content(plainly) == content(plainly)
    assert content(plainly) != content(other)


def loader(split: str, **settings: Any) -> DataLoader[Any]:
    arrays = runs.arrays()
    images = torch.from_numpy(arrays[f"{split}_images"][:, None].astype(np.float32))
    return DataLoader(TensorDataset(images, torch.from_numpy(arrays[f"{split}_labels"])), batch_size=8, **settings)


FEW = {name: value[::29] if "test" in name else value for name, value in runs.arrays().items()}
DATASET = load_data(runs.arrays(), preprocessing=Preprocessing((0.5,), (0.25,)))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"data": runs.arrays() | {"val_labels": np.zeros((200, 4), int)}}, InputError, r"`val_labels` has shape \(200, 4\)"),
        ({"data": {"val": loader("val", drop_last=True, sampler=range(3)), "test": loader("test")}}, InputError, "DataLoader that samples"),
        ({"model": nn.Linear(2, 2, device="meta")}, InputError, r"`model` \(=Linear\) lies on device 'meta'"),
        ({"model": nn.ReLU()}, InputError, r"`model` \(=ReLU\) has no weights: pass a trained network"),
        ({"arch": "net.py:net"}, InputError, r"`arch` \(=.*net.py:net'\) is for a file of weights"),
        ({"max_dorp": "2pp"}, InputError, r"`max_dorp` is no setting: did you mean `max_drop`\?"),
        ({"limits": Limits()}, InputError, r"`max_drop` \(='4pp'\) is a limit, and `limits` is given: put it in there"),
        ({"data": None, "input_shape": (1, 8, 8)}, InputError, "`data` is missing"),
        ({"data": DATASET}, InputError, r"`mean` \(=\(0.5,\)\) is said twice, as a prepared `Dataset` holds it"),
        ({"target": "onnx"}, InputError, "`target` .* must be one of"),
        ({"data": FEW}, Inconclusive, "the test split is too small to accept anything"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    change: dict[str, Any], error: type[Exception], words: str, any_target: str, tmp_path: Path
) -> None:
    call = {"model": runs.trained(), "data": runs.arrays(), "target": any_target, "out": tmp_path / "out", **SETTINGS, **change}
    with pytest.raises(error, match=words) as refusal:
        compress(**{"history": tmp_path / "looks.jsonl", **call})
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out" / "ledger.jsonl").exists()


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), r"`data` has 4 classes and the network 3 outputs: load it with `num_classes`=3"),
        (nn.Sequential(nn.Conv2d(1, 4, 1)), r"`data` is for classification and the network gives outputs of \(4, 8, 8\)"),
    ],
)
def test_a_prepared_dataset_must_fit_the_network(network: nn.Module, words: str, any_target: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        compress(network, DATASET, target=any_target, out=tmp_path / "out", history=tmp_path / "looks.jsonl")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"limits": "2pp"}, r"`limits` \(='2pp'\) must be `Limits` or a dict of limits by name"),
        ({"limits": 0.02}, r"`limits` \(=0.02\) must be"),
        ({"limits": Limits(preset="clinical")}, r"pass limits={'preset': 'clinical'}"),
        ({"limits": Limits(), "preset": "clinical"}, "`preset` .* and `limits` are both given"),
        ({"out": 3}, r"`out` \(=3\) must be a path"),
        ({"model": {"weight": torch.zeros(99, 99)}}, "^`model` is of class dict: pass the trained network itself [^\n]*$"),
        ({"model": nn.Linear}, "`model` is the function or class Linear"),
        ({"seed": "x"}, r"^`seed` \(='x'\) must be a whole number"),
        ({}, "`data` is missing: pass arrays"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_refused_in_one_line(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words), _call(**arguments):
        pass


def _call(model: object = None, limits: object = None, out: object = None, **settings: object) -> Any:
    return _resolved(nn.Linear(2, 2) if model is None else model, None, "onnxruntime", limits, out, None, settings)  # type: ignore[arg-type]


def test_settings_may_be_arrays_and_tensors() -> None:
    data = runs.arrays()
    arrays = {"mean": np.full(3, 0.5), "std": torch.full((3,), 0.25)}
    with _resolved(runs.trained(), data, "onnxruntime", None, None, None, arrays) as found:
        assert (found[0].mean, found[0].std) == ((0.5,) * 3, (0.25,) * 3)
    with _resolved(runs.trained(), data, "onnxruntime", None, None, None, {"seed": np.int64(3), "max_drop": np.float32(0.5)}) as found:
        assert (found[0].seed, found[0].limits.max_drop) == (3, 0.5)


def test_predict_takes_images_as_the_data_may_hold_them_and_refuses_others(live: Report) -> None:
    images = runs.arrays()["test_images"][:4]
    channels, *spatial = live.artifact.input_shape
    inputs = np.zeros((2, channels, *spatial), np.float32)
    graded = torch.from_numpy(inputs).requires_grad_()
    np.testing.assert_array_equal(live.predict(graded, prepared=True), live.predict(inputs, prepared=True))  # type: ignore[arg-type]
    for wrong in (images[0], images[:0], np.repeat(images, 2, axis=1)):
        with pytest.raises(InputError, match=r"^`images` \(shape [^\n]*\) are not like those of the run: pass at least one image in \(N, "):
            live.predict(wrong)
    with pytest.raises(InputError, match=r"images (cannot become an array|holds Python objects)"):
        live.predict([[1], [2, 3]])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"`folder` .* must be a path"):
        Report.load(3)  # type: ignore[arg-type]
