"""End a run whose target compiles on this machine but does not run on it: no verdict, but all files that a verdict needs.

    out/unverified/candidate.safetensors   the candidate that the search kept
    out/unverified/model.onnx              the candidate, exported
    out/unverified/original.onnx           the original, exported
    out/unverified/<target>/<precision>/   an artifact for each precision that could be compiled

None of these files was ever run, so none of them lies in `model/`, and the test split has not been read. `optimize verify` finishes the
verdict on a machine that runs the target (`run/verification/verify.py`). It needs the candidate itself beside the artifacts, because it
checks the artifacts against torch there.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from optimize.backends.export import export_onnx
from optimize.candidate import Candidate
from optimize.guard.verdict import Verdict
from optimize.progress import stage
from optimize.quantization.precision_choice import compile_all
from optimize.quantization.variant import Variant
from optimize.run.compile_artifact import PARITY_CASES
from optimize.run.prepare import Job
from optimize.run.result import Result
from optimize.run.usage import usage
from optimize.run.workspace import UNVERIFIED
from optimize.searching import snapshot
from optimize.searching.walk import SearchResult

CANDIDATE = "candidate.safetensors"


def compile_only(job: Job, search: SearchResult, reason: str) -> Result:
    """Compile every precision ahead of time, and return a result whose verdict is "inconclusive".

    Args:
        job: the prepared run.
        search: result of the search.
        reason: why the target cannot run here.
    """
    home = job.space.fresh(UNVERIFIED)
    with stage("export to ONNX"):
        parity = export_onnx(search.best, home / "model.onnx", job.data.guard.inputs(slice(0, PARITY_CASES)))
        # nothing here reads it; a bundle carries it, so that a site can compare with the original
        export_onnx(job.original, home / "original.onnx")
    # every precision, since which of them is fast enough and accurate can only be measured where they run
    compiled = compile_all(job.runtime, home / "model.onnx", home / job.runtime.NAME, job.int8_inputs)
    compiled = [_described(variant, job, search.best) for variant in compiled]
    # weights and steps, not a pickle: `verify` rebuilds the network from the original and the steps
    snapshot.save(search.best, home / CANDIDATE)
    text = (
        f"the {job.runtime.NAME} artifact was compiled, but could not be run here ({reason}): "
        f"finish the verdict on a machine that can, with: optimize verify {shell_name(job.recipe.out)} "
        "(where the model, its network or the data lie elsewhere there, --model, --arch and --data say so)"
    )
    return Result(Verdict("inconclusive", (text,)), search, notes=search.notes, unverified=compiled, parity=parity)


def _described(variant: Variant, job: Job, best: Candidate) -> Variant:
    """Return a variant whose artifact says how it is used; the shape of its outputs is taken from torch, since it does not run here."""
    if variant.artifact is None:
        return variant
    use = usage(variant.artifact, best.predict, job.data, job.recipe.threads, runs_here=False)
    return replace(variant, artifact=variant.artifact.described(use))


def shell_name(out: Path) -> str:
    """Return a folder as a shell takes it: relative to the working directory, or only its name where it lies elsewhere.

    A full path would tell the reader of a report how its machine is set up.
    """
    # example: called in /home/ann, /home/ann/runs/a becomes runs/a, and /data/b becomes b
    here = Path.cwd()
    return shlex.quote(str(out.relative_to(here)) if out.is_relative_to(here) else out.name)


def candidate(original: Candidate, home: Path) -> Candidate:
    """Return the candidate of a run that was left unverified.

    Args:
        original: the original of the run.
        home: folder `unverified` of the run, or a copy of it.

    Raises:
        InputError: when it is unreadable or was made from another network.
    """
    return snapshot.restore(original, home / CANDIDATE)
