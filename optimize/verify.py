"""A compiled model on the machine that it is to run on: is it whole, does it compute what it did where it was verified, and is it good?

Of a run that could not be judged where it was compiled, this is the second half: the precisions are judged and timed on the guard split,
and one of them on the test split, as `compress` does it. Of a finished one, the model is checked, and with data judged again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize import golden
from optimize.artifact import MANIFEST, Artifact
from optimize.backends import backend, require_runnable
from optimize.backends.engines.binding import device
from optimize.errors import InputError, OptimizeError, TargetUnavailable
from optimize.workspace import BEFORE, UNVERIFIED

if TYPE_CHECKING:
    from optimize.guard.rail import Outcome
    from optimize.job import Job

LOCK, REPORT = "recipe.lock.toml", "report.json"


@dataclass(frozen=True)
class Verified:
    """What was found.

    Args:
        outcome: "pass", "fail" or "inconclusive".
        findings: in words, a line each.
        report: of the run, where its verdict was finished here.
    """

    outcome: Outcome
    findings: tuple[str, ...]
    report: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"outcome": self.outcome, "findings": list(self.findings), "report": None if self.report is None else dict(self.report)}


def verify(folder: Path, *, model: Path | None = None, data: str | None = None, **elsewhere: object) -> Verified:
    """Verify a run or an artifact on this machine.

    Args:
        folder: of a run, or of an artifact.
        model: where the original lies on this machine, if not where the run had it.
        data: where the data lie on this machine, likewise; of a finished run, what its model is judged on again.
        elsewhere: other settings of the run that are not what they were on that machine: `arch`, `sign_key` and `trust_pickle`, by the
            names of `Recipe`; None counts as not said.

    Raises:
        InputError: when the folder holds neither, something in it was altered, or the model or data are not those of the run.
        TargetUnavailable: when the target cannot run here.
    """
    if not folder.exists():
        raise InputError(f"`run` (={folder}) does not exist: check the path.")
    if (folder / UNVERIFIED).is_dir():
        for compiled in sorted((folder / UNVERIFIED).glob(f"*/*/{MANIFEST}"))[:1]:
            _require_here(Artifact.read(compiled.parent))
        job, report = _taken_up(folder, model, {**elsewhere, "data": data})
        return _finished(job, report)
    home = folder if (folder / MANIFEST).is_file() else folder / "model"
    if not (home / MANIFEST).is_file():
        raise InputError(f"`run` (={folder}) holds no compiled model: give the folder of an accepted or an unverified run, or its `model`.")
    _of_use({"model": model, **elsewhere}, judged=data is not None)
    artifact = Artifact.read(home)
    _require_here(artifact)
    outcome, findings = self_test(artifact)
    if data is None or outcome == "fail":
        return Verified(outcome, findings)
    job, report = _taken_up(folder, model, {**elsewhere, "data": data})
    return _judged_again(job, artifact, findings, report)


def _of_use(said: Mapping[str, object], *, judged: bool) -> None:
    """Refuse what a finished model's check does not look at."""
    for name, value in said.items():
        if value is not None and not (judged and name != "sign_key"):
            remedy = "leave it out" if name == "sign_key" else "add --data to judge the model again, or leave it out"
            raise InputError(f"`--{name.replace('_', '-')}` (={value}) is not used to check a finished model: {remedy}.")


def self_test(artifact: Artifact) -> tuple[Outcome, tuple[str, ...]]:
    """How this machine differs from the one that verified the artifact, and whether it gives the recorded answers here.

    Without recorded answers that is inconclusive.

    Args:
        artifact: as read, so that its files are those that were sealed.

    Raises:
        TargetUnavailable: when it was made with another version of the runtime than this machine's, which cannot open it.
    """
    findings = [f"whole: every file is as it was sealed, sha256 {artifact.sha256}"]
    findings += golden.differences(artifact) or ["no difference to the machine that verified it"]
    try:
        with backend(artifact.target).build(artifact) as session:
            check = golden.check(artifact, session.predict)
    except OptimizeError:
        raise
    except Exception as problem:  # whatever a runtime raises about a model that it cannot open or run
        return "fail", (*findings, _unopened(artifact, problem))
    if check is None:
        return "inconclusive", (*findings, "it carries no self-test: without --data nothing is known of its answers on this machine")
    return ("pass" if check else "fail"), (*findings, f"self-test: {check.line}")


def _require_here(artifact: Artifact) -> None:
    """Raise `TargetUnavailable` unless this machine runs the target; of an engine without a GPU it says which one is needed."""
    runtime, needed = backend(artifact.target), artifact.built.get("compute_capabilities")
    try:
        require_runnable(runtime)
    except TargetUnavailable:
        if not needed or device() is not None:
            raise
        raise TargetUnavailable(
            f"target {artifact.target!r} cannot run here: {runtime.obstacle()}; the engine in `{artifact.folder}` is for "
            f"compute capability {needed}: call optimize verify on a machine with a GPU of such a capability."
        ) from None


def _unopened(artifact: Artifact, problem: Exception) -> str:
    """What to say of a model that the runtime here cannot open, where the version is not to blame."""
    name, made, here = artifact.target, artifact.runtime, backend(artifact.target).version()
    words = f"{type(problem).__name__}: {' '.join(str(problem).split())[:200]}"
    if here == made:
        return f"{name} {here} made it and cannot open it here ({words}): make the artifact again on this machine"
    raise TargetUnavailable(
        f"`{artifact.folder}` was made with {name} {made}, here is {here}, which cannot open it ({words}): "
        f"install {name} {made}, or make the artifact again with {here}."
    ) from problem


def _taken_up(folder: Path, model: Path | None, elsewhere: Mapping[str, object]) -> tuple[Job, dict[str, Any]]:
    """The run's model and data on this machine, which must be the same as they were."""
    # Late, here and below: a self-test needs neither torch nor what a run is made of.
    from optimize import outcome
    from optimize.job import loaded
    from optimize.recipe import resolve

    if not (folder / LOCK).is_file() or not (folder / REPORT).is_file():
        raise InputError(f"`run` (={folder}) lacks its {LOCK} or {REPORT}: give the whole folder of the run.")
    try:
        report = dict(json.loads((folder / REPORT).read_text(encoding="utf-8")))
        said = {"model": report["model"]["sha256"]} | {name: each["sha256"] for name, each in report["data"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise InputError(f"`{folder / REPORT}` is damaged ({type(problem).__name__}): copy the folder of the run again.") from problem
    # Whatever processor the run was for: what is asked is what this one computes.
    recipe = resolve(model, overrides={**elsewhere, "out": folder.absolute(), "isa": "none"}, recipe_file=folder / LOCK)
    job = loaded(recipe, lambda _: _same("model", outcome.sha256(recipe.model), said["model"], "--model"))
    for name, split in outcome.splits(job.data).items():
        _same(f"{name} split", split.sha256, said.get(name), "--data")
    require_runnable(job.runtime)
    return job, report


def _same(what: str, found: str, said: Any, flag: str) -> None:
    if found != said:
        raise InputError(f"`{flag}`: the {what} is not that of the run (sha256 {found[:12]}…, was {str(said)[:12]}…): name the same file.")


def _finished(job: Job, report: dict[str, Any]) -> Verified:
    """The verdict that was left open."""
    from optimize.conclude import conclude
    from optimize.guard.verdict import level
    from optimize.heap import keep_freed
    from optimize.unverified import candidate

    keep_freed()
    recipe = job.recipe
    best = candidate(job.original, recipe.out)
    before = job.before
    confidence = level(job.limits, job.data.guard.units, job.data.test.units)
    job.space.put(BEFORE, (recipe.out / REPORT).read_text(encoding="utf-8"))
    try:
        whole = conclude(job, best, report["steps"] or [], before, confidence, report["notes"], made=recipe.out / UNVERIFIED)
    except BaseException:
        job.space.drop(BEFORE)
        raise
    job.space.drop(UNVERIFIED)
    return Verified(whole["verdict"], tuple(whole["reasons"]), whole)


def _judged_again(job: Job, artifact: Artifact, findings: tuple[str, ...], report: Mapping[str, Any]) -> Verified:
    """A finished model against the original, on the run's test split, on this machine: not a new look where the record knows it."""
    from optimize.conclude import begun, on_test
    from optimize.guard.verdict import judge

    look, limits = begun(job, artifact).no_laxer_than(report.get("looks")), job.recipe.limits
    verdict = look.settled(judge(look.limits(limits), *on_test(job, artifact)))
    job.history.end(look, verdict.outcome)
    repeated = look.sentence(limits)
    return Verified(verdict.outcome, (*findings, *verdict.reasons, *(() if repeated is None else (repeated,))))
