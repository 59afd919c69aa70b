"""Check a compiled model on the machine that it is to run on.

A finished run: the files are compared with the report, the model repeats its self-test, and with data it is judged on the test split again.

A run that could not be judged where it was compiled: this is its second half. The precisions are judged and timed on the guard split, and
one of them is judged on the test split, as in `compress`.

    every file against its hash -> is the runtime here? -> self-test -> with --data: the test split -> every file once more
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.backends import backend, require_runnable, self_test
from optimize.backends.artifact import MANIFEST, Artifact
from optimize.backends.tensorrt_common.binding import device
from optimize.errors import InputError, OptimizeError, TargetUnavailable
from optimize.files import sha256
from optimize.progress import note
from optimize.run.verification.claims import REPORT
from optimize.run.verification.integrity import Examined, examine
from optimize.run.workspace import BEFORE, UNVERIFIED

if TYPE_CHECKING:
    from optimize.guard.rail import Outcome
    from optimize.run.in_memory import InMemory
    from optimize.run.prepare import Job


@dataclass(frozen=True)
class Verified:
    """The result of a verification.

    Args:
        outcome: "pass", "fail" or "inconclusive".
        findings: sentences on what was checked, one a line.
        report: report of the run, where its verdict was finished here; None otherwise.
        figures: of a bundle, the cases, the criteria and every figure with its bounds, as in the acceptance record; None otherwise.
        record: folder of the acceptance record of a bundle; None where none was written.
    """

    outcome: Outcome
    findings: tuple[str, ...]
    report: Mapping[str, Any] | None = None
    figures: Mapping[str, Any] | None = None
    record: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON."""
        whole = {"outcome": self.outcome, "findings": list(self.findings), "report": None if self.report is None else dict(self.report)}
        if self.figures is None:
            return whole
        return {**whole, "figures": dict(self.figures), "record": None if self.record is None else str(self.record)}


def verify(
    folder: Path,
    *,
    public_key: str | None = None,
    model: Path | None = None,
    data: str | None = None,
    objects: InMemory | None = None,
    **elsewhere: object,
) -> Verified:
    """Verify a run or an artifact on this machine.

    Nothing in the folder is opened, loaded or executed before every file was found to be the one that the report lists
    (`run/verification/integrity.py`).

    Args:
        folder: folder of a run or of an artifact.
        public_key: key that must have signed the report, as a file in PEM or as base64; None for any signature or none.
        model: file of the original on this machine, where it is not the one that the run had.
        data: path of the data on this machine, where it differs from the run's; with it the model of a finished run is judged again.
        objects: the original or the data, where they are objects of this process.
        elsewhere: other settings of the run that differ on this machine: `arch`, `sign_key` and `trust_pickle`, by the names of `Recipe`;
            None means that they do not.

    Raises:
        InputError: when the folder holds neither, something in it was altered or does not belong there, the key did not sign the report, or
            the model or data are not those of the run.
        TargetUnavailable: when the target cannot run here.
    """
    if not folder.exists():
        raise InputError(f"`run` (={folder}) does not exist: check the path.")
    run = examine(folder, public_key)
    if run.report is not None and run.report.get("unverified") is not None:
        for compiled in sorted((run.folder / UNVERIFIED).glob(f"*/*/{MANIFEST}"))[:1]:
            require_here(Artifact.read(compiled.parent))
        for line in run.findings:
            note(line)
        return _finished(run, _taken_up(run, model, {**elsewhere, "data": data}, objects))
    if run.report is not None and run.report["artifact"] is None:
        said = f"its verdict is {run.report['verdict']!r}"
        raise InputError(f"`run` (={folder}) holds no compiled model ({said}): give the folder of an accepted or an unverified run.")
    judged = data is not None or (objects is not None and objects.data is not None)
    _require_used({"model": model, **elsewhere}, judged=judged)
    artifact = Artifact.read(run.model)
    require_here(artifact)
    outcome, self_test_findings = run_self_test(artifact)
    findings = (*run.findings, *self_test_findings)
    if judged and outcome != "fail":
        # no new report is written, so the key of the lock file is not used
        job = _taken_up(run, model, {**elsewhere, "data": data, "sign_key": "none"}, objects)
        outcome, findings = _judged_again(job, artifact, findings, run.report)
    run.require_unchanged()
    return Verified(outcome, findings)


def _require_used(said: Mapping[str, object], *, judged: bool) -> None:
    """Refuse a setting that has no effect on the check of a finished model."""
    for name, value in said.items():
        if value is not None and not (judged and name != "sign_key"):
            remedy = "leave it out" if name == "sign_key" else "add --data to judge the model again, or leave it out"
            raise InputError(f"`--{name.replace('_', '-')}` (={value}) is not used to check a finished model: {remedy}.")


def run_self_test(artifact: Artifact) -> tuple[Outcome, tuple[str, ...]]:
    """Return the outcome of the self-test, and sentences on it and on differences between this machine and the one that verified.

    Without recorded answers the outcome is "inconclusive".

    Args:
        artifact: the artifact, whose files were compared with their hashes when it was read.

    Raises:
        TargetUnavailable: when it was made with another version of the runtime than this machine's, which cannot open it.
    """
    findings = [f"whole: every file is as it was sealed, sha256 {artifact.sha256}"]
    findings += self_test.differences(artifact) or ["no difference to the machine that verified it"]
    try:
        with backend(artifact.target).build(artifact) as session:
            check = self_test.check(artifact, session.predict)
    except OptimizeError:
        raise
    except Exception as problem:  # whatever a runtime raises about a model that it cannot open or run
        return "fail", (*findings, _unopened(artifact, problem))
    if check is None:
        return "inconclusive", (*findings, "it carries no self-test: without --data nothing is known of its answers on this machine")
    # inputs or answers that are all equal would also be reproduced by a broken model
    if check and not check.tells:
        return "inconclusive", (*findings, f"self-test: {check.line}; but all its inputs or answers are the same, which shows nothing")
    return ("pass" if check else "fail"), (*findings, f"self-test: {check.line}")


def require_here(artifact: Artifact) -> None:
    """Raise `TargetUnavailable` unless this machine runs the target; of an engine without a GPU it says which one is needed."""
    runtime, capabilities = backend(artifact.target), artifact.built.get("compute_capabilities")
    try:
        require_runnable(runtime)
    except TargetUnavailable:
        if not capabilities or device() is not None:
            raise
        raise TargetUnavailable(
            f"target {artifact.target!r} cannot run here: {runtime.unavailable_reason()}; the engine in `{artifact.folder}` is for "
            f"compute capability {capabilities}: call optimize verify on a machine with a GPU of such a capability."
        ) from None


def _unopened(artifact: Artifact, problem: Exception) -> str:
    """Return a sentence on a model that the runtime here cannot open; with another version of the runtime, raise `TargetUnavailable`."""
    name, made, here = artifact.target, artifact.runtime, backend(artifact.target).version()
    words = f"{type(problem).__name__}: {' '.join(str(problem).split())[:200]}"
    if here == made:
        return f"{name} {here} made it and cannot open it here ({words}): make the artifact again on this machine"
    raise TargetUnavailable(
        f"`{artifact.folder}` was made with {name} {made}, here is {here}, which cannot open it ({words}): "
        f"install {name} {made}, or make the artifact again with {here}."
    ) from problem


def _taken_up(run: Examined, model: Path | None, elsewhere: Mapping[str, object], objects: InMemory | None) -> Job:
    """Return the job with the run's model and data on this machine, which must be those of the report."""
    # Late, here and below: a self-test needs neither torch nor what a run is made of.
    from optimize.run.in_memory import FILES_ONLY
    from optimize.run.prepare import loaded
    from optimize.run.recipe import resolve
    from optimize.run.recipe_file import LOCK
    from optimize.run.verification.pinned import LEDGER, require_code, require_data, require_settings

    lock = run.folder / LOCK
    if run.report is None or not lock.is_file():
        raise InputError(f"`run` (={run.folder}) lacks its {LOCK} or {REPORT}: give the whole folder of the run.")
    report = run.report
    # the processor that the run named does not matter here: the question is what this machine computes
    # and its protocol was checked when the run began; the report has it
    own = {"out": run.folder.absolute(), "cpu_level": "none", "protocol": "none"}
    recipe = resolve(model, overrides={**elsewhere, **own}, recipe_file=lock)
    require_settings(recipe, report, elsewhere)
    # A folder that came from elsewhere must not use a key of this machine, nor vouch for a pickle, unless its reader says so.
    if recipe.sign_key is not None and elsewhere.get("sign_key") is None:
        raise InputError(f"`{LOCK}` names a key to sign with ({recipe.sign_key}): pass it as --sign-key yourself, or --sign-key none.")
    if recipe.trust_pickle and elsewhere.get("trust_pickle") is None and not run.trusted:
        raise InputError(f"`{LOCK}` asks to trust a pickle, and no key vouches for it: pass --trust-pickle if you trust its author.")
    if elsewhere.get("arch") is None:
        require_code(recipe, run.folder / LEDGER)
    recipe, objects = (recipe, FILES_ONLY) if objects is None else (objects.with_input_shape(recipe), objects)
    job = loaded(recipe, lambda _: _require_model(sha256(recipe.model), report["model"]["sha256"]), objects)
    require_data(job, report, run.folder / LEDGER)
    require_runnable(job.runtime)
    return replace(job, protocol=report.get("protocol"))


def _require_model(present: str, said: str) -> None:
    if present != said:
        raise InputError(f"`--model`: the model is not that of the run (sha256 {present[:12]}…, was {said[:12]}…): name the same file.")


def _finished(run: Examined, job: Job) -> Verified:
    """Finish the verdict of a run that could not be judged where it was compiled."""
    import shutil

    from optimize.hardware.malloc import retain_freed_memory
    from optimize.run.compile_artifact import compile_artifact
    from optimize.run.cross_compiled import candidate
    from optimize.run.final_verdict import final_verdict
    from optimize.run.finish import finish
    from optimize.run.verification.folder_contents import contents, require
    from optimize.searching.walk import SearchResult

    assert run.report is not None
    retain_freed_memory()
    job.space.clean()  # what an earlier attempt left, or somebody else
    recipe, report = job.recipe, run.report
    # A copy: the self-test is written beside the model that is chosen, and an interruption must leave the run as it was.
    made = job.space.fresh(UNVERIFIED)
    shutil.copytree(recipe.out / UNVERIFIED, made, dirs_exist_ok=True)
    prefix = f"{UNVERIFIED}/"
    try:
        copied = {path.removeprefix(prefix): file for path, file in run.files.items() if path.startswith(prefix)}
        # the copy is checked, since it is what will be used: the original could have been changed while it was copied
        require(made, copied, contents(made))
        best = candidate(job.original, made)
        baseline = job.baseline_score
        # the report of the first half is kept, so that both can be read
        job.space.put(BEFORE, (recipe.out / REPORT).read_text(encoding="utf-8"))
        search = SearchResult(best, tuple(report["steps"] or ()), (), baseline, job.search_confidence, tuple(report["notes"]))
        whole = finish(job, final_verdict(job, search, compile_artifact(job, search, made)))
    except BaseException:
        job.space.drop(BEFORE)
        job.space.clean()
        raise
    job.space.drop(UNVERIFIED)
    return Verified(whole["verdict"], tuple(whole["reasons"]), whole)


def _judged_again(
    job: Job, artifact: Artifact, findings: tuple[str, ...], report: Mapping[str, Any] | None
) -> tuple[Outcome, tuple[str, ...]]:
    """Judge a finished model against the original on the run's test split; it counts as no new look where the record knows the look."""
    from optimize.guard.verdict import judge
    from optimize.run.final_verdict import begin_look, scores_on_test

    look, limits = begin_look(job, artifact).no_laxer_than((report or {}).get("looks")), job.recipe.limits
    verdict = look.settled(judge(look.limits(limits), *scores_on_test(job, artifact)))
    job.history.end(look, verdict.outcome)
    repeated = look.sentence(limits)
    return verdict.outcome, (*findings, *verdict.reasons, *(() if repeated is None else (repeated,)))
