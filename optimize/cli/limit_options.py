"""The options of the guard-rails, as one decorator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cloup

Function = Callable[..., Any]


def limit_options(command: Function) -> Function:
    """Add the options of the limits to a command, as a group of their own in its help."""
    return cloup.option_group("Limits: what the compressed model must hold", *_OPTIONS)(command)


_OPTIONS = (
    cloup.option("--max-drop", metavar="2pp", help="Largest drop of overall accuracy, or Dice; 2% is a share of the original's figure."),
    cloup.option("--max-class-drop", metavar="6pp", help="Largest drop of any class's recall; with masks, of its Dice."),
    cloup.option("--max-group-drop", metavar="6pp", help="Largest drop within any subgroup; by default as --max-class-drop."),
    cloup.option("--min-class-f1", metavar="0.85", help="F1, or Dice, that every class must reach."),
    cloup.option("--min-class-recall", metavar="0.9", help="Recall that every class must reach."),
    cloup.option("--min-agreement", metavar="0.95", help="With masks: Dice with the original's masks that must be reached."),
    cloup.option("--max-sensitivity-drop", metavar="3pp", help="Largest drop of the sensitivity at --threshold."),
    cloup.option("--max-specificity-drop", metavar="3pp", help="Largest drop of the specificity at --threshold."),
    cloup.option("--max-ece-rise", metavar="2pp", help="Largest rise of the expected calibration error."),
    cloup.option("--max-regressed", metavar="5%", help="Largest share of cases that were right and become wrong."),
    cloup.option("--metric", metavar="NAME", help="What --max-drop limits: accuracy, macro_f1 or auc."),
    cloup.option("--class-metric", metavar="NAME", help="What --max-class-drop limits: recall, precision or f1."),
    cloup.option("--threshold", metavar="0.5", help="Probability from which a case counts as positive for a class."),
    cloup.option("--positive", metavar="NAME,…", help="Classes that count as positive; by default every class."),
    cloup.option("--preset", metavar="NAME", help="Limits by name: celeba, cifar, bloodmnist or clinical; single limits override it."),
    cloup.option("--verdict", metavar="MODE", help="statistical: the bound of a loss must hold its limit; point: the measured loss must."),
    cloup.option("--confidence", metavar="0.95", help="Confidence of each bound of the statistical verdict."),
)
