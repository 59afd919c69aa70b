"""The original is judged before anything else: what its outputs mean, how good it is, and whether that is good enough to compare with.

Every limit is relative to the original. So the run ends here, before any work, where the original is no better than a constant answer
(`guard/no_information.py`) or far below the figure that its user expects, with the likely causes (`run/diagnosis.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from optimize.candidate import Candidate, Meaning
from optimize.data.arrays import spread
from optimize.data.dataset import Dataset, Split
from optimize.data.masks import perfect
from optimize.data.output_meaning import meaning
from optimize.errors import InputError
from optimize.guard.evaluate import score_split
from optimize.guard.no_information import NoInformation, no_information, unexpected
from optimize.guard.score import Score
from optimize.guard.score import score as score_of
from optimize.progress import note
from optimize.run.diagnosis import causes, visible_causes
from optimize.run.recipe import Recipe

MEANING_CASES = 64
"""Guard images whose outputs show what outputs mean."""
GOOD_FIGURE = 0.9
"""An overall figure from which on no cause of a bad one is looked for."""


@dataclass(frozen=True, eq=False)
class Original:
    """The original on the guard split.

    Args:
        candidate: the network, with the meaning of its outputs.
        data: the four splits, which cut masks by what the outputs mean.
        score: on the guard split.
        compared: the score beside the best constant answer.
        expected: the overall figure that the user expects, in 0..1, or None.
        notes: what a reader of the report should know.
    """

    candidate: Candidate
    data: Dataset
    score: Score
    compared: NoInformation
    expected: float | None = None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The form that the report uses."""
        return {**self.compared.as_dict(), "expected": self.expected, "outputs": self.candidate.outputs}


def judge_original(recipe: Recipe, candidate: Candidate, data: Dataset) -> Original:
    """Judge the original on the guard split.

    Args:
        recipe: of the run.
        candidate: the original as it was loaded.
        data: of the run.

    Raises:
        InputError: when it is no better than a constant answer, or misses the figure that `expect` states.
    """
    outputs = _meaning(recipe, candidate, data.guard)
    candidate, data = replace(candidate, outputs=outputs), data.read_as(outputs)
    score = score_split(candidate.predict, data.guard, data.classes, "judge the original")
    compared = no_information(score, data.guard.labels, recipe.limits)
    notes = [f"the network's outputs are {outputs}, so a mask is cut at 0.5"] if _cuts_masks_at_half(outputs, data.guard) else []
    if not compared:
        few = _too_few(data, recipe)
        fault = few or "the original is no better than a constant answer"
        if recipe.allow_weak_original:
            notes.append(f"{fault} ({compared}), which was allowed: limits around it protect nothing")
        elif few:
            raise InputError(f"{few}: {compared}. Add val cases, or pass --allow-weak-original to go on.")
        else:
            raise InputError(_with_causes(f"{fault}: {compared}", candidate, data, score, compared))
    if recipe.expect is not None and unexpected(score, recipe.expect, compared.n):
        said = f"`--expect` (={100 * recipe.expect:.4g} %) is missed by the original: {compared}"
        raise InputError(_with_causes(said, candidate, data, score, compared, "expect what it reaches"))
    if compared and recipe.expect is None and score.overall < GOOD_FIGURE:
        visible = visible_causes(candidate, data.guard, data.classes, score, compared)
        notes += [f"the original reaches {compared}; {cause}" for cause in visible[:1]]
    for line in notes:
        note(line)
    return Original(candidate, data, score, compared, recipe.expect, tuple(notes))


def _meaning(recipe: Recipe, candidate: Candidate, guard: Split) -> Meaning:
    if recipe.outputs != "auto":
        return recipe.outputs
    chosen = spread(len(guard), MEANING_CASES)
    parts: Sequence[Any] = np.array_split(chosen, -(-len(chosen) // guard.batch_size))
    return meaning(np.concatenate([candidate.predict(guard.inputs(part)) for part in parts]))


def _too_few(data: Dataset, recipe: Recipe) -> str:
    """That the guard split could not show even a perfect network to be better than a constant answer; empty where it could."""
    guard = data.guard
    if guard.task != "classification":
        return ""
    answers = [(perfect(guard.labels, len(data.classes)), guard.labels)]
    best = score_of(guard.task, answers, data.classes, guard.patients, guard.groups)
    if no_information(best, guard.labels, recipe.limits):
        return ""
    return f"the {len(guard)} cases of the guard split are too few to show that any network is better than a constant answer"


def _cuts_masks_at_half(outputs: Meaning, guard: Split) -> bool:
    return outputs == "probabilities" and guard.labels.dtype == bool


def _with_causes(said: str, candidate: Candidate, data: Dataset, score: Score, compared: NoInformation, alternative: str = "") -> str:
    named = causes(candidate, data.guard, data.classes, score, compared)
    likely = "; ".join(f"{number}. {cause}" for number, cause in enumerate(named, start=1))
    return f"{said}. Causes, the likeliest first: {likely}. Mend that, or {alternative or 'pass --allow-weak-original'} to go on."
