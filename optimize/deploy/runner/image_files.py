"""Files of images, found in files and folders; whatever is left out is named."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .errors import WrongInput
from .images import is_image, is_named_as_image


def image_files(paths: Sequence[Path], leave_out: Callable[[WrongInput], None]) -> Iterator[Path]:
    """Return the files, in the order given; of a folder all files at any depth that some reader knows, sorted by name.

    Args:
        paths: files and folders; linked folders inside of them are not followed, which a line on stderr says.
        leave_out: function that is told of each folder and file that may hold images and is left out.

    Raises:
        WrongInput: when a folder holds no image, and nothing was left out of it.
    """
    for path in paths:
        if os.path.isdir(path):
            yield from _of_folder(path, leave_out)
        else:
            yield path


def _of_folder(folder: Path, leave_out: Callable[[WrongInput], None]) -> list[Path]:
    """Return the files of images in a folder, at any depth."""
    problems: list[WrongInput] = []
    known: list[Path] = []
    others = 0
    for path in _inside(folder, problems):
        try:
            if _holds_image(path):
                known.append(path)
            else:
                others += 1
        except WrongInput as problem:
            problems.append(problem)
    for left_out in problems:
        leave_out(left_out)
    if not known and not problems:
        raise WrongInput(f"folder `{folder}` holds no image: give PNG, .npy, DICOM or NIfTI.")
    if others:
        many = "1 file in `{}` is" if others == 1 else f"{others} files in `{{}}` are"
        print(f"bundle: {WrongInput(many.format(folder))} of no known format and left out", file=sys.stderr)
    return known


def _inside(folder: Path, problems: list[WrongInput]) -> list[Path]:
    """Return whatever is no folder, at any depth, sorted by name; folders that cannot be read are added to the problems."""

    def unreadable(error: OSError) -> None:
        problems.append(WrongInput(f"folder `{error.filename}` cannot be read ({error.strerror}): its images are left out."))

    found: list[Path] = []
    for root, folders, files in os.walk(folder, onerror=unreadable):
        found += [Path(root, name) for name in files]
        for name in folders:
            if os.path.islink(linked := Path(root, name)):
                line = WrongInput(f"folder `{linked}` is a link, which is not followed: give it as an argument of its own.")
                print(f"bundle: {line}", file=sys.stderr)
    return sorted(found)


def _holds_image(path: Path) -> bool:
    """Return whether some reader knows a file.

    Raises:
        WrongInput: when it cannot be read, or is named as an image and is none.
    """
    try:
        mode = path.stat().st_mode
    except OSError as problem:
        if path.is_symlink():
            raise WrongInput(f"`{path}` is a link that leads to no file: it is left out.") from None
        raise WrongInput(f"`{path}` cannot be read ({problem.strerror}): it is left out.") from None
    # a pipe would be waited for
    if stat.S_ISREG(mode) and is_image(path):
        return True
    if is_named_as_image(path):
        why = "is no file" if not stat.S_ISREG(mode) else "begins as no image does" if path.stat().st_size else "is empty"
        raise WrongInput(f"`{path}` is named as an image and {why}: it is left out.")
    return False
