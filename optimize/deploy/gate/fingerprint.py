"""The fingerprint of a machine: what must be equal before a figure of another day is compared with one of today.

Time and memory depend on all of it. A kernel that was updated, or another version of the runtime, is another machine in this sense.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from optimize.backends import backend
from optimize.hardware.machine import machine

FIELDS = ("cpu", "physical_cores", "logical_cores", "isa", "os", "python")
"""Facts of `hardware.machine` that a fingerprint holds."""


def fingerprint(target: str) -> dict[str, str]:
    """Return the facts that decide time and memory of a target's models here, as texts; the runtime is imported for its version."""
    here = machine()
    facts = {name: " ".join(value) if isinstance(value := here[name], tuple) else str(value) for name in FIELDS}
    return {**facts, "runtime": f"{target} {backend(target).version()}"}


def digest(facts: Mapping[str, str]) -> str:
    """Return the SHA-256 of a fingerprint, 64 hexadecimal digits; equal facts give equal digits, in whatever order they stand.

    >>> digest({"cpu": "A", "os": "B"}) == digest({"os": "B", "cpu": "A"})
    True
    """
    return hashlib.sha256(json.dumps(dict(facts), sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Return what differs between two fingerprints, each in a few words.

    >>> differences({"cpu": "A", "os": "C"}, {"cpu": "B", "os": "C"})
    ["cpu was 'A', here is 'B'"]
    """
    names = sorted({*there, *here})
    return [f"{name} was {there.get(name, '')!r}, here is {here.get(name, '')!r}" for name in names if there.get(name) != here.get(name)]
