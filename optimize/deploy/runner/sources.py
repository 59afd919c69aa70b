"""Compares the runner's own sources with the manifest, with the standard library alone, before any of them is imported.

It finds what was damaged on the way. It cannot find what somebody changed who also changed this check: whoever can write into a bundle can
replace the runner. A bundle that came by an unsafe way is checked by a runner from elsewhere (`python -m bundle check --bundle FOLDER`),
or by `optimize verify`.
"""

from __future__ import annotations

import hashlib
import json
import os


def altered(package: str) -> str | None:
    """Return one line about the first source that is not the one in the manifest; None where all are, or where there is no manifest.

    Args:
        package: folder of the runner; the manifest lies beside it.
    """
    root, name = os.path.split(os.path.abspath(package))
    try:
        with open(os.path.join(root, "manifest.json"), "rb") as stream:
            listed = {entry["path"]: entry["sha256"] for entry in json.load(stream)["files"]}
        own = {path: listed[path] for path in listed if path.startswith(f"{name}/")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        # without a readable manifest nothing is known here; `checks.py` says what is wrong with it
        return None
    for path, sha256 in own.items():
        place = os.path.join(root, *path.split("/"))
        # a pipe would be waited for
        if not os.path.isfile(place):
            return f"the bundle lacks its file `{path}`: copy the whole bundle again."
        try:
            with open(place, "rb") as stream:
                found = hashlib.sha256(stream.read()).hexdigest()
        except OSError:
            return f"`{path}` cannot be read: copy the whole bundle again."
        if found != sha256:
            return f"`{path}` is not the file that was bundled (its sha256 differs): copy the bundle again."
    return None
