"""A network and data as objects of this process, where the command has files.

A run is identified by files: its report names the model by a hash, `--resume` compares that hash, and the size of the original is the size
of its file. So the weights of a network in memory are written to a temporary file for as long as the run lasts:

    compress(net, data)  ->  /tmp/…/Net  ->  sha256 in the report; the same weights give the same hash in the next process

The file holds no code. The network itself is the copy in this process, and no other process can load it. Peak memory, which is measured in
a process of its own, is therefore unknown for it (`NOT_RELOADED`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from optimize.candidate import Candidate
from optimize.data.arrays import Array
from optimize.data.dataset import Dataset
from optimize.data.in_memory import arrays_of, input_shape_of
from optimize.data.output_meaning import classes_of
from optimize.data.preprocessing import Preprocessing
from optimize.errors import InputError
from optimize.loading.live_module import own_copy
from optimize.run.recipe import Recipe

NOT_RELOADED = "peak memory of torch eager was not measured: the network was given as an object, which a fresh process cannot load"


@dataclass(frozen=True, eq=False)
class InMemory:
    """The network and the data of a run that were passed as objects.

    Args:
        module: the original network; None where the recipe's file is loaded.
        data: the four splits, or arrays by the names of MedMNIST; None where the recipe's source is read.
    """

    module: nn.Module | None = None
    data: Dataset | Mapping[str, Array] | None = None

    def with_input_shape(self, recipe: Recipe) -> Recipe:
        """Return the recipe with the shape of one input, (C, *spatial), taken from the data where the recipe has none."""
        if recipe.input_shape or self.data is None:
            return recipe
        # a prepared split knows its padding, arrays do not
        if isinstance(self.data, Dataset):
            return replace(recipe, input_shape=tuple(self.data.test.inputs(slice(0, 1)).shape[1:]))
        return replace(recipe, input_shape=input_shape_of(self.data, recipe.pad))

    def without_temporary_path(self, recipe: Recipe) -> Recipe:
        """Return the recipe for the lock file: without the folder of the temporary file, which is gone when the run has ended."""
        return recipe if self.module is None else replace(recipe, model=Path(recipe.model.name))


FILES_ONLY = InMemory()


def data_in_memory(data: object) -> Dataset | Mapping[str, Array]:
    """Return a prepared `Dataset` as it is, and everything else as arrays.

    Raises:
        InputError: when it is nothing that `optimize.data.in_memory` reads.
    """
    return data if isinstance(data, Dataset) else arrays_of(data)


@contextmanager
def weights_file(module: nn.Module) -> Iterator[Path]:
    """Write a network's weights to a file, named after its class, and remove it when the block ends.

    Equal weights of an equally built network give equal bytes. The network's `repr` is part of the file, so two networks with the same
    weights and other layers (a ReLU instead of a GELU) have other hashes.

    Raises:
        InputError: when the network does not lie on the CPU, or its lazy layers have seen no input yet.
    """
    own, _ = own_copy(module)  # raises for networks that cannot be copied, such as those on a GPU
    # safetensors refuses tensors that share memory, as tied weights do, so each one is cloned
    try:
        tensors = {name: value.clone().contiguous() for name, value in own.state_dict().items() if isinstance(value, torch.Tensor)}
    except (ValueError, RuntimeError) as problem:
        raise InputError(f"`model` (={type(module).__name__}) has weights that are not there yet ({problem}): run it once.") from problem
    if not tensors:
        raise InputError(f"`model` (={type(module).__name__}) has no weights: pass a trained network.")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / type(module).__name__
        save_file(tensors, file, metadata={"network": repr(module)})
        yield file


def require_fit(data: Dataset, original: Candidate, outputs: tuple[int, ...]) -> None:
    """Check that a `Dataset` that was prepared earlier fits the network.

    Args:
        data: the four splits.
        original: the original network.
        outputs: shape of the network's output for one input, (1, K) or (1, K, *spatial).

    Raises:
        InputError: when its images, its labels or its classes are not the network's.
    """
    taken, made = tuple(original.example.shape[1:]), tuple(data.test.inputs(slice(0, 1)).shape[1:])
    if taken != made:
        raise InputError(f"`data` prepares inputs of {made} and the network reads {taken}: prepare it with this `input_shape`.")
    task = "classification" if len(outputs) == 2 else "segmentation"
    if task == "classification" and data.test.kind:
        return  # what several labels, grades and numbers ask of the outputs is checked for data from files, too
    if data.test.task != task:
        raise InputError(f"`data` is for {data.test.task} and the network gives outputs of {outputs[1:]}: pass labels that fit.")
    # masks may have one output for each class, or one more for the background
    classes = len(data.classes)
    expected = classes_of(outputs)
    if expected not in ((classes,) if task == "classification" else (classes, classes + 1)):
        raise InputError(f"`data` has {classes} classes and the network {outputs[1]} outputs: load it with `num_classes`={expected}.")


def preprocessing_settings(preprocessing: Preprocessing) -> dict[str, object]:
    """Return a `Preprocessing` as settings of a recipe."""
    names = ("mean", "std", "pad", "standardize")
    return {name: "none" if (value := getattr(preprocessing, name)) is None else value for name in names}
