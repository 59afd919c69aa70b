"""The report of a run as an object: the content of report.json with the artifact and the network."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.backends import backend, require_runnable
from optimize.backends.artifact import Artifact
from optimize.data.arrays import checked_images
from optimize.data.in_memory import as_array
from optimize.data.preprocessing import Preprocessing
from optimize.errors import InputError
from optimize.guard.verdict import Verdict
from optimize.progress import folded
from optimize.report import render, summary

if TYPE_CHECKING:
    from optimize.backends.session import Session
    from optimize.candidate import Candidate, Floats
    from optimize.data.arrays import Array
    from optimize.run.bundle import Bundled

EXIT_CODES = {"pass": 0, "fail": 1, "inconclusive": 3}
"""What the command returns for each verdict."""
MAX_REASON = 200


class Report(Mapping[str, Any]):
    """The report of a run: a mapping with the content of report.json, true only when the artifact was accepted.

    `report["compressed"]["metrics"]` reads a value.
    `print(report)` gives the lines that the command ends with; a notebook shows the page, report.html.

    Args:
        content: content of report.json, format 2.
        folder: folder of the run.
        candidate: the network that was compiled; None where another process made it.

    Example:
        >>> from pathlib import Path
        >>> report = Report({"verdict": "fail", "reasons": ["recall of 3 fell by 8 pp"], "artifact": None}, Path("out"))
        >>> bool(report), report.verdict.outcome, report["reasons"]
        (False, 'fail', ['recall of 3 fell by 8 pp'])
    """

    def __init__(self, content: Mapping[str, Any], folder: Path, candidate: Candidate | None = None) -> None:
        self._content = dict(content)
        self.folder = folder
        self._candidate = candidate

    @classmethod
    def load(cls, folder: str | Path) -> Report:
        """Return the report of an earlier run.

        Args:
            folder: folder of the run, its `out`.

        Raises:
            InputError: when the folder holds no readable report of this format, or one that was altered after it was signed.
        """
        if not isinstance(folder, str | Path):
            raise InputError(f"`folder` (={folder!r}) must be a path: pass the `out` of a run.")
        return cls(render.read(Path(folder)), Path(folder))

    def __getitem__(self, key: str) -> Any:
        return self._content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __bool__(self) -> bool:
        return bool(self.verdict)

    @property
    def verdict(self) -> Verdict:
        """The verdict, true only when it is "pass"; `report["rails"]` has every guard-rail with what was measured."""
        return Verdict(self["verdict"], self.reasons)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the verdict is what it is, in words."""
        return tuple(self["reasons"])

    @property
    def exit_code(self) -> int:
        """What the command returns for this verdict: 0 accepted, 1 rejected, 3 inconclusive."""
        return EXIT_CODES[self["verdict"]]

    @property
    def candidate(self) -> Candidate:
        """The network that was compiled, in torch; the last that the search kept where none was.

        Raises:
            InputError: when another process made it: a run's folder holds the compiled model alone.
        """
        if self._candidate is None:
            raise InputError(
                f"the network of `run` (={self.folder}) is not in this process, and its folder holds the compiled model alone: "
                "take the report that `compress` returned, or `report.artifact`."
            )
        return self._candidate

    @property
    def artifact(self) -> Artifact:
        """The compiled model in the run's folder, every file checked against its hash.

        Raises:
            InputError: when the run was not accepted, so that none was handed over, or a file is missing or was altered.
        """
        if self["artifact"] is None:
            said = f"its verdict is {self['verdict']!r}{f' ({self.reasons[0][:MAX_REASON]})' if self.reasons else ''}"
            raise InputError(f"`run` (={self.folder}) handed no artifact over, as {said}: read its report.")
        artifact = Artifact.read(self.folder / "model")
        # `Artifact.read` compares files with the manifest beside them; a model that was swapped together with its manifest shows only here
        reported = {file["name"]: file["sha256"] for file in self["artifact"]["files"]}
        if any(reported.get(file.name) != file.sha256 for file in artifact.files):
            raise InputError(f"`{artifact.folder}` holds another model than the one of this report: load the report of the folder again.")
        return artifact

    def predict(self, images: Array, *, prepared: bool = False) -> Floats:
        """Return the artifact's outputs for images, computed in the runtime that it was compiled for.

        Args:
            images: as they are stored in the data of the run, (N, H, W) or (N, *spatial, C) uint8, or (N, C, *spatial) floats; they are
                prepared as the artifact says: scaled, normalised, padded.
            prepared: whether `images` are network inputs already, (N, C, *spatial) float32.

        Returns:
            (N, K) for classes or (N, K, *spatial) for masks, float32: logits or probabilities, as the network gives them.

        Raises:
            InputError: when there is no artifact, or the images have another type or shape than those of the run.
            TargetUnavailable: when the runtime is not installed here, or does not run here.
        """
        session, array = self._session, as_array(images, "images")
        return session.predict(array if prepared else self._prepared(array))

    @cached_property
    def _session(self) -> Session:
        """The artifact, opened once."""
        artifact = self.artifact
        # opened at the first call and kept: opening takes far longer than one prediction
        runtime = backend(artifact.target)
        require_runnable(runtime)
        return runtime.build(artifact, threads=artifact.use.get("threads"))

    def _prepared(self, images: Array) -> Floats:
        """Return stored images as the network's inputs, (N, C, *spatial)."""
        use = self.artifact.use["input"]["preprocessing"]
        stored = "uint8" if use["stored"].startswith("uint8") else "float"
        # floats where the run had bytes are most likely scaled already, and would be divided by 255 again
        if (images.dtype == np.uint8) != (stored == "uint8") or images.dtype.kind not in "uf":
            raise InputError(
                f"`images` are {images.dtype}, and those of the run were {stored}: pass such images, or inputs with `prepared`=True."
            )
        standardize = None if use["standardize"] is None else use["standardize"]["of"]
        return Preprocessing(tuple(use["mean"]), tuple(use["std"]), use["pad"], standardize)(self._laid_out(images, use["pad"]))

    def _laid_out(self, images: Array, pad: int) -> Array:
        """Images in the layout that the data of a run have: channels may come first or last, and one channel without an axis."""
        try:
            return np.asarray(checked_images({"test_images": images}, "test", self.artifact.input_shape, pad))
        except InputError:
            channels, *spatial = self.artifact.input_shape
            sizes = [size - 2 * pad for size in spatial]
            form = ("N", *sizes, channels) if images.dtype == np.uint8 else ("N", channels, *sizes)
            rule = f"at least one image in ({', '.join(map(str, form))}), every value finite"
            raise InputError(f"`images` (shape {images.shape}) are not like those of the run: pass {rule}.") from None

    def bundle(self, out: str | Path, **settings: Any) -> Bundled:
        """Bundle the run for a machine without a network, see `optimize.bundle`.

        Args:
            out: folder to make, or file of an archive where the name ends in .tar.gz.
            settings: what else `optimize.bundle` takes.

        Raises:
            InputError: when the run was not accepted, or as `optimize.bundle` does.
        """
        from optimize.run.bundle import bundle

        return bundle(self.folder, out, **settings)

    def save_page(self) -> Path:
        """Write report.html again from the report.json in the run's folder, and return its path.

        Raises:
            InputError: when there is no such report, or the folder cannot be written.
        """
        return render.rerender(self.folder)

    def __str__(self) -> str:
        lines = [part for line in summary.summary(self._content) for part in folded(line)]
        return "\n".join((*lines, f"report: {self.folder / 'report.html'}"))

    def __repr__(self) -> str:
        return f"<Report {self['verdict']}: {self.folder}>"

    def _repr_html_(self) -> str:
        """Return the page in a sandboxed frame: no script runs in it, and it cannot reach the notebook."""
        page = html.escape(render.render(self._content), quote=True)
        return f'<iframe sandbox="" srcdoc="{page}" style="width: 100%; height: 40em; border: 0" title="report"></iframe>'
