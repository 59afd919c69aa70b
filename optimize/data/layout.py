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
_LOOKALIKE = re.compile(rf"({'|'.join(SPLITS)})_(?:(?:patients|patient_?ids?|subjects?|subject_?ids?)|((?:.+_)?)groups)")
"""Names that are near those of patients and of subgroup columns."""


def is_known(name: str) -> bool:
    """Return whether an array of this name is read.

    Example:
        >>> is_known("val_images"), is_known("test_site_group"), is_known("notes")
        (True, True, False)
    """
    return _NAMES.fullmatch(name) is not None


def meant_name(name: str) -> str | None:
    """Return the name that is read, where an array is named almost like patients or a subgroup column; None for all others.

    Example:
        >>> meant_name("test_patients"), meant_name("val_site_groups"), meant_name("test_patient"), meant_name("notes")
        ('test_patient', 'val_site_group', None, None)
    """
    match = None if is_known(name) else _LOOKALIKE.fullmatch(name)
    if match is None:
        return None
    return f"{match[1]}_patient" if match[2] is None else f"{match[1]}_{match[2]}group"
