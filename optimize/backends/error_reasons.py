"""Errors of the exporter and of the runtimes, in one clause that names the operator they are about.

Exporter and runtimes raise with pages of graph and log, in which one operator is to blame. A cause that is recognised here is named; of any
other error the first line is given.
"""

from __future__ import annotations

import re

LONGEST = 200
_TARGET = re.compile(r"target=(?:torch\.ops\.)?([\w.]+?)(?:\.default)?\]")
_DATA = re.compile(r"data-dependent|GuardOnDataDependent|unbacked symint|u\d+ \(unhinted", re.IGNORECASE)
_BATCH = re.compile(r"Constraints violated \(batch|You marked batch|batch.*specialized|inferred to be a constant", re.IGNORECASE)
_FAILED = re.compile(r"-- (\w+)-\d+ with a message:\s*(.*?)(?=\n\s*-- \w+-\d+ with a message:|\n\s*Summary:|\Z)", re.DOTALL)
_IN_TURN = re.compile(r"\bdynamic\b|has to be known|must be known", re.IGNORECASE)
_NO_RULE = re.compile(r"No conversion rule found for operations: ([\w.,\- ]+)")
_NO_KERNEL = re.compile(r"Could not find an implementation for (\w+)\(\d+\) node with name '([^']*)'")
_PARSER = re.compile(r"In node \d+ with name: (\S*) and operator: (\w+) \(([^)]*)\)")
_FIXED_BATCH = re.compile(r"Got invalid dimensions for input|are incompatible", re.IGNORECASE)
_NOISE = re.compile(r"^(Exception from|Check '|While validating|\[ONNXRuntimeError\] : \d+ : \w+ : )")


def exporter_reason(error: BaseException) -> str:
    """Return why a network could not be written as ONNX, and what to do about it."""
    # the exporter wraps what the user's forward raised; the cause has the words that matter, the wrapper the pages of advice
    cause = error.__cause__ or error
    text = f"{cause}\n{error}"
    operator = _TARGET.search(text)
    # from the most to the least specific: a data-dependent branch also mentions operators and sizes
    if _DATA.search(text):
        return f"its forward decides in Python on tensor values ({_line(cause)}): use torch.where, or take the decision out of forward"
    if _BATCH.search(text):
        return "its forward ties the batch size: keep it free (x.flatten(1), x.view(x.shape[0], …) instead of x.view(1, …))"
    if operator is not None:
        return f"the operator {operator[1]} has no ONNX form here: write that part of forward with other operators"
    return f"{_line(cause)}: its forward must not decide in Python on tensor values or on the batch size"


def runtime_reason(error: BaseException) -> str:
    """Return why a runtime cannot open or run a model, in one clause that names the operator where the runtime does."""
    text = str(error)
    if (missing := _NO_RULE.search(text)) is not None:
        names = ", ".join(dict.fromkeys(re.findall(r"([A-Za-z]\w*)-\d+", missing[1])))
        return f"it does not have the operator {names}"
    failed = [(operator, _last_words(message)) for operator, message in _FAILED.findall(text)]
    if failed:
        # readers of what failed fail in their turn, and may be listed first
        operator, words = next((failure for failure in failed if not _IN_TURN.search(failure[1])), failed[0])
        return f"it does not take the operator {operator} as it is used here ({words})"
    if (kernel := _NO_KERNEL.search(text)) is not None:
        return f"it does not have the operator {kernel[1]} (node {kernel[2]!r})"
    if (node := _PARSER.search(text)) is not None:
        return f"it does not take the operator {node[2]} (node {node[1]!r})"
    if _FIXED_BATCH.search(text):
        return f"the batch size is written into the model ({_line(error)})"
    return _line(error)


def _last_words(message: str) -> str:
    """Return the line of a nested message that says something: the last one that is no address in the runtime's source."""
    lines = [line.strip() for line in message.strip().splitlines() if line.strip()]
    said = [line for line in lines if not _NOISE.match(line)]
    return (said or lines or ["no reason is given"])[-1][:LONGEST]


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    said = next((line for line in lines if not line.startswith("Exception from")), type(error).__name__)
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : (\w+) : ", r"\1: ", said)[:LONGEST].rstrip(".:")
