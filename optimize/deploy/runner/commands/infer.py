"""`python -m bundle infer`: answers for files of images, one line each."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import WrongInput

if TYPE_CHECKING:
    from ..model import Model
    from ..preprocess import Array

HELP = "answer for images: PNG, .npy, DICOM (with pydicom), NIfTI (with nibabel); one line for each"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the images, the form of the answers, and the folder of masks."""
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="file of an image, or folder whose images are all taken")
    parser.add_argument("--json", action="store_true", help="print JSON Lines: one object for each image")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder that masks are written into")


def run(arguments: argparse.Namespace) -> int:
    """Print an answer for each image and return 0; 2 when some image was left out, with one line for each on stderr.

    Raises:
        Refused: when a check of the bundle fails.
        WrongInput: when the call is wrong, or a folder holds no image.
    """
    from ..answers import Answers
    from ..model import Model

    with Model(arguments.bundle, arguments.key, arguments.threads) as model:
        answers = Answers(model, arguments.out)
        refused: list[WrongInput] = []
        failed = False
        for batch in _batches(model, arguments.images, refused):
            for answer in answers(batch):
                failed = failed or "error" in answer
                print(json.dumps(answer, ensure_ascii=False) if arguments.json else answers.line(answer), flush=True)
        return WrongInput.exit_code if refused or failed else 0


def _batches(model: Model, paths: Sequence[Path], refused: list[WrongInput]) -> Iterator[list[tuple[Path, int | None, Array]]]:
    """Return images in batches of at most as many as the runtime takes; of each the file, its place in a stack or None, and the image.

    Args:
        model: the model.
        paths: files and folders.
        refused: list that is filled with what was wrong with images; they are left out.
    """
    from ..checks import CHUNK
    from ..image_files import image_files
    from ..images import read

    def leave_out(problem: WrongInput) -> None:
        refused.append(problem)
        print(f"bundle: {problem}", file=sys.stderr)

    batch: list[tuple[Path, int | None, Any]] = []
    for path in image_files(paths, leave_out):
        try:
            for place, (image, alone) in enumerate(_with_alone(read(path, model.preprocessing))):
                batch.append((path, None if alone else place, image))
                if len(batch) == CHUNK:
                    yield batch
                    batch = []
        except WrongInput as problem:
            leave_out(problem)
    if batch:
        yield batch


def _with_alone(images: Iterator[Array]) -> Iterator[tuple[Array, bool]]:
    """Return each image, and whether it is the only one."""
    first = next(images, None)
    second = next(images, None)
    if first is not None:
        yield first, second is None
    if second is not None:
        yield second, False
    for image in images:
        yield image, False
