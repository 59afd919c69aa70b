"""Check the calibration split: int8 ranges, repair and widths are taken from it, so it should resemble guard and test.

Nothing here stops a run: a warning says what is wrong and how to mend it. Of the test split only classes, subgroups and similarity to
other splits are used, never its values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Literal, TypeAlias

import numpy as np

from optimize.data.channel_ranges import APART, SHARE, ChannelRanges
from optimize.data.dataset import ENOUGH_CALIBRATION, Dataset
from optimize.data.lazy_images import taken
from optimize.data.near_duplicates import SMALLEST, ImageHashes, hash_blocks, similar_pairs
from optimize.data.split import Split
from optimize.data.split_assignment import identify

FEW = 5
"""Calibration items of a class below which it is called rare."""
NAMED = 3
"""Items, or pairs of items, that a finding names."""
CLIPPED, MARGIN = 0.01, 0.05
"""The share of guard images that may reach beyond calibration's range by more than this share of its width."""
CheckResults: TypeAlias = Iterator[tuple[bool, str]]
"""The results of one check: for each, whether all is well, and the text."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Args:
        check: name of the check: "classes", "groups", "size", "outliers", "clipping", "overlap" or "near duplicates".
        level: "warning" where the data should be corrected, or the check could not be made; else "ok".
        text: one sentence, with numbers; of a warning also the remedy.
    """

    check: str
    level: Literal["ok", "warning"]
    text: str

    def as_dict(self) -> dict[str, str]:
        """Return the form that the report uses: check, level, text."""
        return asdict(self)


def check_calibration(data: Dataset) -> tuple[Finding, ...]:
    """Return what each check says of calibration, compared with guard and test: one finding or more per check."""
    reach = ChannelRanges.of(data.calibration)
    return tuple(
        Finding(check, "ok" if fine else "warning", text)
        for check, results in (
            ("classes", _classes(data)),
            ("groups", _groups(data)),
            ("size", _size(data)),
            ("outliers", _outliers(data, reach)),
            ("clipping", _clipping(data, reach)),
            ("overlap", _overlap(data)),
            ("near duplicates", _near(data)),
        )
        for fine, text in results
    )


def _classes(data: Dataset) -> CheckResults:
    counts, *judged = [split.totals(len(data.classes)) for split in (data.calibration, data.guard, data.test)]
    required = np.sum(judged, axis=0) > 0  # calibration needs only the classes that guard or test show
    rare = [f"{name} {count}" for name, count, need in zip(data.classes, counts, required, strict=True) if need and count < FEW]
    items = "images that show it" if data.calibration.task == "segmentation" else "items"
    if rare:
        text = f"{len(rare)} of {required.sum()} classes of guard and test have fewer than {FEW} calibration {items} ({_some(rare)})"
        yield False, f"{text}: what only they show may be clipped or pruned; add some."
    else:
        yield True, f"Every class of guard and test ({required.sum()}) has at least {FEW} calibration {items}."


def _groups(data: Dataset) -> CheckResults:
    columns = sorted({*data.guard.groups, *data.test.groups})
    if not columns:
        yield True, "No subgroups are given."
    for column in columns:
        judged = {tag for split in (data.guard, data.test) if column in split.groups for tag in split.groups[column].tolist()}
        if column not in data.calibration.groups:
            field = "group" if column == "group" else f"{column}_group"
            remedy = f"add `calibration_{field}`, or `train_{field}` if it comes from train"
            yield False, f"Subgroups {column!r}: not known for calibration; {remedy}."
        elif absent := sorted(judged - set(data.calibration.groups[column].tolist())):
            text = f"{len(absent)} of {len(judged)} of guard and test have no calibration image ({_some(map(repr, absent))}); add some."
            yield False, f"Subgroups {column!r}: {text}"
        else:
            yield True, f"Subgroups {column!r}: calibration holds all {len(judged)} of guard and test."


def _size(data: Dataset) -> CheckResults:
    count = len(data.calibration)
    if count < ENOUGH_CALIBRATION:
        yield False, f"Calibration has {count} images: ranges for int8 are taken badly from fewer than {ENOUGH_CALIBRATION}; add some."
    else:
        yield True, f"Calibration has {count} images, {ENOUGH_CALIBRATION} are enough."


def _outliers(data: Dataset, reach: ChannelRanges) -> CheckResults:
    far = reach.outliers()
    rest = f"all but the {SHARE:.0%} that reach lowest and highest"
    rule = f"beyond the range of the rest ({rest}) by more than {APART:.0%} of it, in any channel"
    if len(far):
        text = f"{len(far)} of {len(data.calibration)} calibration images ({_some(data.calibration.names[far])}) reach {rule}"
        yield False, f"{text}: they coarsen the int8 steps of all others; look at them, and leave them out if they are faulty."
    else:
        yield True, f"No calibration image reaches {rule}."


def _clipping(data: Dataset, reach: ChannelRanges) -> CheckResults:
    guard = ChannelRanges.of(data.guard)
    beyond, far = (int(reach.clips(guard, margin).sum()) for margin in (0.0, MARGIN))
    text = f"{beyond} of {len(data.guard)} guard images reach beyond calibration's range, {far} of them by more than {MARGIN:.0%} of it"
    if far > CLIPPED * len(data.guard):
        yield False, f"{text}: int8 clips them; add calibration images like them."
    else:
        yield True, f"{text}."


def _overlap(data: Dataset) -> CheckResults:
    """Yield items of calibration that another split holds too, by the hash of their content.

    `load_data` leaves none, but a `Dataset` may be made without it.
    """
    judged = np.concatenate([identify(split.name, split.images).content for split in (data.guard, data.test)])
    for split in filter(None, (data.calibration, data.train)):
        shared = int(np.isin(identify(split.name, split.images).content, judged).sum())
        text = f"{shared} of {len(split)} {split.name} images also stand in guard or test"
        yield not shared, f"{text}: take them out of {split.name}." if shared else f"{text}."
    splits = (data.calibration, data.guard, data.test)
    item_names = {split.name: set(split.item_names.tolist()) for split in splits if split.item_names is not None}
    for first, second in combinations(item_names, 2):
        if both := sorted(item_names[first] & item_names[second]):
            yield False, f"{len(both)} ids stand in {first} and in {second}, such as {both[0]!r}: see that they are not of the same item."


def _near(data: Dataset) -> CheckResults:
    judged = [(split, ImageHashes.of(split.images)) for split in (data.guard, data.test)]
    for split in filter(None, (data.calibration, data.train)):
        if ImageHashes.of(taken(split.images, slice(0, 1))).size < SMALLEST:
            yield True, f"Not looked for in {split.name}: images of fewer than {SMALLEST} pixels a side say too little."
            continue
        pairs = _near_pairs(split, judged)
        text = f"{len({row for row, *_ in pairs})} of {len(split)} {split.name} images are nearly the same picture as one of guard or test"
        named = _some(f"{split.names[row]} = {split_of.name} {split_of.names[like]}" for row, split_of, like in pairs)
        yield not pairs, f"{text} ({named}): the verdict flatters; take them out of {split.name}." if pairs else f"{text}."


def _near_pairs(split: Split, judged: Sequence[tuple[Split, ImageHashes]]) -> list[tuple[int, Split, int]]:
    """Return near duplicates: row in `split`, the judged split, and row in that; of each judged split the most similar pair first."""
    matches: list[list[tuple[float, int, int]]] = [[] for _ in judged]
    for first, block in hash_blocks(split.images):
        for found, (_, hashes) in zip(matches, judged, strict=True):
            pairs, likeness = similar_pairs(block, hashes)
            found += [(-alike, first + row, like) for (row, like), alike in zip(pairs.tolist(), likeness.tolist(), strict=True)]
    # stable, so that pairs of one likeness stay in the order of their rows
    ordered = [sorted(found, key=lambda match: match[0]) for found in matches]
    return [(row, other, like) for found, (other, _) in zip(ordered, judged, strict=True) for _, row, like in found]


def _some(texts: Iterable[object]) -> str:
    every = [str(text) for text in texts]
    return ", ".join(every[:NAMED]) + (", …" if len(every) > NAMED else "")
