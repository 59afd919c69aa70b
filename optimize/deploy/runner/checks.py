"""Every check before a bundle answers: manifest, signature, files, report, runtime, machine, self-test; the cheap ones come first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from . import artifact as artifacts
from . import contents, manifest, self_test, signature
from .artifact import Artifact
from .errors import Refused
from .manifest import Manifest
from .runtimes import runtime
from .self_test import Floats

CHUNK = 32
"""Largest batch that the runtime sees, as in the run: the kernels of another batch may round in another way."""


@dataclass(frozen=True)
class Checked:
    """A bundle that passed every check, and its model, opened from the bytes that were hashed.

    Args:
        manifest: what the bundle says about itself.
        artifact: the compiled model.
        run: function that runs the model, (N, C, *spatial) -> (N, K) or (N, K, *spatial), for any N.
        fingerprint: SHA-256 of the pinned key; None where no key is pinned.
        notes: sentences that are said at every start: the warning of the bundle, and how this machine differs.
        finding: what the self-test found, in one line.
    """

    manifest: Manifest
    artifact: Artifact
    run: Callable[[Floats], Floats]
    fingerprint: str | None
    notes: tuple[str, ...]
    finding: str


def check(root: Path, public_key: str | Path | None = None, threads: int | None = None) -> Checked:
    """Check a bundle and open its model.

    Args:
        root: folder of the bundle.
        public_key: pinned key, a file in PEM or the key in base64; None: that of `BUNDLE_PUBLIC_KEY`, or none.
        threads: number of threads of one call; None for as many as in the run.

    Raises:
        Refused: naming the first thing that is wrong, the rule, and what to do.
        WrongInput: when the pinned key cannot be read.
    """
    content, said = manifest.read(root)
    fingerprint = signature.check(root, content, public_key)
    artifact = _read_files(root, said)
    module = runtime(said.target)
    differences = module.differences(said, artifact)
    if (version := _version(module, said)) != said.runtime:
        differences.append(f"verified with {said.target} {said.runtime}, here is {version}")
    notes = (*([] if said.warning is None else [said.warning]), *differences)
    run = _in_chunks(_opened(module.open_model, artifact, artifact.threads if threads is None else threads))
    if artifact.golden is None:
        return Checked(said, artifact, run, fingerprint, notes, "no self-test: the model was never verified")
    # on another machine or version the self-test decides, within the wider of its two tolerances
    finding = self_test.require_same(artifact, run, said.tolerances[1 if differences else 0])
    return Checked(said, artifact, run, fingerprint, notes, finding)


def _read_files(root: Path, said: Manifest) -> Artifact:
    """Return the artifact, after every file of the bundle was compared with its hash."""
    envelope = [manifest.ENVELOPE] if (root / manifest.ENVELOPE).exists() else []
    contents.require_exactly(root, (*said.files, manifest.NAME, *envelope))
    keep = {path for path in said.files if path.startswith(f"{said.folder}/") or path == artifacts.REPORT}
    return artifacts.read(said, contents.read_checked(root, said.files, keep))


def _version(module: ModuleType, said: Manifest) -> str:
    """Return the version of the runtime."""
    try:
        return str(module.version())
    except Exception as problem:  # whatever a package raises that was installed in part, or for another processor
        reason = " ".join(str(problem).split())[:200]
        raise Refused(f"{said.target} cannot be imported ({reason}): install the version of requirements.txt.") from None


def _opened(open_model: Callable[..., Callable[[Floats], Floats]], artifact: Artifact, threads: int | None) -> Callable[[Floats], Floats]:
    try:
        return open_model(artifact, threads)
    except Refused:
        raise
    except Exception as problem:  # whatever a runtime raises about a file that it does not open
        said = " ".join(str(problem).split())[:200]
        raise Refused(f"{artifact.target} cannot open the model ({said}): install the version of requirements.txt.") from None


def _in_chunks(run: Callable[[Floats], Floats]) -> Callable[[Floats], Floats]:
    def run_all(inputs: Floats) -> Floats:
        inputs = np.ascontiguousarray(inputs, dtype=np.float32)
        if len(inputs) <= CHUNK:
            return run(inputs)
        return np.concatenate([run(inputs[start : start + CHUNK]) for start in range(0, len(inputs), CHUNK)])

    return run_all
