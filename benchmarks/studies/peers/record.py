"""What is kept of each contender between preparation and timing: its record, beside its artifact."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from optimize.backends import versions
from optimize.progress import note

FILE = "records.json"
Kind = Literal["original", "ours", "assembled", "controlled"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Record:
    """One contender, or why there is none.

    Args:
        name: no two of a case have the same.
        kind: whose it is.
        target: runtime: a target, "torch" or "torch.compile".
        precision: of its arithmetic, as an artifact names it.
        artifact: folder, absolute; None where there is none to open.
        parameters: of the network.
        macs: for one input.
        size_bytes: of the artifact's files; of the weights in torch.
        overall: accuracy or Dice on the test split, 0..1.
        worst_class: the class whose figure fell most.
        worst_drop: by how much, 0..1.
        verdict: on the test split, against the original in torch.
        reasons: of the verdict.
        prepared_s: seconds from the trained original to the compiled artifact, with what was tried in vain.
        failed: why it takes no part; None where it does.
        remarks: what a reader should know.
    """

    name: str
    kind: Kind
    target: str = ""
    precision: str = ""
    artifact: str | None = None
    parameters: int | None = None
    macs: int | None = None
    size_bytes: int | None = None
    overall: float | None = None
    worst_class: str = ""
    worst_drop: float = 0.0
    verdict: str = ""
    reasons: tuple[str, ...] = ()
    prepared_s: float | None = None
    failed: str | None = None
    remarks: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether it takes part and holds the guard-rails on the test split."""
        return self.failed is None and self.verdict == "pass"

    @property
    def base(self) -> str:
        """Its precision without that of the layers left in float: "int8" of "int8+bf16"."""
        return self.precision.partition("+")[0]


def made(folder: Path, made_for: str, failure: Record, make: Callable[[Path], Sequence[Record]], *, read_only: bool) -> list[Record]:
    """The records that `make` wrote into `folder`, made now where there are none, or where they failed.

    Args:
        folder: of this contender alone.
        made_for: what the records depend on; those made for something else are made again.
        failure: a record without a reason; what stands for the contender when `make` raises.
        make: the folder -> records.
        read_only: make nothing.
    """
    found = _read(folder / FILE, made_for)
    if found is None and read_only:
        return [Record(failure.name, failure.kind, failed="not prepared")]
    if found is not None and (read_only or not any(each.failed for each in found)):
        return found
    note(failure.name)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        found = list(make(folder))
    except Exception as problem:  # a contender that cannot be made is a row of the table, not the end of the study
        found = [Record(failure.name, failure.kind, failed=reason(problem))]
    for each in found:
        note(f"{each.name}: {each.failed or each.verdict}; {'; '.join(each.reasons)}")
    _write(folder / FILE, made_for, found)
    return found


def once(folder: Path, made_for: str, make: Callable[[Path], Sequence[Record]]) -> list[Record]:
    """The records that `make` wrote into `folder`, failures too; made now where there are none."""
    found = _read(folder / FILE, made_for)
    if found is None:
        folder.mkdir(parents=True, exist_ok=True)
        found = list(make(folder))
        _write(folder / FILE, made_for, found)
    return found


def reason(problem: Exception) -> str:
    """The first words of an error, as a cell of a table can hold them."""
    words = " ".join(str(problem).split()).replace("|", "/")
    return f"{type(problem).__name__}: {words}"[:200]


def identity(*parts: object) -> str:
    """A hash of what a case's records depend on, versions included."""
    return hashlib.sha256(json.dumps([[str(part) for part in parts], versions()], sort_keys=True).encode()).hexdigest()[:16]


def put(path: Path, text: str) -> None:
    """Write a file in one move."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


def _read(path: Path, made_for: str) -> list[Record] | None:
    if not path.exists():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    if stored["made_for"] != made_for:
        return None
    return [Record(**{**each, "reasons": tuple(each["reasons"]), "remarks": tuple(each["remarks"])}) for each in stored["records"]]


def _write(path: Path, made_for: str, records: Sequence[Record]) -> None:
    put(path, json.dumps({"made_for": made_for, "records": [asdict(each) for each in records]}, indent=1) + "\n")
