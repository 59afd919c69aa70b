"""Open models for measurement from paths: a compiled artifact, an ONNX file in every CPU runtime, a torch model."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.backends import backend, onnx_target_names, require_runnable
from optimize.backends.artifact import MANIFEST, Artifact
from optimize.data.arrays import checked_images
from optimize.data.sources import read_arrays
from optimize.errors import InputError, OptimizeError, TargetUnavailable
from optimize.files import size_bytes
from optimize.loading.huggingface_folder import is_folder
from optimize.measure.benchmark import Contender

if TYPE_CHECKING:
    from optimize.candidate import Floats

_FLOAT = 1  # TensorProto.FLOAT


@dataclass(frozen=True)
class ModelOpener:
    """Opens models for measurement.

    Args:
        scratch: folder for what an ONNX file is converted to; it must outlive the measurement.
        batches: batch sizes that will be asked for.
        input_shape: (C, *spatial), where a model leaves it open; or empty.
        data: source of data, as `compress` takes it; its test images are the inputs, uint8 over 255. Empty for random inputs.
        seed: seed of the random inputs.
        settings: further settings of torch models, by the names of `Recipe`; None means that the default holds.
        onnx_targets: targets that run an ONNX file; empty for every one that runs on the processor.
    """

    scratch: Path
    batches: tuple[int, ...] = (1,)
    input_shape: tuple[int, ...] = ()
    data: str = ""
    seed: int = 0
    settings: Mapping[str, object] = field(default_factory=dict)
    onnx_targets: tuple[str, ...] = ()

    def all(self, paths: Sequence[str | Path]) -> list[Contender]:
        """Return the contenders of all paths, in order; no two have the same name.

        Raises:
            InputError: when a path is no model, or a model cannot be run as asked.
            TargetUnavailable: when the runtime of an artifact is not installed, or none is for an ONNX file.
        """
        contenders = [contender for position, path in enumerate(paths) for contender in self._of(Path(path), self.scratch / str(position))]
        uses: Counter[str] = Counter()
        # the same path twice is allowed, to see how much a repetition differs; the names must differ all the same
        for position, contender in enumerate(contenders):
            uses[contender.name] += 1
            if uses[contender.name] > 1:
                contenders[position] = replace(contender, name=f"{contender.name} #{uses[contender.name]}")
        return contenders

    def _of(self, path: Path, scratch: Path) -> Iterator[Contender]:
        if not path.exists():
            raise InputError(f"`model` (={path}) does not exist: check the path.")
        # by what lies at the path, not by an option: a folder is an artifact or a run, and the suffix tells ONNX from torch
        if path.is_dir() and not is_folder(path):
            yield self._compiled(path)
        elif path.suffix.lower() == ".onnx":
            yield from self._onnx(path, scratch)
        else:
            yield self._torch(path)

    def _compiled(self, path: Path) -> Contender:
        folder = path if (path / MANIFEST).is_file() else path / "model"
        if not (folder / MANIFEST).is_file():
            raise InputError(
                f"`model` (={path}) holds no compiled model: give the `model` folder of an accepted run, an .onnx or a torch file."
            )
        artifact = Artifact.read(folder)
        require_runnable(backend(artifact.target))
        return replace(self._contender(str(path), artifact), **_reported(artifact))

    def _onnx(self, path: Path, scratch: Path) -> Iterator[Contender]:
        missing, names = [], self.onnx_targets or onnx_target_names()
        scratch.mkdir(parents=True)
        whole = fixed_sizes(path, scratch / "model.onnx", self.input_shape, self.batches)
        for name in names:
            runtime = backend(name)
            try:
                runtime.preflight()
            except TargetUnavailable as reason:
                # an ONNX file names no runtime, so one that is not installed is left out and the others are measured
                missing.append(str(reason))
                continue
            try:
                artifact = runtime.convert(whole, scratch / name, "f32")
            except OptimizeError:
                raise
            except Exception as problem:  # whatever a runtime raises about a file it cannot read
                words = " ".join(str(problem).split())[:200]
                raise InputError(f"`model` (={path}) cannot be opened by {name} ({words}): export it again.") from problem
            yield replace(self._contender(str(path), artifact), parameters=_weights(whole))
        if len(missing) == len(names):
            raise TargetUnavailable(" ".join(missing))

    def _contender(self, path: str, artifact: Artifact) -> Contender:
        runtime = backend(artifact.target)
        return Contender(
            name=f"{path} ({artifact.target} {artifact.precision})",
            runtime=artifact.target,
            precision=artifact.precision,
            model=artifact,
            size_bytes=artifact.size_bytes,
            input_shape=artifact.input_shape,
            open=lambda threads: runtime.build(artifact, threads=threads),
            inputs=self._inputs(artifact.input_shape),
        )

    def _torch(self, path: Path) -> Contender:
        # Late: a profile of compiled models alone needs no torch.
        from optimize.backends import torch as eager
        from optimize.graph.macs import macs
        from optimize.loading.load import load_model
        from optimize.run.recipe import resolve

        shape = {"input_shape": self.input_shape} if self.input_shape else {}
        arguments = resolve(path, target=eager.NAME, overrides={**self.settings, **shape}).loader_arguments
        candidate = load_model(**arguments)
        return Contender(
            name=f"{path} (torch f32)",
            runtime=eager.NAME,
            precision="f32",
            model=arguments,
            size_bytes=size_bytes(path),
            input_shape=tuple(candidate.example.shape[1:]),
            open=lambda threads: eager.build(candidate, threads=threads),
            inputs=self._inputs(tuple(candidate.example.shape[1:])),
            parameters=candidate.parameters,
            macs=macs(candidate),
        )

    @cached_property
    def _arrays(self) -> Mapping[str, Any]:
        return read_arrays(self.data)

    def _inputs(self, shape: tuple[int, ...]) -> Callable[[int], Floats]:
        if not self.data:
            return partial(_random, shape, self.seed)
        from optimize.data.preprocessing import Preprocessing  # late, as above: it imports torch

        split = next(name for name in ("test", "val", "train") if f"{name}_images" in self._arrays)
        images = Preprocessing()(checked_images(self._arrays, split, shape, None)[: max(self.batches)])
        # repeats the images where there are fewer than the batch needs
        return lambda count: np.resize(images, (count, *shape))


def _reported(artifact: Artifact) -> dict[str, Any]:
    """Return `parameters` and `macs` from the report beside an artifact; empty where there is no report or it is another artifact's."""
    try:
        report = json.loads((artifact.folder.parent / "report.json").read_text(encoding="utf-8"))
        files = {file["name"]: file["sha256"] for file in report["artifact"]["files"]}
        # an artifact that was copied into the folder of another run must not get its figures
        same = all(files.get(file.name) == file.sha256 for file in artifact.files)
        return {name: int(report["compressed"][name]) for name in ("parameters", "macs")} if same else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _weights(path: Path) -> int:
    """Return how many numbers the weights of an ONNX file hold; int64 tensors are left out, since they are shapes and axes."""
    import onnx

    graph: Any = onnx.load(path, load_external_data=False).graph
    return sum(math.prod(weight.dims) for weight in graph.initializer if weight.data_type != onnx.TensorProto.INT64)


def _random(shape: tuple[int, ...], seed: int, count: int) -> Floats:
    return np.random.default_rng(seed).standard_normal((count, *shape), dtype=np.float32)


def fixed_sizes(path: Path, to: Path, input_shape: Sequence[int], batches: Sequence[int]) -> Path:
    """Write the ONNX file again as one file whose input has every size but the batch fixed.

    Args:
        path: file of the user, perhaps with its weights in a second file beside it.
        to: file to write.
        input_shape: (C, *spatial) for sizes that the file leaves open; empty where it leaves none.
        batches: batch sizes that the model must take.

    Raises:
        InputError: when it cannot be read, has another number of inputs than one, or does not take floats of these sizes.
    """
    import onnx

    try:
        model: Any = onnx.load(path)
    except Exception as problem:  # protobuf has errors of its own, and external weights may be missing
        words = " ".join(str(problem).split())[:200]
        raise InputError(f"`model` (={path}) cannot be read as ONNX ({words}): export it again.") from problem
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [tensor_input for tensor_input in model.graph.input if tensor_input.name not in weights]
    tensors = [tensor_input.type.tensor_type for tensor_input in inputs]
    if len(tensors) != 1 or tensors[0].elem_type != _FLOAT or not tensors[0].shape.dim:
        names = ", ".join(tensor_input.name for tensor_input in inputs) or "none"
        raise InputError(f"`model` (={path}) must have one input, a batch of float32 (it has: {names}): export it so.")
    batch, *sizes = tensors[0].shape.dim
    input_sizes = _sizes(path, [size.dim_value for size in sizes], input_shape)
    if batch.dim_value and any(count != batch.dim_value for count in batches):
        said, only = comma_separated(batches), batch.dim_value
        raise InputError(f"`--batches` (={said}) must be {only}, which `model` (={path}) was exported for: pass --batches {only}.")
    for size, value in zip(sizes, input_sizes, strict=True):
        size.dim_value = value
    # Old files list their weights as inputs too, and what reads the shape looks at the first.
    model.graph.input.sort(key=lambda tensor_input: tensor_input.name in weights)
    onnx.save(model, to)
    return to


def _sizes(path: Path, known: Sequence[int], input_shape: Sequence[int]) -> tuple[int, ...]:
    """Return the sizes of one input: those of the file, 0 where it leaves them open, and those that were given, which must agree."""
    said = ",".join(str(size or "?") for size in known)
    if not input_shape and not all(known):
        raise InputError(f"`--input` is missing: `model` (={path}) takes inputs of {said}; pass --input C,H,W.")
    sizes = tuple(input_shape or known)
    if len(sizes) != len(known) or any(size not in (0, asked) for size, asked in zip(known, sizes, strict=True)):
        raise InputError(f"`--input` (={comma_separated(sizes)}) must fit `model` (={path}), whose input is {said}: pass those sizes.")
    return sizes


def comma_separated(sizes: Sequence[int]) -> str:
    """Return sizes as the command takes them, such as "3,32,32"."""
    return ",".join(map(str, sizes))
