"""artifact.json: which files the runtime opens, how an image becomes the input, and what the outputs mean."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .canonical import parse
from .errors import Refused
from .manifest import Manifest

NAME, REPORT = "artifact.json", "report.json"


@dataclass(frozen=True)
class Artifact:
    """The compiled model of a bundle, with the bytes of its files as they were hashed.

    Args:
        target: name of the target.
        precision: precision of its arithmetic.
        input_shape: (C, *spatial), without the batch, which is free.
        files: bytes of the model's files by name, the one that the runtime opens first.
        golden: bytes of the self-test; None where there is none.
        built: facts that it is bound to, such as the GPU that it was verified on.
        options: options of the runtime that change the numbers.
        threads: number of threads that it was measured with; None for the runtime's own choice.
        preprocessing: how a stored image becomes the input.
        output: what the outputs are, and how a decision follows.
        value_range: smallest and largest value of the network's input in the calibration images.
    """

    target: str
    precision: str
    input_shape: tuple[int, ...]
    files: Mapping[str, bytes]
    golden: bytes | None
    built: Mapping[str, str]
    options: Mapping[str, str]
    threads: int | None
    preprocessing: Mapping[str, Any]
    output: Mapping[str, Any]
    value_range: tuple[float, float]


def read(manifest: Manifest, contents: Mapping[str, bytes]) -> Artifact:
    """Return the artifact of a bundle, and check that manifest, artifact and report speak of the same model.

    Args:
        manifest: the bundle's manifest.
        contents: bytes of the files in the artifact's folder and of the report, by path.

    Raises:
        Refused: when they contradict each other, or one is damaged.
    """
    try:
        artifact = _bound(manifest, contents)
        _require_report(manifest, contents)
    # any shape is possible in files that come from outside, and none may end in a traceback
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        why = f"{type(problem).__name__}: {str(problem)[:200]}"
        raise Refused(f"`{NAME}`, `{REPORT}` or manifest.json is damaged ({why}): get the bundle again.") from None
    return artifact


def _bound(manifest: Manifest, contents: Mapping[str, bytes]) -> Artifact:
    """Return the artifact, after it was compared with the manifest."""
    path = f"{manifest.folder}/{NAME}"
    said = _parsed(path, contents)
    artifact = _artifact(manifest, said, contents)
    listed = [(str(entry["name"]), str(entry["sha256"])) for entry in said["files"]]
    golden = None if said.get("golden") is None else f"{manifest.folder}/{said['golden']['name']}"
    digest = hashlib.sha256("".join(f"{sha256}  {name}\n" for name, sha256 in listed).encode()).hexdigest()
    own = {f"{manifest.folder}/{name}" for name in (NAME, *(name for name, _ in listed))} | ({golden} if golden else set())
    _agree(path, "target and precision", (artifact.target, artifact.precision), (manifest.target, manifest.precision))
    _agree(path, "hash of the model", digest, manifest.sha256)
    _agree(path, "self-test", golden, manifest.golden)
    _agree(path, "list of files", own, {name for name in manifest.files if name.startswith(f"{manifest.folder}/")})
    for name, sha256 in [*listed, *([(said["golden"]["name"], said["golden"]["sha256"])] if golden else [])]:
        _agree(path, f"hash of {name}", sha256, manifest.files[f"{manifest.folder}/{name}"][0])
    return artifact


def _artifact(manifest: Manifest, said: Mapping[str, Any], contents: Mapping[str, bytes]) -> Artifact:
    use, shape = said["use"], tuple(said["input_shape"])
    if said["format"] != 1 or not shape or any(type(size) is not int or size < 1 for size in shape):
        raise ValueError(f"format {said['format']!r}, input_shape {said['input_shape']!r}")
    low, high = map(float, use["input"]["range"])
    threads = use["threads"]
    if threads is not None and (type(threads) is not int or threads < 1):
        raise ValueError(f"threads {threads!r}")
    return Artifact(
        target=said["target"],
        precision=said["precision"],
        input_shape=shape,
        files={entry["name"]: contents[f"{manifest.folder}/{entry['name']}"] for entry in said["files"]},
        golden=None if said.get("golden") is None else contents[f"{manifest.folder}/{said['golden']['name']}"],
        built={str(name): str(value) for name, value in said["built"].items()},
        options={str(name): str(value) for name, value in use["options"].items()},
        threads=threads,
        preprocessing=dict(use["input"]["preprocessing"]),
        output=dict(use["output"]),
        value_range=(low, high),
    )


def _require_report(manifest: Manifest, contents: Mapping[str, bytes]) -> None:
    """Check that the report is the manifest's, and is of this model."""
    report = _parsed(REPORT, contents)
    said = manifest.content["report"]
    _agree(REPORT, "hash", manifest.files[REPORT][0], said["sha256"])
    _agree(REPORT, "path", REPORT, said["path"])
    # None where the report knows of no artifact: a model that was compiled, and never judged
    if said["artifact_sha256"] is not None:
        _agree(REPORT, "hash of the model", said["artifact_sha256"], manifest.sha256)
    _agree(REPORT, "accepted", bool(report["accepted"]), manifest.content["accepted"])
    if manifest.content["verdict"] != "unverified":
        _agree(REPORT, "verdict", report["verdict"], manifest.content["verdict"])
        _agree(REPORT, "target", report["target"], manifest.target)
    listed = (report.get("artifact") or {}).get("files") or []
    by_name = {entry["name"]: entry["sha256"] for entry in listed}
    for name, sha256 in by_name.items():
        path = f"{manifest.folder}/{name}"
        _agree(REPORT, f"hash of {str(name)[:80]}", sha256, manifest.files[path][0] if path in manifest.files else None)


def _agree(path: str, what: str, said: object, expected: object) -> None:
    if said != expected:
        raise Refused(f"`{path}` and manifest.json do not belong together ({what[:100]!s} differs): get the bundle again.")


def _parsed(path: str, contents: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        return dict(parse(contents[path]))
    except KeyError:
        raise Refused(f"the bundle lists no `{path}`: get the bundle again.") from None
    except (ValueError, TypeError) as problem:
        raise Refused(f"`{path}` is damaged ({str(problem)[:200]}): get the bundle again.") from None
