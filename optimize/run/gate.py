"""Compare a candidate with a baseline and decide whether it may pass: the command `optimize gate` as a function.

Three calls, told apart by what is named:

    baseline and candidate                  compare them
    candidate and write_baseline            measure the candidate alone, and store it as the baseline of later comparisons
    history alone                           show a history with its change points
"""

from __future__ import annotations

import json
import os
import shlex
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from optimize.backends import backend, onnx_target_names
from optimize.deploy.gate.criteria import rows
from optimize.deploy.gate.evidence import Evidence, GatePlan, artifact, require_same_inputs
from optimize.deploy.gate.fingerprint import digest, fingerprint
from optimize.deploy.gate.history import commit_of, read, series
from optimize.deploy.gate.history_page import Followed, follow, html, text
from optimize.deploy.gate.result import GateResult
from optimize.deploy.gate.stored_baseline import StoredBaseline, is_baseline, read_baseline, write_baseline
from optimize.errors import InputError, OptimizeError, require_choice
from optimize.files import write_atomically
from optimize.graph.onnx_macs import onnx_macs
from optimize.measure.benchmark import Contender
from optimize.run.gate_outputs import require_writable, write_output
from optimize.run.gate_settings import gate_plan
from optimize.run.open_models import ModelOpener

Source = str | Path


class Finished(Protocol):
    """What every form of the call gives back."""

    @property
    def exit_code(self) -> int:
        """The exit code of the command."""

    @property
    def lines(self) -> Iterator[str]:
        """The result as lines of text."""

    def as_dict(self) -> dict[str, Any]:
        """The form of `--json`."""


@dataclass(frozen=True)
class StoredResult:
    """A baseline that was measured and stored.

    Args:
        file: the file.
        content: what was stored.
    """

    file: Path
    content: Mapping[str, Any]
    exit_code: int = 0

    @property
    def lines(self) -> Iterator[str]:
        """One line: what was stored, and on which machine it is believed."""
        yield f"stored: {self.file}, believed on machines with the fingerprint {self.content['fingerprint_sha256'][:12]}"

    def as_dict(self) -> dict[str, Any]:
        """Return the content of the file."""
        return dict(self.content)


@dataclass(frozen=True)
class HistoryResult:
    """A history with its change points.

    Args:
        followed: every figure over time.
        page: the page that was written; None where none was asked for.
    """

    followed: tuple[Followed, ...]
    page: Path | None = None
    exit_code: int = 0

    @property
    def lines(self) -> Iterator[str]:
        """The history as text."""
        yield from text(self.followed)
        if self.page is not None:
            yield f"written: {self.page}"

    def as_dict(self) -> dict[str, Any]:
        """Return every figure over time, with its changes."""
        return {"format": 1, "kind": "gate-history", "series": [one.as_dict() for one in self.followed]}


def run_gate(baseline: Source | None = None, candidate: Source | None = None, **settings: Any) -> Finished:
    """Do what the named settings ask for: compare, store a baseline, or show a history.

    Args:
        baseline: as in `gate`.
        candidate: as in `gate`.
        settings: `write_baseline` and `html` are files to write; all others are those of `gate`.

    Raises:
        InputError: when the settings do not go together.
    """
    said = {name: value for name, value in settings.items() if value is not None}
    stored, page = said.pop("write_baseline", None), said.pop("html", None)
    if baseline is None and candidate is None and "history" in said:
        return show_history(said.pop("history"), page, **said)
    if page is not None:
        raise InputError(f"`--html` (={page}) is the page of a history: pass --history FILE without --baseline and --candidate.")
    if candidate is None:
        raise InputError("`--candidate` is missing: pass the folder of a run, an artifact or an .onnx file.")
    if stored is not None:
        if baseline is not None:
            raise InputError(f"`--write-baseline` (={stored}) stores the candidate and compares nothing: leave out --baseline.")
        return store_baseline(candidate, stored, **said)
    if baseline is None:
        raise InputError("`--baseline` is missing: pass the folder of a run, an artifact, an .onnx file, or a stored baseline.")
    return gate(baseline, candidate, **said)


def gate(
    baseline: Source,
    candidate: Source,
    *,
    junit: Source | None = None,
    summary: Source | None = None,
    history: Source | None = None,
    out: Source | None = None,
    commit: str | None = None,
    target: str | None = None,
    **settings: Any,
) -> GateResult:
    """Compare a candidate with a baseline on this machine.

    Args:
        baseline: folder of a run or of an artifact, an .onnx file, or a stored baseline.
        candidate: folder of a run or of an artifact, or an .onnx file.
        junit: file to write as JUnit XML; None for no file.
        summary: file to write as Markdown; None for no file. The summary is appended, as the CI systems expect.
        history: file of JSON lines to append to; None for no file.
        out: file to write the result to, as JSON with every sample; None for no file.
        commit: id of the commit for the history; by default the one that the environment names.
        target: target that runs .onnx files; by default that of the other side, or the first that runs here.
        settings: `batches`, `threads`, `max_seconds`, `data` and `seed` are those of `GatePlan`, as text or as values; so are the limits,
            by their names, such as `max_slowdown="5%"`.

    Returns:
        The result; true only when it passed.

    Raises:
        InputError: when a model, a setting or the call is wrong.
        TargetUnavailable: when a model cannot run here.

    Example:
        >>> gate("nowhere.onnx", "elsewhere.onnx")
        Traceback (most recent call last):
        optimize.errors.InputError: `--baseline` (=nowhere.onnx) does not exist: check the path.
    """
    started = time.perf_counter()
    files = {"junit": junit, "summary": summary, "history": history, "out": out}
    outputs = {name: require_writable(Path(file), f"--{name}") for name, file in files.items() if file is not None}
    baseline, candidate = Path(baseline), Path(candidate)
    _require_model(candidate, "--candidate")
    plan = gate_plan(settings)
    if not is_baseline(baseline):
        _require_model(baseline, "--baseline")
    _require_target(target, (candidate, baseline))
    with _evidence(baseline, candidate, plan, target) as (evidence, notes):
        facts = fingerprint(evidence.candidate.runtime)
        judged = tuple(figure for row in rows() for figure in row.judge(evidence, plan.limits.get(row.name)))
    result = GateResult(
        baseline=str(baseline),
        candidate=str(candidate),
        judged=judged,
        notes=notes,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit_of(os.environ) if commit is None else commit,
        fingerprint=facts,
        fingerprint_sha256=digest(facts),
        seconds=round(time.perf_counter() - started, 3),
    )
    failures = []
    for name, file in outputs.items():
        try:
            write_output(name, file, result)
        except InputError as problem:
            # the other outputs are written all the same: minutes of measuring are in them
            failures.append(str(problem))
    if failures:
        raise InputError(f"{' '.join(failures)} The verdict was: {result.outcome}.")
    return result


def store_baseline(candidate: Source, file: Source, *, target: str | None = None, **settings: Any) -> StoredResult:
    """Measure a model alone and store its figures as the baseline of later comparisons.

    Args:
        candidate: folder of a run or of an artifact, or an .onnx file.
        file: file to write.
        target: target that runs an .onnx file.
        settings: `batches`, `threads`, `data` and `seed`, as in `gate`.

    Raises:
        InputError: when the model or a setting is wrong, or a setting has no use here.
    """
    path, file = Path(candidate), require_writable(Path(file), "--write-baseline")
    known = {"batches", "threads", "data", "seed"}
    if unused := sorted(settings.keys() - known):
        flag = f"--{unused[0].replace('_', '-')}"
        raise InputError(f"`{flag}` (={settings[unused[0]]}) has no use with --write-baseline, which judges nothing: leave it out.")
    _require_model(path, "--candidate")
    plan = gate_plan(settings)
    _require_target(target, (path,))
    with tempfile.TemporaryDirectory() as scratch:
        model = _open(path, Path(scratch), plan, target)
        return StoredResult(file, write_baseline(file, path, Evidence(model, None, None, plan)))


def show_history(file: Source, page: Source | None = None, **unused: object) -> HistoryResult:
    """Read a history, find its change points, and write its page.

    Args:
        file: history that comparisons have written.
        page: file to write as HTML; None for no file.
        unused: settings of a comparison, which have no use here.

    Raises:
        InputError: when the file is no history, or a setting has no use.
    """
    if unused:
        name, value = next(iter(unused.items()))
        raise InputError(
            f"`--{name.replace('_', '-')}` (={value}) has no use when a history is shown: leave it out, or name --baseline and --candidate."
        )
    place = None if page is None else require_writable(Path(page), "--html")
    followed = tuple(follow(series(read(Path(file)))))
    if place is not None:
        write_atomically(place, html(followed, Path(file).name))
    return HistoryResult(followed, place)


@contextmanager
def _evidence(baseline: Path, candidate: Path, plan: GatePlan, target: str | None) -> Iterator[tuple[Evidence, tuple[str, ...]]]:
    """Open both models, and yield them with sentences on which baseline is used."""
    stored, notes = (read_baseline(baseline), []) if is_baseline(baseline) else (None, [])
    with tempfile.TemporaryDirectory() as scratch:
        runtime = target or _target_of(candidate) or _target_of(baseline if stored is None else stored.model)
        new = _open(candidate, Path(scratch) / "candidate", plan, runtime)
        place = baseline if stored is None else stored.model
        old = None
        if stored is None or place.exists():
            old = _open(place, Path(scratch) / "baseline", plan, target or _target_of(baseline) or new.runtime)
        if stored is not None and old is not None:
            same = artifact(old).sha256 == stored.sha256
            notes.append(_which(place, same=same))
            # the model itself is better than its figures: pairs meet the same machine at the same time
            stored, old = (None, old) if same else (stored, None)
        require_same_inputs(new.input_shape if stored is None else stored.input_shape, new.input_shape)
        if old is not None:
            require_same_inputs(old.input_shape, new.input_shape)
        yield Evidence(new, old, stored, plan, "" if stored is None else remedy(stored, plan)), tuple(notes)


def _which(model: Path, *, same: bool) -> str:
    if same:
        return f"The stored baseline's model is still at {model}: it was measured again, side by side; the stored figures were not used."
    return f"At {model} lies another model than the one that was stored: the stored figures were used."


def remedy(stored: StoredBaseline, plan: GatePlan) -> str:
    """Return the command that measures a stored baseline again with the settings of this comparison."""
    model = os.path.relpath(stored.model)
    words = ["optimize", "gate", "--candidate", model, "--write-baseline", str(stored.file), "--batches", ",".join(map(str, plan.batches))]
    words += [] if plan.threads is None else ["--threads", str(plan.threads)]
    words += ["--data", plan.data] if plan.data else []
    return shlex.join(words)


def _open(path: Path, scratch: Path, plan: GatePlan, target: str | None) -> Contender:
    """Open one model; an ONNX file in the named target, or in the first that runs here.

    Raises:
        TargetUnavailable: when its runtime is not installed.
    """
    names = onnx_target_names()
    if target is not None and path.suffix.lower() == ".onnx":
        require_choice("--target", target, names)
        names = (target,)
    opener = ModelOpener(scratch=scratch, batches=plan.batches, seed=plan.seed, onnx_targets=_first_runnable(names))
    model = opener.all([path])[0]
    if path.suffix.lower() == ".onnx":
        # counted in the file itself: what a runtime makes of it may be of another format
        model = replace(model, macs=onnx_macs(path))
    # by the path alone: both sides may run in the same runtime
    return replace(model, name=str(path))


def _first_runnable(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the first target whose runtime is installed, alone; all of them where none is, so that the error names them all."""
    for name in names:
        try:
            backend(name).preflight()
        except OptimizeError:
            continue
        return (name,)
    return names


def _target_of(path: Path) -> str | None:
    """Return the target of a compiled model; None of an ONNX file, and of what cannot be read, which is refused when it is opened."""
    for folder in (path, path / "model"):
        try:
            return str(json.loads((folder / "artifact.json").read_text(encoding="utf-8"))["target"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _require_target(target: str | None, sides: Sequence[Path]) -> None:
    """Refuse a target that is none, or that nothing would use: a compiled model runs in the runtime it was compiled for."""
    if target is None:
        return
    require_choice("--target", target, onnx_target_names())
    # the model of a stored baseline may be an .onnx file too
    if not any(side.suffix.lower() == ".onnx" or is_baseline(side) for side in sides):
        raise InputError(f"`--target` (={target}) is for .onnx files, and neither side is one: leave it out.")


def _require_model(path: Path, name: str) -> None:
    if not path.exists():
        raise InputError(f"`{name}` (={path}) does not exist: check the path.")
    if path.is_file() and path.suffix.lower() != ".onnx":
        kinds = "the folder of a run, an artifact or an .onnx file"
        raise InputError(f"`{name}` (={path}) is none of what a gate opens: pass {kinds}; `optimize compress` makes one of a torch model.")
