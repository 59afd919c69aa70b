"""What a bundle is packed as: each module of this folder is one choice of `--format`. A new format is one new file.

A module has

    NAME = "plain"                                  what `--format` calls it
    def write(bundle: Path, out: Path) -> None: ...

`write` makes the folder `out`, which does not exist yet, from the complete bundle in the folder `bundle`, which it must not change; nor
may it depend on the path or the times of either. `read_manifest(bundle)` of `manifest.py` has the bundle's facts. Where the user asked
for FILE.tar.gz, the folder becomes an archive afterwards; so no format writes one itself. The archive holds one folder, named after the
model and its target. A module may also have

    MARK = "index.json"     path in its folder that shows it to be an earlier one, which `--overwrite` may replace; else "manifest.json"
    AT_TOP = True           its files lie at the top of the archive instead, as an OCI image needs them

and its `write` may have a third parameter, `base_image: Path | None = None`, for `--base-image`. Same bundle, same bytes: no format writes
a time, or the name of `out`. Errors of the caller are `InputError`; where one is raised, nothing of `out` is left.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType

from optimize.errors import InputError, require_choice
from optimize.files import module_names


def format_names() -> tuple[str, ...]:
    """Return the names of all formats, sorted.

    >>> "plain" in format_names()
    True
    """
    return tuple(sorted(_modules()))


def bundle_format(name: str) -> ModuleType:
    """Return the module of a format.

    Args:
        name: name of the format, one of `format_names()`.

    Raises:
        InputError: when there is none of that name.
    """
    require_choice("--format", name, format_names())
    return _modules()[name]


def extra_arguments(module: ModuleType, base_image: Path | None) -> dict[str, Path]:
    """Return what `write` of a format is called with besides the bundle and the folder.

    Args:
        module: module of the format.
        base_image: image to build on; None for none.

    Raises:
        InputError: when there is one, and the format builds on none.
    """
    if base_image is None:
        return {}
    if "base_image" not in inspect.signature(module.write).parameters:
        raise InputError(f"`--base-image` (={base_image}) has no use with `--format {module.NAME}`: leave it out, or use `--format oci`.")
    return {"base_image": base_image}


def _modules() -> dict[str, ModuleType]:
    modules = [importlib.import_module(f"{__name__}.{name}") for name in module_names(__name__)]
    return {module.NAME: module for module in modules}
