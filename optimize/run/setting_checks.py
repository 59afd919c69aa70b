"""Check the settings of a run against each other, against this machine and against the task."""

from __future__ import annotations

from optimize.backends import CPU, runs_on_cpu, runtimes, title
from optimize.backends.cpu_limit import limitable, restrict_level
from optimize.data.dataset import Dataset
from optimize.errors import InputError
from optimize.guard.limits import CLASS_SETTINGS, Limits
from optimize.guard.rails import Task, rows
from optimize.hardware.cpu_level import in_words, level
from optimize.run.recipe import Recipe
from optimize.run.strategies import require_settings

_GIVES = {
    "classification": "classes",
    "segmentation": "masks",
    "multilabel": "several labels",
    "ordinal": "grades",
    "regression": "numbers",
    "embedding": "embeddings",
}


def check_settings(recipe: Recipe) -> None:
    """Check the settings against each other and against this machine; no file is opened.

    Raises:
        TargetUnavailable: when nothing can be compiled for the target here.
        InputError: when two settings exclude each other, or the target does not take one of them.
    """
    _check_strategy(recipe)
    require_cpu_level(recipe)
    unavailable = runtimes(recipe.target, recipe.compute_capability)[0].unavailable_reason()
    if unavailable and (recipe.latency_target_ms or recipe.speedup):
        raise InputError(f"a latency can be asked for only where it is measured ({unavailable}): leave out --latency-target or --speedup.")


def _check_strategy(recipe: Recipe) -> None:
    """Check that the settings of the search go together: two goals exclude each other, and a strategy must take what is asked of it."""
    goals = {"--latency-target": recipe.latency_target_ms, "--speedup": recipe.speedup}
    required = {flag: "goal" for flag, value in goals.items() if value is not None}
    if len(required) > 1:
        raise InputError("`--latency-target` and `--speedup` exclude each other: give one of them.")
    if recipe.retrain:
        required["--retrain"] = "finetune"
    if recipe.prefer != "balanced":
        required["--prefer"] = "pricing"
    require_settings(recipe, required)


def require_figures(limits: Limits, task: Task) -> None:
    """Refuse a limit that was set for a figure that the task does not have."""
    defaults, plain = Limits(), task in ("classification", "ordinal")
    settings = () if plain else tuple(name for name in CLASS_SETTINGS if task != "multilabel" or name in ("metric", "class_metric"))
    for name in (*settings, *(row.name for row in rows() if row.judge(task) is None)):
        if (value := getattr(limits, name)) == getattr(defaults, name):
            continue
        row = next((row for row in rows() if row.name == name), None)
        needs = "classes" if row is None else " or ".join(_GIVES[other] for other in row.tasks)
        raise InputError(f"`{name}` (={value}) is for {needs}, and this model gives {_GIVES[task]}: leave it out.")


def require_outputs(data: Dataset, outputs: tuple[int, ...]) -> None:
    """Check that a network has an output for every label, number or grade.

    Args:
        data: the four splits.
        outputs: shape of the network's output for one input, (1, K) or (1, K, *spatial).

    Raises:
        InputError: when it has more or fewer.
    """
    labels, task = data.test.labels, data.test.task
    if task in ("multilabel", "regression") and outputs[1:] != labels.shape[1:]:
        raise InputError(
            f"`data` has {labels.shape[1]} labels for each image, and the network gives outputs of {outputs[1:]}: they must be as many "
            f"(the labels look like those of a {task}: pass --task if they are not)."
        )
    if task == "embedding" and len(outputs) != 2:
        raise InputError(f"`--task embedding` needs one vector for each image, (N, D), and the network gives outputs of {outputs}.")
    if task == "ordinal" and outputs[1] != len(data.classes):
        grades = len(data.classes)
        raise InputError(
            f"`data` has {grades} grades and the network {outputs[1]} outputs: it must have one for each grade; a network that gives the "
            "grade as a single number is judged with --task regression."
        )


def supported_outputs(outputs: tuple[int, ...], axes: int) -> bool:
    """Return whether outputs are classes, (N, K), one yes or no, (N, 1), or masks with as many axes as the image."""
    return len(outputs) in (2, axes) and outputs[1] >= 1


def require_cpu_level(recipe: Recipe) -> None:
    """Restrict the runtime to the instruction set of the processor that the recipe names.

    Raises:
        InputError: when the target does not run on a processor, or cannot be kept to another one.
    """
    cpu_level = recipe.cpu_level
    if cpu_level is None:
        return
    if recipe.target != CPU and not runs_on_cpu(recipe.target):
        raise InputError(f"`--cpu-level` (={cpu_level!r}) is for targets that run on a processor, not for {recipe.target}: leave it out.")
    # "cpu" chooses the faster runtime by timing, which cannot be done for another processor
    if recipe.target == CPU and cpu_level != level():
        able = " or ".join(map(title, limitable()))
        why = f"is not this machine's ({in_words(level())}), and only {able} can be kept to it"
        raise InputError(f"`--cpu-level` (={cpu_level!r}) {why}: name one runtime as --target.")
    restrict_level(recipe.target, cpu_level)
