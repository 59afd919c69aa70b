"""Splits that share nothing: no image and no patient stands in two of them.

An image is known by the hash of its bytes, a patient by the given id. What two splits share is an error, or is dropped from the one that
matters less (train, then calibration, then guard; test is never touched). Where `val` must serve as calibration and guard, it is cut so
that all images of a patient, and all copies of an image, stay together, and classes are shared out as evenly as that allows. Where few
patients decide, `val` stays whole and calibration is taken out of train, by whole patients too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from optimize.data.arrays import Array, Integers
from optimize.errors import InputError

PROTECTED = ("test", "val", "calibration", "train")
"""The splits of the user's file, the most protected first; `val` becomes the guard."""


@dataclass(frozen=True, eq=False)
class SplitHashes:
    """Who is in a split.

    Args:
        name: of the split in the user's file.
        content: 64 bits of each image's hash, (N,).
        patients: id of each image's patient, (N,), or None.
    """

    name: str
    content: Integers
    patients: Array | None = None


def identify(name: str, images: Array, patients: Array | None = None) -> SplitHashes:
    """Hash every image of a split."""
    digests = b"".join(hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images)
    return SplitHashes(name, np.frombuffer(digests, dtype=np.int64), patients)


def disjoint(identities: Sequence[SplitHashes], *, drop: bool) -> tuple[list[Integers], tuple[str, ...]]:
    """Which items of each split may stay, and a note on each split that lost some.

    Args:
        identities: the splits, the most protected first.
        drop: drop what a more protected split also holds, instead of refusing.

    Raises:
        InputError: when two splits overlap and `drop` is false, or when nothing is left of a split.
    """
    kept: list[SplitHashes] = []
    rows: list[Integers] = []
    clashes: list[str] = []
    notes: list[str] = []
    for identity in identities:
        shared = np.zeros(len(identity.content), dtype=bool)
        for other in kept:
            also = _shared(identity, other)
            clashes += [_clash(identity, int(item), other) for item in np.flatnonzero(also & ~shared)[:3]]
            shared |= also
        rows.append(np.flatnonzero(~shared))
        if shared.any():
            notes.append(f"{int(shared.sum())} of {len(shared)} {identity.name} items were dropped: a more protected split holds them too.")
        if shared.all():
            raise InputError(f"`data`: every item of {identity.name!r} also stands in a more protected split: give it items of its own.")
        kept.append(_take(identity, rows[-1]))
    if clashes and not drop:
        total = sum(len(identity.content) - len(left) for identity, left in zip(identities, rows, strict=True))
        listed = "; ".join(clashes[:4]) + ("; …" if total > len(clashes[:4]) else "")
        raise InputError(
            f"`data` has {total} item(s) in more than one split ({listed}): "
            "pass --drop-overlap to drop them from the less protected split (train < calibration < val < test)."
        )
    return rows, tuple(notes)


def halves(identity: SplitHashes, labels: Integers, seed: int) -> tuple[Integers, Integers]:
    """Cut a split in two: sorted rows of the calibration half and of the guard half.

    Items are dealt unit by unit, the largest first, each to the half that holds less of the unit's classes so far.

    Raises:
        InputError: when the split cannot be cut because all its items belong together.
    """
    units = _units(identity)
    count = int(units.max()) + 1
    if count < 2:
        raise InputError(
            f"`data`: {identity.name!r} cannot be cut in two, as its {len(units)} item(s) belong together (one image, or one patient): "
            "add items, or give calibration a split of its own (calibration_images, …)."
        )
    sizes = np.bincount(units)
    members = np.split(np.argsort(units, kind="stable"), np.cumsum(sizes)[:-1])
    # Class by class among equals: then the odd item left over by one class is made up for by the next.
    order = np.lexsort((np.random.default_rng(seed).permutation(count), [labels[items[0]] for items in members], -sizes))
    share = 1.0 / np.maximum(np.bincount(labels), 1)
    lead = np.zeros(len(share))
    surplus = 0
    first = np.zeros(len(units), dtype=bool)
    for unit in order:
        items = members[unit]
        # In whole items per class, so that a tie is exactly a tie; `share` makes a rare class weigh as much as a common one.
        tilt = float((lead * share * share)[labels[items]].sum())
        to_first = tilt < 0 or (tilt == 0 and surplus <= 0)
        sign = 1 if to_first else -1
        np.add.at(lead, labels[items], sign)
        surplus += sign * len(items)
        first[items] = to_first
    return np.flatnonzero(first), np.flatnonzero(~first)


def fifth(identity: SplitHashes, least: int, seed: int) -> tuple[Integers, Integers]:
    """Take about a fifth out of a split: sorted rows of what is taken, and of what is left.

    Items that belong together (one image, or one patient) are taken together, in an order drawn at random: a fifth of such units, but no
    more than twice `least` items need, and more than a fifth until there are `least`, but never over half of the units. All is taken where
    there is only one.
    """
    units = _units(identity)
    sizes = np.bincount(units)
    order = np.random.default_rng(seed).permutation(len(sizes))
    enough, plenty = (1 + int(np.searchsorted(np.cumsum(sizes[order]), items)) for items in (least, 2 * least))
    count = max(1, min(max(min(round(len(sizes) / 5), plenty), enough), len(sizes) // 2))
    taken = np.isin(units, order[:count])
    return np.flatnonzero(taken), np.flatnonzero(~taken)


def _units(identity: SplitHashes) -> Integers:
    """Number each item's unit from 0: items linked by patient or by content, directly or through others, share one."""
    content = np.unique(identity.content, return_inverse=True)[1].reshape(-1)
    unit = content.astype(np.int64)
    if identity.patients is not None:
        patient = np.unique(identity.patients, return_inverse=True)[1].reshape(-1)
        while True:
            before = unit
            for key in (patient, content):
                lowest = np.full(int(key.max()) + 1, len(unit))
                np.minimum.at(lowest, key, unit)
                unit = lowest[key]
            if np.array_equal(before, unit):
                break
    return np.unique(unit, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _shared(one: SplitHashes, other: SplitHashes) -> npt.NDArray[np.bool_]:
    shared = np.isin(one.content, other.content)
    if one.patients is not None and other.patients is not None:
        shared |= np.isin(one.patients, other.patients)
    return shared


def _clash(one: SplitHashes, item: int, other: SplitHashes) -> str:
    same = np.flatnonzero(other.content == one.content[item])
    if len(same):
        return f"{one.name}[{item}] = {other.name}[{same[0]}]"
    patients = one.patients if one.patients is not None else np.array([])
    same = np.flatnonzero(other.patients == patients[item])
    return f"{one.name}[{item}] and {other.name}[{same[0]}] are both of patient {str(patients[item])!r}"


def _take(identity: SplitHashes, rows: Integers) -> SplitHashes:
    return SplitHashes(identity.name, identity.content[rows], None if identity.patients is None else identity.patients[rows])
