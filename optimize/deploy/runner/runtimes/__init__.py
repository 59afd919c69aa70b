"""One module a runtime, by the name of its target: `PACKAGE`, `version`, `differences` and `open_model`."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from types import ModuleType

from ..errors import Refused
from ..offline import go_offline


def runtime(target: str) -> ModuleType:
    """Return the module of a target's runtime; the runtime itself is not imported, and will report nothing when it is.

    Args:
        target: name of the target, such as "tensorrt-rtx".

    Raises:
        Refused: when there is no such target, or its runtime is not installed.
    """
    name = target.replace("-", "_")
    known = sorted(module.name for module in pkgutil.iter_modules(__path__))
    if name not in known:
        raise Refused(f"the bundle is for target {target!r}, this runner knows {', '.join(known)}: use the runner of its version.")
    go_offline()
    module = importlib.import_module(f".{name}", __name__)
    if importlib.util.find_spec(module.PACKAGE) is None:
        remedy = "pip install -r requirements.txt (offline: with --no-index --find-links wheels)"
        raise Refused(f"the runtime {module.PACKAGE} is not installed: {remedy}.")
    return module
