"""A thousand tamperings of a signed bundle: which do its runner and `optimize verify` refuse, with the owner's key and without?

    python -m benchmarks.studies.bundle_tampering [--count 1000] [--work DIR]

The bundles are of the demo's runs, for ONNX Runtime and for OpenVINO; tampering number n is of kind n modulo the number of kinds
(`benchmarks/bundle_tampering.py`), and everything else about it follows from n. Whoever tampers has all but the owner's private key. The
runner that checks is this version's, from outside of the bundle; where a byte of the bundle's own runner was changed, that runner is
started too, in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bundle_tampering import KINDS, tampered
from benchmarks.results import write
from benchmarks.studies.peers.cases import CACHE
from benchmarks.studies.tampering import TARGETS, keys, run
from optimize.deploy.runner.checks import check
from optimize.deploy.runner.errors import Refused
from optimize.errors import OptimizeError
from optimize.progress import note, shown, track
from optimize.run.bundle import bundle
from optimize.run.verification.site import verify_bundle

RUNNER, VERIFY, NO_KEY = "runner, with the key", "optimize verify, with the key", "runner, without a key"
COLUMNS = ("what was done", "times", RUNNER, f"`{VERIFY.split(',')[0]}`, with the key", NO_KEY)
TITLE = "Tamperings of a signed bundle that were refused"
OWN_RUNNER = "a byte changed in the runner"
UNTOUCHED = 100
"""How often each untouched bundle is checked, with the key and without."""


def by_runner(folder: Path, key: Path | None) -> tuple[str, str]:
    """What this version's runner says about a bundle: "refused" or "accepted", and its words."""
    try:
        return "accepted", check(folder, key).finding
    except Refused as problem:
        return "refused", str(problem)


def by_verify(folder: Path, key: Path | None) -> tuple[str, str]:
    """What `optimize verify` says about a bundle."""
    try:
        verified = verify_bundle(folder, public_key=None if key is None else str(key))
    except OptimizeError as problem:
        return "refused", str(problem)
    return ("accepted" if verified.outcome == "pass" else "refused"), verified.findings[-1]


def by_itself(folder: Path, key: Path) -> tuple[str, str]:
    """What the bundle's own runner says, started as its README says: accepted only where it ends with 0 and names its self-test."""
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    call = [sys.executable, "-m", "bundle", "check", "--key", str(key)]
    done = subprocess.run(call, cwd=folder, env=quiet, capture_output=True, text=True, errors="replace")
    accepted = done.returncode == 0 and "self-test" in done.stdout
    return "accepted" if accepted else "refused", f"{done.returncode}: {(done.stderr or done.stdout).strip().splitlines()[-1:]}"


def one(seed: int, work: Path, bundles: Mapping[str, Path], attacker: Path, public: Path) -> dict[str, Any]:
    """One tampering of a signed bundle."""
    place = seed // len(KINDS) % len(TARGETS)
    mine, other = bundles[TARGETS[place]], bundles[TARGETS[1 - place]]
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        copy = Path(scratch) / "copy"
        kind = tampered(copy, seed, mine, other, attacker)
        keyed, words = by_runner(copy, public)
        result = {"seed": seed, "target": TARGETS[place], "kind": kind, RUNNER: keyed, "words": words.replace(str(copy), "BUNDLE")}
        result |= {VERIFY: by_verify(copy, public)[0], NO_KEY: by_runner(copy, None)[0]}
        if kind == OWN_RUNNER:
            said, line = by_itself(copy, public)
            result |= {"its own runner": said, "its words": line.replace(str(copy), "BUNDLE")}
        return result


def untouched(bundles: Mapping[str, Path], public: Path) -> dict[str, int]:
    """How often untouched bundles are checked, and refused."""
    counts: Counter[str] = Counter()
    for folder in bundles.values():
        for number in range(UNTOUCHED):
            answers = [by_runner(folder, public)[0], by_runner(folder, None)[0]]
            if number < UNTOUCHED // 10:
                answers += [by_verify(folder, public)[0], by_itself(folder, public)[0]]
            counts["checked"] += len(answers)
            counts["refused"] += answers.count("refused")
    return {"checked": counts["checked"], "refused": counts["refused"]}


def rows(results: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """One line for each kind, and one for all."""
    kinds = [(kind, [result for result in results if result["kind"] == kind]) for kind in KINDS]
    return [_row(kind, some) for kind, some in kinds if some] + [_row("all", results)]


def _row(kind: str, some: Sequence[Mapping[str, Any]]) -> list[str]:
    counts = [Counter(result[case] for result in some) for case in (RUNNER, VERIFY, NO_KEY)]
    return [kind, str(len(some)), *(f"{count['refused']} refused, {count['accepted']} accepted" for count in counts)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--work", type=Path, default=CACHE.parent / "bundle_tampering")
    asked = parser.parse_args(arguments)
    asked.work.mkdir(parents=True, exist_ok=True)
    (own, public), (attacker, _) = keys(asked.work, "owner"), keys(asked.work, "attacker")
    with shown():
        made = {
            target: bundle(run(asked.work, target, own), asked.work / f"bundle-{target}", sign_key=own, overwrite=True)
            for target in TARGETS
        }
        bundles = {target: done.path for target, done in made.items()}
        checked = untouched(bundles, public)
        results = [one(seed, asked.work, bundles, attacker, public) for seed in track(range(asked.count), "tamper")]
    for result in results:
        if {result[RUNNER], result[VERIFY], result.get("its own runner", "refused")} != {"refused"}:
            note(str(result))
    alone = [result for result in results if result["kind"] == OWN_RUNNER]
    refused = sum(result["its own runner"] == "refused" for result in alone)
    clean = sum(result["its words"].startswith("4: ") for result in alone)
    notes = [
        f"Untouched bundles were checked {checked['checked']} times, and {checked['refused']} times refused.",
        f"Of {len(alone)} bundles with a byte of their own runner changed, that runner refused {refused}: {clean} in one line with "
        f"exit code 4, {refused - clean} ended in an error of Python before.",
        "Accepted without a key: all hashes were recomputed to fit what was changed, which nobody can notice. Pin a key.",
        "A runner whose checks were removed on purpose would accept its own bundle: check one that came by an unsafe way with "
        "`optimize verify`, or with a runner from elsewhere.",
    ]
    write("bundle_tampering", TITLE, COLUMNS, rows(results), {"results": results, "untouched": checked}, notes)
    print("\n".join(" | ".join(row) for row in rows(results)))
    print("\n".join(notes))


if __name__ == "__main__":
    main()
