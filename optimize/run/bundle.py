"""Bundle a finished run: everything that a machine without a network needs, in one folder or archive.

The run is examined first, file by file, as `optimize verify` does; then its files are copied, and what was copied is compared with what was
examined. A run that was not accepted is bundled only where that was asked for, and its bundle says so at every start.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optimize.backends.artifact import Artifact, ArtifactFile
from optimize.deploy.bundle.archive import is_archive_name, write_archive
from optimize.deploy.bundle.assemble import ONNX, assemble
from optimize.deploy.bundle.bundled_run import BundledRun, Verdict
from optimize.deploy.bundle.formats import bundle_format, extra_arguments
from optimize.deploy.bundle.manifest import MANIFEST, MODEL, Manifest
from optimize.deploy.bundle.placing import put, require_free, work_folder
from optimize.errors import InputError
from optimize.progress import note
from optimize.report.dsse import keyid
from optimize.report.signature import PAGE as PAGE_SIGNATURE
from optimize.report.signature import is_page_of, private_key
from optimize.run.verification.claims import PAGE, REPORT
from optimize.run.verification.folder_contents import AGAIN, plain
from optimize.run.verification.integrity import Examined, examine
from optimize.run.workspace import NOT_ACCEPTED, UNVERIFIED
from optimize.run.workspace import ONNX as ONNX_FOLDER

_WORDS: Mapping[Verdict, str] = {
    "fail": "was rejected: it does not hold its limits",
    "inconclusive": "was not accepted: its test cases could not show that it holds its limits",
    "unverified": "was never run: nobody knows whether it holds its limits",
}


@dataclass(frozen=True)
class Bundled:
    """A bundle that was written; it can be passed wherever a path can.

    Args:
        path: the folder or the archive.
        manifest: content of its manifest.json.
        format: what it is packed as.
        signed_by: SHA-256 of the public key's 32 bytes; empty where it is not signed.
        size_bytes: number of bytes of all files, or of the archive.
        findings: sentences on who signed the run's report.
    """

    path: Path
    manifest: Manifest
    format: str
    signed_by: str
    size_bytes: int
    findings: tuple[str, ...] = ()

    def __fspath__(self) -> str:
        return str(self.path)

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON."""
        said = self.manifest
        return {
            "path": str(self.path),
            "format": self.format,
            "manifest_sha256": said.sha256,
            "signed_by": self.signed_by or None,
            "files": len(said.files),
            "bytes": self.size_bytes,
            **{name: getattr(said, name) for name in ("target", "precision", "accepted", "verdict", "warning")},
            "findings": list(self.findings),
        }


def bundle(
    run: str | Path,
    out: str | Path,
    *,
    format: str = "plain",
    base_image: str | Path | None = None,
    sign_key: str | Path | None = None,
    public_key: str | Path | None = None,
    wheels: bool | str | Path = False,
    model_licence: str = "",
    data_licence: str = "",
    not_accepted: bool = False,
    overwrite: bool = False,
) -> Bundled:
    """Bundle a finished run for a machine without a network; the command `optimize bundle` as a function.

    Args:
        run: folder of the run.
        out: folder to make, or file of an archive where the name ends in .tar.gz.
        format: what the bundle is packed as, one of `deploy/bundle/formats/`.
        base_image: folder of an OCI layout that an image of format "oci" builds on; None for an image that only holds the bundle.
        sign_key: file of an Ed25519 private key in PEM that signs the bundle; None for a bundle without a signature.
        public_key: key that must have signed the run's report, as a file in PEM or as base64; None for any signature or none.
        wheels: folder with the wheels of the packages that the runner needs, which are added; True to download them; False for none.
        model_licence: licence of the model, for LICENSES.md and the bill of materials; "" where it is not stated.
        data_licence: licence of the data, for LICENSES.md; "" where it is not stated.
        not_accepted: whether a run that was not accepted is bundled as well; its bundle says so at every start.
        overwrite: whether an earlier bundle at `out` is replaced.

    Returns:
        Where the bundle is, and what it holds. The same run gives the same bytes.

    Raises:
        InputError: when the folder holds no finished run of this version, a file of it was altered, the run was not accepted, or `out`,
            the format or the key cannot be used.

    Example:
        >>> bundle("nowhere", "cells.tar.gz")
        Traceback (most recent call last):
        optimize.errors.InputError: `run` (=nowhere) does not exist: check the path.
    """
    folder, path, packing = _folder("run", run), _folder("out", out), bundle_format(format)
    if not folder.exists():
        raise InputError(f"`run` (={folder}) does not exist: check the path.")
    options = extra_arguments(packing, None if base_image is None else _folder("base_image", base_image))
    # the cheap questions first: hashing a large model for a wrong key would waste minutes
    key = None if sign_key is None else _folder("sign_key", sign_key)
    if public_key is not None:
        _folder("public_key", public_key)
    if key is not None:
        private_key(key)
    require_free(path, mark=getattr(packing, "MARK", MANIFEST), overwrite=overwrite)
    for name, text in (("model_licence", model_licence), ("data_licence", data_licence)):
        if not isinstance(text, str) or not text.isprintable():
            raise InputError(f"`{name}` (={text!r}) must be one line of text: name the licence, such as CC-BY-4.0.")
    examined = examine(folder, None if public_key is None else str(public_key))
    if path.resolve().is_relative_to(examined.folder.resolve()):
        raise InputError(
            f"`--out` (={path}) lies in the folder of the run, which then holds more than its report lists: name another path."
        )
    artifact, verdict, onnx = _artifact(examined, not_accepted=not_accepted)
    page = _new_page(examined)
    findings = examined.findings if page is None else (*examined.findings, f"the bundle holds {PAGE} rendered anew from {REPORT}")
    with work_folder(path) as work:
        assembled, scratch, packed = (work / name for name in ("bundle", "scratch", "packed"))
        for made in (assembled, scratch):
            made.mkdir()
        source = BundledRun(
            folder=examined.folder,
            report=dict(examined.report or {}),
            artifact=artifact,
            onnx=onnx,
            verdict=verdict,
            warning=_warning(verdict),
            scratch=scratch,
            wheels=wheels if isinstance(wheels, bool) else _folder("wheels", wheels),
            model_licence=model_licence,
            data_licence=data_licence,
            page=page,
        )
        manifest = assemble(source, assembled, key)
        _require_as_examined(manifest, examined if page is None else _without_page(examined), {MODEL: artifact.folder, ONNX_FOLDER: onnx})
        signed_by = "" if key is None else keyid(key)
        packing.write(assembled, packed, **options)
        made = packed
        if is_archive_name(path):
            made = work / "archive"
            write_archive(packed, made, "" if getattr(packing, "AT_TOP", False) else f"{manifest.slug}-bundle")
        size = sum(file.stat().st_size for file in ([made] if made.is_file() else made.rglob("*")) if file.is_file())
        put(made, path, work)
    for line in findings:
        note(line)
    return Bundled(path, manifest, format, signed_by, size, findings)


def _folder(name: str, path: object) -> Path:
    if not isinstance(path, str | Path):
        raise InputError(f"`{name}` (={path!r}) must be a path: pass text or a Path.")
    return Path(path)


def _new_page(run: Examined) -> str | None:
    """Return the page of the report, rendered anew, where the run's own is missing or is not the page of this report; otherwise None.

    A page that the report's signature covers was compared with it already, and is kept as it is, whichever version rendered it.

    Raises:
        InputError: when the report cannot be rendered, or the page is missing and this version renders another one than was signed.
    """
    from optimize.report.render import render

    report, own = dict(run.report or {}), run.reports.get(PAGE)
    covered = PAGE_SIGNATURE in (report.get("signature") or {})
    if covered and own is not None:
        return None
    try:
        page = render(report)
    except Exception as problem:  # whatever a template raises about a report whose details nobody vouches for
        raise InputError(f"`{run.folder / REPORT}` cannot be shown as a page ({type(problem).__name__}): {AGAIN}.") from None
    if covered and not is_page_of(report, page.encode()):
        raise InputError(f"`{run.folder / PAGE}` is missing, and this version renders another page than the one that was signed: {AGAIN}.")
    return None if own is not None and own.sha256 == hashlib.sha256(page.encode()).hexdigest() else page


def _without_page(run: Examined) -> Examined:
    return replace(run, reports={name: file for name, file in run.reports.items() if name != PAGE})


def _artifact(run: Examined, *, not_accepted: bool) -> tuple[Artifact, Verdict, Path]:
    """Return the artifact that is to be bundled, the verdict of its run, and the folder of its ONNX files.

    Raises:
        InputError: when the run was not accepted and that was not asked for, or it lacks what a bundle needs.
    """
    report = run.report
    if report is None:
        raise InputError(f"`run` (={run.folder}) holds a compiled model without its report: give the whole folder of the run.")
    verdict: Verdict = "unverified" if report.get("unverified") is not None else report["verdict"]
    if verdict != "pass" and not not_accepted:
        first = "finish it with `optimize verify` where the target runs" if verdict == "unverified" else "read its report"
        raise InputError(f"`run` (={run.folder}) {_WORDS[verdict]}; {first}, or add --not-accepted for a bundle that says so.")
    model, onnx = _folders(report, verdict)
    if model is None or not any(path.startswith(f"{model}/") for path in run.files):
        raise InputError(f"`run` (={run.folder}) holds no compiled model (its verdict is {verdict!r}): repeat the run with other settings.")
    repeat = f"repeat the run, with `optimize compress --recipe {run.folder}/recipe.lock.toml`"
    if missing := [name for name in ONNX if f"{onnx}/{name}" not in run.files]:
        raise InputError(f"`run` (={run.folder}) lacks {onnx}/{missing[0]}, which runs of earlier versions did not keep: {repeat}.")
    artifact = Artifact.read(run.folder / model)
    # what was never run has no recorded outputs, and every other model must have them
    if not artifact.use or (artifact.golden is None and verdict != "unverified"):
        raise InputError(f"`{artifact.folder}` has no self-test, or does not say how it is used: {repeat}.")
    return artifact, verdict, run.folder / onnx


def _folders(report: Mapping[str, Any], verdict: Verdict) -> tuple[str | None, str]:
    """Return the folders in the run of the artifact, None where nothing was compiled, and of the ONNX files."""
    if verdict != "unverified":
        return (MODEL if verdict == "pass" else NOT_ACCEPTED), ONNX_FOLDER
    # the first precision is the most exact one, and which other is good enough nobody knows yet
    compiled = (
        f"{UNVERIFIED}/{variant['target']}/{variant['precision']}" for variant in report["unverified"]["compiled"] if variant["files"]
    )
    return next(compiled, None), UNVERIFIED


def _warning(verdict: Verdict) -> str | None:
    """Return what a bundle says at every start; None where the run was accepted."""
    return None if verdict == "pass" else f"This model {_WORDS[verdict]}. Do not use it for decisions."


def _require_as_examined(manifest: Manifest, run: Examined, folders: Mapping[str, Path]) -> None:
    """Check that the bundle holds the files that were examined: one may have been replaced while it was copied.

    Args:
        manifest: manifest of the bundle, with the hash of what was written.
        run: the run as examined.
        folders: folder in the bundle -> folder of the run that was copied there.
    """
    examined: dict[str, ArtifactFile] = {**run.files, **run.reports}
    for file in manifest.files:
        folder, slash, name = file.path.partition("/")
        # "model/model.onnx" in the bundle may be "not_accepted/model.onnx" in the run
        path = f"{folders[folder].relative_to(run.folder).as_posix()}/{name}" if slash and folder in folders else file.path
        if (known := examined.get(path)) is not None and known.sha256 != file.sha256:
            raise InputError(f"`{run.folder}`: its file {plain(path)} was changed while it was bundled: {AGAIN}.")
