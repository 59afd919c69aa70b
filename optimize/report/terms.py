"""What each task calls its figures, and under which keys report.json has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from optimize.report import wording
from optimize.report.wording import Report


@dataclass(frozen=True)
class Terms:
    """The words of one task.

    Args:
        overall: the overall figure, in the middle of a sentence.
        overall_key: under `metrics.overall`.
        figure: the figure of a class, in the middle of a sentence.
        figure_key: under `metrics.per_class`.
        floor: the figure that a class must reach.
        floor_key: under `metrics.per_class`.
        seen: what a class's figure is taken over; also its key under `metrics.per_class`.
        missed: what is said of a class that misses the limit of its drop, and the limit of its floor.
        further: what else is measured overall, as (name, key).
        write: how the overall figure and a class's figure are written.
        meaning: how a class's figure comes about.
        counted: caption of the counts of each class.
        confusion: there is a confusion matrix.
        terms: words and what they mean.
    """

    overall: str
    overall_key: str
    figure: str
    figure_key: str
    floor: str
    floor_key: str
    seen: str
    missed: tuple[str, str]
    further: tuple[tuple[str, str], ...]
    write: Callable[[float | None], str]
    meaning: str
    counted: str
    confusion: bool
    terms: tuple[tuple[str, str], ...]

    @property
    def two(self) -> bool:
        """Whether drop and floor are of two figures."""
        return self.floor_key != self.figure_key


CLASSIFICATION = Terms(
    overall="overall accuracy",
    overall_key="accuracy",
    figure="recall",
    figure_key="recall",
    floor="F1",
    floor_key="f1",
    seen="cases",
    missed=("recall", "F1"),
    further=(("Macro F1", "macro_f1"),),
    write=wording.percent,
    meaning="Cases of the test split.",
    counted="Cases of each class",
    confusion=True,
    terms=(
        ("Recall", "Of the cases that truly belong to a class, the share found (sensitivity)."),
        ("F1", "The harmonic mean of recall and precision; macro F1 is its mean over the classes."),
    ),
)
AGREEMENT = ("Agreement with the original’s masks", "agreement")
SEGMENTATION = Terms(
    overall="overall Dice",
    overall_key="dice",
    figure="Dice",
    figure_key="dice",
    floor="Dice",
    floor_key="dice",
    seen="patients",
    missed=("drop", "least Dice"),
    further=(AGREEMENT,),
    write=wording.fraction,
    meaning="Mean over the patients of the test split; 1 pp is 0.01 of Dice.",
    counted="Images that show each class",
    confusion=False,
    terms=(
        (
            "Dice",
            "Twice the pixels that the predicted and the true mask share, divided by the pixels of the one and of the other, over all "
            "images of a patient; without patient ids each image is a patient. The background is no class. Overall, it is the mean over "
            "the classes.",
        ),
        (
            "Patients of a class",
            "Those in whom it is true or predicted. One who has it nowhere but is given it counts 0; one without either is left out.",
        ),
        ("Agreement", "The same with the original’s masks in place of the true ones: how far the artifact marks what the original marks."),
    ),
)


def terms(report: Report) -> Terms:
    """The words for a report; one that names no task is of a classification."""
    return SEGMENTATION if report.get("task") == "segmentation" else CLASSIFICATION
