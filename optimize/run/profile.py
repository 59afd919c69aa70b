"""Measure existing models beside each other on this machine: the command `optimize profile` as a function."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from optimize.backends import runs_on_cpu, self_test
from optimize.backends.artifact import Artifact
from optimize.errors import InputError
from optimize.files import write_atomically
from optimize.hardware.machine import machine
from optimize.measure.benchmark import Contender, Plan, benchmark
from optimize.run import parsing as read
from optimize.run.open_models import ModelOpener

FEW_CORES = 8
_FLAGS = {"contend": "--background-load"}
"""Settings whose flag has another name."""


def profile(models: str | Path | Sequence[str | Path], *, out: str | Path | None = None, **asked: object) -> dict[str, Any]:
    """Measure models beside each other and compare each of them with the first.

    Args:
        models: one model or several. Each is a folder with a compiled model, a run's folder, an `.onnx` file, or a file of weights as
            `compress` takes it.
        out: file to write the result to, as JSON; None for no file.
        asked: settings as text or as values; None for the default. `batches`, `threads`, `seconds`, `seed`, `contend`,
            `memory_limit` and `gpu_memory_limit` are those of `Plan`; `contend_with` is a model for the background processes;
            `input_shape` and `data` are those of `ModelOpener`; `arch`, `arch_args` and `trust_pickle` are those of `Recipe`, for torch
            models.

    Returns:
        The result, format 1: machine, versions, cold start and memory of each model, and for each batch size and number of threads the
        latency in milliseconds with its percentiles and the comparison with the first.

    Raises:
        InputError: when a model, a value or the call is wrong.
        TargetUnavailable: when a runtime that is needed is not installed.

    Example:
        >>> profile("nowhere.onnx")
        Traceback (most recent call last):
        optimize.errors.InputError: `model` (=nowhere.onnx) does not exist: check the path.
    """
    models = [models] if isinstance(models, str | Path) else models
    said = {name: value for name, value in asked.items() if value is not None}
    file = None if out is None else _writable(Path(out))
    plan = _plan(said)
    background_models = [Path(str(said["contend_with"]))] if "contend_with" in said else []
    if background_models and not plan.contend:
        raise InputError(
            f"`--background-model` (={background_models[0]}) needs the number of background processes: "
            "pass --background-load N, or leave it out."
        )
    ceiling = said.get("gpu_memory_limit")
    if ceiling is not None and not plan.contend:
        raise InputError(f"`--gpu-memory-limit` (={ceiling}) is of background processes: pass --background-load N, or leave it out.")
    if not models:
        raise InputError("`model` is missing: name at least one.")
    shape, folder = said.get("input_shape", ()), Path.cwd()
    # checks first, then the models are opened: compiling an ONNX file takes seconds to minutes
    with tempfile.TemporaryDirectory() as scratch:
        opening = ModelOpener(
            scratch=Path(scratch) / "contenders",
            batches=plan.batches,
            input_shape=read.sizes(shape, "--input", folder) if shape else (),
            data=read.source(said.get("data", ""), "--data", folder),
            seed=plan.seed,
            settings={name: said[name] for name in ("arch", "arch_args", "trust_pickle") if name in said},
        )
        contenders = opening.all(models)
        # Of an ONNX file, the first runtime.
        background_model = next(iter(replace(opening, scratch=Path(scratch) / "rivals").all(background_models)), None)
        wrong = [contender.name for contender in ([background_model] if background_model else contenders) if runs_on_cpu(contender.runtime)]
        if ceiling is not None and wrong:
            raise InputError(f"`--gpu-memory-limit` (={ceiling}) is for models on a GPU, which {wrong[0]} is not: leave it out.")
        space, there = said.get("memory_limit"), [contender.name for contender in contenders if not runs_on_cpu(contender.runtime)]
        if space is not None and there:
            never = f"of which CUDA reserves far more than it uses, so that {there[0]} never runs within it"
            raise InputError(f"`--memory-limit` (={space}) is of address space, {never}: leave it out.")
        _require_used(opening, [*contenders, *([background_model] if background_model else [])])
        result = benchmark(contenders, plan, background_model=background_model)
        result["notes"] = [*result.get("notes", ()), *(note for contender in contenders for note in _machine_differences(contender))]
    if file is not None:
        _write(file, result)
    return result


def _require_used(opening: ModelOpener, opened: Sequence[Contender]) -> None:
    """Refuse a setting that none of the models uses, because the user would believe that it had an effect."""
    shape = opening.input_shape
    if shape and all(contender.input_shape != shape for contender in opened):
        takes = ", ".join(f"{contender.name} takes {','.join(map(str, contender.input_shape))}" for contender in opened)
        raise InputError(f"`--input` (={','.join(map(str, shape))}) is no model's ({takes}): leave it out.")
    if opening.settings and all(isinstance(contender.model, Artifact) for contender in opened):
        name, value = next(iter(opening.settings.items()))
        raise InputError(f"`--{name.replace('_', '-')}` (={value}) is for torch models, and none is named: leave it out.")


def _machine_differences(contender: Contender) -> list[str]:
    """Return how this machine differs from the one that an artifact was verified on, as far as the artifact says."""
    # an artifact of an earlier version does not say on which processor it was verified
    if not isinstance(contender.model, Artifact) or self_test.ISA not in contender.model.built:
        return []
    return [f"{contender.name}: {difference}" for difference in self_test.differences(contender.model)]


def _plan(said: Mapping[str, Any]) -> Plan:
    folder = Path.cwd()
    readers: dict[str, read.Reader] = {
        "batches": read.counts(read.batch),
        "threads": _threads,
        "seconds": read.positive,
        "seed": read.seed,
        "contend": read.processes,
        "memory_limit": read.size_bytes,
        "gpu_memory_limit": read.size_bytes,
    }
    values: dict[str, Any] = {
        name: reader(said[name], _FLAGS.get(name, f"--{name.replace('_', '-')}"), folder)
        for name, reader in readers.items()
        if name in said
    }
    return Plan(**{f"{name}_bytes" if name.endswith("memory_limit") else name: value for name, value in values.items()})


def _threads(value: Any, name: str, folder: Path) -> tuple[int, ...]:
    """Return numbers of threads; "all" is every one that this machine has cores for."""
    return every_count(int(str(machine()["logical_cores"]))) if value == "all" else read.counts(read.threads)(value, name, folder)


def every_count(cores: int) -> tuple[int, ...]:
    """Return numbers of threads from 1 to `cores`; of more than eight cores only the powers of two, and `cores` itself.

    Example:
        >>> every_count(4), every_count(12)
        ((1, 2, 3, 4), (1, 2, 4, 8, 12))
    """
    if cores <= FEW_CORES:
        return tuple(range(1, cores + 1))
    # on 64 cores, 64 measurements would take long and show little more than seven
    return tuple(sorted({*(2**power for power in range(cores.bit_length())), cores}))


def _writable(file: Path) -> Path:
    """Return the file, seen to be writable before minutes are spent on a result that could not be kept."""
    if file.is_dir() or not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        raise InputError(f"`--out` (={file}) cannot be written: name a file in a folder that is there.")
    return file


def _write(file: Path, result: Mapping[str, Any]) -> None:
    try:
        write_atomically(file, json.dumps(result, indent=1, allow_nan=False) + "\n")
    except OSError as problem:
        raise InputError(f"`--out` (={file}) cannot be written ({problem.strerror}): name another file.") from problem
