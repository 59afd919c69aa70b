"""The end of a run whose target compiles on this machine and does not run on it: no verdict, but everything that one takes.

    out/unverified/candidate.safetensors   the candidate that the search kept
    out/unverified/model.onnx              the candidate, exported
    out/unverified/<target>/<precision>/   an artifact for each precision that could be compiled

None of these files was ever run, so none is called a model, and the test split has not been read. `run/verification/verify.py` finishes
the verdict on a machine that runs the target.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from optimize.backends.export import export_onnx
from optimize.candidate import Candidate
from optimize.guard.verdict import Verdict
from optimize.progress import stage
from optimize.quantization.precision_choice import compile_all
from optimize.run.compile_artifact import PARITY_CASES
from optimize.run.prepare import Job
from optimize.run.result import Result
from optimize.run.workspace import UNVERIFIED
from optimize.searching import snapshot
from optimize.searching.walk import SearchResult

CANDIDATE = "candidate.safetensors"


def compile_only(job: Job, search: SearchResult, reason: str) -> Result:
    """Compile every precision ahead of time; the verdict stays open.

    Args:
        job: of the run.
        search: what the search found.
        reason: why the target cannot run here.
    """
    home = job.space.fresh(UNVERIFIED)
    with stage("export to ONNX"):
        parity = export_onnx(search.best, home / "model.onnx", job.data.guard.inputs(slice(0, PARITY_CASES)))
    compiled = compile_all(job.runtime, home / "model.onnx", home / job.runtime.NAME, job.int8_inputs)
    snapshot.save(search.best, home / CANDIDATE)
    text = (
        f"the {job.runtime.NAME} artifact was compiled, but could not be run here ({reason}): "
        f"finish the verdict on a machine that can, with: optimize verify {shell_name(job.recipe.out)} "
        "(where the model, its network or the data lie elsewhere there, --model, --arch and --data say so)"
    )
    return Result(Verdict("inconclusive", (text,)), search, notes=search.notes, unverified=compiled, parity=parity)


def shell_name(out: Path) -> str:
    """A folder as a shell takes it, from where the command was called; of one elsewhere its name: a report says nothing of its machine."""
    here = Path.cwd()
    return shlex.quote(str(out.relative_to(here)) if out.is_relative_to(here) else out.name)


def candidate(original: Candidate, home: Path) -> Candidate:
    """The candidate of a run that was left unverified.

    Args:
        original: the original of the run.
        home: the folder `unverified` of the run, or a copy of it.

    Raises:
        InputError: when it is unreadable or was made from another network.
    """
    return snapshot.restore(original, home / CANDIDATE)
