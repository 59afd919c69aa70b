"""Finish a run: write the report, and move the artifact to `model/` when it was accepted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from optimize.guard.flips import FILE, to_csv
from optimize.hardware.machine import foreign_load as foreign_load
from optimize.progress import current_profile
from optimize.report.render import signed, write
from optimize.run import report_data
from optimize.run.acceptance_plan import as_dict
from optimize.run.prepare import Job
from optimize.run.result import Result
from optimize.run.time_budget import expectation, record
from optimize.run.workspace import MODEL, NOT_ACCEPTED, ONNX, UNVERIFIED


def finish(job: Job, result: Result) -> dict[str, Any]:
    """Write the report, and move the artifact to `model/` when it was accepted; returns the report."""
    # without doubles: where `optimize verify` finishes a run, the notes of its first report are among the result's.
    notes = tuple(dict.fromkeys((*job.baseline.notes, *job.notes, *result.notes)))
    findings = [finding.as_dict() for finding in job.health]
    result = replace(result, health=findings, original_check=job.baseline.as_dict(), notes=notes)
    report = report_data.report(job.recipe, job.original, job.data, result, started=job.started, foreign_load=foreign_load())
    report["acceptance_plan"] = as_dict(job, result)
    report["protocol"] = None if job.protocol is None else dict(job.protocol)
    report["profile"] = _profile(job)
    search = result.search
    report["time_budget"] = None if job.budget is None else job.budget.as_dict(search.out_of_time, len(search.trials))
    if result.flips is not None:
        job.space.put(FILE, to_csv(result.flips))
    delivered = _delivered(job, result)
    # Hashed before they are moved: should signing fail, nothing has been handed over.
    report["files"] = [file.as_dict() for file in job.space.contents(delivered)]
    if job.recipe.sign_key is not None:
        report = signed(report, job.recipe.sign_key)
    job.space.deliver(delivered)
    write(report, job.recipe.out)
    job.space.clean()
    if result.compiled is not None:
        record(expectation(job))
    return report


def _profile(job: Job) -> dict[str, Any] | None:
    """Return the profile of this call as the report has it; None where none was recorded, as where `optimize verify` ends a run."""
    profile = current_profile()
    if profile is None:
        return None
    taken_over = job.space.trials
    resumed = {"resumed": bool(taken_over), "taken_over_seconds": sum(trial["seconds"] for trial in taken_over)}
    return profile.as_dict() | resumed


def _delivered(job: Job, result: Result) -> dict[str, Path]:
    """Return name of a folder of the run -> the working folder that becomes it."""
    if result.unverified:
        return {UNVERIFIED: job.space.scratch / UNVERIFIED}
    if result.compiled is None:
        return {}
    artifact = result.compiled.chosen.artifact
    assert artifact is not None
    # what was judged and not accepted is kept for whoever asks for it by name, never under the name of an accepted model
    return {MODEL if result.verdict else NOT_ACCEPTED: artifact.folder, ONNX: result.compiled.onnx}
