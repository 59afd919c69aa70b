"""Assemble the folder of a bundle from a finished run.

    1. the files of the run      model/, onnx/, report.json, report.html, recipe.lock.toml
    2. the runner                bundle/, the files of `deploy/runner/` as they are
    3. the documents             documents/: README.md, schema.json, …
    4. the manifest              with the hash of every file, and its signature

Every file is hashed as it is written into the bundle, not where it came from, so the manifest says what the bundle holds.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from optimize.deploy.bundle import signature
from optimize.deploy.bundle.bundle_paths import PathSet
from optimize.deploy.bundle.bundled_run import BundledFile, BundledRun
from optimize.deploy.bundle.documents import documents, parts
from optimize.deploy.bundle.manifest import MANIFEST, MODEL, Manifest
from optimize.errors import InputError
from optimize.files import sha256

RUNNER = Path(__file__).parent.parent / "runner"
"""The package that becomes `bundle/`; its files are copied, so neither package data nor an import of it is needed."""
PAGE = "report.html"
OF_RUN = ("report.json", PAGE, "recipe.lock.toml")
ONNX = ("model.onnx", "original.onnx")
NO_CACHE = """This is a file, so that Python cannot make a folder of this name: it would write compiled code there, and run it at the next
start. Every code file of the runner is listed in manifest.json with its hash. Compiled code beside it would not be listed.
"""
"""Content of `bundle/__pycache__`. Where it stands Python writes no .pyc file and reads none, so none can be planted or appear."""


def assemble(run: BundledRun, folder: Path, sign_key: Path | None = None) -> Manifest:
    """Write the bundle of a run into an empty folder.

    Args:
        run: the run, whose `files` are empty.
        folder: existing empty folder.
        sign_key: file of the private key that signs the manifest; None for a bundle without a signature.

    Raises:
        InputError: when a file of the run is missing, a document has a path that no bundle may hold, or the key cannot be used.
    """
    paths = PathSet()

    def add(run: BundledRun, path: str, write: Callable[[Path], object]) -> BundledRun:
        """Write one file, and return the run that knows of it."""
        if fault := paths.add(path):
            raise InputError(f"`{path}` cannot be in a bundle: {fault}; name the file otherwise.")
        place = folder.joinpath(*path.split("/"))
        place.parent.mkdir(parents=True, exist_ok=True)
        write(place)
        file = BundledFile(path, sha256(place), place.stat().st_size)
        return replace(run, files={**run.files, path: file})

    for path, source in (*_of_run(run), *_runner()):
        run = add(run, path, _copy(source))
    for document in documents():
        # after each document, so that the next one sees it
        for path, content in sorted(parts(document, document.render(run)).items()):
            run = add(run, path, _copy(content))
    manifest = Manifest.of(run)
    for path in (MANIFEST, *([] if sign_key is None else [signature.ENVELOPE])):
        if fault := paths.add(path):
            raise InputError(f"`{path}` cannot be in a bundle: {fault}; name the file otherwise.")
    (folder / MANIFEST).write_bytes(manifest.content)
    if sign_key is not None:
        (folder / signature.ENVELOPE).write_bytes(signature.sign(manifest.content, sign_key))
    return manifest


def _copy(content: str | bytes | Path) -> Callable[[Path], object]:
    """Return a function that writes this content to a path; a path is a file to be copied, without its times and rights."""
    if isinstance(content, Path):
        return lambda place: shutil.copyfile(content, place)
    # as bytes: text mode would write other line ends on Windows
    written = content.encode("utf-8") if isinstance(content, str) else content
    return lambda place: place.write_bytes(written)


def _of_run(run: BundledRun) -> Iterator[tuple[str, str | Path]]:
    """Yield path in the bundle, and file of the run or text."""
    for name in OF_RUN:
        yield name, run.folder / name if name != PAGE or run.page is None else run.page
    for name in ONNX:
        yield f"onnx/{name}", run.onnx / name
    artifact = run.artifact
    named = (file.name for file in (*artifact.files, *(() if artifact.golden is None else (artifact.golden,))))
    for name in ("artifact.json", *named):
        yield f"{MODEL}/{name}", artifact.folder / name


def _runner() -> Iterator[tuple[str, str | Path]]:
    """Yield path in the bundle, and file of the runner or text."""
    sources = [path for path in sorted(RUNNER.rglob("*")) if path.is_file() and "__pycache__" not in path.relative_to(RUNNER).parts]
    folders = set()
    for source in sources:
        path = f"bundle/{source.relative_to(RUNNER).as_posix()}"
        folders.add(path.rpartition("/")[0])
        yield path, source
    for path in sorted(folders):
        yield f"{path}/__pycache__", NO_CACHE
