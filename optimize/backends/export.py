"""Export a candidate to ONNX, and check that the file computes the same. It is the only way from torch to disk.

The file has one input "input", (N, C, *spatial) with N free, one output "output", opset 18, and the weights inside. What the exporter
writes into it about the machine it ran on (source paths, stack traces) is taken out, so that the same weights give the same bytes; layers
are named after the module that owns their weights.
"""

from __future__ import annotations

import ast
import tempfile
import warnings
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from optimize.backends import backend, description, onnx_target_names
from optimize.backends.error_reasons import exporter_reason, runtime_reason
from optimize.backends.quiet import quiet
from optimize.backends.weighted_nodes import constants, weight_of
from optimize.errors import InputError, OptimizeError, TargetUnavailable, require_candidate
from optimize.graph.surgery import with_batch_norms
from optimize.loading.file_network import FileNetwork
from optimize.loading.probe import batch_fault

if TYPE_CHECKING:
    from optimize.candidate import Candidate, Floats

OPSET = 18
TOLERANCE = 1e-3
"""Largest difference allowed between torch and the exported file, as a share of the largest output of torch."""
ROUNDING = 1e-6
"""Change of the input, as a share of its largest value, that is as small as rounding: an answer that depends on it is no answer."""

_SCOPES = "pkg.torch.onnx.name_scopes"
"""Key under which the exporter says in which modules a node was made, the innermost and the operation last."""


@dataclass(frozen=True)
class Parity:
    """Differences between what the exported file and torch compute.

    Args:
        max_abs_diff: largest difference of any output value.
        mean_abs_diff: mean over all output values.
        cases: number of inputs compared.
        opset: opset of the file.
    """

    max_abs_diff: float
    mean_abs_diff: float
    cases: int
    opset: int


def export_onnx(candidate: Candidate, path: str | Path, inputs: Floats | None = None) -> Parity:
    """Write `candidate` as ONNX to `path` and compare the file with torch, one by one and as a batch.

    Args:
        candidate: the model; it is not changed.
        path: file to write; its folder must exist.
        inputs: (N, C, *spatial), what to compare on besides the candidate's example; seven random inputs when None. Cases on which rounding
            alone changes torch's own answer, such as a constant image before an instance norm, are not judged.

    Raises:
        InputError: when the model ties its batch size, or cannot be traced, or the folder of `path` does not exist.
        TargetUnavailable: when there is no runtime to compare with.
        OptimizeError: when the file does not compute what torch computes.

    Example:
        >>> from optimize.candidate import Candidate
        >>> candidate = Candidate(torch.nn.Linear(4, 2).eval(), torch.ones(1, 4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     parity = export_onnx(candidate, Path(folder) / "model.onnx")
        >>> parity.cases, parity.max_abs_diff < 1e-4
        (8, True)
    """
    require_candidate(candidate)
    path = Path(path)
    if not path.parent.is_dir() or path.is_dir():
        raise InputError(f"`path` (={path}) cannot be written: name a file in a folder that exists.")
    cases = _cases(candidate, inputs)
    _require_free_batch(candidate, cases)
    # a file that was not rebuilt is shipped as it is
    plain = candidate.module.onnx() if isinstance(candidate.module, FileNetwork) else _trace(candidate, path)
    # the simplified file first; where simplifying changed what it computes, the exporter's own is used
    for model in (*_folded(plain), plain):
        _write(model, path)
        parity, within = _compare(candidate, path, cases, _opset(model))
        if within:
            return parity
    raise OptimizeError(
        f"the exported ONNX file differs from torch by {parity.max_abs_diff:.3g}, more than {TOLERANCE:g} of the largest output:"
        " the model uses an operation that the exporter or the runtime treats differently."
    )


def compared(candidate: Candidate, path: Path, inputs: Floats | None = None) -> tuple[Parity, bool]:
    """Return the differences between what a file and torch compute, and whether they are within the tolerance.

    Args:
        candidate: the network that the file is to compute.
        path: an ONNX file.
        inputs: (N, C, *spatial), what to compare on; seven random inputs when None.

    Raises:
        OptimizeError: when the runtime cannot run the file, or its outputs have another shape.
    """
    return _compare(candidate, path, _cases(candidate, inputs), OPSET)


def _cases(candidate: Candidate, inputs: Floats | None) -> Floats:
    example = candidate.example.numpy()
    if inputs is None or not len(inputs):
        rng = np.random.default_rng(0)
        if example.ndim > 2 and example.std() > 0:
            # the example's own values, elsewhere: a network may take positive numbers only
            flat = example.reshape(*example.shape[:2], -1)
            inputs = np.concatenate([rng.permuted(flat, axis=2).reshape(example.shape) for _ in range(7)])
        else:
            inputs = rng.standard_normal((7, *example.shape[1:]), dtype=np.float32)
    return np.concatenate([example, np.asarray(inputs, dtype=np.float32)])


def _require_free_batch(candidate: Candidate, cases: Floats) -> None:
    """Raise `InputError` unless two inputs together give what each gives alone: else the model has its batch size written into it."""
    fault = batch_fault(candidate.predict, cases[:2])
    # two inputs may differ only because one of them has no steady answer (a constant image before an instance norm)
    if fault and fault.startswith("mixes") and (steady := steady_cases(candidate, cases)).sum() > 1:
        fault = batch_fault(candidate.predict, cases[steady][:2])
    if fault:
        raise InputError(f"`model` {fault}.")


def steady_cases(candidate: Candidate, cases: Floats) -> npt.NDArray[np.bool_]:
    """Return the cases for which the network gives the same answer after a change of the input as small as rounding, (N,).

    On the others (a constant image before an instance norm) every runtime gives other numbers, and none of them is right.

    Args:
        candidate: the model.
        cases: inputs, (N, C, *spatial).
    """
    noise = np.random.default_rng(0).uniform(-1, 1, cases.shape).astype(np.float32)
    answers = candidate.predict(cases)
    moved = np.abs(candidate.predict(cases + ROUNDING * np.float32(max(_scale(cases), 1e-6)) * noise) - answers)
    # Written so that a NaN counts as steady, and shows up as a difference.
    return np.asarray(~(moved.reshape(len(cases), -1).max(1) > TOLERANCE / 2 * max(_scale(answers), 1e-6)))


def _trace(candidate: Candidate, path: Path) -> Any:
    """Return what torch's exporter makes of a candidate, by way of a file."""
    import onnx

    # A batch of one would be taken for a constant.
    example = torch.cat([candidate.example, candidate.example])
    try:
        # It logs what it does not find (torchvision) and prints half a graph before it raises; the exception says what matters.
        with quiet("torch"), warnings.catch_warnings():
            # torch copies its own tree specification, which calls a function it deprecated.
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated", category=FutureWarning)
            torch.onnx.export(
                with_batch_norms(candidate.module),  # which the exporter folds
                (example,),
                path,
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                verbose=False,
                input_names=["input"],
                output_names=["output"],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            )
    except torch.onnx.OnnxExporterError as error:
        raise InputError(f"`model` cannot be exported to ONNX: {exporter_reason(error)}.") from None
    model = onnx.load(path)
    if _opset(model) < OPSET:
        raise OptimizeError(f"the exporter wrote opset {_opset(model)}, but {OPSET} or later is needed: update torch and onnxscript.")
    return model


def _folded(model: Any) -> list[Any]:
    """Return the model with its last batch norms folded, if it has any left: where a convolution is used twice the exporter leaves them."""
    if all(node.op_type != "BatchNormalization" for node in model.graph.node):
        return []
    import onnxsim

    with quiet("onnxsim"):
        simplified, _ = onnxsim.simplify(model, certify=False)
    return [simplified]


def _write(model: Any, path: Path) -> None:
    import onnx

    _name_layers(model.graph)
    _strip(model)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _opset(model: Any) -> int:
    return next(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def _strip(model: Any) -> None:
    """Take out documentation and metadata, which hold file paths of the machine that exported."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, *model.functions):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _name_layers(graph: Any) -> None:
    """Name each node that has weights after the module that owns them, and every other one by a name that no node has.

    The second use of a module becomes `name#2`. The weights of a matrix product lie transposed under a name of their own; there the scope
    says which module it was called in, where the file still has it.
    """
    constant = constants(graph)
    owned = [_owner(node, weight) if (weight := weight_of(node, constant)) is not None else "" for node in graph.node]
    taken: set[str] = set()
    modules = {*owned}
    for node, owner in zip(graph.node, owned, strict=True):
        name = owner or node.name or node.op_type
        # a name that some module owns is not given to a node without weights, even where it comes first in the file
        spellings = chain([name] if owner or name not in modules else [], (f"{name}#{number}" for number in count(2)))
        node.name = next(spelling for spelling in spellings if spelling not in taken)
        taken.add(node.name)


def _owner(node: Any, weight: str) -> str:
    """Return the module whose weights a node multiplies with; empty where it is not known."""
    # initializers are named after the parameters: "features.3.weight" belongs to module "features.3"
    if weight.endswith(".weight"):
        return weight.removesuffix(".weight")
    scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
    try:
        # the last entry is the operation itself, the one before it the module that called it; `literal_eval` reads constants only
        return str(ast.literal_eval(scopes)[-2]) if node.op_type == "MatMul" else ""
    except (ValueError, SyntaxError, IndexError, TypeError):
        return ""


def _compare(candidate: Candidate, path: Path, cases: Floats, opset: int) -> tuple[Parity, bool]:
    """Run the file on one input and on all; the flag says whether it holds the tolerance."""
    expected = candidate.predict(cases)
    runtime = _runtime()
    try:
        with tempfile.TemporaryDirectory() as scratch, runtime.build(runtime.convert(path, Path(scratch), "f32")) as session:
            # one alone and all together: a batch size that was written into the file shows in one of them
            single, batch = session.predict(cases[:1]), session.predict(cases)
    except OptimizeError:
        raise
    except Exception as problem:  # whatever a runtime raises about a file that it cannot take
        raise InputError(f"`model` was exported to ONNX, but {runtime.NAME} cannot run the file: {runtime_reason(problem)}.") from problem
    if single.shape != expected[:1].shape or batch.shape != expected.shape:
        shapes = f"shape {batch.shape} where torch gives {expected.shape}"
        raise OptimizeError(f"the exported ONNX file gives {shapes}: update torch and onnxscript.")
    single_diff, batch_diff = np.abs(single - expected[:1]), np.abs(batch - expected)
    # Written so that a NaN on either side fails.
    limit = TOLERANCE * max(_scale(expected), 1e-6)
    if not (single_diff.max() <= limit and batch_diff.max() <= limit) and (steady := steady_cases(candidate, cases)).any():
        single_diff, batch_diff = single_diff[steady[:1]], batch_diff[steady]
    diff = np.concatenate([single_diff, batch_diff])
    return Parity(float(diff.max()), float(diff.mean()), len(batch_diff), opset), bool(diff.max() <= limit)


def _runtime() -> Any:
    names = onnx_target_names()
    for name in names:
        try:
            backend(name).preflight()
        except TargetUnavailable:
            continue
        return backend(name)
    ways = " or ".join(description(name).install_command for name in names)
    raise TargetUnavailable(f"no runtime to check the exported file with: {ways}.")


def _scale(values: Floats) -> float:
    return float(np.abs(values).max())


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
