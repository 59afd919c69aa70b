"""A thousand tamperings of a run's folder: which ones does `optimize verify` refuse, with the owner's key, without it, and unsigned?

    python -m benchmarks.studies.tampering [--count 1000] [--work DIR]

The runs are the demo's, for ONNX Runtime and for OpenVINO, each once signed and once not; tampering number n is of kind n modulo the number
of kinds (`benchmarks/tampering.py`), and everything else about it follows from n. Whoever tampers has all but the owner's private key.
What is finished lies in DIR.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import write
from benchmarks.studies.peers.cases import CACHE
from benchmarks.tampering import KINDS, tampered
from optimize.errors import OptimizeError
from optimize.progress import note, shown, track
from optimize.report import charts
from optimize.report.render import write as write_report
from optimize.run.compress import compress
from optimize.run.demo import prepared
from optimize.run.recipe import resolve
from optimize.run.verification.verify import verify

TARGETS = ("onnxruntime", "openvino")
COLUMNS = ("what was done", "times", "signed, with --public-key", "signed, without it", "unsigned")
TITLE = "Tamperings of a run's folder that `optimize verify` refused or named"
CASES = ("signed, with the key", "signed, without the key", "unsigned")


def keys(work: Path, name: str) -> tuple[Path, Path]:
    """A private key and its public half, as the documents say that they are made."""
    private, public = work / f"{name}.pem", work / f"{name}.pub"
    if not private.exists():
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
        private.chmod(0o600)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    return private, public


def run(work: Path, target: str, key: Path) -> Path:
    """A signed run of the demo's model, or what is kept of it."""
    folder = work / target
    if not (folder / "report.json").exists():
        model = work / "model.pt" if (work / "model.pt").exists() else prepared(work)
        compress(resolve(model, target=target, overrides={"out": folder, "sign_key": key}), overwrite=True)
    return folder


def unsigned(signed: Path) -> Path:
    """The same run without its signature."""
    folder = signed.with_name(f"{signed.name}-unsigned")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(signed, folder)
    write_report({**json.loads((folder / "report.json").read_text(encoding="utf-8")), "signature": None}, folder)
    return folder


def found(folder: Path, key: str | None) -> tuple[str, str]:
    """What `verify` says: "refused", "said" where a finding names it, or "accepted"; and its words."""
    try:
        verified = verify(folder, public_key=key)
    except OptimizeError as problem:
        return "refused", str(problem)
    if verified.outcome != "pass":
        return "refused", verified.findings[-1]
    telling = [
        line for line in verified.findings if line.startswith(("no report.json", "report.html is")) or line.endswith("is not of the run")
    ]
    return ("said", telling[0]) if telling else ("accepted", verified.findings[0])


def names(words: str, touched: Sequence[str]) -> bool:
    """Whether words name a file that was touched, its folder, or the report or the key that must have vouched for it."""
    known = {part for path in touched for part in (path, *path.split("/"))} | {"report.json", "--public-key"}
    return any(name in words or ascii(name)[1:-1] in words for name in known)


def one(seed: int, work: Path, runs: Mapping[str, tuple[Path, Path, Path]], attacker: Path, public: Path) -> dict[str, Any]:
    """One tampering of the signed run and of the unsigned one."""
    target = TARGETS[seed // len(KINDS) % len(TARGETS)]
    signed, bare, other = runs[target]
    result: dict[str, Any] = {"seed": seed, "target": target}
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        copy = Path(scratch) / "copy"
        kind, touched = tampered(copy, seed, signed, other, attacker)
        answer, words = found(copy, str(public))
        result |= {"kind": kind, CASES[0]: answer, "named": answer == "refused" and names(words, touched), "words": words}
        result[CASES[1]] = found(copy, None)[0]
        tampered(copy, seed, bare, other, attacker)
        result[CASES[2]] = found(copy, None)[0]
        result["unsigned, with the key"] = found(copy, str(public))[0]
    return {**result, "words": words.replace(str(copy), "RUN")}


def rows(results: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """One line for each kind, and one for all."""
    kinds = [(kind, [each for each in results if each["kind"] == kind]) for kind in KINDS]
    return [_row(kind, some) for kind, some in kinds if some] + [_row("all", results)]


def _row(kind: str, some: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = []
    for case in CASES:
        counts = Counter(each[case] for each in some)
        said = f", {counts['said']} said" if counts["said"] else ""
        cells.append(f"{counts['refused']} refused{said}, {counts['accepted']} accepted")
    return [kind, str(len(some)), *cells]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--work", type=Path, default=CACHE.parent / "tampering")
    asked = parser.parse_args(arguments)
    asked.work.mkdir(parents=True, exist_ok=True)
    (own, public), (attacker, _) = keys(asked.work, "owner"), keys(asked.work, "attacker")
    charts.available = lambda: False  # a page without pictures is a page too, and thousands are rendered
    with shown():
        signed = {target: run(asked.work, target, own) for target in TARGETS}
        # Whose files are put in a run's folder: those of the other runtime's run. Two of the same would differ in their report alone.
        runs = {target: (signed[target], unsigned(signed[target]), signed[TARGETS[1 - at]]) for at, target in enumerate(TARGETS)}
        for whole, bare, _ in runs.values():
            for folder, key in ((whole, str(public)), (whole, None), (bare, None)):
                assert found(folder, key)[0] == "accepted", "what nobody touched must be accepted"
        kept = asked.work / "results.json"
        results = json.loads(kept.read_text(encoding="utf-8"))[: asked.count] if kept.exists() else []
        for seed in track(range(len(results), asked.count), "tamper"):
            results.append(one(seed, asked.work, runs, attacker, public))
            if len(results) % 20 == 0:
                kept.write_text(json.dumps(results), encoding="utf-8")
        for each in results:
            if each[CASES[0]] != "refused" or not each["named"] or each["unsigned, with the key"] != "refused":
                note(json.dumps(each))
    named = sum(each["named"] for each in results)
    keyed = sum(each["unsigned, with the key"] == "refused" for each in results)
    notes = [
        f"With the key, {named} of {len(results)} refusals name a file that was touched, or the report or signature that no longer fits; "
        f"of the unsigned runs, {keyed} are refused where a key is given.",
        "“Said”: verified, but a line says that the report is missing, its page is another, or a file is not of the run.",
        "Accepted without a key: the report was rewritten to fit what was changed, which nobody can notice.",
    ]
    write("tampering", TITLE, COLUMNS, rows(results), {"results": results}, notes)
    print("\n".join(" | ".join(row) for row in rows(results)))


if __name__ == "__main__":
    main()
