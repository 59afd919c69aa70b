"""A result as Markdown, for the summary of a job and for comments on a merge request, with a small plot of text.

The plot is text in a code block. It looks the same on GitHub, GitLab, in Jenkins, in mail and in a terminal; pictures, SVG and HTML are
stripped by one or another of them, and Mermaid has no chart with intervals.

    latency, batch 1  ······┊···├─●─┤···┃······  +1.2 %      ┊ no change, ● measured, ├ ┤ interval, ┃ limit
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from optimize.deploy.gate.judged import Judged, change_in_words, limit_in_words
from optimize.deploy.gate.result import GateResult, in_words

WIDTH = 41
"""Characters of one line of the plot."""
SIGNS = {"pass": "✅ pass", "fail": "❌ regression", "inconclusive": "⚠️ inconclusive", "not judged": "not judged"}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+!|~&])")


def job_summary(result: GateResult) -> str:
    """Return the Markdown of a result."""
    parts = [f"## {SIGNS[result.outcome]}: latency gate", "", f"{_code(result.candidate)} against {_code(result.baseline)}", ""]
    parts += ["| figure | baseline | candidate | change | limit | outcome |", "|---|---:|---:|---:|---:|---|"]
    parts += [_row(figure) for figure in result.judged]
    if lines := list(plot(result)):
        parts += ["", "```text", *lines, "```"]
    if result.reasons:
        parts += ["", *(f"- {escaped(reason)}" for reason in result.reasons)]
    where = f"{result.fingerprint.get('cpu', '')}, {result.fingerprint.get('runtime', '')}, {result.seconds:.0f} s"
    ending = f" Commit {_code(result.commit)}." if result.commit else ""
    parts += ["", *(f"{escaped(note)}  " for note in result.notes), f"Measured on {escaped(where)}.{ending}"]
    return "\n".join(parts) + "\n"


def plot(result: GateResult) -> Iterator[str]:
    """Yield one line of text for each figure whose change is known: the interval of the change beside 0 and the limit.

    Figures with a limit share no scale: each line runs from twice its limit better to twice its limit worse.
    """
    known = [figure for figure in result.judged if figure.change is not None]
    width = max((len(figure.name) for figure in known), default=0)
    for figure in known:
        assert figure.change is not None
        yield f"{figure.name:{width}}  {_bar(figure)}  {_change(figure)}"
    if known:
        yield f"{'':{width}}  ┊ no change   ● measured   ├ ┤ interval   ┃ limit"


def _bar(figure: Judged) -> str:
    assert figure.change is not None
    ends = [abs(value) for value in (figure.change, figure.low, figure.high) if value is not None]
    # without a limit, or with one of 0, the line is as long as the change needs
    reach = 2 * figure.limit if figure.limit else max(max(ends), 0.01)

    def place(value: float) -> int:
        share = (min(max(value, -reach), reach) + reach) / (2 * reach)
        return round(share * (WIDTH - 1))

    cells = ["·"] * WIDTH
    cells[place(0.0)] = "┊"
    if figure.low is not None and figure.high is not None:
        low, high = place(figure.low), place(figure.high)
        cells[low : high + 1] = ["─"] * (high - low + 1)
        # an end beyond the line is an arrow, and not a bound
        cells[low], cells[high] = "├" if figure.low >= -reach else "◂", "┤" if figure.high <= reach else "▸"
    if figure.limit is not None:
        cells[place(figure.limit)] = "┃"
    cells[place(figure.change)] = "●"
    return "".join(cells)


def _change(figure: Judged) -> str:
    """Return candidate − baseline in words: a drop of accuracy is negative here, though it counts as worse."""
    if figure.change is None:
        return ""
    return change_in_words(-figure.change if figure.rule == "drop" else figure.change, figure.rule)


def _row(figure: Judged) -> str:
    change = _change(figure)
    limit = "none" if figure.limit is None else limit_in_words(figure.limit, figure.rule)
    values = in_words(figure.baseline, figure.unit), in_words(figure.candidate, figure.unit)
    return f"| {escaped(figure.name)} | {values[0]} | {values[1]} | {change} | {limit} | {SIGNS[figure.outcome]} |"


def escaped(text: str) -> str:
    r"""Return text that Markdown shows as it is: a class may be called `<b>` or `a|b`.

    >>> print(escaped("a|b"))
    a\|b
    """
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """Return text as code; a backtick in it would end the code, so it is replaced."""
    return f"`{' '.join(text.split()).replace('`', chr(0x2B9))}`"
