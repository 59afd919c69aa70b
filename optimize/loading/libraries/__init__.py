"""One module for each library whose networks `--arch LIBRARY:NAME` builds; see `optimize.loading.library_networks`."""

from __future__ import annotations

import pkgutil

# torchvision's operators are compiled for one build of torch, and a wheel of another package index has none for this one
ONE_INDEX = "install torch and torchvision from the same package index"
"""What to do where a library that uses torchvision does not load."""


def library_names() -> list[str]:
    """Return the names of all libraries, as they stand in front of the colon."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def of_library(spec: str) -> bool:
    """Return whether `--arch` names a network of a library, and not a file.

    >>> of_library("timm:resnet18"), of_library("net.py:make"), of_library("models/timm.py:resnet18")
    (True, False, False)
    """
    return spec.partition(":")[0] in library_names() and ":" in spec
