"""Functions in a user's own file, named `path/to/file.py:factory`.

The file is trusted as a script is: it runs. What it must not do is reach beyond itself: it is imported under a private name, its siblings
are forgotten when it is done (two folders may each have a `layers.py`), what it prints goes to standard error so that standard output
stays machine-readable, and whatever it raises, `sys.exit()` included, becomes one line that names file, line and cause.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType

from optimize.errors import InputError, did_you_mean


def load_factory(spec: str, argument: str = "--arch") -> Callable[..., object]:
    """Import `file.py` and return its `factory`, wrapped so that errors of the call become one line too.

    Args:
        spec: "path/to/file.py:factory"; a relative path starts at the current folder.
        argument: name of the flag or argument, for the error text.

    Raises:
        InputError: when the spec is malformed, the file is missing or raises, or has no such function; on calling: what the call raised.
    """
    path, name = parse(spec, argument)
    with user_code(path.parent, f"`{argument}` (={spec!r})"):
        module = _execute(path)
    factory = vars(module).get(name)
    if not callable(factory):
        known = ", ".join(sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))) or "none"
        near = did_you_mean(name, known.split(", "))
        raise InputError(f"`{argument}` (={spec!r}): {path.name} has no function {name!r}{near}; it has: {known}.")

    def call(*args: object, **kwargs: object) -> object:
        with user_code(path.parent, f"`{argument}` (={spec!r}): {name}()"):
            return factory(*args, **kwargs)

    return call


@contextmanager
def user_code(folder: Path, what: str) -> Iterator[None]:
    """Run a user's code with `folder` importable; raise one InputError that starts with `what` for anything it raises."""
    # What the code imports from its own folder is forgotten afterwards: the next model's `net.py` is another file of the same name.
    loaded_before = set(sys.modules)
    # no __pycache__ beside the user's files
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, str(folder))
    try:
        # standard output belongs to the command: with --json, one printed line of the user's code would break it
        with redirect_stdout(sys.stderr):
            yield
    except (KeyboardInterrupt, InputError):
        raise
    except BaseException as problem:  # also SystemExit: a factory must not end the run without a word
        raise InputError(f"{what} raised {describe(problem, folder)}.{_remedy(problem)}") from problem
    finally:
        sys.dont_write_bytecode = bytecode
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
        for name in set(sys.modules) - loaded_before:
            if _is_sibling(name, sys.modules[name], folder, loaded_before):
                del sys.modules[name]


def describe(problem: BaseException, folder: Path | None = None) -> str:
    """Return an exception in one line; with `folder`, also the last line of a file in there that led to it."""
    words = " ".join(str(problem).split())
    text = type(problem).__name__ + (f": {words[:300].rstrip('.')}" if words else "")
    calls = [] if folder is None else traceback.extract_tb(problem.__traceback__)
    own = [call for call in calls if folder is not None and Path(call.filename).is_relative_to(folder)]
    return f"{text} ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else text


def _remedy(problem: BaseException) -> str:
    """Return what to do about an exception whose text hides its cause, as a sentence; an empty text for all others."""
    # torchvision's operators are compiled for one build of torch; a wheel of another package index has none for this one, and says
    # "operator torchvision::nms does not exist" as it is imported
    if "operator torchvision::" in str(problem):
        return " Install torch and torchvision from the same package index."
    return ""


def parse(spec: str, argument: str) -> tuple[Path, str]:
    """Return the file and the name in "path/to/file.py:factory".

    Raises:
        InputError: when it does not read so, or there is no such file.
    """
    file, _, name = spec.rpartition(":")
    if not file.endswith(".py") or not name.isidentifier():
        # a path alone ends in .py and has no name: the error says where the name goes
        cure = f": add the name of the function, as in {Path(spec).name}:build" if spec.endswith(".py") else ""
        raise InputError(f"`{argument}` (={spec!r}) must read 'path/to/file.py:factory'{cure}.")
    path = Path(file).absolute()
    if not path.is_file():
        raise InputError(f"`{argument}` (={spec!r}): there is {'a folder' if path.is_dir() else 'no file'} at {path}: check the path.")
    return path, name


def _execute(path: Path) -> ModuleType:
    private = f"_optimize_user_{hashlib.sha256(str(path).encode(errors='surrogateescape')).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(private, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and annotations look their module up by name while the file still runs.
    sys.modules[private] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[private]
        raise
    return module


def _is_sibling(name: str, module: ModuleType | None, folder: Path, loaded_before: set[str]) -> bool:
    """Return whether a newly imported module lies directly in `folder`, not in a virtual environment below it."""
    top = name.partition(".")[0]
    origin = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    if top in loaded_before or origin is None or not Path(origin).is_relative_to(folder):
        return False
    return Path(origin).relative_to(folder).parts[:1] in ((top,), (f"{top}.py",))
