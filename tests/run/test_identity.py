"""What makes two runs the same run: every setting but the few that are excluded by name, the model, the data and the versions."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimize.data.dataset import Dataset, Preprocessing, load_data
from optimize.guard.limits import Limits
from optimize.run.identity import _UNDER, EXCLUDED, identity
from optimize.run.recipe import Recipe, resolve
from tests import runs


@pytest.fixture(scope="module")
def dataset(brought: Path) -> Dataset:
    return load_data(brought.parent / "data.npz", preprocessing=Preprocessing((0.5,), (0.25,)), input_shape=(1, 8, 8), classes=runs.CLASSES)


@pytest.fixture
def recipe(brought: Path, tmp_path: Path) -> Recipe:
    return resolve(brought, target="onnxruntime", overrides={"out": tmp_path})


def changed(before: dict[str, Any], now: dict[str, Any]) -> set[str]:
    return {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"arch": "other.py:net"}, "arch"),
        ({"arch_args": {"width": 9}}, "arch_args"),
        ({"input_shape": (1, 9, 9)}, "input"),
        ({"mean": (0.4,)}, "preprocessing"),
        ({"pad": 1}, "preprocessing"),
        ({"mean": (), "std": (), "standardize": "image"}, "preprocessing"),
        ({"limits": Limits(0.03)}, "limits"),
        ({"limits": Limits(min_agreement=0.9)}, "limits"),
        ({"budgets": (0.5,)}, "budgets"),
        ({"energy": 0.5}, "energy"),
        ({"retrain": True}, "retrain"),
        ({"seed": 1}, "seed"),
        ({"target": "openvino"}, "target"),
        ({"protocol": Path("p.toml")}, "protocol"),
    ],
)
def test_another_setting_is_another_run(
    recipe: Recipe, dataset: Dataset, change: dict[str, Any], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("other.py", "p.toml"):
        (tmp_path / name).write_text("", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert changed(identity(recipe, dataset), identity(replace(recipe, **change), dataset)) == {what}


def test_other_weights_or_data_are_another_run(recipe: Recipe, dataset: Dataset, tmp_path: Path) -> None:
    whole = identity(recipe, dataset)
    other = tmp_path / "model.pt"
    other.write_bytes(recipe.model.read_bytes() + b"\0")
    assert changed(whole, identity(replace(recipe, model=other), dataset)) == {"model"}
    for name in ("train", "calibration", "guard", "test"):
        split = getattr(dataset, name)
        relabelled = replace(split, labels=np.roll(split.labels, 1))
        assert changed(whole, identity(recipe, replace(dataset, **{name: relabelled}))) == {f"{name} data"}
    assert changed(whole, identity(recipe, replace(dataset, train=None))) == {"train data", "train tags"}
    grouped = replace(dataset.test, groups={"site": np.array(["x"] * len(dataset.test))})
    assert changed(whole, identity(recipe, replace(dataset, test=grouped))) == {"test tags"}


def test_other_settings_of_recovery_training_are_another_run(recipe: Recipe, dataset: Dataset) -> None:
    trained = replace(recipe, retrain=True)
    assert changed(identity(trained, dataset), identity(replace(trained, epochs=9), dataset)) == {"retrain"}


@pytest.mark.parametrize("change", [{"out": Path("/elsewhere")}, {"threads": 7}, {"batch": 3}, {"epochs": 9}, {"trust_pickle": True}])
def test_what_changes_no_trial_is_the_same_run(recipe: Recipe, dataset: Dataset, change: dict[str, Any]) -> None:
    assert identity(replace(recipe, **change), dataset) == identity(recipe, dataset)


def test_the_identity_is_plain_json(recipe: Recipe, dataset: Dataset) -> None:
    whole = identity(recipe, dataset)
    assert json.loads(json.dumps(whole)) == whole


def test_an_edited_network_is_another_run(recipe: Recipe, dataset: Dataset, tmp_path: Path) -> None:
    net = tmp_path / "net.py"
    net.write_text("width = 4\n", encoding="utf-8")
    before = identity(replace(recipe, arch=f"{net}:make"), dataset)
    net.write_text("width = 8\n", encoding="utf-8")
    assert changed(before, identity(replace(recipe, arch=f"{net}:make"), dataset)) == {"arch"}


@dataclass(frozen=True)
class LaterRecipe(Recipe):
    """A recipe of a later version, with a setting that nobody told the identity of."""

    patience: int = 3
    places: tuple[Path, ...] = ()


def test_a_setting_that_is_added_makes_another_run_without_further_ado(recipe: Recipe, dataset: Dataset) -> None:
    values = {field.name: getattr(recipe, field.name) for field in fields(recipe)}
    whole = identity(LaterRecipe(**values), dataset)
    assert whole["patience"] == 3
    assert changed(whole, identity(LaterRecipe(**values, patience=4), dataset)) == {"patience"}
    assert changed(whole, identity(LaterRecipe(**values, places=(Path("a"),)), dataset)) == {"places"}


def test_every_field_is_compared_or_excluded_by_name(recipe: Recipe, dataset: Dataset) -> None:
    names = {field.name for field in fields(Recipe)}
    assert EXCLUDED.keys() <= names
    assert _UNDER.keys() <= names - EXCLUDED.keys()
    compared = {_UNDER.get(name, name) for name in names - EXCLUDED.keys()}
    hashes = {f"{split} {what}" for split in ("train", "calibration", "guard", "test") for what in ("data", "tags")}
    assert identity(recipe, dataset).keys() == compared | hashes | {"model", "versions"}


def test_other_names_of_the_labels_are_another_run(recipe: Recipe, dataset: Dataset) -> None:
    """The trials of a run hold a figure for each class, by its name."""
    assert changed(identity(recipe, dataset), identity(replace(recipe, classes=("a", "b", "c", "d")), dataset)) == {"classes"}
