"""The section "self_test" of the manifest: where the recorded outputs lie, and how far others may be from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from optimize.backends.artifact import Artifact
from optimize.backends.self_test import tolerances


@dataclass(frozen=True)
class SelfTest:
    """The recorded inputs and outputs of an artifact.

    Args:
        path: path of the file in the bundle.
        tolerance: "same" and "another" -> largest difference on a machine like the one that verified the artifact, and on another, as
            shares of the range of the recorded outputs.
    """

    path: str
    tolerance: Mapping[str, float]

    @classmethod
    def of(cls, artifact: Artifact) -> SelfTest | None:
        """Return the self-test of an artifact; None for one that never ran, which has none."""
        if artifact.golden is None:
            return None
        same, another = tolerances(artifact.precision)
        return cls(f"model/{artifact.golden.name}", {"same": same, "another": another})
