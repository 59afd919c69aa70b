"""The folder of a run: what may be written where, and when.

    out/ledger.jsonl  recipe.lock.toml  .work/      while the run goes on
    out/model/  report.json  report.html            at its end; `model/` only when it was accepted
    out/not_accepted/                               instead of `model/`, where an artifact was judged and not accepted
    out/unverified/                                 instead of both, where the target compiles but does not run
    out/onnx/                                       the networks as they were compiled: the artifact's and the original's

An earlier run in the folder is touched only when the caller asked for that and the new run's input has been found good.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from optimize.backends.artifact import MANIFEST, ArtifactFile
from optimize.errors import InputError
from optimize.files import write_atomically
from optimize.progress import note
from optimize.run.folder_lock import FolderLock
from optimize.run.verification.folder_contents import contents, listed
from optimize.searching.ledger import WORK_FOLDER, Ledger

MODEL, NOT_ACCEPTED, ONNX, UNVERIFIED = "model", "not_accepted", "onnx", "unverified"
BEFORE, LOOK = "report.before.json", "look"
REPORTS = ("report.json", "report.html")
FILES = ("ledger.jsonl", "recipe.lock.toml", "report.json", BEFORE, "report.html", "flips.csv")
OURS = (*FILES, MODEL, NOT_ACCEPTED, ONNX, UNVERIFIED, WORK_FOLDER)


class Workspace:
    """The folder of one run.

    Args:
        out: path of the folder; it is made after the run's inputs have been checked.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.ledger = Ledger(out / "ledger.jsonl", {})
        self.trials: list[dict[str, Any]] = []
        self.report: dict[str, Any] | None = None
        self._lock: FolderLock | None = None

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Check that the folder can be written, and that nothing in it would be lost without the user's consent.

        Raises:
            InputError: when it cannot be written, holds a run and neither `resume` nor `overwrite` is set, one that cannot be resumed, or a
                `model` that is not ours.
        """
        if resume and overwrite:
            raise InputError("`--resume` and `--overwrite` exclude each other: the one continues a run, the other replaces it.")
        try:
            # the folder need not exist yet, so the nearest one above it that does is tried; nothing is left there
            with tempfile.TemporaryFile(dir=next(folder for folder in (self.out, *self.out.parents) if folder.exists())):
                pass
        except OSError as problem:
            raise InputError(f"`--out` (={self.out}) cannot be written ({problem.strerror}): name another folder.") from problem
        if self.out.is_dir():
            FolderLock(self.out).release()  # raises where another run is going on
        model = self.out / "model"
        # a `model` of the user's own must not be deleted by --overwrite
        if model.exists() and not (model / MANIFEST).is_file():
            raise InputError(f"`--out` (={self.out}) holds a `model` that is no artifact of a run, and would lose it: name another folder.")
        present = [name for name in OURS if (self.out / name).exists()]
        if present and not (resume or overwrite):
            raise InputError(
                f"`--out` (={self.out}) already holds a run ({present[0]}): add --resume, --overwrite, or name another folder."
            )
        left = [name for name in present if name != self.ledger.path.name]
        if resume and left and not self.ledger.has_run:
            lost = f"holds no {self.ledger.path.name} to go on from, but a {left[0]}, which a new run would replace"
            raise InputError(f"`--resume`: `--out` (={self.out}) {lost}: add --overwrite instead, or name another folder.")

    def open(self, identity: Mapping[str, Any], *, resume: bool) -> None:
        """Start the run, or continue the one in the folder. With `resume` nothing is removed, also where there is no run to continue.

        Raises:
            InputError: when the run to be resumed had other inputs or settings, or another run is going on in the folder.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        self._lock = self._lock or FolderLock(self.out)
        try:
            self._open(identity, resume=resume)
        except BaseException:
            self.release()
            raise

    def _open(self, identity: Mapping[str, Any], *, resume: bool) -> None:
        self.ledger = Ledger(self.ledger.path, identity)
        if resume and self.ledger.has_run:
            self.trials = self.ledger.resume()
            # a run that was interrupted before its end has no report, or half of one from an older version
            with suppress(OSError, ValueError):
                self.report = json.loads((self.out / "report.json").read_text(encoding="utf-8"))
            return
        if resume:
            note(f"there is no run to resume in {self.out}: a new one starts")
        # only files that a run writes: whatever else lies in the folder is the user's
        for name in () if resume else OURS:
            _remove(self.out / name)
        self.ledger.begin()

    def release(self) -> None:
        """Let other runs have the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def look(self) -> str | None:
        """Key of the look at the test split during which this run was interrupted; None where it was not."""
        try:
            return (self.scratch / LOOK).read_text(encoding="utf-8").strip() or None
        except OSError:
            return None

    def remember(self, look: str) -> None:
        """Keep the key of a look at the test split, until the run has ended."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        (self.scratch / LOOK).write_text(look, encoding="utf-8")

    @property
    def scratch(self) -> Path:
        """The working folder, which stays after an interruption; it is made on the first write."""
        return self.out / WORK_FOLDER

    def fresh(self, name: str) -> Path:
        """Make and return an empty working folder."""
        folder = self.out / WORK_FOLDER / name
        _remove(folder)
        folder.mkdir(parents=True)
        return folder

    def put(self, name: str, text: str) -> None:
        """Write a file beside the report; other processes see it whole or not at all."""
        write_atomically(self.out / name, text)

    def contents(self, delivered: Mapping[str, Path]) -> list[ArtifactFile]:
        """Return the hash of every file that the folder will hold beside the report and its page, by its path within the folder.

        Args:
            delivered: name of a folder of the run -> the working folder that `deliver` will move there.
        """
        files = {name: self.out / name for name in FILES if name not in REPORTS and (self.out / name).is_file()}
        for name, folder in delivered.items():
            files |= {f"{name}/{path}": folder / path for path in contents(folder).files}
        return listed(files)

    def deliver(self, delivered: Mapping[str, Path]) -> None:
        """Move working folders beside the report; of the folders of a run that are not named, what an earlier run left is removed."""
        for name in (MODEL, NOT_ACCEPTED, ONNX, UNVERIFIED):
            _remove(self.out / name)
        for name, folder in delivered.items():
            # a rename on one file system: other processes see the whole model or none
            os.replace(folder, self.out / name)

    def drop(self, name: str) -> None:
        """Remove what lies beside the report under this name."""
        _remove(self.out / name)

    def clean(self) -> None:
        """Remove the working files of a finished run."""
        _remove(self.out / WORK_FOLDER)


def _remove(path: Path) -> None:
    # of a link to a folder only the link goes, never what it points to
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
