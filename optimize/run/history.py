"""The record of looks at a test split, and the share of the permitted error that the next look may spend.

A verdict at 95 % confidence may be wrong in 5 % of the cases. Of twenty bad models that are tried on one test split, about one would
pass. So each look is recorded beside the data, and each further look is judged more strictly (`guard/spending.py`).

Example: of three runs on `data.npz` the first ends with "fail", the second with "pass", the third is new.

    look    share of the error    verdict
    1       0.8                   fail       the share is spent: this model had its chance to pass wrongly
    2       0.1                   pass       the share is returned
    3       0.1                   …          one look has spent its share so far, so this is the second part again

A look counts for every split that shares an image with the one that was read: a split that has grown, or was cut again from the same
images, is not a new split. A second look at the same artifact under the same limits is not counted, because it gives no new chance. The
record holds no image and no label, only hashes; who holds an image can find out whether it was looked at.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from optimize.data.arrays import Integers
from optimize.data.dataset import Split
from optimize.data.split_assignment import identify
from optimize.errors import InputError
from optimize.guard.limits import Limits
from optimize.guard.spending import FIRST_SHARE, at_share, spent_by
from optimize.guard.verdict import Verdict
from optimize.progress import note
from optimize.run.history_file import Entries, append, entries, locked, split_line, writable

SUFFIX = ".looks.jsonl"
SPENT = (
    "the look of {date}, with --fresh-test, spent the whole error that is permitted for all looks at these test cases together, "
    "so nothing can pass on them any more"
)


@dataclass(frozen=True)
class Look:
    """One look at a test split for a verdict.

    Args:
        key: hash of what is looked at and of the limits; equal for a repeated look.
        number: number of this look, from 1, among all looks at any of these images.
        share: share of the error permitted by the limits that this look may spend, in 0..1; 0 where nothing is left.
        earlier: the looks before this one, oldest first, each with `date` and `verdict`; the verdict is None where none was reached.
        seen_before: number of images that earlier looks have read.
        fresh: whether the user said that nobody had looked at the split.
        record: name of the file that holds the record.
    """

    key: str
    number: int
    share: float
    earlier: tuple[Mapping[str, Any], ...] = ()
    seen_before: int = 0
    fresh: bool = False
    record: str = ""

    @property
    def spent(self) -> bool:
        """Whether no error is left for this look, so that it cannot pass."""
        return self.share <= 0

    @property
    def why_spent(self) -> str:
        """Return a sentence on the look that spent the whole error."""
        # with --fresh-test one look spends all; otherwise the last one has spent the rest
        whole = [look for look in self.earlier if look["share"] >= 1 and not _returns_its_share(look)]
        return SPENT.format(date=str((whole or self.earlier)[-1]["date"])[:10])

    def limits(self, limits: Limits) -> Limits:
        """Return the limits at the confidence of this look."""
        return limits if self.spent else at_share(limits, self.share)

    def settled(self, verdict: Verdict) -> Verdict:
        """Return the verdict; a "pass" becomes "inconclusive" where no error was left to spend."""
        if self.spent and verdict.outcome == "pass":
            return Verdict("inconclusive", (f"{self.why_spent}: bring other test cases", *verdict.reasons), verdict.rails)
        return verdict

    def sentence(self, limits: Limits) -> str | None:
        """Return what a reader should know about earlier looks; None for a first look."""
        if self.number == 1:
            return None
        many = f"this is look {self.number} at these test cases"
        if limits.verdict == "point":
            flattering = "the best result of several looks is better than the model is, by an unknown amount"
            return f"{many}, and only measured values are compared: {flattering}"
        if self.spent:
            return f"{many}: {self.why_spent}"
        # of the later looks the bound is stricter: at 95 % for all, a second look is judged at 99.5 %
        now, whole = (f"{100 * strictness.confidence:.6g} %" for strictness in (self.limits(limits), limits))
        rule = f"{many}: each bound is taken at {now} confidence, so that all looks together err at most as often as one at {whole}"
        return rule if self.share >= FIRST_SHARE else f"{rule}; test cases that were never looked at would be judged less strictly"

    def no_laxer_than(self, reported: Mapping[str, Any] | None) -> Look:
        """Return the look with the number and share of a report, where this machine's record knows of fewer looks."""
        if reported is None:
            return self
        return replace(self, number=max(self.number, reported["number"]), share=min(self.share, reported["share"]))

    def as_dict(self, limits: Limits) -> dict[str, Any]:
        """Return the form that a report shows."""
        statistical = limits.verdict == "statistical"
        return {
            "number": self.number,
            "share": self.share,
            "confidence": self.limits(limits).confidence if statistical and not self.spent else None,
            "all_looks": limits.confidence if statistical else None,
            "fresh": self.fresh,
            "seen_before": self.seen_before,
            "earlier": [{"date": look["date"], "verdict": look["verdict"]} for look in self.earlier],
            "record": self.record,
        }


@dataclass(frozen=True)
class History:
    """The record of looks.

    Args:
        path: file that is read and written.
        also: further files that are only read.
    """

    path: Path
    also: tuple[Path, ...] = ()

    @classmethod
    def of(cls, data: str, named: Path | None) -> History:
        """Return the record for some data: the file that the user named, else the one beside the data, else the user's own file.

        Args:
            data: path of the data, or "file.py:factory"; empty where the data lie in no file.
            named: file that the user named, or None.

        Raises:
            InputError: when the file that was named cannot be written.
        """
        if named is not None:
            if not writable(named):
                raise InputError(f"`--history` (={named}) cannot be written: name a file in a folder that is there and yours to write.")
            return cls(named)
        if not data:
            own = _of_user()
            note(f"looks at the test split are recorded in {own}, as the data lie in no file: --history names another file")
            return cls(own)
        # "folder/data.py:factory" stands for the file data.py
        source = Path(data.rpartition(":")[0] if ".py:" in data else data)
        beside = source.with_name(source.name + SUFFIX)
        if writable(beside):
            return cls(beside)
        own = _of_user()
        note(f"looks at the test split are recorded in {own}, as {beside.parent} cannot be written: --history names another file")
        return cls(own, (beside,) if beside.is_file() else ())

    def expected(self, split: Split, *, fresh: bool, again: str | None = None) -> Look:
        """Return the look that would be next, without recording it.

        Args:
            split: the test split.
            fresh: whether the user says that nobody has looked at it.
            again: key of a look of this run that was interrupted.

        Raises:
            InputError: when the record is damaged.
        """
        return self._next(split, self._entries(), again or "", fresh)

    def require_fresh(self, split: Split) -> None:
        """Check that nobody has looked at any image of a split.

        Raises:
            InputError: when the record knows one, or is damaged.
        """
        look = self.expected(split, fresh=False)
        if look.earlier:
            raise InputError(
                f"`--fresh-test`: {look.seen_before} of the {len(split)} test images were looked at before, last on "
                f"{look.earlier[-1]['date'][:10]} (in {self.path}): bring test images that nobody has looked at, or leave --fresh-test out."
            )

    def begin(self, split: Split, *, model: str, artifact: str, limits: Limits, fresh: bool, again: str | None = None) -> Look:
        """Record a look before it is taken, and return it; a repeated look is not recorded again.

        It is recorded first, so that a run that is killed after it has seen the result cannot have looked for free.

        Args:
            split: the test split.
            model: SHA-256 of the original.
            artifact: SHA-256 of what is judged.
            limits: the limits of the recipe, before they are made stricter for this look.
            fresh: whether the user says that nobody has looked at the split; ignored where the record knows a look.
            again: key of a look of this run that was interrupted, which this one continues.

        Raises:
            InputError: when the record is damaged.
        """
        what = {"split": split.sha256, "model": model, "artifact": artifact, "limits": limits.as_dict()}
        key = again or hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]
        # Under the lock from reading to writing: two runs that end at the same moment must not both be "look 3".
        with locked(self.path) as stream:
            known = self._entries()
            look = self._next(split, known, key, fresh)
            if key not in known.looks:
                lines = [] if split.sha256 in known.items else [split_line(split.sha256, _items(split))]
                date = datetime.now(UTC).isoformat(timespec="seconds")
                said = {"date": date, "number": look.number, "share": look.share, "fresh": look.fresh, "artifact": artifact}
                said["statistical"] = limits.verdict == "statistical"
                # a hash is enough to tell whether the limits are the same, and keeps the lines short
                digest = hashlib.sha256(json.dumps(what["limits"], sort_keys=True).encode()).hexdigest()
                append(stream, [*lines, {"look": key, "split": split.sha256, **said, "limits": digest}])
        return look

    def end(self, look: Look, verdict: str) -> None:
        """Record how a look ended."""
        with locked(self.path) as stream:
            append(stream, [{"of": look.key, "verdict": verdict}])

    def _next(self, split: Split, known: Entries, key: str, fresh: bool) -> Look:
        """Return the look that follows on the known ones, or the known look of the same key."""
        own, name = _items(split), self.path.name
        sharing = {sha256 for sha256, items in known.items.items() if np.isin(own, items).any()}
        sharing.add(split.sha256)  # a look counts even where the line with its images was taken out of the record
        earlier = [look for look in known.looks.values() if look["split"] in sharing]
        if key in known.looks:
            # a repeated look keeps its number and its share, and only what came before it is "earlier"
            same = known.looks[key]
            earlier = earlier[: earlier.index(same)] if same in earlier else earlier
            return Look(key, same["number"], same["share"], tuple(earlier), _count_seen(own, earlier, known), same["fresh"], name)
        seen_before = _count_seen(own, earlier, known)
        fresh, number = fresh and not earlier, len(earlier) + 1
        # only these still count: a look that passed has returned its share
        kept = [look for look in earlier if not _returns_its_share(look)]
        spent = any(look["share"] >= 1 for look in kept)
        share = 1.0 if fresh else 0.0 if spent else spent_by(len(kept) + 1)
        return Look(key, number, share, tuple(earlier), seen_before, fresh, name)

    def _entries(self) -> Entries:
        return entries((*self.also, self.path))


def _count_seen(own: Integers, looks: Sequence[Mapping[str, Any]], known: Entries) -> int:
    """Return how many of these images any of the looks has read."""
    # the line with a split's images may have been taken out of the record: then all images count as read
    read = [known.items.get(split, own) for split in {look["split"] for look in looks}]
    return int(np.isin(own, np.concatenate(read)).sum()) if read else 0


def _returns_its_share(look: Mapping[str, Any]) -> bool:
    """Return whether the share that a look spent may be spent again: a statistical look that ended with "pass"."""
    return bool(look["statistical"]) and look["verdict"] == "pass"


def _items(split: Split) -> Integers:
    """Return 64 bits of the hash of each image, sorted, without doubles."""
    return np.unique(identify("test", split.images).content)


def _of_user() -> Path:
    """Return the file of this user's own record; its folder is made when the first look is written."""
    return _state_folder() / f"looks{SUFFIX.removeprefix('.looks')}"


def _state_folder() -> Path:
    """Return the folder of this user's state: `optimize` under XDG_STATE_HOME, or under ~/.local/state where that is not set."""
    named = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".local" / "state") / "optimize"
