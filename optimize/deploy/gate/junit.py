"""A result as JUnit XML, which every CI system reads: one test case for each figure.

    pass            a test case
    fail            a test case with a `failure`
    inconclusive    a test case with an `error`: the test could not come to a verdict, so it must not look green
    not judged      a test case that is `skipped`

Reference: the JUnit schema that Jenkins and its plugins read (`testsuites`, `testsuite`, `testcase`).
"""

from __future__ import annotations

import platform
import re
from datetime import datetime
from xml.etree import ElementTree

from optimize.deploy.gate.judged import Judged
from optimize.deploy.gate.result import GateResult, in_words

SUITE = "optimize gate"
CLASS = "optimize.gate"
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML 1.0 document may hold, escaped or not."""
_ELEMENTS = {"fail": "failure", "inconclusive": "error", "not judged": "skipped"}


def junit(result: GateResult) -> str:
    """Return the XML document: one `testsuites` with one `testsuite`."""
    counts = {element: sum(_ELEMENTS.get(figure.outcome) == element for figure in result.judged) for element in _ELEMENTS.values()}
    totals = {
        "tests": str(len(result.judged)),
        "failures": str(counts["failure"]),
        "errors": str(counts["error"]),
        "time": f"{result.seconds:.3f}",
    }
    suites = ElementTree.Element("testsuites", {"name": SUITE, **totals})
    facts_of_suite = {
        "skipped": str(counts["skipped"]),
        # the schema has no time zone here
        "timestamp": datetime.fromisoformat(result.created).replace(tzinfo=None).isoformat(timespec="seconds"),
        "hostname": _plain(platform.node() or "localhost"),
    }
    suite = ElementTree.SubElement(suites, "testsuite", {"name": SUITE, **totals, **facts_of_suite})
    properties = ElementTree.SubElement(suite, "properties")
    facts = {"baseline": result.baseline, "candidate": result.candidate, "commit": result.commit, **result.fingerprint}
    for name, value in facts.items():
        ElementTree.SubElement(properties, "property", name=name, value=_plain(value))
    for figure in result.judged:
        _add_case(suite, figure)
    ElementTree.SubElement(suite, "system-out").text = _plain("\n".join(result.lines))
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def _add_case(suite: ElementTree.Element, figure: Judged) -> None:
    # The time of a single figure is not known: latency, cold start and memory share processes. 0 is what the schema asks for then.
    case = ElementTree.SubElement(suite, "testcase", name=_plain(figure.name), classname=CLASS, time="0")
    element = _ELEMENTS.get(figure.outcome)
    if element == "skipped":
        ElementTree.SubElement(case, element, message=_plain(figure.reason))
    elif element is not None:
        values = f"{in_words(figure.baseline, figure.unit)} -> {in_words(figure.candidate, figure.unit)}"
        body = ElementTree.SubElement(case, element, message=_plain(figure.reason), type=figure.criterion)
        body.text = _plain(f"{figure.name}: {values}; {figure.reason}")


def _plain(text: str) -> str:
    """Return text without what XML cannot hold: a file or a class may have any name."""
    return _FORBIDDEN.sub("?", text)
