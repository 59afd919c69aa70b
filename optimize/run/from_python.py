"""The commands as functions, which also take objects of this process in place of paths.

Nothing is printed. With `progress`, the lines and bars of the command are shown on standard error.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from optimize.data.dataset import Dataset
from optimize.errors import InputError
from optimize.guard.limits import Limits
from optimize.progress import shown
from optimize.report.compare import compare as compare_runs
from optimize.run import demo as digits
from optimize.run.audit import Audit
from optimize.run.audit import audit as audit_run
from optimize.run.compress import run
from optimize.run.in_memory import InMemory, data_in_memory, preprocessing_settings, weights_file
from optimize.run.plan import Plan
from optimize.run.plan import plan as plan_run
from optimize.run.recipe import Recipe, resolve
from optimize.run.report import Report
from optimize.run.verification.bundle_archive import require_not_around_a_bundle
from optimize.run.verification.site import is_bundle, verify_path
from optimize.run.verification.verify import Verified
from optimize.run.verification.verify import verify as verify_folder

_PREPARATION = ("preprocessing", "mean", "std", "pad", "standardize", "resize", "crop", "interpolation")


def compress(
    model: str | Path | nn.Module,
    data: object = None,
    *,
    target: str | None = None,
    limits: Limits | Mapping[str, object] | None = None,
    out: str | Path | None = None,
    recipe: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    **settings: object,
) -> Report:
    """Prune, repair, quantize, compile and verify a trained network; the command `optimize compress` as a function.

    Args:
        model: file of weights, beside which an `optimize.toml` may say the rest; or the network itself, on the CPU. It is copied and
            never changed, and judged in eval mode.
        data: an `.npz` or "file.py:factory"; or arrays by the names of MedMNIST, or (images, labels), a torch Dataset or a DataLoader by
            name of split ("train", "val", "test", …), see `load_data`; or a prepared `Dataset`. None for the source that the recipe names.
        target: runtime to compile for: "onnxruntime", "openvino", "cpu" for the faster of the two, "tensorrt" or "tensorrt-rtx".
        limits: the guard-rails, as `Limits` or by name; single ones can also be given as settings.
        out: folder for the results; by default the model's name and the target, in the working directory.
        recipe: a toml with settings.
        resume: continue the interrupted run in `out`.
        overwrite: replace the run in `out`.
        progress: show progress on standard error.
        settings: every other setting of the recipe, by its name there, as a value or as the text that the flag takes: `mean`, `std`, `pad`,
            `input_shape` (C, *spatial), `arch`, `strategy`, `retrain`, `speedup`, `seed`, `threads`, `max_drop="2pp"`, …

    Returns:
        The report, true when the artifact was accepted. It is also written to `out`.

    Raises:
        TargetUnavailable: when the target cannot run here; nothing was done.
        Inconclusive: when the test split is known to be too small to accept anything; `force=True` searches all the same.
        InputError: when the model, the data or a setting is wrong, or no setting has that name.

    Example:
        >>> compress(nn.Linear(2, 2), target="onnxruntime", max_dorp="2pp")
        Traceback (most recent call last):
        optimize.errors.InputError: `max_dorp` is no setting: did you mean `max_drop`?
    """
    with shown() if progress else nullcontext(), _resolved(model, data, target, limits, out, recipe, settings) as (resolved, objects):
        finished = run(resolved, objects, resume=resume, overwrite=overwrite)
        return Report(finished.report, resolved.out, finished.candidate)


def plan(
    model: str | Path | nn.Module,
    data: object = None,
    *,
    target: str | None = None,
    limits: Limits | Mapping[str, object] | None = None,
    out: str | Path | None = None,
    recipe: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    files: Sequence[str | Path] = (),
    pipeline: str | None = None,
    progress: bool = False,
    **settings: object,
) -> Plan:
    """Say what `compress` with the same arguments would do, how long it takes, and which limits the data can decide; nothing is written.

    Args:
        model: file of weights, or the network itself, in each form that `compress` takes; it is never changed.
        data: the data in each form that `compress` takes; None for the source that the recipe names.
        target: runtime that the run would compile for.
        limits: the guard-rails, as `Limits` or by name.
        out: folder that the run would write to; nothing is written there now.
        recipe: a toml with settings.
        resume: whether the run would continue the interrupted one in `out`.
        overwrite: whether the run would replace the one in `out`.
        files: image files, or folders of such, to time from the file to the answer.
        pipeline: "file.py:function" from a path to the network's input, for `files`.
        progress: show progress on standard error.
        settings: every other setting of the recipe, by its name there.

    Returns:
        The plan: `text` for a terminal, `as_dict()` as plain JSON, `exit_code` 3 where the test split can decide none of the limits.

    Raises:
        TargetUnavailable: when the target cannot run here.
        InputError: when the model, the data, a file or a setting is wrong, or no setting has that name.

    Example:
        >>> plan(nn.Linear(2, 2), target="onnxruntime", max_dorp="2pp")
        Traceback (most recent call last):
        optimize.errors.InputError: `max_dorp` is no setting: did you mean `max_drop`?
    """
    with shown() if progress else nullcontext(), _resolved(model, data, target, limits, out, recipe, settings) as (resolved, objects):
        return plan_run(resolved, objects, resume=resume, overwrite=overwrite, files=files, pipeline=pipeline)


def verify(
    folder: str | os.PathLike[str],
    *,
    public_key: str | Path | None = None,
    model: str | Path | nn.Module | None = None,
    data: object = None,
    record: str | Path | None = None,
    progress: bool = False,
    **settings: object,
) -> Verified:
    """Check a compiled model on this machine, or finish the verdict of a run that could not be judged where it was compiled.

    Args:
        folder: folder of a run, or the `model` in it; or a bundle, as a folder or a .tar.gz.
        public_key: the Ed25519 key that must have signed the report or the bundle, as a file in PEM or as base64; None for any or none.
        model: the original, where its file lies elsewhere on this machine, or the network itself; None for the path in the run.
        data: the data of the run, in any form that `compress` takes; the model of a finished run is judged on its test split again. Of a
            bundle: cases of this site, as the path of an .npz, a dict of `images` and perhaps `labels` or `masks`, or (images, labels).
        record: of a bundle: folder for the acceptance record, which `sign_key` signs; None for no record.
        progress: show progress on standard error.
        settings: other settings that differ from those of the run on the other machine: `arch`, `history`, `sign_key`, `trust_pickle`.

    Returns:
        The outcome, "pass", "fail" or "inconclusive", and the findings, one sentence each; of a bundle, the figures, too.

    Raises:
        InputError: when the folder holds no run and no model, something in it was altered, or the model or the data are not the run's.
        TargetUnavailable: when the target cannot run here.

    Example:
        >>> verify("nowhere")
        Traceback (most recent call last):
        optimize.errors.InputError: `run` (=nowhere) does not exist: check the path.
    """
    # what `bundle` returns is a path too
    folder = Path(folder) if isinstance(folder, os.PathLike) else folder
    _require_path("folder", folder)
    for name, value in (("record", record), ("public_key", public_key)):
        if value is not None:
            _require_path(name, value)
    if is_bundle(Path(folder)):
        with shown() if progress else nullcontext():
            key, place = (None if value is None else str(value) for value in (public_key, record))
            return verify_path(
                Path(folder), public_key=key, model=model, data=data, record=None if place is None else Path(place), **settings
            )
    require_not_around_a_bundle(Path(folder), Path(folder))
    if record is not None:
        raise InputError(f"`record` (={record}) is for a bundle, and `{folder}` is none: make one with `bundle`.")
    in_memory = None if data is None or isinstance(data, str | Path) else data_in_memory(data)
    objects = InMemory(model if isinstance(model, nn.Module) else None, in_memory)
    with shown() if progress else nullcontext(), ExitStack() as opened:
        if isinstance(model, nn.Module):
            file: Path | None = opened.enter_context(weights_file(model))
        else:
            file = None if model is None else Path(model)
        # the functions below take text, as the command passes it
        key, source = (None if value is None else str(value) for value in (public_key, data if in_memory is None else None))
        return verify_folder(Path(folder), public_key=key, model=file, data=source, objects=objects, **settings)


def audit(
    model: str | Path | nn.Module,
    data: object = None,
    *,
    target: str = "cpu",
    out: str | Path | None = None,
    recipe: str | Path | None = None,
    progress: bool = False,
    **settings: object,
) -> Audit:
    """Say what is redundant in a network, layer by layer; nothing is changed. The command `optimize audit` as a function.

    Args:
        model: file of weights, or the network itself.
        data: the data in each form that `compress` takes.
        target: runtime that must be there.
        out: folder for `audit.html` and `audit.json`; None for neither.
        recipe: a toml with settings.
        progress: show progress on standard error.
        settings: every other setting of the recipe, by its name there.

    Raises:
        TargetUnavailable: when the target cannot run here.
        InputError: when the model, the data or a setting is wrong.
    """
    with shown() if progress else nullcontext(), _resolved(model, data, target, None, None, recipe, settings) as (resolved, objects):
        return audit_run(resolved, objects, out=out)


def compare(folders: Sequence[str | Path], out: str | Path) -> Path:
    """Write comparison.html, comparison.json and comparison.csv, one row for each run, and render the pages of the runs again.

    Args:
        folders: folders of the runs.
        out: folder to write into; made where it is missing.

    Returns:
        The path of the page.

    Raises:
        InputError: when a folder holds no readable report, or `out` cannot be written.

    Example:
        >>> compare(["nowhere", "elsewhere"], "comparison")
        Traceback (most recent call last):
        optimize.errors.InputError: `run` (=nowhere) holds no report.json: name the --out folder of a run.
    """
    if isinstance(folders, str | Path):
        raise InputError(f"`folders` (={str(folders)!r}) must be a list: pass several folders of runs.")
    for name, path in (*(("folders", folder) for folder in folders), ("out", out)):
        _require_path(name, path)
    return compare_runs([Path(folder) for folder in folders], Path(out))


def demo(out: str | Path = "demo", *, progress: bool = False) -> dict[Path, Report]:
    """Train a small net on handwritten digits and compress it for every runtime that runs here; takes minutes.

    Args:
        out: folder for the data, the model and the results.
        progress: show progress on standard error.

    Returns:
        Folder of each run -> its report.

    Raises:
        InputError: when scikit-learn is not installed, or `out` cannot be written or holds other files.
        TargetUnavailable: when no runtime is installed.

    Example:
        >>> reports = demo("demo")  # doctest: +SKIP
        >>> all(reports.values())  # doctest: +SKIP
        True
    """
    _require_path("out", out)
    with shown() if progress else nullcontext():
        return {folder: Report(report, folder) for folder, report in digits.demo(Path(out)).items()}


@contextmanager
def _resolved(
    model: str | Path | nn.Module,
    data: object,
    target: str | None,
    limits: Limits | Mapping[str, object] | None,
    out: str | Path | None,
    recipe: str | Path | None,
    settings: Mapping[str, object],
) -> Iterator[tuple[Recipe, InMemory]]:
    """The recipe and the objects of a call; the file of a live network's weights is there for as long as the block lasts."""
    _require_kinds(model, limits, out, recipe)
    settings = {name: _as_plain(value) for name, value in settings.items()}
    overrides: dict[str, object] = {**(limits if isinstance(limits, Mapping) else {}), **settings}
    if out is not None:
        overrides["out"] = Path(out).absolute()
    in_memory = None if data is None or isinstance(data, str | Path) else data_in_memory(data)
    if data is not None:
        overrides["data"] = str(data) if in_memory is None else ""  # what an optimize.toml names is not read
    if isinstance(in_memory, Dataset):
        overrides |= _preparation(in_memory, settings)
    objects = InMemory(model if isinstance(model, nn.Module) else None, in_memory)
    with ExitStack() as opened:
        file = opened.enter_context(weights_file(model)) if isinstance(model, nn.Module) else model
        resolved = resolve(file, target=target, overrides=overrides, recipe_file=recipe, prefix="")
        # a `Limits` is complete, so it replaces what the recipe file says; single limits by name override only themselves
        if isinstance(limits, Limits):
            resolved = replace(resolved, limits=_only(limits, settings))
        if isinstance(model, nn.Module) and in_memory is None and not resolved.data:
            raise InputError("`data` is missing: pass arrays, or an .npz, see `load_data`.")
        yield objects.with_input_shape(resolved), objects


def _require_kinds(model: object, limits: object, out: object, recipe: object) -> None:
    """See that the arguments that are objects or paths are of a kind that is read."""
    if model is not None and not isinstance(model, str | Path | nn.Module):
        raise InputError(f"`model` is {_kind(model)}: pass the trained network itself (an nn.Module), or the path of a file of weights.")
    if limits is not None and not isinstance(limits, Limits | Mapping):
        raise InputError(f"`limits` (={limits!r}) must be `Limits` or a dict of limits by name: pass `Limits(max_drop=0.02)`.")
    if isinstance(limits, Limits) and limits.preset:
        raise InputError(f"`limits` has preset={limits.preset!r}, which sets no limit there: pass limits={{'preset': {limits.preset!r}}}.")
    for name, path in (("out", out), ("recipe", recipe)):
        _require_path(name, "" if path is None else path)


def _require_path(name: str, path: object) -> None:
    if not isinstance(path, str | Path):
        raise InputError(f"`{name}` (={path!r}) must be a path: pass text or a Path.")


def _kind(value: object) -> str:
    """What a wrong model is, for an error: a network that was not built yet by its name, everything else by its class."""
    name = getattr(value, "__name__", "") if callable(value) else ""
    return f"the function or class {name}" if name else f"of class {type(value).__name__}"


def _as_plain(value: object) -> object:
    """The value of a setting, where it is an array, a tensor or a number of numpy as lists and numbers."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic | torch.Tensor) else value


def _preparation(data: Dataset, settings: Mapping[str, object]) -> dict[str, object]:
    """Return the settings of a prepared `Dataset`, which says itself how its images become inputs."""
    if twice := next((name for name in _PREPARATION if name in settings), None):
        raise InputError(f"`{twice}` (={settings[twice]!r}) is said twice, as a prepared `Dataset` holds it: leave it out.")
    return preprocessing_settings(data.test.preprocessing)


def _only(limits: Limits, settings: Mapping[str, object]) -> Limits:
    """Return the limits, where no single one is given as a setting too."""
    if "preset" in settings:
        raise InputError(f"`preset` (={settings['preset']!r}) and `limits` are both given: pass limits={{'preset': …, 'max_drop': …}}.")
    if twice := next((name for name in settings if hasattr(limits, name)), None):
        raise InputError(f"`{twice}` (={settings[twice]!r}) is a limit, and `limits` is given: put it in there.")
    return limits
