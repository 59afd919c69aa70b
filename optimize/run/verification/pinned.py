"""Compare a run that is judged again or finished with its report: limits, settings, model and data must be the same.

The settings are read from `recipe.lock.toml`, which anyone can edit; the report can be signed. So every setting that stands in both must be
the same in both, and a run is never judged by limits that its report does not show. Example: `max_drop = 0.02` in the report and `0.2` in
the lock file is an error, not a run with a wider limit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.backends import CPU
from optimize.data.output_meaning import plain
from optimize.errors import InputError
from optimize.files import sha256
from optimize.guard.limits import Limits
from optimize.run import report_data
from optimize.run.identity import identity
from optimize.run.recipe import Recipe
from optimize.run.recipe_file import LOCK

if TYPE_CHECKING:
    from optimize.run.prepare import Job

LEDGER = "ledger.jsonl"


def require_settings(recipe: Recipe, report: Mapping[str, Any], said: Mapping[str, object]) -> None:
    """Check that the lock file has the settings of the report.

    Args:
        recipe: recipe that was read from the lock file.
        report: report of the run.
        said: settings that the caller passed, by the names of `Recipe`; these may differ from those of the run.

    Raises:
        InputError: naming the first setting that differs.
    """
    fixed = report.get("task", "classification") not in ("classification", "ordinal")
    usual, limits = Limits().as_dict(), recipe.limits.as_dict()
    for name in sorted({*limits, *report["limits"]}):
        if fixed and name in ("metric", "class_metric"):  # the report says Dice of masks, whatever was asked for
            continue
        # A limit that the report does not know is of a later version than it is.
        _same(f"limits.{name}", limits.get(name), report["limits"].get(name, usual.get(name)))
    _same("seed", recipe.seed, report["seed"])
    # "cpu" stands for a choice of runtimes, and the report names the one that was chosen
    if recipe.target != CPU:
        _same("target", recipe.target, report["target"])
    if recipe.classes:
        _same("classes", list(recipe.classes), report["classes"])
    if said.get("arch") is None:
        _same("arch", None if recipe.arch is None else report_data.portable_arch(recipe.arch), report["model"].get("arch"))


def _same(name: str, locked: object, said: object) -> None:
    if locked != said or isinstance(locked, bool) != isinstance(said, bool):
        raise InputError(f"`{LOCK}` says {name} = {_short(locked)}, the report {_short(said)}: copy the folder of the run again.")


def _short(value: object) -> str:
    return text if len(text := ascii(value)) <= 80 else f"{text[:80]}…"


def require_code(recipe: Recipe, ledger: Path) -> None:
    """Check that the file of the network's factory is the one that the run had, before anything in it is executed.

    Args:
        recipe: recipe with the `arch` of the lock file.
        ledger: ledger of the run. Its first line has the hash of the factory's file; in an earlier version it may have none.

    Raises:
        InputError: when the file has another hash.
    """
    said = _first_ledger_entry(ledger).get("arch")
    if recipe.arch is None or not isinstance(said, list) or len(said) != 2:
        return
    source = Path(recipe.arch.rpartition(":")[0])
    if source.is_file() and sha256(source) != said[1]:
        raise InputError(f"`{LOCK}` names `{source}`, which is not the file that the run had (its sha256 differs): name one with --arch.")


def require_data(job: Job, report: Mapping[str, Any], ledger: Path) -> None:
    """Check that the data are those of the run: images, labels, patients, subgroups, names and classes.

    Args:
        job: job with the data that are on this machine.
        report: report of the run.
        ledger: ledger of the run. Its first line has the hashes of patients, subgroups and names, which the report does not have.

    Raises:
        InputError: naming the first split that differs.
    """
    present = report_data.splits(job.data)
    listed = {name: said for name, said in report["data"].items() if said is not None}
    for name in sorted({*present, *listed}):
        if name not in present or name not in listed:
            where = "the data" if name in present else "the report"
            raise _data_error(f"there is a {name} split in {where} alone")
        split, said = present[name], listed[name]
        if split.sha256 != said["sha256"]:
            raise _data_error(f"the {name} split is not that of the run (sha256 {split.sha256[:12]}…, was {said['sha256'][:12]}…)")
        patients = None if split.patients is None else len(set(split.patients.tolist()))
        own = {"cases": len(split), "patients": patients, "per_class": split.class_counts(job.data.classes)}
        # the split's hash covers images and labels; patients and classes come from other arrays
        if differ := [key for key, value in own.items() if said.get(key) != value]:
            raise _data_error(f"{differ[0]} of the {name} split are not those of the run")
    if list(job.data.classes) != report["classes"]:
        raise _data_error(f"its classes are {_short(list(job.data.classes))}, those of the run {_short(report['classes'])}")
    task = report.get("task", "classification")
    if job.data.test.task != task:
        raise _data_error(f"it is for {job.data.test.task}, the run was for {_short(task)}")
    if (original := report.get("original")) is not None:  # a report of an earlier version has none
        _same("model.outputs", plain(job.original.outputs), original["outputs"])
    _require_tags(job, ledger)


def _first_ledger_entry(ledger: Path) -> dict[str, Any]:
    """Return the identity of the run from the first line of its ledger; empty where that line cannot be read."""
    try:
        with ledger.open(encoding="utf-8") as stream:
            return dict(json.loads(stream.readline())["run"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _require_tags(job: Job, ledger: Path) -> None:
    # an earlier version has no such hashes, and then nothing is compared
    began = _first_ledger_entry(ledger)
    for name, now in identity(job.recipe, job.data).items():
        if name.endswith(" tags") and began.get(name, now) != now:
            raise _data_error(f"patients, subgroups or names of the {name.removesuffix(' tags')} split are not those of the run")


def _data_error(what: str) -> InputError:
    return InputError(f"`--data`: {what}: name the same file.")
