"""Compare a run with the protocol that was fixed before it: limits, settings, model and test data must be as the protocol states them.

A run that would answer another question than the protocol asks must not begin, so the first difference is an error. Example: the protocol
fixes `max_drop = "2pp"` and the run has 3 pp.
"""

from __future__ import annotations

from collections.abc import Mapping

from optimize.backends import CPU, target_names
from optimize.data.dataset import Dataset
from optimize.errors import InputError, did_you_mean
from optimize.files import sha256
from optimize.guard.limits import Limits
from optimize.run.protocol import Protocol, read_protocol
from optimize.run.recipe import Recipe, stated_limits, stated_setting


def agreed_protocol(recipe: Recipe) -> Protocol | None:
    """Return the protocol of a run, which the settings agree with; None where none was fixed.

    Raises:
        InputError: when the protocol is not complete, its signature is not valid, or the run differs from it.
    """
    if recipe.protocol is None:
        return None
    protocol = read_protocol(recipe.protocol)
    require_settings(protocol, recipe)
    return protocol


def require_known(protocol: Protocol) -> None:
    """Check that the limits and settings that a protocol fixes exist, and that their values can be read.

    Raises:
        InputError: naming the first that does not.
    """
    _fixed_limits(protocol)
    _fixed_settings(protocol)
    target, choices = str(protocol.content["run"]["target"]), (*target_names(), CPU)
    if target not in choices:
        near = did_you_mean(target, choices)
        raise InputError(f"`target` of [run] in {protocol.file} (={target!r}) must be one of {', '.join(choices)}{near}.")


def require_settings(protocol: Protocol, recipe: Recipe) -> None:
    """Check that the limits, the settings and the model of a run are those of its protocol.

    Args:
        protocol: the protocol of the run.
        recipe: the resolved settings; the model's file is read only where the protocol names its hash.

    Raises:
        InputError: naming the first difference.
    """
    fixed = _in_words(_fixed_limits(protocol))
    for name, value in _in_words(recipe.limits).items():
        _require_same(protocol, name, fixed[name], value)
    for name, stated in _fixed_settings(protocol).items():
        _require_same(protocol, name, str(stated), str(getattr(recipe, name)))
    if stated_hash := protocol.content.get("model", {}).get("sha256"):
        _require_same(protocol, "the sha256 of the model", stated_hash, sha256(recipe.model))


def require_test_data(protocol: Protocol | None, data: Dataset) -> None:
    """Check that the test split of a run is the one that its protocol names.

    Args:
        protocol: the protocol of the run; None where none was fixed, and any split will do.
        data: the four splits of the run.

    Raises:
        InputError: when its hash differs.
    """
    if protocol is not None:
        _require_same(protocol, "the sha256 of the test split", protocol.content["test_data"]["sha256"], data.test.sha256)


def _fixed_limits(protocol: Protocol) -> Limits:
    return stated_limits(protocol.content["criteria"], f"[criteria] in {protocol.file}")


def _fixed_settings(protocol: Protocol) -> dict[str, object]:
    return {name: stated_setting(name, value, f"[run] in {protocol.file}") for name, value in protocol.content["run"].items()}


def _in_words(limits: Limits) -> Mapping[str, str]:
    """Return every limit that is in force, by name, as text: "0.02", or "0.02 of the original's figure"."""
    said = limits.as_dict()
    # where the numbers came from, a preset or single limits, does not matter
    plain = {name: (value, name in said["relative"]) for name, value in said.items() if name not in ("preset", "relative", "further")}
    further = {row["name"]: (row["limit"], row["relative"]) for row in said.get("further", ())}
    words = {True: " of the original's figure", False: ""}
    return {name: f"{value}{words[relative]}" for name, (value, relative) in {**plain, **further}.items()}


def _require_same(protocol: Protocol, name: str, fixed: str, value: str) -> None:
    if fixed != value:
        remedy = "change the run, or fix another protocol"
        raise InputError(f"`--protocol` (={protocol.file.name}) fixes {name} = {fixed}, and the run has {value}: {remedy}.")
