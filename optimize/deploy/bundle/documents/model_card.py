"""model_card.md: what the model is, what it was made and tested with, what it reached, and what it is not for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from optimize.backends import title
from optimize.deploy.bundle.bundled_run import BundledRun
from optimize.deploy.bundle.markdown import bullets, document, escaped, table
from optimize.deploy.bundle.measured_figures import CONFIDENCE, Figure, drops, figures
from optimize.report import change_control, wording
from optimize.report.limitations import limitations
from optimize.report.original import original_sentence
from optimize.report.rows import batches, find
from optimize.report.speed import UNRELIABLE, doubts

NAME = "model_card.md"
_SPLITS = ("train", "calibration", "guard", "test")
_USES = {
    "train": "repair, and training where it was allowed",
    "calibration": "statistics and ranges of numbers",
    "guard": "decisions of the search",
    "test": "the verdict",
}


def render(run: BundledRun) -> str:
    """Return the model card."""
    report, runtime = run.report, title(run.artifact.target)
    return document(
        f"# Model card: {escaped(run.title)}",
        "" if run.warning is None else f"**WARNING: {escaped(run.warning)}**",
        "## What it is",
        table(("what", "value"), _identity(run)),
        "## Intended change and intended use",
        bullets(_intended(run, runtime)),
        "## Data",
        "The data are not in this bundle. A hash is over images and labels.",
        table(("split", "used for", "cases", "patients", "SHA-256"), _splits(report)),
        "## Limits fixed before the run",
        table(("criterion", "limit"), change_control.fixed(report)),
        "## Verdict",
        bullets((f"Verdict of the run: {report['verdict']}.", *report["reasons"])),
        "## Figures on the test split",
        _measured(figures(report)),
        "## Differences from the original, as judged",
        _judged(report),
        "## Speed, memory and size",
        _speed(report),
        "## Limitations",
        bullets((*limitations(report, runtime), *(str(note) for note in report["notes"]))),
        "## Not for",
        bullets(_not_for(run, runtime)),
    )


def _identity(run: BundledRun) -> Iterator[tuple[str, Any]]:
    report, output = run.report, run.use["output"]
    yield "original", f"{run.name}, SHA-256 {report['model']['sha256']}"
    yield "architecture", report["model"].get("arch") or "as the file holds it"
    yield "artifact", f"{title(run.artifact.target)}, {run.artifact.precision}, SHA-256 {run.artifact.sha256}"
    yield "task", output["task"]
    yield "classes", ", ".join(map(str, output["classes"]))
    yield "input", f"{wording.shape(run.use['input']['shape'])}, {run.use['input']['layout']}"
    yield "output", f"{wording.shape(output['shape'])}, {output['meaning']}; {output['decision']}"
    yield "date of the run", report["created"]
    yield "licence of the model", run.model_licence or "not stated: see LICENSES.md"


def _intended(run: BundledRun, runtime: str) -> Iterator[str]:
    report = run.report
    yield change_control.intended(report, runtime)
    stated = find(report, "protocol", "content", "modification") or {}
    yield f"Intended use: {stated['intended_use']}" if stated.get("intended_use") else "Intended use: not stated. No protocol was fixed."
    reason = stated.get("reason") or (report["change"] or {}).get("reason")
    yield f"Reason: {reason}" if reason else "Reason: none was given."


def _splits(report: Any) -> Iterator[tuple[Any, ...]]:
    for name in _SPLITS:
        split = report["data"].get(name)
        if split:
            patients = "not known" if split.get("patients") is None else split["patients"]
            yield name, _USES[name], split["cases"], patients, split["sha256"]


def _measured(found: list[Figure]) -> str:
    if not found:
        return "Nothing was measured on the artifact."
    rows = [
        (figure.slice or "all", figure.name, _number(figure.before), _number(figure.value), _interval(figure), _n(figure))
        for figure in found
    ]
    share = wording.plain(100 * CONFIDENCE)
    return document(
        table(("cases", "figure", "original", "artifact", f"{share} % interval of the artifact", "number"), rows),
        "An interval is given for shares of independent cases (Clopper and Pearson). For other figures none was computed.",
    ).rstrip()


def _judged(report: Any) -> str:
    if not report["rails"]:
        return "The guard-rails were not judged."
    rows = [
        (figure.slice or "all", figure.name, _number(figure.value), _interval(figure), rail["stated"], rail["outcome"], _n(figure))
        for figure, rail in zip(drops(report), report["rails"], strict=True)
    ]
    return table(("cases", "figure", "value", "bounds", "limit", "result", "number"), rows)


def _speed(report: Any) -> str:
    rows: list[tuple[str, ...]] = []
    for batch in batches(report):
        # a figure that is not reliable is named without its number, so that nobody copies it from here
        unsure = bool(doubts(report, batch))
        timed = (("original", report["baseline"]), *sorted((report["baselines"] or {}).items()), ("artifact", report["compressed"]))
        for name, part in timed:
            median = find(part, "latency_ms", batch, "p50")
            if median is not None:
                said = UNRELIABLE if unsure else f"{wording.milliseconds(median)} ms at the median"
                rows.append((f"latency at batch {batch}", name, said))
    for key, what in (("peak_memory_bytes", "peak memory of the process"), ("size_bytes", "size of the files")):
        for name, part in (("original", report["baseline"]), ("artifact", report["compressed"])):
            if find(part, key) is not None:
                rows.append((what, name, wording.scaled(part[key], "B")))
    facts = ((wording.label(key), wording.fact(key, value)) for key, value in sorted((report["machine"] or {}).items()))
    return document(table(("what", "of", "value"), rows), "Measured on this machine:", table(("fact", "value"), facts)).rstrip()


def _not_for(run: BundledRun, runtime: str) -> Iterator[str]:
    known = original_sentence(run.report)
    if known:
        yield f"Cases on which the original itself is not good enough. {known}"
    yield "Images that were taken or stored in another way than those of the test split."
    yield f"Classes other than these: {', '.join(map(str, run.use['output']['classes']))}."
    yield f"Another runtime, precision or processor than {runtime} in {run.artifact.precision}, without a check on that machine."
    yield "A decision about a patient without the review that the intended use requires."


def _number(value: float | None) -> str:
    return wording.DASH if value is None else f"{value:.4f}"


def _interval(figure: Figure) -> str:
    ends = (figure.low, figure.high)
    return wording.DASH if ends == (None, None) else " to ".join("not bounded" if end is None else f"{end:.4f}" for end in ends)


def _n(figure: Figure) -> str:
    return wording.DASH if figure.n is None else str(figure.n)
