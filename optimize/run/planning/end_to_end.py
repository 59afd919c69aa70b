"""Time the user's own files from the disk to the answer, through the original network as it is.

    read          open and decode the file
    resample      to the size of the network's input: Pillow, bilinear, for bytes in two dimensions; else scipy.ndimage.zoom, linear
    preprocess    scale, mean, std and padding, as the run prepares its images
    network       the original, in the target's runtime where it runs here, else in torch
    finish        softmax and the largest class; of masks, the class of each pixel, brought back to the size of the file

Only time is measured. What the network answers is not looked at, so files need no label.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from optimize.backends import Backend, title
from optimize.backends.export import export_onnx
from optimize.candidate import Candidate, Floats, Predict
from optimize.data.arrays import Array, spread
from optimize.data.image_files import ImageFile, image_files, read_image
from optimize.data.output_meaning import THRESHOLD, of_two_classes
from optimize.data.preprocessing import Preprocessing
from optimize.errors import InputError
from optimize.loading.factory import load_factory
from optimize.measure.pipeline import FACTORS, PipelineTimes, Stage, time_pipeline
from optimize.progress import stage
from optimize.run.prepare import Job

MAX_FILES = 30
"""Of more files, this many are timed, evenly spread over their order."""
NETWORK = "network"


@dataclass(frozen=True, eq=False)
class EndToEnd:
    """How long files take from the disk to the answer, and what a faster network would change.

    Args:
        times: time of every stage.
        how: name of each stage -> what it does, in words.
        notes: sentences on what was adapted or left out.
    """

    times: PipelineTimes
    how: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the budget as plain JSON."""
        times = self.times.as_dict()
        times["stages"] = [{**entry, "how": self.how[entry["name"]]} for entry in times["stages"]]
        # JSON has no infinity
        gains = {"infinite" if factor == inf else f"{factor:g}": self.times.speedup(NETWORK, factor) for factor in FACTORS}
        return {**times, "speedup_of_the_whole": gains, "notes": list(self.notes)}


@dataclass(frozen=True, eq=False)
class _Inputs:
    """Inputs of the network on their way through the pipeline.

    Args:
        values: what the stage before made: stored images, inputs, or outputs.
        size: *spatial of the file's images; empty where it is not known.
    """

    values: Array
    size: tuple[int, ...] = ()


def end_to_end(job: Job, files: Sequence[str | Path], pipeline: str | None) -> EndToEnd:
    """Time files through the whole pipeline.

    Args:
        job: network, data and runtimes of the run.
        files: image files, or folders of such.
        pipeline: "file.py:function" from a path to the network's input (N, C, *spatial), or "file.py:function,finish" with a second
            function of the outputs; None for reading as described above.

    Raises:
        InputError: when a file cannot be read, or a function of the user's fails or gives no input of the network.
    """
    paths = [Path(path) for path in files] if pipeline else image_files(files)
    if missing := next((path for path in paths if not path.exists()), None):
        raise InputError(f"`files` (={missing}) does not exist: check the path.")
    chosen = [paths[place] for place in spread(len(paths), MAX_FILES)]
    notes = [f"{len(chosen)} of {len(paths)} files were timed"] if len(chosen) < len(paths) else []
    original = job.original
    shape, preprocessing = tuple(original.example.shape[1:]), job.data.test.preprocessing
    with _network(original, job.runtimes, job.recipe.threads) as (predict, where), stage("time the files"):
        if pipeline is None:
            calls, how, adapted = _own_stages(shape, preprocessing, chosen)
            notes += adapted
        else:
            calls, how = _user_stages(pipeline, shape)
        # one pass with the checks, so that a wrong file is an error and no strange time
        calls[NETWORK] = partial(_through, predict)
        how[NETWORK] = f"the original, in {where}"
        finish, how["finish"] = _finish(pipeline, original, preprocessing, masks=job.data.test.task == "segmentation")
        calls["finish"] = finish
        times = time_pipeline(chosen, calls)
    return EndToEnd(times, how, tuple(notes))


@contextmanager
def _network(original: Candidate, runtimes: Sequence[Backend], threads: int | None) -> Iterator[tuple[Predict, str]]:
    """Open the original in the first runtime that runs here, else in torch; yield its `predict` and the name of what runs it."""
    able = next((runtime for runtime in runtimes if runtime.unavailable_reason() is None), None)
    if able is None:
        yield original.predict, "torch"
        return
    with tempfile.TemporaryDirectory() as scratch:
        export_onnx(original, Path(scratch) / "original.onnx")
        artifact = able.convert(Path(scratch) / "original.onnx", Path(scratch) / "artifact", able.precisions()[0])
        with able.build(artifact, threads=threads) as session:
            yield session.predict, f"{title(able.NAME)} {able.precisions()[0]}"


def _own_stages(
    shape: tuple[int, ...], preprocessing: Preprocessing, paths: Sequence[Path]
) -> tuple[dict[str, Stage], dict[str, str], list[str]]:
    """Return the stages before the network, what each does, and what was adapted."""
    channels, size = shape[0], tuple(extent - 2 * preprocessing.pad for extent in shape[1:])
    first = [read_image(path, len(size)) for path in paths]
    notes = []
    if other := {image.images.shape[-1] for image in first} - {channels}:
        stored = ", ".join(map(str, sorted(other)))
        notes.append(f"files have {stored} channels, the network reads {channels}: they were repeated or averaged, for the time alone")
    quick = channels in (1, 3) and len(size) == 2 and all(image.images.dtype == np.uint8 for image in first) and _has_pillow()
    resize: Callable[[Array, tuple[int, ...]], Array] = _with_pillow if quick else _with_scipy

    def read(path: Path) -> ImageFile:
        return read_image(path, len(size))

    def resample(image: ImageFile) -> _Inputs:
        fitting = _fit_channels(image.images, channels)
        return _Inputs(fitting if fitting.shape[1:-1] == size else resize(fitting, size), image.size)

    def preprocess(image: _Inputs) -> _Inputs:
        values = image.values
        # the two forms in which data are stored: bytes with channels last, floats with channels first
        stored = values if values.dtype == np.uint8 else np.moveaxis(values.astype(np.float32), -1, 1)
        return _Inputs(preprocessing(stored), image.size)

    target = " x ".join(map(str, size))
    how = {
        "read": "open and decode the file",
        "resample": f"to {target}, {'Pillow, bilinear' if quick else 'scipy.ndimage.zoom, linear'}",
        "preprocess": "scale, mean, std and padding of the run",
    }
    return {"read": read, "resample": resample, "preprocess": preprocess}, how, notes


def _user_stages(pipeline: str, shape: tuple[int, ...]) -> tuple[dict[str, Stage], dict[str, str]]:
    """Return the stage before the network that the user's function is."""
    spec = pipeline.partition(",")[0]
    function = load_factory(spec, "--pipeline")

    def read(path: Path) -> _Inputs:
        made = np.asarray(function(str(path)))
        if made.ndim != len(shape) + 1 or made.shape[1:] != shape or not len(made):
            wanted = ", ".join(("N", *map(str, shape)))
            raise InputError(f"`--pipeline` (={spec}) gave an array of shape {made.shape} for {path}: return ({wanted}).")
        return _Inputs(made.astype(np.float32, copy=False))

    return {"read and prepare": read}, {"read and prepare": f"your {spec}"}


def _through(predict: Predict, inputs: _Inputs) -> _Inputs:
    return _Inputs(predict(inputs.values), inputs.size)


def _finish(pipeline: str | None, original: Candidate, preprocessing: Preprocessing, *, masks: bool) -> tuple[Stage, str]:
    """Return the stage behind the network, and what it does."""
    file, _, names = (pipeline or "").rpartition(":")
    if second := names.partition(",")[2]:
        function = load_factory(f"{file}:{second}", "--pipeline")
        return lambda outputs: function(outputs.values), f"your {second}"
    if not masks:
        return partial(_largest_class, logits=original.outputs == "logits"), "softmax and the largest class"
    back = "the class of each pixel" + ("" if pipeline else ", brought back to the size of the file")
    return partial(_mask, preprocessing=preprocessing, threshold=THRESHOLD[original.outputs]), back


def _largest_class(outputs: _Inputs, *, logits: bool) -> tuple[Array, Floats]:
    """Return the class of each image, and the probabilities."""
    scores = of_two_classes(outputs.values, "logits" if logits else "probabilities")
    if logits:
        scores = np.exp(scores - scores.max(1, keepdims=True))
        scores /= scores.sum(1, keepdims=True)
    return scores.argmax(1), scores


def _mask(outputs: _Inputs, *, preprocessing: Preprocessing, threshold: float) -> Array:
    """Return the mask of each image, in the size of the file."""
    scores = outputs.values
    inner = preprocessing.inner(scores) if preprocessing.pad else scores
    masks = inner > threshold if inner.shape[1] == 1 else inner.argmax(1)[:, None].astype(np.uint8)
    if not outputs.size or masks.shape[2:] == outputs.size:
        return masks
    # the nearest pixel: a class number between two classes would be another class
    for axis, (small, large) in enumerate(zip(masks.shape[2:], outputs.size, strict=True), start=2):
        masks = np.take(masks, np.arange(large) * small // large, axis=axis)
    return masks


def _fit_channels(images: Array, channels: int) -> Array:
    """Return images (N, *spatial, C) with this number of channels."""
    if images.shape[-1] == channels:
        return images
    gray = images if images.shape[-1] == 1 else images.mean(-1, keepdims=True).astype(images.dtype)
    return np.repeat(gray, channels, axis=-1)


def _has_pillow() -> bool:
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        return False
    return True


def _with_pillow(images: Array, size: tuple[int, ...]) -> Array:
    from PIL import Image

    rows, columns = size
    pictures = (Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image) for image in images)
    resized = [picture.resize((columns, rows), Image.Resampling.BILINEAR) for picture in pictures]
    return np.stack([np.asarray(picture).reshape(rows, columns, -1) for picture in resized])


def _with_scipy(images: Array, size: tuple[int, ...]) -> Array:
    from scipy.ndimage import zoom

    factors = [new / old for new, old in zip(size, images.shape[1:-1], strict=True)]
    return np.asarray(zoom(images, (1, *factors, 1), order=1))
