"""Check that a run's folder is as the run left it, and by whom it is signed, before anything in it is opened or executed.

A runtime parses a model with a lot of code, and a factory is code itself. So no file is opened as what it claims to be until every file has
been compared with its hash. Otherwise a prepared model could attack the runtime before its wrong hash is noticed.

The report lists every file beside it with its SHA-256, and a signature covers the report and its page:

1. `report.json` is read as strictly as it was written: byte for byte the text that its content has.
2. Its signature is checked, where it has one; where the user gave a public key, it must have one by exactly that key.
3. Every file that it lists must be there with the bytes that it says, and in `model/` and `unverified/` nothing else; where a key was
   given, nothing else anywhere in the folder.
4. What the report says of the model must agree with itself and with the model's manifest.

Without a key this detects errors of copying, and changes of some files; a change of all files and of the report needs the signature:

    someone replaces `model/model.onnx`                      step 3 detects it: the hash differs from the report's
    and writes the new hash into `report.json`               step 2 detects it: the signature does not fit
    and removes the signature                                only `--public-key` detects it
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimize.backends.artifact import MANIFEST, Artifact, ArtifactFile
from optimize.errors import InputError
from optimize.report.signature import Check, check, fingerprint, is_page_of
from optimize.run.verification.claims import (
    LARGEST_REPORT,
    MODEL,
    PAGE,
    REPORT,
    listed_files,
    read_report,
    require_agreement,
    require_shape,
)
from optimize.run.verification.folder_contents import AGAIN, Contents, contents, plain, require
from optimize.run.verification.public_key import public_key
from optimize.run.workspace import OURS, REPORTS, UNVERIFIED


@dataclass(frozen=True)
class Examined:
    """A folder that has passed all checks.

    Args:
        folder: folder of the run; folder of the artifact, where there is no report.
        report: content of report.json; None where there is none.
        files: files that the report lists, by path within the folder.
        reports: the report and its page with their hashes as they were read; empty where there is no report.
        findings: sentences on who signed the report and what is not covered.
        signed_by: fingerprint of the key that signed the report; empty where it is unsigned.
        trusted: whether the user gave that key.
    """

    folder: Path
    report: Mapping[str, Any] | None
    files: Mapping[str, ArtifactFile]
    reports: Mapping[str, ArtifactFile]
    findings: tuple[str, ...]
    signed_by: str = ""
    trusted: bool = False

    @property
    def model(self) -> Path:
        """Folder of the compiled model."""
        return self.folder if self.report is None else self.folder / MODEL

    def require_unchanged(self) -> None:
        """Compare every file again with its hash. Called at the end: a file may have been replaced while the model was tested.

        Raises:
            InputError: naming the first file that was changed, added or removed.
        """
        if self.report is None:
            return
        if not self.folder.is_dir():
            raise InputError(f"`run` (={self.folder}) was removed while it was verified: {AGAIN}.")
        # listed again, so that files which were added meanwhile are seen as well
        inventory = contents(self.folder)
        require(self.folder, {**self.files, **self.reports}, inventory)
        _require_nothing_else(self.folder, self.files, inventory, complete="files" in self.report, everywhere=self.trusted)


def examine(folder: Path, key: str | None = None) -> Examined:
    """Check that the folder of a run, or of an artifact, is as it was written.

    Args:
        folder: folder of a run, or the `model` in it, or an artifact that was copied alone.
        key: public key that must have signed the report, as a file in PEM or as base64; None for any signature or none.

    Returns:
        The folder, its report and the findings.

    Raises:
        InputError: when something was altered, is missing or does not belong there, naming it; when the folder holds neither a run nor an
            artifact; when a key was given and it did not sign the report.
    """
    required_key = None if key is None else public_key(key)
    folder = _run_of(folder)
    if not folder.is_dir():
        raise InputError(f"`run` (={folder}) is no folder: give the folder of a run, or its `model`.")
    # a key that came with the folder would only show that the folder agrees with itself
    if key is not None and Path(key).exists() and Path(key).resolve().is_relative_to(folder.resolve()):
        raise InputError(f"`--public-key` (={key}) lies in the folder that it is to vouch for: take the one that its owner gave you.")
    inventory = contents(folder)
    if REPORT not in (*inventory.files, *inventory.folders, *inventory.strange):
        return _artifact_only(folder, inventory, key)
    # From outside inward: the signature covers the report, the report covers the files, and only then is the manifest of the model read.
    report = read_report(folder, inventory)
    signed, findings = _signature(folder, report, required_key)
    require_shape(folder, report)
    files = listed_files(folder, report)
    require_agreement(folder, report, files, inventory)
    require(folder, files, inventory)
    _require_nothing_else(folder, files, inventory, complete="files" in report, everywhere=key is not None)
    _require_manifest(folder, report)
    page = _content_of_page(folder, inventory)
    findings += _page(folder, report, page, inventory, bool(signed), strict=key is not None)
    if key is None:
        findings += _uncovered(report, files, inventory)
    return Examined(folder, report, files, _as_read(report, page), findings, signed.fingerprint, key is not None)


def _as_read(report: Mapping[str, Any], page: bytes | None) -> dict[str, ArtifactFile]:
    """Return the hashes of the report and its page.

    The report is not read again: `read_report` has checked that its bytes follow from its content.
    """
    from optimize.report.page import as_json

    read = {REPORT: as_json(report).encode("utf-8"), **({} if page is None else {PAGE: page})}
    return {name: ArtifactFile(name, hashlib.sha256(content).hexdigest(), len(content)) for name, content in read.items()}


def _run_of(folder: Path) -> Path:
    """Return the folder of the run that a `model` folder belongs to; the folder itself where it belongs to none."""
    whole = folder.absolute()
    if whole.name != MODEL or not os.path.lexists(whole.parent / REPORT):
        return folder
    return folder.parent if folder.name == MODEL else whole.parent


def _artifact_only(folder: Path, inventory: Contents, key: str | None) -> Examined:
    """Check an artifact that lies there without its report."""
    if key is not None:
        raise InputError(f"`run` (={folder}) holds no {REPORT}, and it is the report that is signed: give the whole folder of the run.")
    if MODEL in inventory.folders and MANIFEST not in inventory.files:
        folder, inventory = folder / MODEL, contents(folder / MODEL)
    if MANIFEST not in inventory.files:
        raise InputError(f"`run` (={folder}) holds no compiled model: give the folder of an accepted or an unverified run, or its `model`.")
    # with a link or a pipe in the folder nothing is opened, not even the manifest
    known: dict[str, object] = {MANIFEST: None}
    if not inventory.strange:
        artifact = Artifact.read(folder)
        known |= {file.name: file for file in (*artifact.files, *(() if artifact.golden is None else (artifact.golden,)))}
    if extra := (*inventory.strange, *inventory.beside(known)):
        raise InputError(f"`{folder}` holds {_named(extra[0], inventory)}, which {MANIFEST} does not name: remove it, or copy it again.")
    words = f"no {REPORT}: only faults of copying can be noticed; give the whole folder of the run for more"
    return Examined(folder, None, {}, {}, (words,))


def _signature(folder: Path, report: Mapping[str, Any], required_key: str | None) -> tuple[Check, tuple[str, ...]]:
    """Return the state of the signature, and a sentence on who signed the report."""
    path, signed = folder / REPORT, check(report)
    if signed.state == "altered":
        raise InputError(f"`{path}` is not to be relied on. {signed.reason} Take the file that the run wrote.")
    if required_key is None:
        if not signed:
            return signed, ("unsigned: anyone could have changed it",)
        return signed, (f"signed by key {signed.fingerprint}; not compared with a key of yours: pass --public-key",)
    if not signed:
        raise InputError(f"`{path}` is unsigned, and `--public-key` asks for a signature: take the report that the key's owner signed.")
    if report["signature"]["public_key"] != required_key:
        raise InputError(
            f"`{path}` is signed by key {signed.fingerprint}, not by the key of `--public-key`, {fingerprint(required_key)}: "
            "take the report that the key's owner signed."
        )
    # reports of earlier versions list no files and sign no page
    if "files" in report and "page" not in report["signature"]:
        raise InputError(f"`{path}` lacks the signature of its page: {AGAIN}.")
    return signed, (f"signed by key {signed.fingerprint}, the key that you gave",)


def _require_nothing_else(
    folder: Path, files: Mapping[str, ArtifactFile], inventory: Contents, *, complete: bool, everywhere: bool
) -> None:
    """Refuse files that the report does not list: always in the folders of models, everywhere with `everywhere`.

    An unlisted file beside a model can be loaded with it, as the weights of an ONNX file are. One beside the report only gives a finding,
    unless the user gave a key: then everything in the folder must be signed.
    """
    known = dict.fromkeys((*files, *REPORTS))
    if not complete and not everywhere:
        known |= dict.fromkeys(_of_earlier_versions(files))
    for path in inventory.beside(known):
        inside = path.split("/")[0] in (MODEL, UNVERIFIED)
        if everywhere or inside:
            because = "" if inside else ", and `--public-key` lets nothing pass that is not signed"
            raise InputError(f"`{folder}` holds {_named(path, inventory)}, which the report does not list{because}: remove it, or {AGAIN}.")


def _of_earlier_versions(files: Mapping[str, ArtifactFile]) -> set[str]:
    """Return paths in an unverified run that reports of earlier versions did not list."""
    homes = {path.rpartition("/")[0] for path in files if path.startswith(f"{UNVERIFIED}/")}
    return {f"{UNVERIFIED}/candidate.safetensors", f"{UNVERIFIED}/model.onnx", *(f"{home}/{MANIFEST}" for home in homes)}


def _named(path: str, inventory: Contents) -> str:
    kind = "the folder " if path in inventory.folders else f"{inventory.strange[path]}, " if path in inventory.strange else ""
    return kind + plain(path)


def _require_manifest(folder: Path, report: Mapping[str, Any]) -> None:
    """Check that the model's manifest agrees with the report."""
    if report["artifact"] is None:
        return
    artifact = Artifact.read(folder / MODEL)
    path = folder / MODEL / MANIFEST
    for name in ("target", "precision"):
        if getattr(artifact, name) != report[name]:
            raise InputError(f"`{path}` says {name} {getattr(artifact, name)!r}, the report {report[name]!r}: {AGAIN}.")
    # the recorded answers of the self-test are a file of the model like any other
    proof = () if artifact.golden is None else (artifact.golden,)
    listed = {entry["name"]: entry["sha256"] for entry in report["artifact"]["files"] if entry["name"] != MANIFEST}
    if {file.name: file.sha256 for file in (*artifact.files, *proof)} != listed:
        raise InputError(f"`{path}` names other files than the report: {AGAIN}.")
    if "files" in report and artifact.golden is None:
        raise InputError(f"`{path}` names no self-test (golden), which every run writes: {AGAIN}.")


def _content_of_page(folder: Path, inventory: Contents) -> bytes | None:
    """Return the bytes of report.html; None where it is no file."""
    path = folder / PAGE
    if PAGE not in inventory.files:
        return None
    if (size := path.stat().st_size) > LARGEST_REPORT:
        raise InputError(f"`{path}` is larger than any page ({size} bytes): `optimize report {folder}` writes it anew.")
    return path.read_bytes()


def _page(
    folder: Path, report: Mapping[str, Any], content: bytes | None, inventory: Contents, signed: bool, *, strict: bool
) -> tuple[str, ...]:
    """Check that report.html shows this report: by its signature, or by rendering the report again; return a finding where it does not."""
    from optimize.report.render import render

    if content is None and (strict or PAGE in (*inventory.strange, *inventory.folders)):
        kind = inventory.strange.get(PAGE) or ("a folder" if PAGE in inventory.folders else "missing")
        raise InputError(f"`{folder / PAGE}` is {kind}: `optimize report {folder}` writes it anew.")
    if content is None:
        return (f"{PAGE} is missing: `optimize report` writes it anew",)
    if signed and is_page_of(report, content):
        return ()
    try:
        # without a signature the page is rendered again from the report: only a page with the same bytes shows this report
        same = render(report).encode() == content
    except Exception:  # whatever a template raises about a report whose details nobody vouches for
        same = False
    if same:
        return ()
    if strict or signed:
        raise InputError(
            f"`{folder / PAGE}` is not the page of {REPORT}: it was altered, or is of another version; "
            f"`optimize report {folder}` writes it anew."
        )
    return (f"{PAGE} is not the page of {REPORT}: one of them was changed, or another version wrote it",)


def _uncovered(report: Mapping[str, Any], files: Mapping[str, ArtifactFile], inventory: Contents) -> tuple[str, ...]:
    """Return sentences on files in the folder that the report does not cover."""
    beside = [path for path in inventory.beside(dict.fromkeys((*files, *REPORTS))) if not path.startswith(f"{UNVERIFIED}/")]
    if "files" not in report:
        known = [path for path in beside if path in OURS]
        beside = [path for path in beside if path not in OURS]
        earlier_version = (f"the report is of an earlier version, which does not vouch for {', '.join(known)}",) if known else ()
    else:
        earlier_version = ()
    return (*earlier_version, *(f"{_named(path, inventory)} is not of the run" for path in beside[:3]))
