"""Check that a bundle is as it was made, and by whom it is signed, before any of its models is opened. Nothing in it is executed.

    manifest.json     canonical, and of this format             -> it has one meaning
    its signature     by the key that the user was given        -> nobody else made the list of files
    every file        listed, with the hash of the list         -> the files are those of the list, and there are no others
    report.json       read as strictly as in a run's folder     -> its own signature, where it has one
    bindings          report, artifact and manifest agree       -> none of them was taken from another run

The code in `bundle/` is compared with that of this version, and only compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimize.backends.artifact import MANIFEST as ARTIFACT_MANIFEST
from optimize.backends.artifact import Artifact
from optimize.deploy.bundle import signature
from optimize.deploy.bundle.assemble import RUNNER
from optimize.deploy.bundle.manifest import MANIFEST, MODEL, REPORT, Manifest, read_manifest
from optimize.errors import InputError
from optimize.report.signature import check as check_report
from optimize.report.signature import is_page_of
from optimize.report.strict_json import parse
from optimize.run.verification.claims import LARGEST_REPORT, listed_files, read_report, require_shape
from optimize.run.verification.folder_contents import contents, digest, plain
from optimize.run.verification.public_key import public_key

AGAIN = "copy the bundle again"
MAX_ENVELOPE_BYTES = 2**27
ONNX = ("onnx/model.onnx", "onnx/original.onnx")
_OF_RUN = (*ONNX, "recipe.lock.toml")
"""Files that a run's report lists under the paths that they have in the bundle."""


@dataclass(frozen=True)
class ExaminedBundle:
    """A bundle that has passed all checks.

    Args:
        folder: folder of the bundle.
        manifest: content of manifest.json.
        report: content of report.json.
        artifact: the compiled model.
        findings: sentences on what was compared, and on what is not covered.
        key: SHA-256 of the key that the user gave and that signed the manifest, hexadecimal; None where none was given.
    """

    folder: Path
    manifest: Manifest
    report: Mapping[str, Any]
    artifact: Artifact
    findings: tuple[str, ...]
    key: str | None

    def require_unchanged(self) -> None:
        """Compare every file again with its hash: one may have been replaced while the model was tested.

        Raises:
            InputError: naming the first file that was changed, added or removed.
        """
        if read_manifest(self.folder).sha256 != self.manifest.sha256:
            raise InputError(f"`{self.folder}`: {MANIFEST} was changed while it was verified: {AGAIN}.")
        _require_files(self.folder, self.manifest)


def examine_bundle(folder: Path, key: str | None = None) -> ExaminedBundle:
    """Check that a bundle is as it was made.

    Args:
        folder: folder of the bundle.
        key: public key that must have signed it, as a file in PEM or as base64; None for any signature or none.

    Raises:
        InputError: when something was altered, is missing or does not belong there, or the key did not sign it, naming it.
    """
    required_key = None if key is None else public_key(key)
    try:
        return _examined(folder, key, required_key)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as problem:
        if isinstance(problem, InputError):
            raise
        # whoever signs nothing can put any value anywhere, so what is read may have any type
        raise InputError(f"`{folder}` is damaged ({type(problem).__name__}: {ascii(str(problem))[:120]}): {AGAIN}.") from None


def _examined(folder: Path, key: str | None, required_key: str | None) -> ExaminedBundle:
    # a key that came with the bundle would only show that the bundle agrees with itself
    if key is not None and Path(key).exists() and Path(key).resolve().is_relative_to(folder.resolve()):
        raise InputError(f"`--key` (={key}) lies in the bundle that it is to vouch for: take the one that its owner gave you.")
    manifest = read_manifest(folder)
    keyid, signed = _signature(folder, manifest, required_key)
    _require_files(folder, manifest)
    report, of_report = _report(folder, manifest)
    artifact = _bound_artifact(folder, manifest, report)
    _require_documents(folder, artifact, report)
    findings = (f"complete: {len(manifest.files)} files as manifest {manifest.sha256} lists them, and no others", *signed, *of_report)
    findings += ("bound: manifest, report, artifact and ONNX files are of one run", *_runner(manifest), *_warning(manifest))
    return ExaminedBundle(folder, manifest, report, artifact, findings, keyid)


def _signature(folder: Path, manifest: Manifest, required_key: str | None) -> tuple[str | None, tuple[str, ...]]:
    """Return the key that was compared, and a sentence on who signed the manifest."""
    path = folder / signature.ENVELOPE
    if not path.is_file() or path.is_symlink():
        if required_key is not None:
            raise InputError(f"`{folder}` is not signed, and `--key` asks for a signature: take the bundle that the key's owner signed.")
        return None, ("not signed: anyone could have changed all of it",)
    if (size := path.stat().st_size) > MAX_ENVELOPE_BYTES:
        raise InputError(f"`{path}` is larger than any signature ({size} bytes): {AGAIN}.")
    envelope = path.read_bytes()
    if required_key is not None:
        keyid = signature.check(manifest.content, envelope, required_key)
        return keyid, (f"signed by key {keyid[:16]}, the key that you gave",)
    return None, (f"signed by key {_stated_key(path, manifest, envelope)}; not compared with a key of yours: pass --key",)


def _stated_key(path: Path, manifest: Manifest, envelope: bytes) -> str:
    """Return which key an envelope names, after a look at whether it is of this manifest; the signature itself needs the key.

    Raises:
        InputError: when the envelope is damaged, or of another manifest.
    """
    import base64

    try:
        content = parse(envelope)
        same = base64.b64decode(content["payload"], validate=True) == manifest.content and content["payloadType"] == signature.PAYLOAD_TYPE
        names = [str(entry["keyid"])[:16] for entry in content["signatures"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise InputError(f"`{path}` is damaged ({type(problem).__name__}): {AGAIN}.") from None
    if not same or not names:
        raise InputError(f"`{path}` is not of the manifest beside it: {AGAIN}.")
    return ascii(", ".join(names))[1:-1][:80]


def _require_files(folder: Path, manifest: Manifest) -> None:
    """Check that the folder holds exactly the files of the manifest, and that each has its hash."""
    inventory = contents(folder)
    if inventory.strange:
        path, kind = next(iter(inventory.strange.items()))
        raise InputError(f"`{folder}` holds {plain(path)}, which is {kind}, and no bundle does: {AGAIN}.")
    listed = {file.path: file for file in manifest.files}
    own = (MANIFEST, signature.ENVELOPE)
    if [file.path for file in manifest.files] != sorted(listed) or set(own) & set(listed):
        raise InputError(f"`{folder / MANIFEST}` is damaged: its files are not each listed once, in order: {AGAIN}.")
    for path, file in listed.items():
        if path not in inventory.files:
            raise InputError(f"`{folder}`: its file {plain(path)} is missing: {AGAIN}.")
        # the size first: it costs nothing
        same = (folder / path).lstat().st_size == file.size_bytes and digest(folder / path) == file.sha256
        if not same:
            raise InputError(f"`{folder}`: its file {plain(path)} is not the one of {MANIFEST}, it was altered or swapped: {AGAIN}.")
    if extra := inventory.beside(dict.fromkeys((*listed, *own))):
        raise InputError(f"`{folder}` holds {plain(extra[0])}, which {MANIFEST} does not list: remove it, or {AGAIN}.")


def _report(folder: Path, manifest: Manifest) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the report, and a sentence on its own signature."""
    report = read_report(folder, contents(folder))
    signed = check_report(report)
    if signed.state == "altered":
        raise InputError(f"`{folder / REPORT}` is not to be relied on. {signed.reason} Take the bundle as it was made.")
    require_shape(folder, report)
    listed = {file.path: file.sha256 for file in manifest.files}
    if manifest.report.get("path") != REPORT or manifest.report.get("sha256") != listed.get(REPORT):
        raise InputError(f"`{folder / MANIFEST}` is bound to another report than the one beside it: {AGAIN}.")
    if not signed:
        return report, ("the report of the run has no signature of its own",)
    if "page" in report["signature"] and not is_page_of(report, _content(folder, "report.html")):
        raise InputError(f"`{folder / 'report.html'}` is not the page that was signed with the report: {AGAIN}.")
    return report, (f"the report of the run is signed by key {signed.fingerprint}",)


def _bound_artifact(folder: Path, manifest: Manifest, report: Mapping[str, Any]) -> Artifact:
    """Return the artifact, which must be the one of the manifest and of the report.

    Raises:
        InputError: naming what is of another run.
    """
    artifact = Artifact.read(folder / MODEL)
    unverified = report.get("unverified") is not None
    pairs = {
        "artifact": (manifest.artifact.get("sha256"), artifact.sha256),
        "artifact of the report": (manifest.report.get("artifact_sha256"), artifact.sha256),
        "target": (manifest.target, artifact.target),
        "target of the report": (manifest.target, report["target"]),
        "precision": (manifest.precision, artifact.precision),
        "verdict": (manifest.verdict, "unverified" if unverified else report["verdict"]),
        "accepted": (manifest.accepted, report["accepted"]),
        "name": (manifest.name, report["model"].get("name")),
        "created": (manifest.created, report.get("created")),
    }
    for name, (said, found) in pairs.items():
        if said != found:
            raise InputError(f"`{folder / MANIFEST}` says {name} = {ascii(said)[:80]}, which is {ascii(found)[:80]}: {AGAIN}.")
    # the report lists the artifact under the folder that it had in the run; by their hashes the files are the same
    of_report = {path: file.sha256 for path, file in listed_files(folder, report).items()}
    listed = {(path.rpartition("/")[2], sha256) for path, sha256 in of_report.items()}
    named = (*artifact.files, *(() if artifact.golden is None else (artifact.golden,)))
    hashes = {file.path: file.sha256 for file in manifest.files}
    wrong = [f"{MODEL}/{file.name}" for file in named if (file.name, file.sha256) not in listed]
    wrong += [path for path in _OF_RUN if of_report.get(path) != hashes.get(path)]
    if wrong:
        raise InputError(f"`{folder}`: its file {plain(wrong[0])} is not of the run that {REPORT} is of: {AGAIN}.")
    inside = {path for path in hashes if path.startswith(f"{MODEL}/")}
    if extra := sorted(inside - {f"{MODEL}/{ARTIFACT_MANIFEST}", *(f"{MODEL}/{file.name}" for file in named)}):
        raise InputError(f"`{folder}` holds {plain(extra[0])}, which {ARTIFACT_MANIFEST} does not name: {AGAIN}.")
    return artifact


def _require_documents(folder: Path, artifact: Artifact, report: Mapping[str, Any]) -> None:
    """Check that the preprocessing is that of the artifact, and that the criteria are those of the report."""
    try:
        said = parse(_content(folder, "preprocess.json"))
        own = artifact.use["input"]
        same = {**own["preprocessing"], **{key: own[key] for key in ("layout", "shape", "dtype")}} == said
        criteria = parse(_content(folder, "criteria.json"))["limits"]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        if isinstance(problem, InputError):
            raise
        raise InputError(f"`{folder}` has no readable preprocess.json or criteria.json ({type(problem).__name__}): {AGAIN}.") from None
    if not same:
        raise InputError(f"`{folder / 'preprocess.json'}` is not the preprocessing of the artifact: {AGAIN}.")
    if criteria != report["limits"]:
        raise InputError(f"`{folder / 'criteria.json'}` has other limits than {REPORT}: {AGAIN}.")


def _content(folder: Path, name: str) -> bytes:
    """Return the bytes of a document, which must not be larger than any report."""
    if (size := (folder / name).stat().st_size) > LARGEST_REPORT:
        raise InputError(f"`{folder / name}` is larger than any such file ({size} bytes): {AGAIN}.")
    return (folder / name).read_bytes()


def _runner(manifest: Manifest) -> Iterator[str]:
    """Yield whether the code in `bundle/` is that of this version, by the hashes of its files."""
    files = (path for path in RUNNER.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    own = {f"bundle/{path.relative_to(RUNNER).as_posix()}": path for path in files}
    listed = {file.path: file.sha256 for file in manifest.files if file.path.startswith("bundle/")}
    hashes = {path: digest(file) for path, file in own.items()}
    # __pycache__ is a file there, which keeps compiled code away
    others = sorted(path for path in listed if not path.endswith("/__pycache__") and listed[path] != hashes.get(path))
    others += sorted(set(hashes) - set(listed))
    if not others:
        yield "runner: its code is that of this version of optimize; it was compared and not started"
    else:
        yield f"runner: its code is not that of this version of optimize ({plain(others[0])} differs), and was not started"


def _warning(manifest: Manifest) -> tuple[str, ...]:
    return () if manifest.warning is None else (f"warning of the bundle: {manifest.warning}",)
