"""How often a test split has been looked at: a record beside the data, and what the next look may still spend.

A look counts against every split that shares an image with the one that was read, so that a split which has grown, or was cut anew from
the same images, is no new one. Looking again at the same artifact under the same limits gives no new chance and is not counted again. No
image and no label stands in the record; who holds an image can find out whether it was looked at.
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
        key: says what was looked at, and by which limits.
        number: from 1, among all looks at any of these images.
        share: of the error permitted by the limits, what this look may spend; 0 where nothing is left.
        earlier: the looks before it, the oldest first: `date` and `verdict`, which is None where none was reached.
        seen_before: how many of the images earlier looks have read.
        fresh: whether the split was said to be fresh.
        record: name of the file that remembers it.
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
        """Whether nothing was left for it."""
        return self.share <= 0

    @property
    def why_spent(self) -> str:
        """Why nothing was left, in words."""
        whole = [each for each in self.earlier if each["share"] >= 1 and not _gave_back(each)]
        return SPENT.format(date=str((whole or self.earlier)[-1]["date"])[:10])

    def limits(self, limits: Limits) -> Limits:
        """The limits at the confidence of this look."""
        return limits if self.spent else at_share(limits, self.share)

    def settled(self, verdict: Verdict) -> Verdict:
        """The verdict, which cannot be "pass" where nothing was left to spend."""
        if self.spent and verdict.outcome == "pass":
            return Verdict("inconclusive", (f"{self.why_spent}: bring other test cases", *verdict.reasons), verdict.rails)
        return verdict

    def sentence(self, limits: Limits) -> str | None:
        """What a reader should know of the looks; None of a first look, of which there is nothing to say."""
        if self.number == 1:
            return None
        many = f"this is look {self.number} at these test cases"
        if limits.verdict == "point":
            return f"{many}, and measured values are compared: the best of several looks flatters, by how much is not known"
        if self.spent:
            return f"{many}: {self.why_spent}"
        now, whole = (f"{100 * each.confidence:.6g} %" for each in (self.limits(limits), limits))
        rule = f"{many}: each bound is taken at {now} confidence, so that all looks together err at most as often as one at {whole}"
        return rule if self.share >= FIRST_SHARE else f"{rule}; test cases that were never looked at would be judged less strictly"

    def no_laxer_than(self, reported: Mapping[str, Any] | None) -> Look:
        """The look as the report of the run has it, where this machine's record knows of fewer."""
        if reported is None:
            return self
        return replace(self, number=max(self.number, reported["number"]), share=min(self.share, reported["share"]))

    def as_dict(self, limits: Limits) -> dict[str, Any]:
        """The form that a report shows."""
        statistical = limits.verdict == "statistical"
        return {
            "number": self.number,
            "share": self.share,
            "confidence": self.limits(limits).confidence if statistical and not self.spent else None,
            "all_looks": limits.confidence if statistical else None,
            "fresh": self.fresh,
            "seen_before": self.seen_before,
            "earlier": [{"date": each["date"], "verdict": each["verdict"]} for each in self.earlier],
            "record": self.record,
        }


@dataclass(frozen=True)
class History:
    """The record of looks.

    Args:
        path: the file that is written.
        also: files that are only read.
    """

    path: Path
    also: tuple[Path, ...] = ()

    @classmethod
    def of(cls, data: str, named: Path | None) -> History:
        """The record for some data: the file that was named, else the one beside the data, else one of this user's.

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
        source = Path(data.rpartition(":")[0] if ".py:" in data else data)
        beside = source.with_name(source.name + SUFFIX)
        if writable(beside):
            return cls(beside)
        own = _of_user()
        note(f"looks at the test split are recorded in {own}, as {beside.parent} cannot be written: --history names another file")
        return cls(own, (beside,) if beside.is_file() else ())

    def expected(self, split: Split, *, fresh: bool, again: str | None = None) -> Look:
        """The look that would be next, without recording it.

        Args:
            split: the test split.
            fresh: whether it is said that nobody has looked at it.
            again: key of a look of this run that was interrupted.

        Raises:
            InputError: when the record is damaged.
        """
        return self._next(split, self._entries(), again or "", fresh)

    def require_fresh(self, split: Split) -> None:
        """See that nobody has looked at any image of a split.

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
        """Record a look before it is taken; the same one where this artifact was looked at under these limits before.

        Args:
            split: the test split.
            model: SHA-256 of the original.
            artifact: SHA-256 of what is judged.
            limits: as they were asked for, the same for every look.
            fresh: whether it is said that nobody has looked at the split; of no effect where the record knows better.
            again: key of a look of this run that was interrupted, which this one continues.

        Raises:
            InputError: as `expected`.
        """
        what = {"split": split.sha256, "model": model, "artifact": artifact, "limits": limits.as_dict()}
        key = again or hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]
        with locked(self.path) as stream:
            known = self._entries()
            look = self._next(split, known, key, fresh)
            if key not in known.looks:
                lines = [] if split.sha256 in known.items else [split_line(split.sha256, _items(split))]
                date = datetime.now(UTC).isoformat(timespec="seconds")
                said = {"date": date, "number": look.number, "share": look.share, "fresh": look.fresh, "artifact": artifact}
                said["statistical"] = limits.verdict == "statistical"
                digest = hashlib.sha256(json.dumps(what["limits"], sort_keys=True).encode()).hexdigest()
                append(stream, [*lines, {"look": key, "split": split.sha256, **said, "limits": digest}])
        return look

    def end(self, look: Look, verdict: str) -> None:
        """Record how a look ended."""
        with locked(self.path) as stream:
            append(stream, [{"of": look.key, "verdict": verdict}])

    def _next(self, split: Split, known: Entries, key: str, fresh: bool) -> Look:
        own, name = _items(split), self.path.name
        sharing = {other for other, items in known.items.items() if np.isin(own, items).any()}
        sharing.add(split.sha256)  # a look counts even where the line with its images was taken out of the record
        before = [look for look in known.looks.values() if look["split"] in sharing]
        if key in known.looks:
            same = known.looks[key]
            before = before[: before.index(same)] if same in before else before
            return Look(key, same["number"], same["share"], tuple(before), _seen(own, before, known), same["fresh"], name)
        seen = _seen(own, before, known)
        fresh, number = fresh and not before, len(before) + 1
        kept = [look for look in before if not _gave_back(look)]
        spent = any(look["share"] >= 1 for look in kept)
        share = 1.0 if fresh else 0.0 if spent else spent_by(len(kept) + 1)
        return Look(key, number, share, tuple(before), seen, fresh, name)

    def _entries(self) -> Entries:
        return entries((*self.also, self.path))


def _seen(own: Integers, looks: Sequence[Mapping[str, Any]], known: Entries) -> int:
    """How many of these images any of the looks has read."""
    read = [known.items.get(split, own) for split in {look["split"] for look in looks}]
    return int(np.isin(own, np.concatenate(read)).sum()) if read else 0


def _gave_back(look: Mapping[str, Any]) -> bool:
    """Whether a look's model passed with the chance in it, so that the next look has what this one spent."""
    return bool(look["statistical"]) and look["verdict"] == "pass"


def _items(split: Split) -> Integers:
    """64 bits of the hash of each image, sorted, each once."""
    return np.unique(identify("test", split.images).content)


def _of_user() -> Path:
    """The record of this user, in a folder that is there."""
    own = _state_folder() / f"looks{SUFFIX.removeprefix('.looks')}"
    own.parent.mkdir(parents=True, exist_ok=True)
    return own


def _state_folder() -> Path:
    """Where this user's state is kept: `optimize` under XDG_STATE_HOME, or under ~/.local/state where that is not set."""
    named = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".local" / "state") / "optimize"
