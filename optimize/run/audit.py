"""Say what is redundant in a network, layer by layer, before anything is changed: the command `optimize audit` as a function.

Nothing of it is a verdict, and no test image is read. The calibration images say what the layers do, the guard images how well the network
answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from optimize.candidate import Candidate
from optimize.data.arrays import spread
from optimize.data.dataset import Dataset
from optimize.errors import InputError
from optimize.graph.macs import macs
from optimize.progress import stage
from optimize.report.audit import write
from optimize.run.auditing.image_fidelity import Fidelity, image_fidelity
from optimize.run.auditing.layers import LayerAudit, audit_layers
from optimize.run.auditing.parsimony import Parsimony, parsimony
from optimize.run.auditing.playbook import Advice, advise
from optimize.run.in_memory import FILES_ONLY, InMemory
from optimize.run.original import Original, judge_original
from optimize.run.prepare import loaded
from optimize.run.recipe import Recipe
from optimize.run.workspace import Workspace

FORMAT = 1
MAX_IMAGES = 512
"""Most images that a figure is taken from: of more of them, so many that are spread evenly."""


@dataclass(frozen=True, eq=False)
class Audit:
    """What was found. `print(audit)` gives the lines of the command.

    Args:
        model: name of the network.
        classes: names of the labels.
        parameters: number of its parameters.
        nonzeros: number of those that are not 0.
        macs: its multiply-accumulates.
        layers: what was found of every layer.
        playbook: the method that suits each layer.
        parsimony: information criteria on the guard split; None where the labels are no classes.
        fidelity: accuracy at low ranks of the images; empty where the labels are no classes, or the images have other axes than two.
        notes: further sentences.
    """

    model: str
    classes: tuple[str, ...]
    parameters: int
    nonzeros: int
    macs: int
    layers: tuple[LayerAudit, ...]
    playbook: tuple[Advice, ...]
    parsimony: Parsimony | None
    fidelity: tuple[Fidelity, ...]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON, format 1."""
        return {
            "format": FORMAT,
            "model": self.model,
            "classes": list(self.classes),
            "parameters": self.parameters,
            "nonzeros": self.nonzeros,
            "macs": self.macs,
            "layers": [layer.as_dict() for layer in self.layers],
            "playbook": [advice.as_dict() for advice in self.playbook],
            "parsimony": None if self.parsimony is None else self.parsimony.as_dict(),
            "fidelity": [each.as_dict() for each in self.fidelity],
            "notes": list(self.notes),
        }

    @property
    def lines(self) -> list[str]:
        """The audit as lines for a terminal."""
        width = max((len(layer.name) for layer in self.layers), default=5)
        head = f"{'layer':{width}}  {'MACs':>6}  {'made':>5}  {'99 % in':>7}  {'rank':>5}  {'alike':>5}  suits"
        rows = [
            f"{layer.name:{width}}  {100 * layer.macs_share:4.1f} %  {layer.outputs:5}  {_last(layer.dimensions):>7}  "
            f"{_last(layer.whitened_ranks):>5}  {layer.twins:5}  {_words(advice)}"
            for layer, advice in zip(self.layers, self.playbook, strict=True)
        ]
        summary = f"{self.model}: {self.parameters:,} parameters ({self.nonzeros:,} not zero), {self.macs:,} multiply-accumulates"
        further = [] if self.parsimony is None else [_criteria(self.parsimony)]
        if self.fidelity:
            steps = ", ".join(f"{100 * each.accuracy:.1f} % at rank {each.rank}" for each in self.fidelity)
            further.append(f"accuracy as images lose singular components: {steps}")
        return [summary, "", head, *rows, "", *further, *(f"note: {text}" for text in self.notes)]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def audit(recipe: Recipe, objects: InMemory = FILES_ONLY, *, out: str | Path | None = None) -> Audit:
    """Return what is redundant in a network, and write it as `audit.json` and `audit.html` where a folder is given.

    Args:
        recipe: the resolved settings.
        objects: network and data that replace the recipe's files.
        out: folder for the two files; None for none.

    Raises:
        TargetUnavailable: when nothing can be compiled for the target here.
        InputError: when the model, the data, a setting or the folder is wrong.
    """
    folder = None if out is None else _writable(Path(out))
    job = loaded(recipe, _any, objects, _measured)
    candidate, data, calibration = job.original, job.data, job.data.calibration
    with stage("audit the layers"):
        layers = audit_layers(candidate, calibration.inputs(spread(len(calibration), MAX_IMAGES)), recipe.seed)
    nonzeros = sum(int(parameter.count_nonzero()) for parameter in candidate.module.parameters())
    made = Audit(
        recipe.model.name if objects.module is None else type(objects.module).__name__,
        tuple(data.classes),
        candidate.parameters,
        nonzeros,
        macs(candidate),
        layers,
        tuple(map(advise, layers)),
        *_judged(candidate, data, nonzeros),
        (*candidate.notes, *data.notes),
    )
    if folder is not None:
        write(made.as_dict(), folder)
    return made


def _judged(candidate: Candidate, data: Dataset, nonzeros: int) -> tuple[Parsimony | None, tuple[Fidelity, ...]]:
    """Return what the answers on guard images say; nothing where the labels are no classes."""
    guard = data.guard
    if guard.task != "classification" or guard.kind:
        return None, ()
    part = guard.take(spread(len(guard), MAX_IMAGES))
    images, labels = part.inputs(), np.asarray(part.labels).reshape(-1)
    answers = candidate.predict(images)
    if answers.shape[1] < 2:
        return None, ()
    given = answers if candidate.outputs == "probabilities" else softmax(answers.astype(np.float64), axis=1)
    criteria = parsimony(given, labels, candidate.parameters, nonzeros)
    fidelity = image_fidelity(candidate.predict, images, labels, data.classes) if images.ndim == 4 else ()
    return criteria, fidelity


def _any(space: Workspace) -> None:
    """Take any folder: an audit writes nothing of a run."""


def _measured(recipe: Recipe, candidate: Candidate, data: Dataset) -> Original:
    # a network that is no better than chance has layers that can be looked at all the same
    return judge_original(replace(recipe, allow_weak_original=True, expect=None), candidate, data)


def _writable(folder: Path) -> Path:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"`--out` (={folder}) is a file: name a folder.")
    return folder


def _last(counts: tuple[int, ...]) -> str:
    return str(counts[-1]) if counts else "-"


def _words(advice: Advice) -> str:
    return f"{advice.method}: {advice.why}" + (f" (-{100 * advice.saves:.0f} %)" if advice.saves else "")


def _criteria(found: Parsimony) -> str:
    published: Mapping[str, Any] = found.as_dict()["as_published"]  # type: ignore[assignment]
    return (
        f"on {found.cases} guard cases: AIC {found.aic:.4g}, BIC {found.bic:.4g}, two-part MDL {found.mdl_bits:.4g} bits; "
        f"as published (parameters alone): AIC {published['aic']:.4g}, BIC {published['bic']:.4g}, MDL {published['mdl']:.4g}"
    )
