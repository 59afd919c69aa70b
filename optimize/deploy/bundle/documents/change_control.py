"""change_control.json and .md: the record of the change, in the parts that regulators ask for in a plan of predetermined changes.

    description of modifications    what was changed, why, for which use, what stays as it is
    modification protocol           what was fixed before the run: data, retraining, evaluation with criteria and plan, update
    impact assessment               benefits and risks as measured, by class and subgroup; mitigations; what was verified
    traceability                    criterion -> why it is enough -> what was measured

What was fixed before the run comes from the protocol that `optimize compress --protocol` checked. Where there was none, the record says so
and quotes the limits of the run. Nothing is measured or judged here.

Source of the parts: the guidance of the U.S. Food and Drug Administration on predetermined change control plans (2024).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from optimize.backends import title
from optimize.deploy.bundle.bundled_run import BundledRun
from optimize.deploy.bundle.manifest import readable_json
from optimize.deploy.bundle.markdown import bullets, document, escaped, table
from optimize.report import change_control as words
from optimize.report import rails
from optimize.report.limit_words import LimitWords, limit_words
from optimize.report.limitations import limitations
from optimize.report.rows import find

NAME = "change_control.json"
PAGE = "change_control.md"
FORMAT, KIND = 1, "optimize-change-control"
NONE = "No protocol was fixed before the run. The limits were settings of the run; nobody signed them beforehand."
NOT_STATED = "not stated"
_BENEFITS = ("Speed at batch", "Size of the files", "Peak memory")
"""Beginnings of what `optimize/report/change_control.py` calls the evidence of a benefit; the rest is evidence on risks."""
_SPLITS = ("train", "calibration", "guard", "test")
_DESCRIBED = ("description", "reason", "intended_use", "unchanged")
_TRACED = ("criterion", "limit", "justification", "pass", "fail", "inconclusive")
_CONSEQUENCES = {"pass": "accepted", "fail": "rejected", "inconclusive": "inconclusive"}


def render(run: BundledRun) -> Mapping[str, str]:
    """Return the record as JSON, and as a page that shows the same."""
    content = record(run)
    return {NAME: readable_json(content), PAGE: page(content)}


def record(run: BundledRun) -> dict[str, Any]:
    """Return the record as plain JSON."""
    report = run.report
    return {
        "format": FORMAT,
        "kind": KIND,
        "title": find(report, "protocol", "content", "title") or f"Change of {run.name}",
        "created": report["created"],
        "verdict": run.verdict,
        "warning": run.warning,
        "description_of_modifications": _description(run),
        "modification_protocol": _protocol(report),
        "impact_assessment": _impact(run),
        "traceability": _traceability(report),
    }


def _description(run: BundledRun) -> dict[str, Any]:
    report, stated = run.report, _stated(run.report, "modification")
    steps = [step["step"] for step in report["steps"] or () if step["kept"]]
    return {
        "description": stated.get("description", NOT_STATED),
        "reason": stated.get("reason") or (report["change"] or {}).get("reason") or NOT_STATED,
        "intended_use": stated.get("intended_use", NOT_STATED),
        "unchanged": stated.get("unchanged", NOT_STATED),
        "as_made": words.intended(report, title(run.artifact.target)),
        # names of steps, each with how often it was kept, in the order of their first use
        "steps": [{"step": name, "kept": steps.count(name)} for name in dict.fromkeys(steps)],
        "original": {"name": run.name, "sha256": report["model"]["sha256"]},
        "artifact": {"target": run.artifact.target, "precision": run.artifact.precision, "sha256": run.artifact.sha256},
    }


def _protocol(report: Mapping[str, Any]) -> dict[str, Any]:
    fixed = report.get("protocol")
    practices, test = _stated(report, "practices"), _stated(report, "test_data")
    signature = fixed and fixed["signature"]
    return {
        "fixed_before_the_run": bool(fixed),
        "statement": words.protocol(report) if fixed else NONE,
        "file": fixed and fixed["file"],
        "sha256": fixed and fixed["sha256"],
        "date": fixed and fixed["content"].get("date"),
        "checked": fixed and fixed["checked"],
        "responsible": fixed and fixed["content"].get("responsible"),
        "signed_by": signature and signature["fingerprint"],
        "data_management": {
            "practice": practices.get("data", NOT_STATED),
            "test_data": test.get("description", NOT_STATED),
            "splits": {
                name: {"cases": split["cases"], "sha256": split["sha256"]} for name in _SPLITS if (split := report["data"].get(name))
            },
        },
        "retraining": practices.get("retraining", NOT_STATED),
        "performance_evaluation": {
            "statistical_plan": _stated(report, "statistics").get("plan", NOT_STATED),
            "criteria": [{"criterion": criterion, "limit": limit} for criterion, limit in words.fixed(report)],
            "consequences": {name: _stated(report, "consequences").get(name, NOT_STATED) for name in _CONSEQUENCES.values()},
        },
        "update": practices.get("update", NOT_STATED),
    }


def _impact(run: BundledRun) -> dict[str, Any]:
    report, stated = run.report, _stated(run.report, "impact")
    measured = list(words.evidence(report)) if report["compressed"] else []
    benefits = [f"{what}: {figures}" for what, figures in measured if what.startswith(_BENEFITS)]
    consequence = _CONSEQUENCES.get(run.verdict)
    return {
        "benefits": {"expected": list(stated.get("benefits", ())), "measured": benefits},
        "risks": {
            "expected": list(stated.get("risks", ())),
            "measured": [_risk(rail) for rail in rails.rails(report)],
            "changed_decisions": _changed(report),
        },
        "mitigations": {
            "stated": list(stated.get("mitigations", ())),
            "in_the_run": list(_mitigations(report)),
        },
        "verified": list(_verified(run)),
        "limitations": limitations(report, title(run.artifact.target)),
        "consequence_of_this_verdict": _stated(report, "consequences").get(consequence, NOT_STATED) if consequence else NOT_STATED,
    }


def _risk(rail: Mapping[str, Any]) -> dict[str, Any]:
    place = {"overall": "all cases", "class": f"class {rail['name']}", "group": f"{rail['column']} {rail['name']}"}[rail["scope"]]
    facts = {key: rail[key] for key in ("before", "after", "value", "low", "high", "outcome", "unit")}
    return {"cases": place, "figure": rails.name(rail), "limit": rails.limit(rail), "n": rail["seen"], **facts}


def _changed(report: Mapping[str, Any]) -> dict[str, Any] | None:
    flips = report["flips"]
    return None if not flips else {key: flips[key] for key in ("cases", "regressed", "fixed", "changed", "p_value")}


def _mitigations(report: Mapping[str, Any]) -> Iterator[str]:
    yield "A proposal that did not hold the limits on the guard split was rolled back."
    yield "The compiled artifact, not the network before compilation, was compared with the original on the test split."
    if any(rail["scope"] == "class" for rail in rails.rails(report)):
        yield "Each class had a limit of its own."
    if any(rail["scope"] == "group" for rail in rails.rails(report)):
        yield "Each subgroup had a limit of its own."
    yield "The runner of the bundle repeats recorded outputs at every start and refuses to run when they differ."


def _verified(run: BundledRun) -> Iterator[str]:
    report = run.report
    for rail in rails.rails(report):
        yield f"{rails.name(rail)}: {rail['outcome']} ({rails.limit(rail)}; {rail['seen']} {rail['unit']})."
    parity = report["parity"]
    if parity:
        largest = f"largest difference {parity['max_abs_diff']:.3g} on {parity['cases']} cases"
        yield f"The exported network gives what the network in the framework gives: {largest}."
    if run.artifact.golden is not None:
        yield "Outputs for recorded inputs are in the bundle, for a check on each machine."


def _traceability(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row for each limit: what it limits, why it is enough, and every guard-rail that was judged by it."""
    why = _stated(report, "justification")
    judged = rails.rails(report)
    rows = []
    for limit in limit_words(report):
        if not limit.asked:
            continue
        evidence = [rail for rail in judged if _is_judged_by(rail, limit)]
        counts = {outcome: sum(rail["outcome"] == outcome for rail in evidence) for outcome in ("pass", "fail", "inconclusive")}
        # the limit of subgroups is that of classes where none was set for them, and so is the reason
        reason = why.get(limit.name) or (why.get("max_class_drop") if limit.name == "max_group_drop" else None) or NOT_STATED
        rows.append({"criterion": limit.criterion, "limit": limit.stated, "justification": reason, **counts})
    return rows


def _is_judged_by(rail: Mapping[str, Any], limit: LimitWords) -> bool:
    """Return whether a guard-rail belongs to a limit; the report does not say it, so it follows from rule, figure and scope."""
    # "max_class_drop" is about classes, "max_group_drop" about subgroups; "max_drop" is about all cases, other names about any of these
    scopes = [scope for scope in ("class", "group") if f"_{scope}_" in limit.name] or (["overall"] if limit.name == "max_drop" else [])
    # there is one ceiling, whose figure has words of its own
    fits = rail["figure"] in limit.criterion or rail["rule"] == "ceiling"
    return bool(rail["rule"] == limit.rule and fits and (not scopes or rail["scope"] in scopes))


def _stated(report: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    """Return a section of the protocol; empty where there was no protocol, or it has no such section."""
    return find(report, "protocol", "content", section) or {}


def page(content: Mapping[str, Any]) -> str:
    """Return the record as Markdown."""
    change, protocol, impact = (content[key] for key in ("description_of_modifications", "modification_protocol", "impact_assessment"))
    evaluation, risks = protocol["performance_evaluation"], impact["risks"]
    return document(
        f"# Change control: {escaped(content['title'])}",
        "" if content["warning"] is None else f"**WARNING: {escaped(content['warning'])}**",
        f"Verdict of the run: {escaped(content['verdict'])}. Date of the run: {escaped(content['created'])}.",
        "## 1. Description of modifications",
        table(("what", "as stated"), [(name.replace("_", " "), change[name]) for name in _DESCRIBED]),
        escaped(change["as_made"]),
        table(("step", "kept"), [(step["step"], step["kept"]) for step in change["steps"]]),
        table(("file", "SHA-256"), [("original", change["original"]["sha256"]), ("artifact", change["artifact"]["sha256"])]),
        "## 2. Modification protocol",
        escaped(protocol["statement"]),
        table(("what", "as stated"), _protocol_rows(protocol)),
        table(("criterion", "limit"), [(row["criterion"], row["limit"]) for row in evaluation["criteria"]]),
        table(("split", "cases", "SHA-256"), [(name, *split.values()) for name, split in protocol["data_management"]["splits"].items()]),
        "## 3. Impact assessment",
        "### Benefits",
        bullets((*(f"Expected: {text}" for text in impact["benefits"]["expected"]), *impact["benefits"]["measured"]))
        or "No benefit was stated or measured.",
        "### Risks",
        bullets(f"Expected: {text}" for text in risks["expected"]),
        table(("cases", "figure", "value", "bounds", "limit", "number", "result"), map(_risk_row, risks["measured"]))
        or "No guard-rail was judged.",
        _changed_sentence(risks["changed_decisions"]),
        "### Mitigations",
        bullets((*(f"Stated: {text}" for text in impact["mitigations"]["stated"]), *impact["mitigations"]["in_the_run"])),
        "### What was verified",
        bullets(impact["verified"]),
        "### Limitations",
        bullets(impact["limitations"]),
        "### Consequence of this verdict",
        escaped(impact["consequence_of_this_verdict"]),
        "## 4. Traceability",
        table(
            ("criterion", "limit", "justification", "passed", "failed", "undecided"),
            [[row[key] for key in _TRACED] for row in content["traceability"]],
        ),
    )


def _protocol_rows(protocol: Mapping[str, Any]) -> list[tuple[str, Any]]:
    evaluation, data = protocol["performance_evaluation"], protocol["data_management"]
    return [
        ("responsible", protocol["responsible"] or NOT_STATED),
        ("date", protocol["date"] or NOT_STATED),
        ("data management", data["practice"]),
        ("test data", data["test_data"]),
        ("retraining", protocol["retraining"]),
        ("statistical plan", evaluation["statistical_plan"]),
        *((f"if {name}", said) for name, said in evaluation["consequences"].items()),
        ("update", protocol["update"]),
    ]


def _risk_row(risk: Mapping[str, Any]) -> tuple[Any, ...]:
    value, low, high = ("–" if risk[key] is None else f"{risk[key]:.4f}" for key in ("value", "low", "high"))
    return risk["cases"], risk["figure"], value, f"{low} to {high}", risk["limit"], f"{risk['n']} {risk['unit']}", risk["outcome"]


def _changed_sentence(changed: Mapping[str, Any] | None) -> str:
    if changed is None:
        return ""
    regressed, fixed = changed["regressed"], changed["fixed"]
    return f"Of {changed['cases']} decisions, {regressed} were right and are wrong now; {fixed} were wrong and are right now."
