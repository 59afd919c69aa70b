"""The names of each task's figures, and their keys in report.json."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from optimize.report import wording
from optimize.report.wording import Report


def _number(value: float | None) -> str:
    """A number of any size, to four digits."""
    return wording.DASH if value is None else f"{value:.4g}".replace("-", "−")


@dataclass(frozen=True)
class Terms:
    """The words of one task.

    Args:
        overall: name of the overall figure, as in the middle of a sentence.
        overall_key: key of the overall figure under `metrics.overall`.
        figures: figures of a class, as (name, key under `metrics.per_class`).
        unit: what a class's figures are taken over, "cases" or "patients"; also the key of their number under `metrics.per_class`.
        further: further overall figures, as (name, key under `metrics.overall`).
        write: writes the overall figure and a class's figures as text.
        meaning: sentence about what a class's figures are taken over.
        counted: caption of the table with the counts of each class.
        terms: words of the task and their meanings.
    """

    overall: str
    overall_key: str
    figures: tuple[tuple[str, str], ...]
    unit: str
    further: tuple[tuple[str, str], ...]
    write: Callable[[float | None], str]
    meaning: str
    counted: str
    terms: tuple[tuple[str, str], ...]


CLASSIFICATION = Terms(
    overall="overall accuracy",
    overall_key="accuracy",
    figures=(("Recall", "recall"), ("Precision", "precision"), ("F1", "f1")),
    unit="cases",
    further=(("Macro F1", "macro_f1"), ("AUC", "auc"), ("Calibration error", "ece")),
    write=wording.percent,
    meaning="Over the cases of the test split.",
    counted="Cases of each class",
    terms=(
        ("Recall", "Share of the cases of a class that the model assigns to this class; also called sensitivity."),
        ("Precision", "Share of the cases assigned to a class that truly belong to it."),
        ("F1", "The harmonic mean of recall and precision; macro F1 is its mean over the classes."),
        (
            "AUC",
            "Probability that a case of a class scores higher than a case of another class; each class against the rest, then the mean.",
        ),
        (
            "Calibration error",
            "Mean distance between confidence and the share of right decisions, over bins of confidence, weighted by their cases.",
        ),
        ("Specificity", "Share of the cases of other classes that the model does not assign to this class."),
    ),
)
SEGMENTATION = Terms(
    overall="overall Dice",
    overall_key="dice",
    figures=(("Dice", "dice"),),
    unit="patients",
    further=(("Agreement with the original’s masks", "agreement"),),
    write=wording.fraction,
    meaning="Mean over the patients of the test split; 1 pp is 0.01 of Dice.",
    counted="Images that show each class",
    terms=(
        (
            "Dice",
            "Twice the number of pixels in both the predicted and the true mask, divided by the sum of the pixels of both masks, over "
            "all images of a patient; without patient ids each image is a patient. The background is not a class. Overall Dice is the "
            "mean over the classes.",
        ),
        (
            "Patients of a class",
            "Patients with the class in a true or a predicted mask. A patient with it only in a predicted mask counts 0; one "
            "without it is left out.",
        ),
        ("Agreement", "Dice with the masks of the original in place of the true masks: how similar the artifact’s masks are to them."),
    ),
)


MULTILABEL = Terms(
    overall="balanced accuracy",
    overall_key="balanced_accuracy",
    figures=(("Sensitivity", "sensitivity"), ("Specificity", "specificity"), ("AUC", "auc"), ("F1", "f1")),
    unit="cases",
    further=(("Macro F1", "macro_f1"), ("AUC", "auc")),
    write=wording.percent,
    meaning="Over the cases of the test split in which the label is known.",
    counted="Cases that have each label",
    terms=(
        ("Sensitivity", "Share of the cases that have a label for which the model finds it."),
        ("Specificity", "Share of the cases without a label for which the model does not find it."),
        ("Balanced accuracy", "Mean of sensitivity and specificity; the overall figure is the mean over the labels."),
        ("AUC", "Probability that a case with a label scores higher than a case without it; overall the mean over the labels."),
        ("F1", "The harmonic mean of sensitivity and precision; macro F1 is its mean over the labels."),
    ),
)
ORDINAL = replace(
    CLASSIFICATION,
    further=(("Weighted kappa", "kappa"), *CLASSIFICATION.further),
    terms=(
        ("Weighted kappa", "Agreement of the grades beyond chance; a grade off by two counts four times as much as one off by one."),
        ("Mean error of the grades", "Mean distance from the true grade; limits are about its share of the whole scale."),
        *CLASSIFICATION.terms,
    ),
)
REGRESSION = Terms(
    overall="R²",
    overall_key="r2",
    figures=(("Mean absolute error", "mae"), ("Root mean squared error", "rmse"), ("Bias", "bias"), ("R²", "r2")),
    unit="cases",
    further=(("Relative absolute error", "relative_error"), ("Mean absolute error", "mae"), ("Bias", "bias")),
    write=_number,
    meaning="Over the cases of the test split, in the unit of the labels.",
    counted="Cases of each target",
    terms=(
        ("R²", "Share of the variance of the labels that the model explains; 0 for a constant answer."),
        ("Mean absolute error", "Mean distance of the predictions from the labels, in their unit."),
        ("Bias", "Mean of prediction minus label, in the unit of the labels: above 0 the model predicts too much."),
        (
            "Relative absolute error",
            "Mean absolute error, divided by the mean distance of the labels from their median, which is the error of the best constant "
            "answer. Limits are about this share, which has no unit; 1 pp of it is one hundredth of that distance.",
        ),
        ("Relative bias", "Bias, divided by the same distance."),
    ),
)
EMBEDDING = Terms(
    overall="recall@1",
    overall_key="recall_at_1",
    figures=(("Recall@1", "recall_at_1"), ("Recall@5", "recall_at_5")),
    unit="cases",
    further=(("Recall@5", "recall_at_5"), ("Mean cosine with the original", "cosine"), ("5th percentile of the cosine", "cosine_p5")),
    write=wording.percent,
    meaning="Over the queries of the test split: the items whose identity has another item there.",
    counted="Items",
    terms=(
        (
            "Recall@1",
            "Share of the queries whose nearest other item of the split, by cosine similarity, is of the same identity. An item that is "
            "alone with its identity is no query.",
        ),
        ("Recall@5", "Share of the queries that have an item of their identity among the five nearest."),
        ("Cosine with the original", "Cosine of the angle between an item’s embedding and the original’s; 100 % is the same direction."),
    ),
)
TERMS = {"segmentation": SEGMENTATION, "multilabel": MULTILABEL, "regression": REGRESSION, "ordinal": ORDINAL, "embedding": EMBEDDING}


def terms(report: Report) -> Terms:
    """The words for a report; one that names no task is of a classification."""
    return TERMS.get(str(report.get("task")), CLASSIFICATION)
