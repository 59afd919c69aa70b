"""`optimize gate`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloup

from optimize.cli.one_line_errors import one_line_errors
from optimize.cli.options import FILE, data_option, history_option, json_option, seed_option, verbose_option
from optimize.cli.printing import say
from optimize.deploy.gate.criteria import rows

Function = Callable[..., Any]


def _limit_options(command: Function) -> Function:
    """Add an option for every criterion, as a group of their own in the help."""
    options = [cloup.option(row.option, row.name, metavar=row.example, help=row.help) for row in rows()]
    return cloup.option_group("Limits: how much worse the candidate may be", *options)(command)


@cloup.command()
@cloup.option_group(
    "Models",
    cloup.option("--baseline", type=FILE, metavar="BASELINE", help="A run, an artifact, an .onnx file, or a stored baseline (.json)."),
    cloup.option("--candidate", type=FILE, metavar="CANDIDATE", help="A run, an artifact or an .onnx file."),
    cloup.option("--target", metavar="NAME", help="What runs .onnx files; by default the other side's target, or the first installed."),
    cloup.option("--write-baseline", type=FILE, metavar="FILE", help="Measure the candidate alone and store it as a baseline."),
)
@_limit_options
@cloup.option_group(
    "How it is measured",
    cloup.option("--batches", metavar="N,…", help="Batch sizes such as 1,8, at each of which latency is compared; by default 1."),
    cloup.option("--threads", metavar="N", help="Number of threads; by default 1, which other work on the machine disturbs least."),
    cloup.option("--max-seconds", metavar="S", help="Longest comparison of latency at each batch size; by default 120."),
    data_option("Labelled data, as for compress; accuracy is compared on its test images."),
    seed_option(),
)
@cloup.option_group(
    "Output",
    cloup.option("--junit", metavar="FILE", help="Write JUnit XML, a test case for each figure."),
    cloup.option("--summary", metavar="FILE", help="Append Markdown with a small plot, such as to $GITHUB_STEP_SUMMARY."),
    history_option("Append to a history; without --baseline and --candidate, show it with its change points."),
    cloup.option("--html", metavar="FILE", help="With --history alone: write it as a page."),
    cloup.option("--commit", metavar="ID", help="Commit for the history; by default GITHUB_SHA, CI_COMMIT_SHA or GIT_COMMIT."),
    cloup.option("--out", metavar="FILE", help="Write the result as JSON to FILE, with every sample."),
    json_option("the result"),
    verbose_option(),
)
def gate(baseline: Path | None, candidate: Path | None, as_json: bool, verbose: bool, **settings: Any) -> None:
    """Compare a candidate with a baseline on this machine: latency, accuracy, memory, size.

    Both run in fresh processes in turns, and a sequential test stops as soon as it can decide.

    Exit code: 0 pass, 1 regression, 2 wrong input, 3 inconclusive, 4 it cannot run here.
    """
    with one_line_errors(as_json, verbose=verbose):
        from optimize.run.gate import run_gate

        finished = run_gate(baseline, candidate, **settings)
    say(json.dumps(finished.as_dict(), sort_keys=True) if as_json else "\n".join(finished.lines))
    sys.exit(finished.exit_code)
