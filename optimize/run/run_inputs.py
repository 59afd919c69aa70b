"""Read and check the model and the data of a run, the cheapest check first; nothing is judged and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from optimize.backends import Backend, runtimes
from optimize.candidate import Candidate
from optimize.data import sources
from optimize.data.calibration_checks import Finding, check_calibration
from optimize.data.dataset import Dataset, Preprocessing, load_data
from optimize.errors import InputError
from optimize.guard.limits import CLASS_SETTINGS, Limits
from optimize.guard.rails import Task, rows
from optimize.loading import model_formats
from optimize.loading.live_module import require_no_file_settings
from optimize.loading.load import load_model
from optimize.loading.probe import on_images, some
from optimize.progress import begin_part, stage
from optimize.report.signature import sign
from optimize.run.history import History, Look
from optimize.run.in_memory import FILES_ONLY, InMemory, require_fit
from optimize.run.recipe import Recipe
from optimize.run.workspace import Workspace
from optimize.searching.search import labelled
from optimize.training.batches import hold_out


class RunInputs(NamedTuple):
    """The model and the data of a run, loaded and checked; the original is not judged yet.

    Attributes:
        original: the network as it was loaded.
        data: the four splits.
        runtimes: backends among which the target leaves the choice.
        history: record of looks at the test split.
        look: the look at the test split that the run will take.
        findings: findings on the calibration split.
    """

    original: Candidate
    data: Dataset
    runtimes: tuple[Backend, ...]
    history: History
    look: Look
    findings: tuple[Finding, ...]


def read_inputs(recipe: Recipe, check: Callable[[Workspace], None], objects: InMemory = FILES_ONLY) -> RunInputs:
    """Load and check the model and the data, and judge nothing yet; nothing is written.

    Args:
        recipe: the resolved settings.
        check: function that raises where the run's folder is not as it should be; called before anything large is read.
        objects: network and data that replace the recipe's files.

    Raises:
        TargetUnavailable: when nothing can be compiled for the target here.
        InputError: when the model, the data or a setting is wrong.
    """
    candidates = runtimes(recipe.target, recipe.compute_capability)
    # Three checks that read a few bytes each. Signing comes last in a run, so a wrong key would otherwise be found after hours.
    if recipe.sign_key is not None:
        sign({}, recipe.sign_key)  # raises where the key cannot be used
    if objects.module is None:
        model_formats.format_of(recipe.model)  # raises where it is no file of weights
    if recipe.data and objects.data is None:
        sources.format_of(recipe.data)  # raises where no format reads it
    check(Workspace(recipe.out))
    begin_part("load")
    with stage("load the model"):
        original = _original(recipe, objects)
    if not recipe.data and objects.data is None:
        raise InputError("`data` is missing: pass --data file.npz, or set [data] path in the optimize.toml beside the model.")
    # The outputs say what the data must look like: the number of classes, and masks or labels.
    outputs = original.predict(original.example.numpy()).shape
    if not _supported_outputs(outputs, original.example.ndim):
        raise InputError(
            f"`model` gives outputs of shape {outputs}: it must give classes, (N, K) with K of 2 or more, or masks, (N, K, *spatial)."
        )
    check_limits(recipe.limits, masks=len(outputs) > 2)
    with stage("load the data"):
        data = load_data(
            recipe.data if objects.data is None else objects.data,
            preprocessing=Preprocessing(recipe.mean, recipe.std, recipe.pad, recipe.standardize),
            input_shape=tuple(original.example.shape[1:]),
            num_classes=outputs[1],
            mask_shape=outputs[2:],
            classes=recipe.classes,
            seed=recipe.seed,
            drop_overlap=recipe.drop_overlap,
        )
    # `load_data` returns a prepared `Dataset` as it is, so it was checked against another network or none
    if objects.data is data:
        require_fit(data, original, outputs)
    # Until here the example was noise, since no image was known. A real image shows faults that noise hides.
    original = on_images(original, data.calibration.inputs(some(len(data.calibration))))
    if recipe.retrain:
        if data.training_split is None:
            raise InputError("`--retrain` needs a train split: add train_images and train_labels to the data, or run without it.")
        hold_out(labelled(data.training_split), recipe.seed)  # raises where too few items could be held out
    if unknown := [name for name in recipe.limits.positive if name not in data.classes]:
        raise InputError(f"`positive` (={unknown[0]}) is no class of the data: name some of {', '.join(data.classes[:12])}.")
    with stage("look at the calibration data"):
        findings = check_calibration(data)
    history = History.of(recipe.data, recipe.history)
    look = history.expected(data.test, fresh=recipe.fresh_test)
    return RunInputs(original, data, candidates, history, look, findings)


def _original(recipe: Recipe, objects: InMemory) -> Candidate:
    """Return the original as it was loaded, from the recipe's file or from the network in memory."""
    if objects.module is None:
        return load_model(**recipe.loader_arguments)
    settings = {"arch": recipe.arch, "arch_args": recipe.arch_args, "weights": recipe.weights, "trust_pickle": recipe.trust_pickle}
    require_no_file_settings(**settings)
    return load_model(objects.module, input_shape=recipe.input_shape)


def check_limits(limits: Limits, *, masks: bool) -> None:
    """Refuse a limit that was set for a figure that the task does not have."""
    task: Task = "segmentation" if masks else "classification"
    defaults = Limits()
    foreign = [*(CLASS_SETTINGS if masks else ()), *(row.name for row in rows() if row.judge(task) is None)]
    for name in foreign:
        if (value := getattr(limits, name)) != getattr(defaults, name):
            needs, has = ("classes", "masks") if masks else ("masks", "classes")
            raise InputError(f"`{name}` (={value}) is for {needs}, and this model gives {has}: leave it out.")


def _supported_outputs(outputs: tuple[int, ...], axes: int) -> bool:
    """Return whether outputs are classes, (N, K) with K of 2 or more, or masks with as many axes as the image."""
    return outputs[1] >= 2 if len(outputs) == 2 else len(outputs) == axes
