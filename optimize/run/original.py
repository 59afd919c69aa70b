"""Judge the original before any work: what its outputs mean, how good it is, and whether it is good enough to compare with.

Every limit is relative to the original. A network that answers "healthy" to every image loses nothing when it is compressed to nothing, and
every limit around it holds. So the run ends here where the original is no better than a constant answer (`guard/no_information.py`) or far
below the score that its user expects. The error lists the likely causes (`run/diagnosis.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from optimize.candidate import Candidate, Floats, Meaning
from optimize.data.arrays import spread
from optimize.data.dataset import Dataset, Split
from optimize.data.masks import perfect
from optimize.data.output_meaning import embedded, meaning, meaning_of, plain, scaled
from optimize.errors import InputError
from optimize.guard.evaluate import score_split
from optimize.guard.no_information import NoInformation, exceeds, no_information, unexpected
from optimize.guard.score import Score
from optimize.guard.score import score as score_of
from optimize.progress import note
from optimize.run.diagnosis import causes, visible_causes
from optimize.run.recipe import Recipe

MEANING_CASES = 64
"""Number of guard images by whose outputs logits are told from probabilities."""
GOOD_FIGURE = 0.9
"""Overall score from which on no cause of a bad score is searched for."""


@dataclass(frozen=True, eq=False)
class Original:
    """The original with its score on the guard split.

    Args:
        candidate: the network, with the meaning of its outputs.
        data: the four splits, with the same meaning: it sets the threshold of masks.
        score: score on the guard split.
        compared: comparison of that score with the best constant answer.
        expected: overall score that the user expects, in 0..1, or None.
        notes: sentences for the report.
    """

    candidate: Candidate
    data: Dataset
    score: Score
    compared: NoInformation
    expected: float | None = None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the form that the report uses."""
        return {**self.compared.as_dict(), "expected": self.expected, "outputs": plain(self.candidate.outputs)}


def judge_original(recipe: Recipe, candidate: Candidate, data: Dataset) -> Original:
    """Judge the original on the guard split.

    Args:
        recipe: the resolved settings of the run.
        candidate: the original as it was loaded.
        data: the four splits.

    Raises:
        InputError: when it is no better than a constant answer, or misses the figure that `expect` states.
    """
    outputs = meaning_of(data.guard.task, _meaning(recipe, candidate, data.guard))
    # the meaning sets where masks are cut, so it must be known before the first score
    if data.guard.task == "embedding":
        outputs = embedded(_some_outputs(candidate, data.guard))
    elif outputs == "values":
        outputs = scaled(data.guard.labels)
    candidate, data = replace(candidate, outputs=outputs), data.read_as(outputs, 0.5 if (at := recipe.limits.threshold) is None else at)
    score = score_split(candidate.predict, data.guard, data.classes, "judge the original")
    compared = no_information(score, data.guard.labels, recipe.limits)
    notes = [f"the network's outputs are {outputs}, so a mask is cut at 0.5"] if _cuts_masks_at_half(outputs, data.guard) else []
    if not compared:
        # "no better than a constant answer" has two causes, a bad network or too few cases, with opposite remedies
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
    # better than expected is no fault, and may still show that the figure is of other data
    if recipe.expect is not None and exceeds(score, recipe.expect, compared.n):
        notes.append(f"the original does better than `--expect` (={100 * recipe.expect:.4g} %): {compared}; is that figure of these data?")
    # an original that is good enough may still be prepared wrongly in a small way: then a note, not an error
    if compared and recipe.expect is None and score.overall < GOOD_FIGURE:
        visible = visible_causes(candidate, data.guard, data.classes, score, compared)
        notes += [f"the original reaches {compared}; {cause}" for cause in visible[:1]]
    for line in notes:
        note(line)
    return Original(candidate, data, score, compared, recipe.expect, tuple(notes))


def _meaning(recipe: Recipe, candidate: Candidate, guard: Split) -> Meaning:
    """Return what the outputs mean: what the recipe says, else what their values on some guard images show."""
    if recipe.outputs != "auto":
        return recipe.outputs
    outputs = _some_outputs(candidate, guard)
    # outputs of several labels need not sum to 1, so they are looked at one by one, as those of masks
    return meaning(outputs[..., None] if guard.task == "multilabel" else outputs)


def _some_outputs(candidate: Candidate, guard: Split) -> Floats:
    chosen = spread(len(guard), MEANING_CASES)
    # in parts of the split's batch size, which bounds the memory
    parts: Sequence[Any] = np.array_split(chosen, -(-len(chosen) // guard.batch_size))
    return np.concatenate([candidate.predict(guard.inputs(part)) for part in parts])


def _too_few(data: Dataset, recipe: Recipe) -> str:
    """Return a clause where the guard split is too small for any network to prove better than a constant answer; else empty text.

    A perfect network is judged in the original's place. Where even that one does not pass, the fault is the data's and not the network's,
    and the error must ask for more cases instead of naming causes of a bad network.
    """
    guard = data.guard
    if guard.task not in ("classification", "ordinal"):
        return ""
    answers = [(perfect(guard.labels, len(data.classes), guard.kind), guard.labels)]
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
