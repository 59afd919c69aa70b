"""Read what a report says of its folder: written as a run writes it, in the right shape, and without contradictions.

A report that says "pass" beside a model that failed is the attack to prevent here. So the verdict, the list of files and the folders that
exist must fit each other: "pass" goes with `model/`, and only with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from optimize.backends.artifact import ArtifactFile
from optimize.errors import InputError
from optimize.report.strict_json import parse
from optimize.report.wording import FORMAT
from optimize.run.verification.folder_contents import AGAIN, Contents, plain
from optimize.run.workspace import REPORTS, UNVERIFIED

MODEL = "model"
REPORT, PAGE = REPORTS
LARGEST_REPORT = 2**28
"""Bytes of a report that is read; one with hundreds of classes has a few millions."""
_SHAPE: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("verdict", "target"), str),
    **dict.fromkeys(("model", "data", "limits", "versions"), dict),
    **dict.fromkeys(("reasons", "classes", "notes"), list),
    **dict.fromkeys(("artifact", "unverified", "signature"), (dict, type(None))),
    "accepted": bool,
    "precision": (str, type(None)),
    "seed": int,
    "steps": (list, type(None)),
}
_MAY_LACK = ("unverified", "signature")
"""Parts that the first reports of this format do not have."""
_HASH = re.compile("[0-9a-f]{64}")


def read_report(folder: Path, inventory: Contents) -> dict[str, Any]:
    """Return the report in a folder, whose bytes must be exactly those that a run writes for its content.

    Two texts of one JSON value, such as a key that occurs twice, could show one thing to this program and another to a reader.

    Args:
        folder: folder of the run.
        inventory: paths in the folder.

    Raises:
        InputError: when the bytes differ, it is no report of this format, or no regular file.
    """
    from optimize.report.page import as_json

    path = folder / REPORT
    if REPORT not in inventory.files:
        raise InputError(f"`{path}` is {inventory.strange.get(REPORT, 'a folder')}, not the file of the run: {AGAIN}.")
    if path.stat().st_size > LARGEST_REPORT:
        raise InputError(f"`{path}` is larger than any report ({path.stat().st_size} bytes): {AGAIN}.")
    content = path.read_bytes()
    try:
        report = parse(content.decode("utf-8"))
        # written again from what was parsed: whatever the parser passes over, such as spaces or a second key, makes the texts differ
        written = as_json(report).encode("utf-8")
    except (ValueError, RecursionError) as problem:
        raise InputError(f"`{path}` is damaged ({' '.join(str(problem).split())[:200]}): {AGAIN}.") from None
    if not isinstance(report, dict) or report.get("format") != FORMAT or type(report["format"]) is not int:
        said = report.get("format") if isinstance(report, dict) else None
        raise InputError(f"`{path}` is no report of format {FORMAT} (format {ascii(said)[:40]}): verify it with the version that wrote it.")
    if written != content:
        raise InputError(f"`{path}` was altered: it is not written as a run writes it; {AGAIN}.")
    return report


def require_shape(folder: Path, report: Mapping[str, Any]) -> None:
    """Check the types of all parts that `verify` reads.

    Raises:
        InputError: naming the first part that has another type.
    """
    for name, kind in _SHAPE.items():
        # True is an int in Python, and would pass as a seed
        missing = name not in report and name not in _MAY_LACK
        if missing or not isinstance(report.get(name), kind) or (kind is int and isinstance(report[name], bool)):
            raise _damaged(folder, name)
    for part in report["data"].values():
        if part is not None and not (isinstance(part, dict) and isinstance(part.get("sha256"), str)):
            raise _damaged(folder, "data")
    if not isinstance(report["model"].get("sha256"), str):
        raise _damaged(folder, "model")
    if not all(isinstance(text, str) for name in ("reasons", "classes", "notes") for text in report[name]):
        raise _damaged(folder, "reasons")
    if not _are_looks(report.get("looks")):
        raise _damaged(folder, "looks")
    if not all(isinstance(step, dict) for step in report["steps"] or ()):
        raise _damaged(folder, "steps")


def _are_looks(looks: object) -> bool:
    """Return whether a value is the part on looks at the test split; None is, from an earlier version or a run without a verdict."""
    if looks is None:
        return True
    if not isinstance(looks, dict):
        return False
    number, share = looks.get("number"), looks.get("share")
    counted = type(number) is int and number >= 1
    return counted and isinstance(share, int | float) and not isinstance(share, bool) and 0 <= share <= 1


def _damaged(folder: Path, part: str) -> InputError:
    return InputError(f"`{folder / REPORT}` is damaged: its part {part!r} is not what a run writes; {AGAIN}.")


def listed_files(folder: Path, report: Mapping[str, Any]) -> dict[str, ArtifactFile]:
    """Return every file that a report lists, by its path within the folder.

    Raises:
        InputError: when an entry is damaged or reaches out of the folder, or its lists contradict each other.
    """
    model = {} if report["artifact"] is None else _entries(folder, "artifact", report["artifact"].get("files"), f"{MODEL}/")
    left: dict[str, ArtifactFile] = {}
    if report.get("unverified") is not None:
        compiled = report["unverified"].get("compiled")
        if not isinstance(compiled, list) or not all(isinstance(variant, dict) for variant in compiled):
            raise _damaged(folder, "unverified")
        for variant in compiled:
            left |= _entries(
                folder, "unverified", variant.get("files"), f"{UNVERIFIED}/{variant.get('target')}/{variant.get('precision')}/"
            )
    if "files" not in report:
        return {**model, **left}
    whole = _entries(folder, "files", report["files"], "")
    for part, some in (("artifact", model), ("unverified", left)):
        # the files of the model stand in two lists: both must say the same, or one could be edited without the other
        if wrong := [path for path, file in some.items() if whole.get(path) != file]:
            raise InputError(f"`{folder / REPORT}` contradicts itself: `files` and {part!r} differ on {plain(wrong[0])}; {AGAIN}.")
    if extra := [path for path in whole if path.startswith(f"{MODEL}/") and path not in model]:
        raise InputError(f"`{folder / REPORT}` contradicts itself: 'artifact' lacks {plain(extra[0])}, which `files` lists; {AGAIN}.")
    return whole


def _entries(folder: Path, part: str, entries: object, prefix: str) -> dict[str, ArtifactFile]:
    files: dict[str, ArtifactFile] = {}
    for entry in entries if isinstance(entries, list) else [None]:
        if not isinstance(entry, dict) or set(entry) != {"name", "sha256", "bytes"}:
            raise _damaged(folder, part)
        name, sha256, size = entry["name"], entry["sha256"], entry["bytes"]
        if not isinstance(sha256, str) or not _HASH.fullmatch(sha256) or type(size) is not int or size < 0:
            raise _damaged(folder, part)
        # each file once, inside the folder, and never the report itself, which cannot hold its own hash
        if not isinstance(name, str) or not _inside(name) or (prefix and "/" in name) or prefix + name in files or name in REPORTS:
            raise InputError(f"`{folder / REPORT}` is damaged: {part!r} lists {ascii(name)[:80]}, which names no file of the run; {AGAIN}.")
        files[prefix + name] = ArtifactFile(prefix + name, sha256, size)
    return files


def _inside(name: str) -> bool:
    """Return whether a path names a file within the folder, in the normal form: no "..", no ".", no backslash, not absolute."""
    path = PurePosixPath(name)
    return bool(path.parts) and str(path) == name and not path.is_absolute() and ".." not in path.parts and not {"\\", "\0"} & set(name)


def require_agreement(folder: Path, report: Mapping[str, Any], files: Mapping[str, ArtifactFile], inventory: Contents) -> None:
    """Check that the verdict, the listed files and the folders that exist fit each other.

    Args:
        folder: folder of the run.
        report: report whose shape was checked.
        files: files that the report lists.
        inventory: paths in the folder.

    Raises:
        InputError: naming what contradicts what.
    """
    path, passed = folder / REPORT, report["verdict"] == "pass"
    if report["verdict"] not in ("pass", "fail", "inconclusive"):
        raise _damaged(folder, "verdict")
    if report["accepted"] is not passed:
        raise InputError(f"`{path}` contradicts itself: verdict {report['verdict']!r}, accepted {report['accepted']}; {AGAIN}.")
    if passed != (report["artifact"] is not None) or (passed and report.get("unverified") is not None):
        raise InputError(f"`{path}` contradicts itself: verdict {report['verdict']!r} beside what it says was handed over; {AGAIN}.")
    # also a folder that is empty, and a link of that name, count as being there
    there = {path.split("/")[0] for path in (*inventory.files, *inventory.folders, *inventory.strange)}
    for name, said in ((MODEL, passed), (UNVERIFIED, report.get("unverified") is not None)):
        if name in there and not said:
            raise InputError(
                f"`{folder}` holds {name}/, which is not of this run (its verdict is {report['verdict']!r}): remove it, or {AGAIN}."
            )
        if said and not any(file.startswith(f"{name}/") for file in files):
            raise InputError(f"`{path}` contradicts itself: it lists no file in {name}/; {AGAIN}.")
