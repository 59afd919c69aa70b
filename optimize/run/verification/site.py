"""Accept a bundle at a site: on its own machine, and with its own cases where it has some.

    the bundle, file by file -> is the runtime here? -> self-test -> the site's cases -> every file once more -> the record

With labels, the guard-rails of the run are judged against the original on the same cases; without, the agreement of both is. The criteria
are those that were fixed before the run. Nothing is written into the bundle, and nothing in it is executed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.backends import backend, onnx_target_names, title, versions
from optimize.deploy.bundle.extraction import extract
from optimize.deploy.bundle.manifest import MANIFEST
from optimize.errors import InputError, OptimizeError, TargetUnavailable
from optimize.hardware.machine import machine
from optimize.progress import note
from optimize.run.verification.bundle_archive import named_as, require_archive, require_bundle, require_not_around_a_bundle
from optimize.run.verification.site_integrity import ExaminedBundle, examine_bundle
from optimize.run.verification.verify import Verified, require_here, run_self_test, verify

if TYPE_CHECKING:
    from optimize.candidate import Floats, Predict
    from optimize.deploy.acceptance.judgement import Judgement
    from optimize.deploy.acceptance.local_cases import LocalCases
    from optimize.guard.rail import Outcome

RECORDED = "recorded answers in the data"
UNLIKE = 0.001
"""Chance below which a lower accuracy of the original here is not taken for chance."""
_UNUSED = ("model", "arch", "history", "trust_pickle")
"""Options of `optimize verify` that are about the files of a run."""


def is_bundle(path: Path) -> bool:
    """Return whether a path is to be read as a bundle: a file, which must be an archive, or a folder with a manifest."""
    return path.is_file() or (path.is_dir() and (path / MANIFEST).is_file())


def verify_path(path: Path, *, record: Path | None = None, **settings: Any) -> Verified:
    """Verify a run, an artifact or a bundle, whichever lies at the path.

    Args:
        path: folder of a run, of an artifact or of a bundle, or the archive of a bundle.
        record: folder for the acceptance record of a bundle; None for no record.
        settings: settings of `verify`; for a bundle those of `verify_bundle`, and of the others none may be set.

    Raises:
        InputError: when something was altered, or a setting does not fit what lies there.
        TargetUnavailable: when the target cannot run here.
    """
    if not is_bundle(path):
        require_not_around_a_bundle(path, path)
        if record is not None:
            raise InputError(f"`--record` (={record}) is for a bundle, and `{path}` is none: make one with `optimize bundle`.")
        return verify(path, **settings)
    for name in _UNUSED:
        if settings.pop(name, None) is not None:
            raise InputError(f"`--{name.replace('_', '-')}` is not used to verify a bundle, which holds all that is needed: leave it out.")
    return verify_bundle(path, record=record, **settings)


def verify_bundle(
    path: Path,
    *,
    public_key: str | None = None,
    data: object = None,
    record: Path | None = None,
    sign_key: str | Path | None = None,
) -> Verified:
    """Verify a bundle on this machine, and judge its model on the cases of this site.

    Args:
        path: folder of the bundle, or its archive, which is extracted into a temporary folder.
        public_key: key that must have signed the bundle, as a file in PEM or as base64; None for any signature or none.
        data: cases of the site, in the forms of `deploy/acceptance/local_cases.py`; None for none.
        record: folder for the acceptance record; None for no record.
        sign_key: private key that signs the record; None for no signature.

    Raises:
        InputError: when something in the bundle was altered, the key did not sign it, the cases do not fit the model, or the record cannot
            be written.
        TargetUnavailable: when the target cannot run here, or no runtime here opens the original.
    """
    from optimize.deploy.acceptance.record import require_free
    from optimize.report.signature import private_key

    if sign_key is not None:
        if record is None:
            raise InputError(f"`--sign-key` (={sign_key}) signs the acceptance record of a bundle: add --record FOLDER.")
        private_key(sign_key)  # before the work, since a wrong key would waste it
    if record is not None:
        require_free(record, path)
    with ExitStack() as opened:
        folder = path
        if path.is_file():
            require_archive(path)
            scratch = Path(opened.enter_context(tempfile.TemporaryDirectory()))
            opened.enter_context(named_as(path, scratch / "bundle"))
            folder = extract(path, scratch / "bundle")
            require_bundle(path, folder)
        bundle = examine_bundle(folder, public_key)
        require_here(bundle.artifact)
        checked = _checked(bundle, data)
        bundle.require_unchanged()
    return _finished(checked, record, sign_key)


@dataclass(frozen=True)
class _Checked:
    """What was found.

    Args:
        bundle: the bundle, whose files may be gone by now.
        outcome: outcome of everything together.
        reasons: sentences on what decided.
        findings: sentences on the bundle, the machine and the cases.
        self_test: outcome of the self-test and its sentences.
        cases: what is known of the cases; None where there were none.
        judgement: the judgement on them; None where there is none.
    """

    bundle: ExaminedBundle
    outcome: Outcome
    reasons: tuple[str, ...]
    findings: tuple[str, ...]
    self_test: tuple[Outcome, tuple[str, ...]]
    cases: Mapping[str, object] | None = None
    judgement: Judgement | None = None


def _checked(bundle: ExaminedBundle, data: object) -> _Checked:
    """Run the self-test, and judge the cases where there are some."""
    from optimize.deploy.acceptance.local_cases import local_cases
    from optimize.deploy.acceptance.model_use import ModelUse

    use, cases = None, None
    if data is not None:
        # before the self-test, so that data which do not fit are refused at once
        use = ModelUse.of(bundle.artifact)
        cases = local_cases(data, use)
    tested, lines = run_self_test(bundle.artifact)
    findings = (*bundle.findings, *lines)
    if tested == "fail" or cases is None or use is None:
        outcome, reasons = _capped(bundle, tested, lines[-1:], labelled=None)
        described = None if cases is None or use is None else {**cases.as_dict(use.classes), "original": "not asked"}
        return _Checked(bundle, outcome, reasons, findings, (tested, lines), described)
    judgement, original = _judged(bundle, cases)
    outcome, reasons = _capped(bundle, judgement.outcome, judgement.reasons, labelled=cases.labelled)
    said, unlike = _original_figure(bundle, judgement)
    findings += (*cases.findings, *_known_cases(bundle, cases), f"original: {original}", *(() if unlike else said))
    reasons = (*reasons, *(said if unlike else ()))
    return _Checked(bundle, outcome, reasons, findings, (tested, lines), {**cases.as_dict(use.classes), "original": original}, judgement)


def _judged(bundle: ExaminedBundle, cases: LocalCases) -> tuple[Judgement, str]:
    """Return the judgement on the cases, and what gave the original's outputs."""
    from optimize.deploy.acceptance.agreement import judge_agreement
    from optimize.deploy.acceptance.criteria import limits_of
    from optimize.deploy.acceptance.labelled import judge_labelled
    from optimize.deploy.acceptance.mask_agreement import judge_mask_agreement
    from optimize.deploy.acceptance.model_use import ModelUse

    artifact, use = bundle.artifact, ModelUse.of(bundle.artifact)
    limits = limits_of(bundle.report["limits"], use.task)
    judge: Callable[..., Judgement] = judge_labelled
    if not cases.labelled:
        if use.task not in ("classification", "segmentation"):
            raise InputError(f"`data` has no labels: without them only classes and masks are judged, not {use.task}: add test_labels.")
        judge = judge_agreement if use.task == "classification" else judge_mask_agreement
    onnx = bundle.folder / "onnx" / "original.onnx"
    with _original(onnx, cases) as (predict, name), backend(artifact.target).build(artifact) as session:
        return judge(limits, cases, use, predict, session.predict), name


@contextmanager
def _original(onnx: Path, cases: LocalCases) -> Iterator[tuple[Predict, str]]:
    """Yield the original's `predict`, by recorded outputs or by the first runtime here that opens its ONNX file, and its name."""
    if cases.recorded is not None:
        yield replayed(cases.recorded), RECORDED
        return
    reasons: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in onnx_target_names():
            runtime = backend(name)
            try:
                runtime.preflight()
            except TargetUnavailable as missing:
                reasons.append(str(missing))
                continue
            try:
                session = runtime.build(runtime.convert(onnx, Path(scratch) / name, "f32"))
            except OptimizeError:
                raise
            except Exception as problem:  # whatever a runtime raises about a file that it cannot open
                reasons.append(f"{title(name)} cannot open {onnx.name} ({' '.join(str(problem).split())[:200]}).")
                continue
            with session:
                yield session.predict, f"{onnx.name} in {title(name)} {runtime.version()}, f32"
            return
    raise TargetUnavailable(f"no runtime here opens the original: {' '.join(reasons)} Or give its recorded answers, `original_outputs`.")


def replayed(outputs: Floats) -> Predict:
    """Return a `predict` that gives recorded outputs, (N, K, …), in their order, as many as it is asked for."""
    position = 0

    def predict(inputs: Floats) -> Floats:
        nonlocal position
        start, position = position, position + len(inputs)
        return outputs[start:position]

    return predict


def _capped(
    bundle: ExaminedBundle, outcome: Outcome, reasons: tuple[str, ...], *, labelled: bool | None
) -> tuple[Outcome, tuple[str, ...]]:
    """Return an outcome that does not accept more than the verdict of the run allows, and its reasons.

    A run that was rejected is not accepted by other cases. One that was not decided may be, by labelled cases of the site.
    """
    verdict = bundle.manifest.verdict
    if outcome != "pass" or verdict == "pass" or (labelled and verdict != "fail"):
        return outcome, reasons
    cure = "no cases of a site undo that" if verdict == "fail" else "only labelled cases of the site can settle it"
    return "inconclusive", (f"the run itself did not accept this model (its verdict is {verdict!r}): {cure}", *reasons)


def _known_cases(bundle: ExaminedBundle, cases: LocalCases) -> Iterator[str]:
    """Yield a warning where the cases are those of the run, by their hash."""
    for name, split in bundle.report["data"].items():
        if split is not None and split["sha256"] == cases.sha256:
            yield f"these cases are the {name} split of the run: they show nothing new about the model"


def _original_figure(bundle: ExaminedBundle, judgement: Judgement) -> tuple[tuple[str, ...], bool]:
    """Return what the original reaches here and reached in the run, and whether it is surely worse here; nothing without labels.

    The criteria only compare two models, and hold for two that are equally bad. So this is said beside them.
    """
    from optimize.guard.exact import clopper_pearson

    here = next((figure for figure in judgement.figures if figure["scope"] == "overall" and figure["before"] is not None), None)
    stated = bundle.report.get("rails")
    rails = stated if isinstance(stated, list) else []
    there = next((rail for rail in rails if isinstance(rail, dict) and here is not None and rail.get("title") == here["title"]), {})
    run = there.get("before")
    if here is None or not isinstance(run, float):
        return (), False
    said = f"{here['title']} of the original: {100 * here['before']:.2f} % here, {100 * run:.2f} % in the run"
    n, share = here["seen"], here["before"]
    # of a share of cases chance is known: less than one in a thousand that so few would be right if the cases were alike
    unlike = "accuracy" in here["figure"] and clopper_pearson(share * n, n, UNLIKE)[1] < run
    return (f"{said}; these cases are not like those of the run: find out why before the model is used" if unlike else said,), unlike


def _finished(checked: _Checked, record: Path | None, sign_key: str | Path | None) -> Verified:
    from optimize.deploy.acceptance.record import write

    content = _record(checked)
    # without cases the last reason is the self-test's line, which stands among the findings already
    judgement = checked.judgement
    decided = checked.reasons[:-1] if judgement is None else (*checked.reasons, *(f"not judged: {line}" for line in judgement.not_judged))
    # names of classes and warnings come from the bundle: nothing in them may steer a terminal
    lines = tuple("".join(letter if letter.isprintable() else "?" for letter in line) for line in (*checked.findings, *decided))
    if record is not None:
        page = write(content, record, sign_key)
        note(f"acceptance record: {page}")
    figures = {name: content[name] for name in ("cases", "criteria", "judgement", "reasons", "limitations")}
    return Verified(checked.outcome, lines, figures=figures, record=record)


def _record(checked: _Checked) -> dict[str, Any]:
    """Return the content of the acceptance record."""
    from optimize.deploy.acceptance.record import limitations

    bundle, cases = checked.bundle, checked.cases
    manifest, (tested, lines) = bundle.manifest, checked.self_test
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "outcome": checked.outcome,
        "reasons": list(checked.reasons),
        "findings": list(checked.findings),
        "bundle": {
            **{name: getattr(manifest, name) for name in ("name", "target", "precision", "verdict", "accepted", "created", "warning")},
            "manifest_sha256": manifest.sha256,
            "artifact_sha256": bundle.artifact.sha256,
            "report_sha256": manifest.report["sha256"],
            "key": bundle.key,
            "task": bundle.report.get("task") or "classification",
        },
        "machine": {name: list(value) if isinstance(value, tuple) else value for name, value in machine().items()},
        "versions": versions(),
        "self_test": {"outcome": tested, "findings": list(lines)},
        "cases": None if cases is None else dict(cases),
        "criteria": dict(bundle.report["limits"]),
        "judgement": None if checked.judgement is None else checked.judgement.as_dict(),
        "limitations": limitations(labelled=None if cases is None else bool(cases["labelled"]), key_compared=bundle.key is not None),
    }
