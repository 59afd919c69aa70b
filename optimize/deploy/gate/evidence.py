"""Everything that the criteria of one comparison look at: both models, the settings, and what was measured for several criteria at once.

The baseline is a model that is here, and is measured beside the candidate; or a stored one, of which only figures are left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from optimize.backends.artifact import Artifact
from optimize.deploy.gate.accuracy import Scored, score_models
from optimize.deploy.gate.fingerprint import differences, fingerprint
from optimize.deploy.gate.growth import PROCESSES
from optimize.deploy.gate.unpaired import fixed_work_ms
from optimize.errors import InputError
from optimize.measure.memory import Memory, peak_memory
from optimize.progress import track

if TYPE_CHECKING:
    from optimize.deploy.gate.stored_baseline import StoredBaseline
    from optimize.measure.benchmark import Contender

FEW_PROCESSES = 3
"""Number of fresh processes of each model behind figures that are shown and not judged."""
FROM_PROCESSES = ("max_cold_start_growth", "max_memory_growth")
"""Limits whose figures come from the same fresh processes."""


@dataclass(frozen=True)
class GatePlan:
    """The settings of a comparison.

    Args:
        limits: limit of each criterion, by its name; None for a figure that is shown and not judged.
        batches: batch sizes, for each of which latency is compared.
        threads: number of threads; None for the runtime's own choice. With one, a busy neighbour delays the fewest calls.
        max_seconds: seconds after which a comparison of latency is given up, for each batch size.
        data: source of labelled data, as `compress` takes it; empty for no comparison of accuracy.
        seed: seed of random inputs, and of the order within each pair.
    """

    limits: Mapping[str, float | None] = field(default_factory=dict)
    batches: tuple[int, ...] = (1,)
    threads: int | None = 1
    max_seconds: float = 120.0
    data: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Starts:
    """What fresh processes of both models showed, in pairs.

    Args:
        baseline: one entry for each process of the baseline; empty where it is stored.
        candidate: one entry for each process of the candidate.
    """

    baseline: tuple[Memory, ...]
    candidate: tuple[Memory, ...]


LARGEST_DRIFT = 1.5
"""Factor by which the fixed work may take longer or shorter than then; beyond it an interval would say nothing."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Both models and what was measured of them.

    Args:
        candidate: the model that is judged.
        baseline: the model that it is compared with; None where that is stored, or where the candidate itself is stored.
        stored: figures of a baseline that is not here; None where it is.
        plan: the settings.
        remedy: the command that measures a stored baseline again; empty where none is stored.
    """

    candidate: Contender
    baseline: Contender | None
    stored: StoredBaseline | None
    plan: GatePlan
    remedy: str = ""

    @cached_property
    def disbelief(self) -> str:
        """Why figures of time and memory of the stored baseline are not believed here; empty where they are."""
        if self.stored is None:
            return ""
        target = self.stored.fingerprint.get("runtime", "").split(" ")[0]
        # the runtime of the stored model: that of the candidate may be another one, which is then what is compared
        changed = differences(self.stored.fingerprint, fingerprint(target or self.candidate.runtime))
        if not changed:
            return ""
        return f"the stored baseline was measured on another machine ({'; '.join(changed)}): measure it again here, with: {self.remedy}"

    @cached_property
    def starts(self) -> Starts:
        """What fresh processes of both models showed, in turns whose order changes from pair to pair (A B, B A, …)."""
        asked = any(self.plan.limits.get(name) is not None for name in FROM_PROCESSES) or self.baseline is None
        sides: dict[str, list[Memory]] = {"baseline": [], "candidate": []}
        models = {"candidate": self.candidate} if self.baseline is None else {"baseline": self.baseline, "candidate": self.candidate}
        for position in track(range(PROCESSES if asked else FEW_PROCESSES), "cold start and memory"):
            for side in list(models)[:: 1 if position % 2 == 0 else -1]:
                taken = peak_memory(artifact(models[side]), batch=self.plan.batches[0], threads=self.plan.threads)
                sides[side].append(taken)
        return Starts(tuple(sides["baseline"]), tuple(sides["candidate"]))

    @cached_property
    def drift(self) -> float:
        """How much longer the fixed work takes than when the baseline was stored, as a share."""
        then = None if self.stored is None else self.stored.fixed_work_ms
        return 0.0 if not then else fixed_work_ms() / then - 1

    @cached_property
    def drift_disbelief(self) -> str:
        """Why figures of time cannot be compared although the machine is the same: its speed changed too much; empty where it did not."""
        ratio = 1 + self.drift
        if 1 / LARGEST_DRIFT <= ratio <= LARGEST_DRIFT:
            return ""
        speed = f"this machine computes {1 / ratio:.2g} times as fast as when the baseline was stored"
        return f"{speed}, so the figures cannot be compared: measure it again, with: {self.remedy}"

    @cached_property
    def scored(self) -> Scored:
        """The accuracy of both models on the same cases."""
        return score_models(self.baseline, self.candidate, self.stored, self.plan.data)

    def stored_figure(self, criterion: str) -> Any:
        """Return what the stored baseline holds for a criterion; None where it holds nothing, or nothing is stored."""
        return None if self.stored is None else self.stored.figures.get(criterion)

    def stored_samples(self, criterion: str, part: str | None = None) -> list[float]:
        """Return what the stored baseline holds for a criterion as numbers above 0; empty where it holds nothing.

        Args:
            criterion: name of the limit.
            part: name of the samples within it, where it has several, such as a batch size.

        Raises:
            InputError: when it holds anything else, which no comparison has stored.
        """
        samples = self.stored_figure(criterion)
        if part is not None and isinstance(samples, dict):
            samples = samples.get(part)
        if samples is None:
            return []
        sound = isinstance(samples, list) and all(type(value) in (int, float) and value > 0 for value in samples)
        if not (samples and sound):
            file = "" if self.stored is None else self.stored.file
            raise InputError(f"`--baseline` (={file}) is damaged ({criterion} is no list of numbers above 0): measure it again.")
        return [float(value) for value in samples]


def artifact(model: Contender) -> Artifact:
    """Return the compiled model behind a name; a gate opens nothing else."""
    assert isinstance(model.model, Artifact)
    return model.model


def require_same_inputs(baseline: tuple[int, ...], candidate: tuple[int, ...]) -> None:
    """Check that both models take inputs of the same shape, (C, *spatial).

    Raises:
        InputError: naming both shapes.
    """
    if baseline != candidate:
        shapes = [",".join(map(str, shape)) for shape in (candidate, baseline)]
        raise InputError(f"`--candidate` takes inputs of {shapes[0]} and the baseline of {shapes[1]}: compare models of the same inputs.")
