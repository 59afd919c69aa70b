"""Read the cases of a site: images, with labels or without, in the formats that `optimize compress` takes.

    images or test_images                  the cases, stored as the run's images were
    labels, masks (or test_…)              the truth, where it is known
    patient, group, NAME_group, id         what is known of each case (`optimize.data.metadata`)
    original_outputs                       outputs of the original network for these cases, (N, K, …), recorded elsewhere
    classes, class_names, …                names of the classes, where labels are numbered in another order than the model's
    class_shares                           share of each class among all cases that the site vouches for at least, (K,)

Either all names begin with "test_" or none does. Further arrays, such as those of train and val, are not read.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from optimize.candidate import Floats
from optimize.data.arrays import Array, checked_images, checked_labels, checked_masks, same_length, spread
from optimize.data.fitted_files import fitted_files
from optimize.data.identities import checked_identities
from optimize.data.in_memory import as_array
from optimize.data.label_kinds import checked_many, checked_numbers
from optimize.data.layout import CLASS_KEYS, SPLITS, meant_name
from optimize.data.lazy_images import Images, row_batches
from optimize.data.metadata import checked_groups, checked_names, checked_tags
from optimize.data.sources import format_of
from optimize.data.split import Split
from optimize.data.text_labels import numbered_text
from optimize.deploy.acceptance.model_use import ModelUse
from optimize.errors import InputError
from optimize.loading.factory import describe
from optimize.progress import note

TEST = "test_"
SHARES = "class_shares"
_FIELD = re.compile(r"images|labels|masks|patient|(?:.+_)?group|id|original_outputs")
_ALIASES: Mapping[str, str] = {
    **dict.fromkeys(("label", "y", "target", "targets", "truth", "ground_truth"), "labels"),
    **dict.fromkeys(("mask", "segmentation", "segmentations"), "masks"),
    **dict.fromkeys(("shares", "class_share", "prevalence"), SHARES),
    **dict.fromkeys(("outputs", "original_output", "originals"), "original_outputs"),
}
"""Names that others use -> the name that is read."""
_OTHER_SPLITS = tuple(f"{name}_" for name in SPLITS)
RANGE_SAMPLE = 64
"""Cases whose inputs are compared with the range of the run's inputs."""
RANGE_MARGIN = 0.25
"""Share of the range of the run's inputs by which those of the site may reach beyond it without a word."""


@dataclass(frozen=True, eq=False)
class LocalCases:
    """The cases of a site.

    Args:
        split: images, labels, patients and subgroups; without labels, zeros stand in their place.
        labelled: whether the labels are those of the site.
        recorded: outputs of the original that the site holds, (N, K, …); None where it holds none.
        class_shares: share of each class that the site vouches for at least, (K,), NaN where it does not; None where it gives none.
        sha256: SHA-256 over the bytes of the images, and of the labels where there are any.
        findings: sentences on how the cases differ from those of the run.
    """

    split: Split
    labelled: bool
    recorded: Floats | None
    class_shares: Array | None
    sha256: str
    findings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.split)

    def as_dict(self, classes: tuple[str, ...]) -> dict[str, object]:
        """Return the form that the acceptance record uses: numbers and a hash, no names of cases or patients."""
        split = self.split
        groups = {
            column: {str(value): int(count) for value, count in zip(*np.unique(values, return_counts=True), strict=True)}
            for column, values in split.groups.items()
        }
        return {
            "cases": len(self),
            "patients": None if split.patients is None else len(set(split.patients.tolist())),
            "labelled": self.labelled,
            "per_class": split.class_counts(classes) if self.labelled else None,
            "per_group": groups,
            "sha256": self.sha256,
            "recorded_outputs": self.recorded is not None,
        }


def local_cases(source: object, use: ModelUse) -> LocalCases:
    """Return the cases of a site.

    Args:
        source: path of a file of one of the formats in `optimize/data/formats/`; or a mapping of arrays by the names above; or a pair
            (images, labels).
        use: how the artifact is used.

    Raises:
        InputError: when an array is missing or malformed, images are not as the network takes them, or the classes are others.
    """
    prefix, arrays = _arrays(source)
    try:
        return _cases(arrays, use)
    except InputError as problem:
        # errors of the data package name arrays as `test_images`; the site may have called them `images`
        raise InputError(str(problem) if prefix else str(problem).replace(f"`{TEST}", "`")) from None


def _arrays(source: object) -> tuple[str, dict[str, Array]]:
    """Return the prefix of the names in the source, and the arrays by their names with the prefix."""
    named = f" (={source})" if isinstance(source, str | Path) else ""
    if isinstance(source, str | Path):
        form = format_of(source)
        try:
            stored: Mapping[str, object] = form.read(str(source))
        except InputError:
            raise
        except Exception as problem:  # whatever a library raises on a damaged file
            raise InputError(f"`data` (={source}) cannot be read ({describe(problem)}): copy or save it again.") from problem
    elif isinstance(source, tuple | list) and len(source) == 2:
        stored = {"images": source[0], "labels": source[1]}
    elif isinstance(source, Mapping):
        stored = {str(name): value for name, value in source.items()}
    else:
        raise InputError(f"`data` is a {type(source).__name__}: pass a path, a pair (images, labels) or a dict of arrays.")
    prefix = TEST if f"{TEST}images" in stored else ""
    if f"{prefix}images" not in stored:
        listed = ", ".join(list(stored)[:8]) or "nothing"
        raise InputError(f"`data`{named} has no array 'images' or 'test_images'; it has {listed}: name the cases so.")
    arrays: dict[str, Array] = {}
    for name in stored:
        field = name.removeprefix(prefix)
        _require_one_form(name, prefix, named)
        # a column that is passed over for its name would make bounds too narrow, since patients would count as independent cases
        if (field != name or not prefix) and (meant := meant_name(TEST + field)):
            raise _misnamed(name, meant.removeprefix(TEST if not prefix else ""), named)
        if name in CLASS_KEYS or name == SHARES:
            arrays[name] = _array(stored, name, named)
        elif name.startswith(prefix) and _FIELD.fullmatch(field) and (prefix or not name.startswith(_OTHER_SPLITS)):
            arrays[TEST + field] = _array(stored, name, named)
        # labels that are passed over for their name would leave the model judged without them
        elif meant := _meant(name.removeprefix(TEST)):
            raise _misnamed(name, meant if meant == SHARES else prefix + meant, named)
        elif not name.startswith(tuple(other for other in _OTHER_SPLITS if other != prefix)):
            note(f"`data`{named}: {name!r} is not read")
    return prefix, arrays


def _require_one_form(name: str, prefix: str, named: str) -> None:
    """Check that a name has the form of `images` or of `test_images`, whichever the data have."""
    bare = name.removeprefix(TEST)
    if name.startswith(TEST) != bool(prefix) and _FIELD.fullmatch(bare) and not bare.startswith(_OTHER_SPLITS):
        raise InputError(f"`data`{named} has both '{prefix}images' and {name!r}: begin every name with '{TEST}', or none.")


def _meant(field: str) -> str | None:
    """Return the name that is read, where a name is near it; None for all others.

    Example: "label", "Lables" and "y" mean "labels".
    """
    plain = field.lower()
    near = difflib.get_close_matches(plain, (*_ALIASES, *_ALIASES.values()), n=1, cutoff=0.8)
    return _ALIASES.get(near[0], near[0]) if near else None


def _misnamed(name: str, meant: str, named: str) -> InputError:
    return InputError(f"`data`{named} has {name!r}, which is not read: call it {meant!r}.")


def _array(stored: Mapping[str, object], name: str, named: str) -> Array:
    try:
        return as_array(stored[name], name)
    except InputError:
        raise
    except Exception as problem:  # whatever a library raises on a damaged file
        raise InputError(f"`data`{named}: {name} cannot be read ({describe(problem)}): copy or save it again.") from problem


def _cases(arrays: Mapping[str, Array], use: ModelUse) -> LocalCases:
    # images are compared with the size that they have before zeros are added around them
    stored_shape = (use.input_shape[0], *(size - 2 * use.preprocessing.pad for size in use.input_shape[1:]))
    arrays = fitted_files(arrays, stored_shape)
    images = checked_images(arrays, "test", stored_shape, None)
    stored = images.dtype == np.uint8
    if stored != use.bytes_stored:
        asked = "uint8, 0 to 255" if use.bytes_stored else "floats, on the scale of the run"
        raise InputError(f"`test_images` is {arrays['test_images'].dtype}, and the model was judged on {asked}: store them so.")
    use.preprocessing.check(use.input_shape[0], images.dtype)
    names = _names(arrays, use)
    labels = _labels(arrays, use, names)
    patients, groups = checked_tags(arrays, "test", "patient"), checked_groups(arrays, "test")
    placeholder = np.zeros(len(images), dtype=np.int64)
    split = Split(
        *("site", images, placeholder if labels is None else labels, use.preprocessing, patients, groups),
        item_names=checked_names(arrays, "test"),
        outputs=use.meaning,
        threshold=use.threshold,
        kind="" if use.task in ("classification", "segmentation") else use.task,
    )
    recorded = _recorded(arrays, use, len(images))
    shares = _shares(arrays, use, names)
    digest = split.sha256 if labels is not None else _digest(images)
    return LocalCases(split, labels is not None, recorded, shares, digest, _range_finding(split, use))


def _names(arrays: Mapping[str, Array], use: ModelUse) -> tuple[int, ...]:
    """Return the number in the model's classes of each class of the data.

    Names decide where both have some: a site may number its classes in another order, and may lack some. Otherwise the numbers are the
    model's.

    Example: the model has a, b, c, and the data have the names c, a. Then label 0 of the data is class 2, and label 1 is class 0.
    """
    keys = [key for key in CLASS_KEYS if key in arrays and arrays[key].dtype.kind in "US" and arrays[key].ndim == 1]
    same = tuple(range(len(use.classes)))
    # names of identities are no names of outputs
    if not keys or use.task == "embedding":
        return same
    names = tuple(map(str, np.char.decode(arrays[keys[0]], "utf-8") if arrays[keys[0]].dtype.kind == "S" else arrays[keys[0]]))
    # a name for the background may stand in front, as in a run's data
    if use.task == "segmentation" and not use.overlapping and len(names) == len(use.classes) + 1:
        names = names[1:]
    if set(names) <= set(use.classes) and len(set(names)) == len(names):
        if use.task == "segmentation" and len(names) < len(use.classes):
            raise InputError(f"`{keys[0]}` (={', '.join(names)}) lacks classes of the model ({', '.join(use.classes)}): name them all.")
        return tuple(use.classes.index(name) for name in names)
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise InputError(f"`{keys[0]}` has {twice[0]!r} twice: give each class a name of its own.")
    # a run whose data had no names calls its classes by their numbers; names of which some are such numbers may mean another order
    numbered = use.classes in (tuple(map(str, same)), tuple(str(k + 1) for k in same), ("foreground",))
    if numbered and len(names) == len(use.classes) and not set(names) & set(use.classes):
        return same
    unknown = next(name for name in names if name not in use.classes)
    raise InputError(
        f"`{keys[0]}` has {unknown!r}, which is no class of the model (its classes: {', '.join(use.classes)}): "
        "give the classes these names."
    )


def _labels(arrays: Mapping[str, Array], use: ModelUse, names: tuple[int, ...]) -> Array | None:
    """Return the labels or masks, numbered as the model's classes; None where the data have none."""
    key, other = ("test_labels", "test_masks") if use.task != "segmentation" else ("test_masks", "test_labels")
    if other in arrays:
        raise InputError(f"`{other}` does not fit the model, which is for {use.task}: pass `{key}`, or neither.")
    if key not in arrays:
        return None
    order = np.asarray(names)
    if use.task == "embedding":
        return checked_identities({**arrays, **numbered_text({key: np.asarray(arrays[key])})[0]}, "test")
    if use.task == "regression":
        return checked_numbers(arrays, "test")[:, np.argsort(order)]
    if use.task == "multilabel":
        # column i of the data is label order[i] of the model
        return checked_many(arrays, "test", len(names))[:, np.argsort(order)]
    if use.task in ("classification", "ordinal"):
        return np.asarray(order[checked_labels(arrays, "test", len(names))])
    outputs, spatial = use.output_shape[0], [size - 2 * use.preprocessing.pad for size in use.output_shape[1:]]
    masks = checked_masks(arrays, "test", outputs, spatial)
    if (masks.dtype == bool) != use.overlapping:
        form = "one mask for each class" if use.overlapping else "the number of each pixel's class"
        raise InputError(f"`test_masks` is not in the form of the run: store {form}.")
    if masks.dtype == bool:
        # channel i of the data is class order[i] of the model
        return masks[:, np.argsort(order)]
    return np.concatenate([[0], order + 1]).astype(masks.dtype)[masks]


def _recorded(arrays: Mapping[str, Array], use: ModelUse, cases: int) -> Floats | None:
    key = f"{TEST}original_outputs"
    if key not in arrays:
        return None
    outputs = arrays[key]
    if outputs.dtype.kind != "f" or outputs.shape[1:] != use.output_shape:
        expected = ", ".join(("N", *map(str, use.output_shape)))
        raise InputError(f"`{key}` is {outputs.dtype} of shape {outputs.shape}: it must be floats ({expected}), the original's outputs.")
    same_length(key, outputs, "test", arrays["test_images"])
    return np.asarray(outputs, dtype=np.float32)


def _shares(arrays: Mapping[str, Array], use: ModelUse, names: tuple[int, ...]) -> Array | None:
    if SHARES not in arrays:
        return None
    shares = arrays[SHARES]
    if shares.dtype.kind != "f" or shares.shape != (len(names),) or not ((shares >= 0) & (shares <= 1)).all() or shares.sum() > 1 + 1e-6:
        raise InputError(f"`{SHARES}` (={shares.tolist()}) must hold a share in 0..1 for each of {len(names)} classes, at most 1 in all.")
    known = np.full(len(use.classes), np.nan)
    known[list(names)] = shares
    return known


def _digest(images: Images) -> str:
    digest = hashlib.sha256()
    for batch in row_batches(images):
        digest.update(images[batch].tobytes())
    return digest.hexdigest()


def _range_finding(split: Split, use: ModelUse) -> tuple[str, ...]:
    """Return a sentence where inputs reach far beyond those of the run, or use little of their range: a sign of another scale."""
    inputs = split.inputs(spread(len(split), RANGE_SAMPLE))
    (low, high), own = use.input_range, (float(inputs.min()), float(inputs.max()))
    margin = RANGE_MARGIN * (high - low)
    if own[0] >= low - margin and own[1] <= high + margin and own[1] - own[0] >= RANGE_MARGIN * (high - low):
        return ()
    return (
        f"inputs of these cases reach from {own[0]:.3g} to {own[1]:.3g}, those of the run from {low:.3g} to {high:.3g}: "
        "see that the images have the scale of the run",
    )
