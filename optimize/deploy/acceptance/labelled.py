"""Judge by labels: the guard-rails of the run on the site's cases, against the original on the same cases."""

from __future__ import annotations

from optimize.candidate import Predict
from optimize.deploy.acceptance.judgement import Judgement
from optimize.deploy.acceptance.local_cases import LocalCases
from optimize.deploy.acceptance.model_use import ModelUse
from optimize.guard.evaluate import score_split
from optimize.guard.limits import Limits
from optimize.guard.verdict import judge


def judge_labelled(limits: Limits, cases: LocalCases, use: ModelUse, original: Predict, artifact: Predict) -> Judgement:
    """Return the verdict of the run's guard-rails on the cases of a site.

    Each rail passes when the bound of the loss is within its limit, fails when the loss is shown to exceed it, and is inconclusive
    otherwise. It then names the number of cases that would decide (`optimize.guard.rail`). Bounds take cases of one patient together, and
    every subgroup of the data is judged.

    Args:
        limits: limits of the run.
        cases: labelled cases.
        use: how the artifact is used.
        original: the original network, (N, C, *spatial) -> (N, K) or (N, K, *spatial).
        artifact: the compiled model.
    """
    baseline = score_split(original, cases.split, use.classes, "original on the site's cases")
    candidate = score_split(artifact, cases.split, use.classes, "artifact on the site's cases")
    verdict = judge(limits, baseline, candidate)
    return Judgement(verdict.outcome, verdict.reasons, tuple(rail.as_dict() for rail in verdict.rails))
