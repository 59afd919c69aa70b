"""What a run leaves behind whose target compiles on this machine and does not run on it: no verdict, but all that one needs.

    out/unverified/candidate.safetensors   what the search kept
    out/unverified/model.onnx              the same, exported
    out/unverified/<target>/<precision>/   an artifact for each precision that could be compiled

Nothing of it was ever run, so nothing of it is called a model, and the test split has not been read. `run/verification/verify.py` goes on
from here.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optimize.backends.export import export_onnx
from optimize.candidate import Candidate
from optimize.guard.score import Score
from optimize.guard.verdict import Verdict
from optimize.progress import stage
from optimize.quantization.precision_choice import compile_all
from optimize.run.finish import INT8_CASES, drawn, finish
from optimize.run.prepare import Job
from optimize.run.report_data import Result
from optimize.run.workspace import UNVERIFIED
from optimize.searching import snapshot

CANDIDATE = "candidate.safetensors"


def unverified(
    job: Job, best: Candidate, trials: Sequence[Mapping[str, Any]], before: Score, notes: Sequence[str], obstacle: str
) -> dict[str, Any]:
    """Compile every precision ahead of time and report that nothing could be judged.

    Args:
        job: of the run.
        best: the candidate that the search kept.
        trials: every proposal.
        before: the original's score on the guard split.
        notes: what a reader should know.
        obstacle: why the target cannot run here.
    """
    home = job.space.fresh(UNVERIFIED)
    with stage("export to ONNX"):
        parity = export_onnx(best, home / "model.onnx", job.data.guard.inputs(slice(0, 16)))
    calibration = drawn(job.data.calibration, INT8_CASES, job.recipe.seed)
    made = compile_all(job.runtime, home / "model.onnx", home / job.runtime.NAME, calibration)
    snapshot.save(best, home / CANDIDATE)
    reason = (
        f"the {job.runtime.NAME} artifact was compiled, but could not be run here ({obstacle}): "
        f"finish the verdict on a machine that can, with: optimize verify {_named(job.recipe.out)} "
        "(where the model, its network or the data lie elsewhere there, --model, --arch and --data say so)"
    )
    result = Result(Verdict("inconclusive", (reason,)), best, trials, before, notes=notes, unverified=made, parity=parity)
    return finish(job, result)


def _named(out: Path) -> str:
    """A folder as a shell takes it, from where the command was called; of one elsewhere its name: a report says nothing of its machine."""
    here = Path.cwd()
    return shlex.quote(str(out.relative_to(here)) if out.is_relative_to(here) else out.name)


def candidate(original: Candidate, home: Path) -> Candidate:
    """The candidate of a run that was left unverified.

    Args:
        original: of the run.
        home: its folder `unverified`, or a copy.

    Raises:
        InputError: when it is unreadable or was made from another network.
    """
    return snapshot.restore(original, home / CANDIDATE)
