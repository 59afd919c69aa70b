"""Prepare a run: everything that can be wrong is checked before any work is done, the cheapest first.

A wrong setting must not cost minutes, and a wrong run must not replace a good one. So the order is by cost, and nothing is written before
the last check has passed:

    settings that exclude each other; a target that is not installed        no file is opened
    the signing key, the protocol of the change                             small files
    the formats of model and data, the folder of the run                    first bytes of files
    the model, and its outputs for one input                                seconds
    limits that the task has no figure for                                  needs the outputs
    the data, their splits, the calibration split                           seconds to minutes
    the original against a constant answer (`run/original.py`)              one pass over the guard split
    a test split that is too small to accept anything                       no pass, but needs the labels
    export and compilation of the original (`run/rehearsal.py`)             up to minutes
    a time budget that is too short for the rest (`run/time_budget.py`)     no pass
    the folder of the run is opened                                         the first write
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from optimize.backends import Backend, runtimes
from optimize.backends.export_template import Exporter
from optimize.candidate import Candidate, Floats
from optimize.data import sources
from optimize.data.calibration_checks import Finding, check_calibration
from optimize.data.dataset import Dataset, Preprocessing, load_data
from optimize.data.output_meaning import classes_of
from optimize.data.resizing import Resizing
from optimize.errors import InputError
from optimize.guard.acceptance_rule import AcceptanceRule
from optimize.guard.best_possible import best_possible_rails
from optimize.guard.limits import Limits
from optimize.guard.rail import Rail
from optimize.guard.score import Score
from optimize.guard.verdict import search_confidence
from optimize.loading import model_formats
from optimize.loading.file_network import FileNetwork
from optimize.loading.huggingface_folder import class_names
from optimize.loading.live_module import require_no_file_settings
from optimize.loading.load import load_model
from optimize.loading.probe import on_images, some
from optimize.progress import begin_part, note, stage
from optimize.report.signature import sign
from optimize.run.decisive import require_decisive
from optimize.run.history import History, Look
from optimize.run.identity import identity
from optimize.run.in_memory import FILES_ONLY, InMemory, require_fit
from optimize.run.original import Original, judge_original
from optimize.run.preprocessing_presets import preset_in_words
from optimize.run.protocol_agreement import agreed_protocol, require_test_data
from optimize.run.recipe import Recipe, to_toml
from optimize.run.rehearsal import rehearse
from optimize.run.setting_checks import check_settings, require_cpu_level, require_figures, require_outputs, supported_outputs
from optimize.run.time_budget import TimeBudget, time_budget
from optimize.run.workspace import Workspace
from optimize.searching.search import labelled as labelled
from optimize.searching.train_check import TrainCheck
from optimize.training.batches import hold_out

REHEARSAL_CASES = 16
"""Guard images on which each runtime must agree with torch before the search."""
INT8_CASES = 512
"""Calibration images from which ranges of int8 are taken, at most."""


@dataclass(frozen=True, eq=False)
class Job:
    """Everything a run needs, checked.

    Args:
        recipe: the resolved settings.
        runtimes: backends among which the target leaves the choice, the one that the search times on first.
        baseline: the original with the data and its score on the guard split.
        space: folder of the run.
        started: when the run began, seconds since 1970.
        history: record of looks at the test split.
        look: the look at the test split that this run will take.
        health: findings on the calibration split.
        notes: sentences for the report.
        objects: network and data that were passed as objects of this process instead of files.
        protocol: the protocol that was fixed before the run, as the report has it; None where none was.
        budget: the time that the run may take; None where none was given.
        exporter: exporter of the run, which traces the original only once.
    """

    recipe: Recipe
    runtimes: tuple[Backend, ...]
    baseline: Original
    space: Workspace
    started: float
    history: History
    look: Look
    health: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    objects: InMemory = FILES_ONLY
    protocol: Mapping[str, Any] | None = None
    budget: TimeBudget | None = None
    exporter: Exporter = field(default_factory=Exporter)

    @property
    def reload(self) -> dict[str, Any] | None:
        """The arguments of `load_model` with which a fresh process loads the original; None where it was given as an object."""
        return self.recipe.loader_arguments if self.objects.module is None else None

    @cached_property
    def int8_inputs(self) -> Floats:
        """Inputs from which int8 takes the ranges of its activations, (N, C, *spatial), N at most `INT8_CASES`.

        They are sampled from the whole calibration split, because files are often sorted by class.
        """
        split = self.data.calibration
        return split.inputs(np.sort(np.random.default_rng(self.recipe.seed).permutation(len(split))[:INT8_CASES]))

    @property
    def original(self) -> Candidate:
        """The network as it was loaded."""
        return self.baseline.candidate

    @property
    def data(self) -> Dataset:
        """The four splits."""
        return self.baseline.data

    @property
    def baseline_score(self) -> Score:
        """The original's score on the guard split."""
        return self.baseline.score

    @property
    def runtime(self) -> Backend:
        """The backend on which the search times its proposals."""
        return self.runtimes[0]

    @property
    def limits(self) -> Limits:
        """The recipe's limits at the confidence of the look that this run will take."""
        return self.look.limits(self.recipe.limits)

    @cached_property
    def train_check(self) -> TrainCheck | None:
        """The second check of proposals, on training images; None where there is no train split, or too small a one."""
        data, recipe = self.data, self.recipe
        if data.training_split is None:
            return None
        cases = data.guard.n_independent, data.test.n_independent
        return TrainCheck.from_train(self.original, data.training_split, *cases, data.classes, recipe.limits, recipe.seed, recipe.power)

    @cached_property
    def search_confidence(self) -> float:
        """Confidence of the bounds on the guard split where no chance of acceptance can be asked for."""
        return search_confidence(self.limits, self.data.guard.n_independent, self.data.test.n_independent, self.recipe.power)

    @cached_property
    def test_rails(self) -> tuple[Rail, ...]:
        """The guard-rails of a perfect candidate on the test split, from its labels alone; no image is read."""
        return best_possible_rails(self.data.test, self.data.classes, self.limits)

    @cached_property
    def acceptance_rule(self) -> AcceptanceRule:
        """The rule by which the search keeps a proposal, and by which a precision may ship."""
        n_guard, power = self.data.guard.n_independent, self.recipe.power
        return AcceptanceRule.planned(self.limits, self.baseline_score, self.test_rails, n_guard, power, self.search_confidence)


def prepare(recipe: Recipe, *, resume: bool, overwrite: bool, objects: InMemory = FILES_ONLY) -> Job:
    """Check everything that can be wrong, and start the run in its folder or continue it.

    Args:
        recipe: the resolved settings.
        resume: continue the interrupted run in `recipe.out`.
        overwrite: replace the run in `recipe.out`.
        objects: network and data that replace the recipe's files.

    Raises:
        TargetUnavailable: when nothing can be compiled for the target here.
        Inconclusive: when the test split is too small to accept anything, and the recipe does not say `force`.
        InputError: when the model, the data or a setting is wrong; nothing was written over.
    """
    check_settings(recipe)
    job = loaded(recipe, lambda space: space.check(resume=resume, overwrite=overwrite), objects)
    # warnings only: a weak calibration split costs accuracy of int8, and the guard decides on that
    for finding in job.health:
        if finding.level == "warning":
            note(f"calibration data, {finding.check}: {finding.text}")
    # the run was interrupted during its look at the test split: it continues that look, whose number and share are fixed
    if resume and job.space.look is not None:
        job = replace(job, look=job.history.expected(job.data.test, fresh=recipe.fresh_test, again=job.space.look))
    elif recipe.fresh_test:
        job.history.require_fresh(job.data.test)
    # A run that is continued passed this check when it began. It is asked again below, once `open` has compared the identities: where the
    # folder holds another run, that is the error to report, and not a split that is too small.
    taken_up = resume and job.space.ledger.has_run
    if not taken_up:
        require_decisive(job.recipe, job.data, job.look)
    begin_part("export of the original")
    able, notes = rehearse(job.original, job.runtimes, job.data.guard.inputs(slice(0, REHEARSAL_CASES)), recipe.threads, job.exporter)
    job = replace(job, runtimes=able, notes=notes)
    job = replace(job, budget=time_budget(job))
    job.space.open(identity(recipe, job.data), resume=resume)
    if job.space.report is None:  # what a finished run's report lists is not written again
        if taken_up:
            require_decisive(job.recipe, job.data, job.look)
        (recipe.out / "recipe.lock.toml").write_text(to_toml(objects.without_temporary_path(recipe)), encoding="utf-8")
    return job


def loaded(
    recipe: Recipe,
    check: Callable[[Workspace], None],
    objects: InMemory = FILES_ONLY,
    judge: Callable[[Recipe, Candidate, Dataset], Original] = judge_original,
) -> Job:
    """Load and check the model and the data; nothing is written.

    Args:
        recipe: the resolved settings.
        check: function that raises where the run's folder is not as it should be; called before anything large is read.
        objects: network and data that replace the recipe's files.
        judge: function that judges the original; only a plan, which has seconds, gives another one.

    Raises:
        TargetUnavailable: when nothing can be compiled for the target here.
        InputError: when the model, the data or a setting is wrong.
    """
    started = time.time()
    require_cpu_level(recipe)
    candidates = runtimes(recipe.target, recipe.compute_capability)
    # Three checks that read a few bytes each. Signing comes last in a run, so a wrong key would otherwise be found after hours.
    if recipe.sign_key is not None:
        sign({}, recipe.sign_key)  # raises where the key cannot be used
    protocol = agreed_protocol(recipe)
    if objects.module is None:
        model_formats.format_of(recipe.model)  # raises where it is no file of weights
    if recipe.data and objects.data is None:
        sources.format_of(recipe.data)  # raises where no format reads it
    space = Workspace(recipe.out)
    check(space)
    begin_part("load")
    with stage("load the model"):
        original = _original(recipe, objects)
    if not recipe.data and objects.data is None:
        raise InputError("`data` is missing: pass --data file.npz, or set [data] path in the optimize.toml beside the model.")
    # The outputs say what the data must look like: the number of classes, and masks or labels.
    outputs = original.predict(original.example.numpy()).shape
    if not supported_outputs(outputs, original.example.ndim):
        raise InputError(
            f"`model` gives outputs of shape {outputs}: it must give classes, (N, K), one yes or no, (N, 1), or masks, (N, K, *spatial)."
        )
    with stage("load the data"):
        data = load_data(
            recipe.data if objects.data is None else objects.data,
            preprocessing=Preprocessing(recipe.mean, recipe.std, recipe.pad, recipe.standardize),
            input_shape=tuple(original.example.shape[1:]),
            num_classes=_class_count(recipe, outputs),
            mask_shape=outputs[2:],
            classes=recipe.classes,
            model_classes=class_names(recipe.model) if objects.module is None else (),
            seed=recipe.seed,
            drop_overlap=recipe.drop_overlap,
            task=recipe.task,
            resizing=Resizing(recipe.resize, recipe.crop, recipe.interpolation, files_only=recipe.preprocessing is not None),
        )
    if recipe.preprocessing is not None and objects.data is not data:
        note(stood_for := preset_in_words(recipe.preprocessing, vars(recipe)))
        data = replace(data, notes=(stood_for, *data.notes))
    require_figures(recipe.limits, data.test.task)
    require_outputs(data, outputs)
    require_test_data(protocol, data)
    # `load_data` returns a prepared `Dataset` as it is, so it was checked against another network or none
    if objects.data is data:
        require_fit(data, original, outputs)
    # Until here the example was noise, since no image was known. A real image shows faults that noise hides.
    original = on_images(original, data.calibration.inputs(some(len(data.calibration))))
    if recipe.retrain:
        if isinstance(original.module, FileNetwork):
            raise InputError(f"`--retrain` needs layers that can be trained, and {original.notes[0]}: run without --retrain.")
        if data.training_split is None:
            raise InputError("`--retrain` needs a train split: add train_images and train_labels to the data, or run without it.")
        hold_out(labelled(data.training_split), recipe.seed)  # raises where too few items could be held out
    if unknown := [name for name in recipe.limits.positive if name not in data.classes]:
        raise InputError(f"`positive` (={unknown[0]}) is no class of the data: name some of {', '.join(data.classes[:12])}.")
    with stage("look at the calibration data"):
        findings = check_calibration(data)
    history = History.of(recipe.data, recipe.history)
    look = history.expected(data.test, fresh=recipe.fresh_test)
    job = Job(recipe, candidates, judge(recipe, original, data), space, started, history, look, findings, objects=objects)
    return job if protocol is None else replace(job, protocol=protocol.record())


def _class_count(recipe: Recipe, outputs: tuple[int, ...]) -> int | None:
    """Return the number of classes, labels or masks that the outputs stand for; None where the labels decide."""
    # the length of an embedding says nothing about identities
    if recipe.task == "embedding" or (recipe.task in ("ordinal", "regression") and outputs[1:] == (1,)):
        return None
    return outputs[1] if recipe.task == "multilabel" else classes_of(outputs)


def _original(recipe: Recipe, objects: InMemory) -> Candidate:
    """Return the original as it was loaded, from the recipe's file or from the network in memory."""
    if objects.module is None:
        return load_model(**recipe.loader_arguments)
    settings = {"arch": recipe.arch, "arch_args": recipe.arch_args, "weights": recipe.weights, "trust_pickle": recipe.trust_pickle}
    require_no_file_settings(**settings)
    return load_model(objects.module, input_shape=recipe.input_shape, output=recipe.output)
