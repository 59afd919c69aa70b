"""What a run was given as objects of this process where the command has files: a network, data.

A run is identified by files: its report names the model by a hash, `--resume` compares it, the size of the original is that of its file. So
the weights of a network in memory are written to a file of their own for as long as the run lasts. They are written without code: the
network itself is the copy in this process, and no other process can load it.
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
from optimize.data.preprocessing import Preprocessing
from optimize.errors import InputError
from optimize.loading.live_module import own_copy
from optimize.run.recipe import Recipe

NOT_RELOADED = "peak memory of torch eager was not measured: the network was given as an object, which a fresh process cannot load"


@dataclass(frozen=True, eq=False)
class InMemory:
    """The objects of a run.

    Args:
        module: the original; None where the recipe's file is loaded.
        data: its four splits, or arrays by the names of MedMNIST; None where the recipe's source is read.
    """

    module: nn.Module | None = None
    data: Dataset | Mapping[str, Array] | None = None

    def shaped(self, recipe: Recipe) -> Recipe:
        """The recipe with the shape of one input, (C, *spatial), that the data show, where it says none."""
        if recipe.input_shape or self.data is None:
            return recipe
        if isinstance(self.data, Dataset):
            return replace(recipe, input_shape=tuple(self.data.test.inputs(slice(0, 1)).shape[1:]))
        return replace(recipe, input_shape=input_shape_of(self.data, recipe.pad))

    def lasting(self, recipe: Recipe) -> Recipe:
        """The recipe as the lock file has it: without the path of a file that is gone when the run has ended."""
        return recipe if self.module is None else replace(recipe, model=Path(recipe.model.name))


FILES_ONLY = InMemory()


def data_in_memory(data: object) -> Dataset | Mapping[str, Array]:
    """A prepared `Dataset` as it is; everything else as arrays.

    Raises:
        InputError: when it is nothing that `optimize.data.in_memory` reads.
    """
    return data if isinstance(data, Dataset) else arrays_of(data)


@contextmanager
def weights_file(module: nn.Module) -> Iterator[Path]:
    """A file of a network's weights, named after its class, that goes when the block ends.

    Equal weights of an equally built network give equal bytes: what the network consists of stands in the file as text.

    Raises:
        InputError: when the network does not lie on the CPU, or its lazy layers have seen no input yet.
    """
    own, _ = own_copy(module)  # for what it refuses
    try:
        tensors = {name: value.clone().contiguous() for name, value in own.state_dict().items() if isinstance(value, torch.Tensor)}
    except (ValueError, RuntimeError) as problem:
        raise InputError(f"`model` (={type(module).__name__}) has weights that are not there yet ({problem}): run it once.") from problem
    if not tensors:
        raise InputError(f"`model` (={type(module).__name__}) has no weights: pass a trained network.")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{type(module).__name__}.safetensors"
        save_file(tensors, file, metadata={"network": repr(module)})
        yield file


def require_fit(data: Dataset, original: Candidate, outputs: tuple[int, ...]) -> None:
    """See that a `Dataset` that was prepared before fits the network.

    Args:
        data: the four splits.
        original: the network.
        outputs: shape of its output for one input, (1, K) or (1, K, *spatial).

    Raises:
        InputError: when its images, its labels or its classes are not the network's.
    """
    taken, made = tuple(original.example.shape[1:]), tuple(data.test.inputs(slice(0, 1)).shape[1:])
    if taken != made:
        raise InputError(f"`data` prepares inputs of {made} and the network reads {taken}: prepare it with this `input_shape`.")
    task = "classification" if len(outputs) == 2 else "segmentation"
    if data.test.task != task:
        raise InputError(f"`data` is for {data.test.task} and the network gives outputs of {outputs[1:]}: pass labels that fit.")
    classes = len(data.classes)
    if outputs[1] not in ((classes,) if task == "classification" else (classes, classes + 1)):
        raise InputError(f"`data` has {classes} classes and the network {outputs[1]} outputs: load it with `num_classes`={outputs[1]}.")


def preprocessing_settings(preprocessing: Preprocessing) -> dict[str, object]:
    """The settings of a recipe that say the same as a `Preprocessing`."""
    names = ("mean", "std", "pad", "standardize")
    return {name: "none" if (value := getattr(preprocessing, name)) is None else value for name in names}
