"""Packages that read image files; none is a requirement, so each is imported when it is needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from optimize.errors import InputError


def image_package(module: str, what: str) -> Any:
    """Import a module of such a package.

    Args:
        module: name of the module, such as "PIL.Image" or "pydicom".
        what: what needs it, for the error: "`resize`".

    Raises:
        InputError: when it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as missing:
        package = module.partition(".")[0].replace("PIL", "pillow")
        raise InputError(f"{what} needs {package}: pip install 'optimize[files]'.") from missing
