"""Assign items to splits so that no image and no patient is in two of them.

An image is known by the hash of its bytes, a patient by the id in the user's data. What two splits share is an error, or is dropped from
the less protected one (train, then calibration, then guard; test never loses an item).

Where the user brings no calibration split, one is cut out of `val` (`halves`) or out of train (`fifth`). Both cut between clusters, never
through one. A cluster holds the items that are linked by an image or by a patient, directly or through other items:

    item        0    1    2    3    4
    image       a    b    a    c    d       items 0 and 2 are copies of one image
    patient     P    Q    R    R    S       items 2 and 3 are of one patient
    cluster     0    1    0    0    2       so 0, 2 and 3 stay together, although 0 and 3 share neither image nor patient
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from optimize.data.arrays import Array, Integers
from optimize.data.lazy_images import Images, LazyImages, content_hash
from optimize.errors import InputError

PROTECTED = ("test", "val", "calibration", "train")
"""The splits of the user's file, the most protected first; `val` becomes the guard."""


@dataclass(frozen=True, eq=False)
class SplitHashes:
    """What identifies the items of a split.

    Args:
        name: name of the split in the user's data.
        content: 64 bits of each image's hash, (N,).
        patients: id of each image's patient, (N,), or None.
    """

    name: str
    content: Integers
    patients: Array | None = None


def identify(name: str, images: Images, patients: Array | None = None) -> SplitHashes:
    """Return the hash of every image of a split, beside the patients."""
    # 8 bytes are enough: of a million images, two different ones share a hash with a chance of one in 40 million
    if isinstance(images, LazyImages):
        return SplitHashes(name, images.content_hashes(), patients)
    return SplitHashes(name, np.fromiter(map(content_hash, images), np.int64, len(images)), patients)


def disjoint(identities: Sequence[SplitHashes], *, drop: bool) -> tuple[list[Integers], tuple[str, ...]]:
    """Return the rows of each split that may stay, and a note on each split that lost some.

    Args:
        identities: the splits, the most protected first.
        drop: whether items that a more protected split also holds are dropped, instead of refusing the data.

    Raises:
        InputError: when two splits overlap and `drop` is false, or when nothing is left of a split.
    """
    kept: list[SplitHashes] = []
    rows: list[Integers] = []
    clashes: list[str] = []
    notes: list[str] = []
    for identity in identities:
        # against every more protected split: the first one found gives the text, all of them decide
        shared = np.zeros(len(identity.content), dtype=bool)
        for protected in kept:
            in_both = _shared(identity, protected)
            clashes += [_clash(identity, int(item), protected) for item in np.flatnonzero(in_both & ~shared)[:3]]
            shared |= in_both
        rows.append(np.flatnonzero(~shared))
        if shared.any():
            notes.append(f"{int(shared.sum())} of {len(shared)} {identity.name} items were dropped: a more protected split holds them too.")
        if shared.all():
            raise InputError(f"`data`: every item of {identity.name!r} also stands in a more protected split: give it items of its own.")
        # only what stays protects: an item that was dropped from train must not cause a drop elsewhere
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

    Clusters are dealt one by one, the largest first, each to the half that holds fewer items of the cluster's classes so far. So a large
    cluster, which may tilt the halves, comes while the many small ones that can make up for it are still to come. With single items it
    deals each class in turn:

        labels            x  x  x  y  y
        half              1  2  1  2  1      3 x: two and one; the first y goes where fewer items are, which is half 2

    Args:
        identity: the split.
        labels: stratum of each item, (N,), such as its class.
        seed: seed of the order among clusters of equal size and class.

    Raises:
        InputError: when the split cannot be cut because all its items belong together.
    """
    clusters = _clusters(identity)
    count = int(clusters.max()) + 1
    if count < 2:
        raise InputError(
            f"`data`: {identity.name!r} cannot be cut in two, as its {len(clusters)} item(s) belong together (one image, or one patient): "
            "add items, or give calibration a split of its own (calibration_images, …)."
        )
    sizes = np.bincount(clusters)
    members = np.split(np.argsort(clusters, kind="stable"), np.cumsum(sizes)[:-1])
    # Class by class among clusters of one size: then the odd item left over by one class is made up for by the next.
    # the last key is the main one: largest cluster first, then class by class, then by chance
    order = np.lexsort((np.random.default_rng(seed).permutation(count), [labels[items[0]] for items in members], -sizes))
    share = 1.0 / np.maximum(np.bincount(labels), 1)
    lead = np.zeros(len(share))
    surplus = 0
    first = np.zeros(len(clusters), dtype=bool)
    for cluster in order:
        items = members[cluster]
        # `lead` counts whole items per class, so that a tie is exactly a tie. One factor `share` makes it a share of the class, so that a
        # rare class weighs as much as a common one; the other does the same for the cluster's items.
        tilt = float((lead * share * share)[labels[items]].sum())
        to_first = tilt < 0 or (tilt == 0 and surplus <= 0)
        sign = 1 if to_first else -1
        np.add.at(lead, labels[items], sign)
        surplus += sign * len(items)
        first[items] = to_first
    return np.flatnonzero(first), np.flatnonzero(~first)


def fifth(identity: SplitHashes, least: int, seed: int) -> tuple[Integers, Integers]:
    """Take about a fifth out of a split: sorted rows of what is taken, and of what is left.

    Whole clusters are taken in random order. Their number is a fifth of all clusters, within three bounds; a later one overrides an earlier
    one:

        not more than are needed for twice `least` items    train is worth more than a calibration larger than that
        at least as many as are needed for `least` items    ranges from fewer images are bad
        at most half of the clusters                        else little is left to train on; a single cluster is taken as a whole

    Example: of 1000 single items with `least` 300, a fifth is 200, which is raised to 300. Of 10,000 it is 2000, which is cut to 600.

    Args:
        identity: the split.
        least: number of items that are enough.
        seed: seed of the random order.
    """
    clusters = _clusters(identity)
    sizes = np.bincount(clusters)
    order = np.random.default_rng(seed).permutation(len(sizes))
    # number of clusters, in random order, that hold `least` items, and twice as many
    enough, plenty = (1 + int(np.searchsorted(np.cumsum(sizes[order]), items)) for items in (least, 2 * least))
    count = max(1, min(max(min(round(len(sizes) / 5), plenty), enough), len(sizes) // 2))
    taken = np.isin(clusters, order[:count])
    return np.flatnonzero(taken), np.flatnonzero(~taken)


def _clusters(identity: SplitHashes) -> Integers:
    """Return number each item's cluster from 0: items linked by patient or by content, directly or through others, share one.

    Each item starts with the number of its image. Then all items of a patient, and all copies of an image, take the lowest number among
    them, until no number changes: the connected components of the graph whose edges are "same image" and "same patient".
    """
    content = np.unique(identity.content, return_inverse=True)[1].reshape(-1)
    cluster = content.astype(np.int64)
    if identity.patients is not None:
        patient = np.unique(identity.patients, return_inverse=True)[1].reshape(-1)
        while True:
            previous = cluster
            # one round carries a number across one link; a chain of links takes as many rounds as it is long
            for key in (patient, content):
                lowest = np.full(int(key.max()) + 1, len(cluster))
                np.minimum.at(lowest, key, cluster)
                cluster = lowest[key]
            if np.array_equal(previous, cluster):
                break
    return np.unique(cluster, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _shared(split: SplitHashes, protected: SplitHashes) -> npt.NDArray[np.bool_]:
    """Return which items of `split` have an image or a patient that `protected` has too, (N,)."""
    # an image that stands twice within one split is no overlap; only copies across splits are
    shared = np.isin(split.content, protected.content)
    if split.patients is not None and protected.patients is not None:
        shared |= np.isin(split.patients, protected.patients)
    return shared


def _clash(split: SplitHashes, item: int, protected: SplitHashes) -> str:
    """Return what an item shares with a more protected split, in words."""
    same = np.flatnonzero(protected.content == split.content[item])
    if len(same):
        return f"{split.name}[{item}] = {protected.name}[{same[0]}]"
    patients = split.patients if split.patients is not None else np.array([])
    same = np.flatnonzero(protected.patients == patients[item])
    return f"{split.name}[{item}] and {protected.name}[{same[0]}] are both of patient {str(patients[item])!r}"


def _take(identity: SplitHashes, rows: Integers) -> SplitHashes:
    return SplitHashes(identity.name, identity.content[rows], None if identity.patients is None else identity.patients[rows])
