"""The contenders of a case: the original in every runtime, ours, what is put together from other tools, and NNCF's own accuracy control."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.group_pruner import group_pruned
from benchmarks.results import HISTORY
from benchmarks.studies.peers import eager
from benchmarks.studies.peers.cases import Ground
from benchmarks.studies.peers.record import Record, once, reason
from optimize.backends import CPU, backend, title
from optimize.backends.artifact import Artifact
from optimize.backends.export import export_onnx
from optimize.candidate import Candidate, Predict
from optimize.errors import InputError
from optimize.graph.macs import macs
from optimize.guard.evaluate import score_split
from optimize.guard.verdict import judge, worst_class
from optimize.progress import note
from optimize.run.compress import compress
from optimize.steps.finetune import Finetune

TARGETS = ("openvino", "onnxruntime")
BATCH = 64
"""Items in each update of the recovery of what others pruned: with 16, at the same learning rate, VGG19 held at a milder ratio
only. What does not hold is recovered a second time, in batches that the command would choose."""
CONTROLLED = "NNCF accuracy control, OpenVINO int8"


@dataclass(frozen=True)
class Task:
    """What makes the records of one contender, or of one family of them.

    Args:
        key: folder below that of the case.
        failure: what stands in the table when it fails, without the reason.
        make: folder -> records.
    """

    key: str
    failure: Record
    make: Callable[[Path], Sequence[Record]]


def tasks(ground: Ground, *, retrain: bool) -> Iterator[Task]:
    """All contenders of a case, in the order they are made."""
    for target in (eager.EAGER, eager.COMPILED):
        yield Task(f"original-{target}", Record(f"original, {target}", "original"), partial(_in_torch, ground, target))
    for target in TARGETS:
        for precision in (*backend(target).precisions(), "int8"):
            name = f"original, {_named(target, precision)}"
            yield Task(f"original-{target}-{precision}", Record(name, "original"), partial(_original, ground, target, precision))
    if retrain:
        yield Task("ours-retrained", Record("optimize, retrained", "ours"), partial(_ours, ground, True, CPU))
    for signal, everywhere in ground.case.pruners:
        name = f"{signal}, {'global' if everywhere else 'uniform'}"
        yield Task(re.sub(r"\W+", "-", name), Record(name, "assembled"), partial(_assembled, ground, signal, everywhere, name))
    yield Task("controlled", Record(CONTROLLED, "controlled"), partial(_controlled, ground))
    yield Task("ours", Record("optimize", "ours"), partial(_ours, ground, False, CPU))
    if retrain:
        # --target cpu has only ever chosen OpenVINO here, and there is a goal within ONNX Runtime too
        name = "optimize for ONNX Runtime, retrained"
        yield Task("ours-retrained-onnxruntime", Record(name, "ours"), partial(_ours, ground, True, "onnxruntime"))


def largest_holding(ratios: Iterable[float], wanted: Iterable[str], holding: Callable[[float, set[str]], dict[str, Any]]) -> dict[str, Any]:
    """For each of the wanted forms what was made at the largest ratio at which it holds the guard-rails; the search ends with the last one.

    Args:
        ratios: to try, in any order.
        wanted: names of the forms.
        holding: a ratio and the forms still without one -> those that hold, with what was made.
    """
    left, found = set(wanted), dict[str, Any]()
    for ratio in sorted(ratios, reverse=True):
        if not left:
            break
        held = holding(ratio, set(left))
        found |= held
        left -= held.keys()
    return found


def _in_torch(ground: Ground, target: str, folder: Path) -> list[Record]:
    begun = time.perf_counter()
    with eager.build(ground.original, target) as session:
        session.predict(ground.original.example.numpy())
        spent = time.perf_counter() - begun
        precision = eager.precision(target)
        size_bytes = ground.case.weights.stat().st_size
        record = Record(f"original, {target} {precision}", "original", target, precision, size_bytes=size_bytes, prepared_s=spent)
        return [_scored(ground, _of(record, ground.original), session.predict)]


def _original(ground: Ground, target: str, precision: str, folder: Path) -> list[Record]:
    begun = time.perf_counter()
    onnx = _exported(ground.original, folder)
    if (target, precision) == ("openvino", "int8"):
        artifact = _by_nncf(ground, onnx, folder / "model")
    else:
        artifact = _compiled(ground, target, precision, onnx, folder / "model")
    record = Record(f"original, {_named(target, precision)}", "original", prepared_s=time.perf_counter() - begun)
    return [_compiled_record(ground, _of(record, ground.original), artifact)]


def _ours(ground: Ground, trained: bool, target: str, folder: Path) -> list[Record]:
    more: dict[str, Any] = {"retrain": True, "epochs": ground.case.epochs, "horizontal_flip": ground.case.flips} if trained else {}
    if trained and ground.case.search:
        more["strategy"], more["budgets"] = "allocate", ()
    recipe = ground.case.recipe(target, folder / "run", history=HISTORY, **more)
    try:
        report = compress(recipe, resume=recipe.out.exists())
    except InputError:  # what lies there was begun with other settings
        report = compress(recipe, overwrite=True)
    asked = "optimize" if target == CPU else f"optimize for {title(target)}"
    name = f"{asked}{', retrained' if trained else ''}"
    if not report["accepted"]:
        after = report["compressed"] or {}
        said: dict[str, Any] = {key: after.get(key) for key in ("parameters", "macs", "size_bytes")}
        refused = Record(name, "ours", report["target"], report["precision"] or "", **said, prepared_s=report["duration_s"])
        return [replace(refused, verdict=report["verdict"], failed="; ".join(report["reasons"])[:200])]
    artifact = Artifact.read(recipe.out / "model")
    name = f"{asked}, {_named(artifact.target, artifact.precision)}{', retrained' if trained else ''}"
    sizes = {key: report["compressed"][key] for key in ("parameters", "macs")}
    return [_compiled_record(ground, Record(name, "ours", **sizes, prepared_s=report["duration_s"]), artifact)]


def _assembled(ground: Ground, signal: str, everywhere: bool, name: str, folder: Path) -> list[Record]:
    """Pruned at falling ratios, recovered, exported, compiled and judged; each precision in each runtime at the largest that holds.

    What holds on the guard split as measured and then fails on the test split gives way to the next ratio: a choice with the test split in
    view, which our own search is not allowed. It favours what ours is compared with.
    """
    spent, refusals = 0.0, list[str]()

    def holding(ratio: float, left: set[str]) -> dict[str, Record]:
        nonlocal spent
        held = dict[str, Record]()
        for batch in dict.fromkeys((BATCH, Finetune().batch_size(len(ground.data.training_split or ())))):
            if left <= held.keys():
                break
            make = partial(_at_ratio, ground, signal, everywhere, f"{name} {ratio:g}", ratio, batch)
            tried = once(folder / f"{ratio:g}{'' if batch == BATCH else f', batches of {batch}'}", ground.identity, make)
            named = {_form(each): replace(each, prepared_s=spent + (each.prepared_s or 0.0)) for each in tried}
            spent += max(each.prepared_s or 0.0 for each in tried)
            refusals.extend(_refusals(f"{ratio:g}, batches of {batch}", tried))
            held = {form: each for form, each in named.items() if form in left and not each.failed} | held
        return held

    forms = [" ".join(form) for form in _forms()]
    found = largest_holding(ground.case.ratios, forms, holding)
    missing = [form for form in forms if form not in found]
    failed = [Record(f"{name}, {_named(*form.split(' '))}", "assembled", failed="no ratio tried holds the guard-rails") for form in missing]
    if failed:
        failed[0] = replace(failed[0], remarks=tuple(refusals))
    return [*(found[form] for form in forms if form in found), *failed]


def _at_ratio(ground: Ground, signal: str, everywhere: bool, name: str, ratio: float, batch: int, folder: Path) -> list[Record]:
    """Every form at one ratio, those that do not hold the guard-rails marked as failed; an interrupted recovery goes on where it was."""
    begun, made = time.perf_counter(), list[Record]()
    try:
        pruned = group_pruned(
            ground.original, ratio, ground.case.keeps, signal=signal, everywhere=everywhere, multiple=ground.case.multiple
        )
        recovery = Finetune(epochs=ground.case.epochs, horizontal_flip=ground.case.flips, batch=batch)
        network = recovery(pruned, replace(ground.reference, scratch=folder / "scratch"))
        onnx = _exported(network, folder)
    except Exception as problem:  # whatever the pruner makes of a network at one ratio is a finding
        spent, why = time.perf_counter() - begun, reason(problem)
        note(f"{name}: {why}")
        return [Record(f"{name}, {_named(*form)}", "assembled", *form, failed=why, prepared_s=spent) for form in _forms()]
    for target, precision in _forms():
        record = _of(Record(f"{name}, {_named(target, precision)}", "assembled", target, precision), network)
        try:
            artifact = _compiled(ground, target, precision, onnx, folder / f"{target}-{precision}")
            refused = _refused(ground, artifact)
            record = record if refused else _compiled_record(ground, record, artifact)
        except Exception as problem:
            refused = reason(problem)
        refused = refused or "; ".join(record.reasons if record.verdict != "pass" else ())
        note(f"{record.name}: {refused or 'holds'}")
        made.append(replace(record, failed=refused or None, prepared_s=time.perf_counter() - begun))
    return made


def _refusals(ratio: str, tried: Sequence[Record]) -> Iterator[str]:
    """What was said against the forms at one ratio, each reason once."""
    whys = dict.fromkeys(each.failed for each in tried if each.failed)
    for why in whys:
        named = [f"{title(each.target)} {each.precision}" for each in tried if each.failed == why]
        yield f"ratio {ratio}, {'all' if len(named) == len(tried) else ', '.join(named)}: {why}"


def _forms() -> list[tuple[str, str]]:
    """Every runtime with each of its precisions here."""
    return [(target, precision) for target in TARGETS for precision in (*backend(target).precisions(), "int8")]


def _form(record: Record) -> str:
    """Runtime and precision, as they were asked for."""
    return f"{record.target} {record.base}"


def _refused(ground: Ground, artifact: Artifact) -> str:
    """Why an artifact does not hold the guard-rails on the guard split, as measured; empty where it does."""
    with backend(artifact.target).build(artifact) as session:
        after = score_split(session.predict, ground.data.guard, ground.data.classes, "judge what was assembled")
    verdict = judge(ground.limits, ground.before, after)
    return "" if verdict else "; ".join(verdict.reasons)


def _controlled(ground: Ground, folder: Path) -> list[Record]:
    """NNCF puts layers back to float until the loss on the guard split is within the overall limit; it knows no other limit."""
    nncf, openvino = _nncf()
    begun = time.perf_counter()
    onnx, guard = _exported(ground.original, folder), ground.data.guard

    def inputs(row: int) -> Any:
        return guard.inputs(slice(row, row + 1))

    def validated(model: Any, rows: Iterable[int]) -> tuple[float, None]:
        def predict(each: Any) -> Any:
            return np.concatenate([np.array(model(each[at : at + 1])[0], dtype=np.float32) for at in range(len(each))])

        chosen = guard.take(np.asarray(list(rows)))
        return float(score_split(predict, chosen, ground.data.classes, "NNCF validates").overall), None

    model = nncf.quantize_with_accuracy_control(
        openvino.Core().read_model(onnx),
        nncf.Dataset([item[None] for item in ground.calibration]),
        nncf.Dataset(list(range(len(guard))), inputs),
        validated,
        max_drop=float(ground.limits.max_drop),
        subset_size=len(ground.calibration),
    )
    artifact = _sealed(model, folder / "model")
    record = Record(CONTROLLED, "controlled", prepared_s=time.perf_counter() - begun)
    return [_compiled_record(ground, _of(record, ground.original), artifact)]


def _compiled(ground: Ground, target: str, precision: str, onnx: Path, folder: Path) -> Artifact:
    """By our own backends; layers that are not quantized run in the fastest float there is, which is OpenVINO's default."""
    shutil.rmtree(folder, ignore_errors=True)
    runtime = backend(target)
    if precision == "int8":
        return runtime.quantize(onnx, folder, ground.calibration, float_precision=runtime.precisions()[-1])
    return runtime.convert(onnx, folder, precision)


def _by_nncf(ground: Ground, onnx: Path, folder: Path) -> Artifact:
    """By NNCF as it comes, all settings left alone."""
    nncf, openvino = _nncf()
    items = nncf.Dataset([np.ascontiguousarray(item[None]) for item in ground.calibration])
    return _sealed(nncf.quantize(openvino.Core().read_model(onnx), items), folder)


def _sealed(model: Any, folder: Path) -> Artifact:
    _, openvino = _nncf()
    runtime = backend("openvino")
    folder.mkdir(parents=True, exist_ok=True)
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
    rest, files = runtime.precisions()[-1], ("model.xml", "model.bin")
    shape = [size.get_length() for size in list(model.input(0).partial_shape)[1:]]
    precision = "int8" if rest == "f32" else f"int8+{rest}"
    return Artifact.save(folder, target="openvino", precision=precision, input_shape=shape, runtime=runtime.version(), files=files)


def _nncf() -> tuple[Any, Any]:
    backend("openvino").version()  # keeps both from reporting home
    import nncf
    import openvino

    return nncf, openvino


def _exported(candidate: Candidate, folder: Path) -> Path:
    export_onnx(candidate, folder / "model.onnx")
    return folder / "model.onnx"


def _of(record: Record, candidate: Candidate) -> Record:
    return replace(record, parameters=candidate.parameters, macs=macs(candidate))


def _compiled_record(ground: Ground, record: Record, artifact: Artifact) -> Record:
    """The record with what the artifact does on the test split."""
    facts = {"target": artifact.target, "precision": artifact.precision, "size_bytes": artifact.size_bytes}
    with backend(artifact.target).build(artifact) as session:
        return _scored(ground, replace(record, **facts, artifact=str(artifact.folder)), session.predict)  # type: ignore[arg-type]


def _scored(ground: Ground, record: Record, predict: Predict) -> Record:
    after = score_split(predict, ground.data.test, ground.data.classes, f"test {record.name}")
    verdict = judge(ground.limits, ground.on_test, after)
    name, drop = worst_class(ground.on_test, after)
    return replace(
        record, overall=after.overall, worst_class=name, worst_drop=drop, verdict=verdict.outcome, reasons=tuple(verdict.reasons)
    )


def _named(target: str, precision: str) -> str:
    return f"{title(target)} {precision}"
