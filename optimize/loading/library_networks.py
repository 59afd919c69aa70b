"""Networks that a library builds: `--arch timm:resnet18` in place of a file of one's own.

Each module in `optimize/loading/libraries/` is one library. The folder is looked through at each call, so a new library is a new file
there, and nothing else. A network is always built without trained weights: they come from the user's file, and nothing is downloaded.

How many classes and input channels a network has is seen from the weights. It is built once with the library's own numbers. Where only the
last layer, or the first, has another shape in the file, it is built again with the file's number:

    timm:resnet18 makes 1,000 classes     fc.weight (1000, 512)
    the file holds                        fc.weight (8, 512)       -> num_classes = 8
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Protocol, cast

import torch
from torch import nn

from optimize.errors import InputError, did_you_mean
from optimize.loading import libraries
from optimize.loading.factory import describe
from optimize.loading.libraries import ONE_INDEX
from optimize.loading.libraries import of_library as of_library


class Library(Protocol):
    """The functions and names that a module in `optimize/loading/libraries/` must define. The library is imported inside the functions.

    Attributes:
        PACKAGE: the package to install.
        CLASSES: argument for the number of classes; None where the networks have no common one.
        CHANNELS: argument for the number of input channels; None likewise.
        DOWNLOADS: arguments that would have weights downloaded, with the values that do not.
    """

    PACKAGE: str
    CLASSES: str | None
    CHANNELS: str | None
    DOWNLOADS: Mapping[str, Any]

    def names(self) -> list[str]:
        """Return the names of all networks."""

    def build(self, name: str, arguments: dict[str, Any]) -> object:
        """Return a network."""


def library_factory(spec: str) -> Callable[..., nn.Module]:
    """Return the function that builds a library's network from keyword arguments.

    Args:
        spec: "library:name".

    Raises:
        InputError: when the library is not installed or does not know the name; on calling: when it cannot build the network, or an
            argument asks for weights to be downloaded.
    """
    library, name = _library(spec), spec.partition(":")[2]
    try:
        known = library.names()
    except ImportError as problem:
        raise InputError(f"`--arch` (={spec!r}) needs {library.PACKAGE} ({describe(problem)}): pip install {library.PACKAGE}.") from problem
    except RuntimeError as problem:
        raise InputError(
            f"`--arch` (={spec!r}): {library.PACKAGE} does not load beside this PyTorch ({describe(problem)}): {ONE_INDEX}."
        ) from problem
    if name not in known:
        near = did_you_mean(name, known)
        raise InputError(f"`--arch` (={spec!r}): {library.PACKAGE} has no network {name!r}{near}; it has {len(known)}.")

    def build(**arguments: Any) -> nn.Module:
        for argument, off in library.DOWNLOADS.items():
            if arguments.get(argument, off) != off:
                asked = f"{argument}={arguments[argument]!r}"
                raise InputError(f"`arch_args` ({asked}) would download weights: leave it out; the file has them.")
        try:
            module = library.build(name, {**arguments, **library.DOWNLOADS})
        except Exception as problem:  # whatever the library raises on arguments that do not fit
            raise InputError(f"`--arch` (={spec!r}) cannot be built ({describe(problem)}): see to arch_args.") from problem
        if not isinstance(module, nn.Module):
            raise InputError(f"`--arch` (={spec!r}) is a {type(module).__name__}, and no network.")
        return module

    return build


def fitting_arguments(spec: str, module: nn.Module, weights: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Return arguments of the library with which its network has the classes and input channels of the weights; empty where it has them.

    Args:
        spec: "library:name".
        module: the network as it was built.
        weights: the weights, named as in the network.
    """
    library, expected = _library(spec), module.state_dict()
    other = [name for name in expected if name in weights and weights[name].shape != expected[name].shape]
    found: dict[str, int] = {}
    # the first layer is the one whose kernel alone reads another number; the last one makes another number
    for name in other:
        had, has = tuple(expected[name].shape), tuple(weights[name].shape)
        if library.CLASSES and len(had) == len(has) and had[1:] == has[1:]:
            found.setdefault(library.CLASSES, has[0])
        elif library.CHANNELS and len(had) == len(has) > 2 and (had[0], had[2:]) == (has[0], has[2:]):
            found.setdefault(library.CHANNELS, has[1])
    return found


def _library(spec: str) -> Library:
    return cast(Library, import_module(f"{libraries.__name__}.{spec.partition(':')[0]}"))
