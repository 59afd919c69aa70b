"""The names of the arrays that are read from a user's data: those of MedMNIST, and what this package adds to them.

    {split}_images                        the images of a split; its name is one of `SPLITS`
    {split}_labels or {split}_masks       one class per image, or one mask per image
    {split}_patient, {split}_group, …     what else is known of each image (`optimize.data.metadata`)
    classes, class_names, …               the names of the classes

Arrays of other names are never opened, so they may hold anything.
"""

from __future__ import annotations

import re

SPLITS = ("train", "calibration", "val", "test")
CLASS_KEYS = ("classes", "class_names", "label_names", "names")
_NAMES = re.compile(rf"({'|'.join(SPLITS)})_(images|labels|masks|patient|(.+_)?group|id|names)|{'|'.join(CLASS_KEYS)}")


def is_known(name: str) -> bool:
    """Return whether an array of this name is read.

    Example:
        >>> is_known("val_images"), is_known("test_site_group"), is_known("notes")
        (True, True, False)
    """
    return _NAMES.fullmatch(name) is not None
