"""Read the settings of `optimize gate`, from text or from values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optimize.deploy.gate.criteria import Criterion, rows
from optimize.deploy.gate.evidence import GatePlan
from optimize.errors import InputError, did_you_mean
from optimize.guard.limits import parse_limit, parse_points
from optimize.hardware.machine import machine
from optimize.run import parsing as read

_READERS: Mapping[str, read.Reader] = {
    "batches": read.counts(read.batch),
    "threads": read.threads,
    "max_seconds": read.positive,
    "data": read.source,
    "seed": read.seed,
}


def gate_plan(settings: Mapping[str, Any]) -> GatePlan:
    """Return the settings of a comparison; None stands for the default.

    Args:
        settings: values by the names of `GatePlan` and of the criteria.

    Raises:
        InputError: when a name is not known, or a value is wrong.

    Example:
        >>> gate_plan({"max_slowdown": "10%", "batches": "1,8"}).limits["max_slowdown"]
        0.1
    """
    said = {name: value for name, value in settings.items() if value is not None}
    names = [*_READERS, *(row.name for row in rows())]
    if unknown := [name for name in said if name not in names]:
        raise InputError(f"`{unknown[0]}` (={said[unknown[0]]}) is no setting of a gate{did_you_mean(unknown[0], names)}.")
    values: dict[str, Any] = {
        name: reader(said[name], f"--{name.replace('_', '-')}", Path.cwd()) for name, reader in _READERS.items() if name in said
    }
    cores = int(str(machine()["logical_cores"]))
    if values.get("threads", 1) > cores:
        raise InputError(f"`--threads` (={values['threads']}) is more than the {cores} cores of this machine: name at most {cores}.")
    batches = values.get("batches", (1,))
    if not batches or len(set(batches)) < len(batches):
        raise InputError(f"`--batches` (={','.join(map(str, batches))}) must hold at least one number, and none twice.")
    limits = {row.name: _limit(row, said) for row in rows()}
    if asked := [row for row in rows() if row.rule == "drop" and row.name in said and not values.get("data")]:
        raise InputError(f"`{asked[0].option}` (={said[asked[0].name]}) needs labelled data: pass --data DATA, or leave it out.")
    return GatePlan(limits=limits, **values)


def _limit(row: Criterion, said: Mapping[str, Any]) -> float | None:
    """Return the limit of one criterion; None where the figure is only shown."""
    value = said.get(row.name, row.default)
    if value is None or value == "none":
        return None
    limit = parse_limit(value, row.option) if row.rule == "drop" else _growth(value, row.option)
    if limit < 0 or (row.noisy and limit == 0):
        rule = "above 0, since no measurement shows that nothing changed" if row.noisy else "0 or more"
        raise InputError(f"`{row.option}` (={value}) must be {rule}: pass {row.example}, or none to only show the figure.")
    return limit


def _growth(value: Any, name: str) -> float:
    """Return a growth as a share of the baseline's figure, from "5%" or 0.05; a growth may be more than 100 %."""
    if isinstance(value, str) and "pp" in value:
        raise InputError(f"`{name}` (={value!r}) is a share of the baseline's figure: write it in percent, such as '5%'.")
    problem = InputError(f"`{name}` (={value!r}) must be a share such as 5% or 0.05.")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise problem
    try:
        return parse_points(value, name)
    except InputError:
        # the wording of limits on accuracy speaks of percentage points, which a growth has not
        raise problem from None
