"""The identity of a run: inputs, settings and versions that must be equal for `--resume` to continue it.

A field of `Recipe` belongs to the identity unless `EXCLUDED` names it with a reason. So a new field that nobody thinks of is included. At
worst a run is refused that could have been continued; trials of two different settings are never mixed.

Example: `--resume` after the data were moved continues the run, because hashes of the splits count and not their path. `--resume` with
another `--seed` is refused: the proposals so far were made with the first one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from optimize.backends import versions
from optimize.data.dataset import Dataset, Split
from optimize.files import sha256
from optimize.loading.libraries import of_library
from optimize.run.recipe import Recipe
from optimize.run.report_data import splits

EXCLUDED: Mapping[str, str] = {
    "model": "the hash of the file counts, not its place",
    "data": "the hashes of the splits count, not their place",
    "drop_overlap": "the hashes of the splits show what it dropped",
    "out": "a folder of results may be moved",
    "preprocessing": "the settings that it stands for count",
    "history": "the record of looks is read again by each call",
    "fresh_test": "the look at the test split is that of the call that ends the run",
    "trust_pickle": "the hash of the file counts, not how it was opened",
    "expect": "it only refuses an original, before any proposal",
    "allow_weak_original": "it only accepts an original, before any proposal",
    "force": "it only starts the run where no verdict can come of it",
    "reason": "it only stands in the report",
    "sign_key": "it only signs the report",
    "threads": "a strategy that proposes other steps with it is judged anew from there",
    "batch": "it is timed only at the end",
    "time_budget": "it only ends the search earlier: the proposals up to there are the same",
}
"""Fields of `Recipe` that may differ between a run and its continuation, and why. Every other field is part of the identity."""

_UNDER: Mapping[str, str] = {
    "input_shape": "input",
    "cpu_level": "isa",
    **dict.fromkeys(("mean", "std", "pad", "standardize"), "preprocessing"),
    **dict.fromkeys(("strategy", "floors", "stopping", "latency_target_ms", "speedup", "prefer"), "strategy"),
    **dict.fromkeys(("retrain", "epochs", "learning_rate", "optimizer", "horizontal_flip"), "retrain"),
}
"""Field of `Recipe` -> the key under which the ledger keeps it and an error names it, where that is not the field's name."""


def identity(recipe: Recipe, data: Dataset) -> dict[str, Any]:
    """Return the identity of a run as plain JSON: hashes of its inputs, its settings, and the versions of the packages that compute it.

    Args:
        recipe: the resolved settings of the run.
        data: the four splits.
    """
    hashes = {f"{name} data": split.sha256 for name, split in splits(data).items()}
    # patients and subgroups decide bounds, so a run with other patients is another run
    hashes |= {f"{name} tags": _metadata_hash(split) for name, split in splits(data).items()}
    # versions count: another runtime may judge the same proposal in another way
    whole = {**_settings(recipe), **hashes, "model": sha256(recipe.model), "versions": versions()}
    return dict(json.loads(json.dumps(whole, default=str)))


def _settings(recipe: Recipe) -> dict[str, Any]:
    """Return the settings that count, by the keys of the ledger."""
    settings: dict[str, Any] = {}
    for name in (field.name for field in fields(recipe) if field.name not in EXCLUDED):
        settings.setdefault(_UNDER.get(name, name), {})[name] = _value(recipe, name)
    if not recipe.retrain:
        settings["retrain"] = None  # the settings of a training that does not take place make no other run
    # a key of one field holds the plain value; a key of several, such as "preprocessing", holds a table of them
    return {word: next(iter(values.values())) if values and len(values) == 1 else values for word, values in settings.items()}


def _value(recipe: Recipe, name: str) -> Any:
    """Return a field as JSON holds it; for `arch`, which names code, the hash of its file as well; of a protocol only the hash."""
    value = getattr(recipe, name)
    if name == "protocol":
        return value and sha256(value)
    if name == "arch":
        # a library's network has no file of the user's; its version is among those of the run where it is one that computes
        return value and [value, "" if of_library(value) else sha256(Path(value.rpartition(":")[0]))]
    if name == "limits":
        return value.as_dict()
    return dict(value) if isinstance(value, Mapping) else value


def _metadata_hash(split: Split) -> str:
    """Return the hash of patients, subgroups and names: the split's own hash covers only images and labels."""
    columns = {**split.groups, "patient": split.patients, "name": split.item_names}
    plain = {name: None if values is None else values.tolist() for name, values in columns.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
