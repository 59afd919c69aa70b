"""What a bundle is packed as: each module of this folder is one choice of `--format`. A new format is one new file.

A module has

    NAME = "plain"                                  what `--format` calls it
    def write(bundle: Path, out: Path) -> None: ...

`write` makes the folder `out`, which does not exist yet, from the complete bundle in the folder `bundle`, which it must not change; nor
may it depend on the path or the times of either. `read_manifest(bundle)` of `manifest.py` has the bundle's facts. Where the user asked
for FILE.tar.gz, the folder becomes an archive afterwards; so no format writes one itself. The archive holds one folder, named after the
model and its target. A module with

    AT_TOP = True

has its files at the top of the archive instead, as an OCI image needs them. Same bundle, same bytes: no format writes a time, or the name
of `out`. Errors of the caller are `InputError`; where one is raised, nothing of `out` is left.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from optimize.errors import require_choice
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


def _modules() -> dict[str, ModuleType]:
    modules = [importlib.import_module(f"{__name__}.{name}") for name in module_names(__name__)]
    return {module.NAME: module for module in modules}
