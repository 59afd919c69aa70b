"""`optimize profile`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import cloup

from optimize.cli.one_line_errors import one_line_errors
from optimize.cli.options import FILE, arch_option, data_option, input_option, json_option, seed_option, trust_pickle_option, verbose_option
from optimize.cli.printing import say


@cloup.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=FILE)
@cloup.option_group(
    "What to measure",
    cloup.option("--batches", metavar="N,…", help="Batch sizes such as 1,8 or 1-4, each measured by itself; by default 1."),
    cloup.option("--threads", metavar="N,…", help="Numbers of threads such as 1,4 or 1-4, or all; by default each runtime's own choice."),
    cloup.option("--seconds", metavar="S", help="Shortest time of the rounds of each measurement; by default 5."),
    cloup.option("--background-load", "contend", metavar="N", help="Measure once more while N background processes run the same model."),
    cloup.option("--background-model", "contend_with", metavar="MODEL", help="Another model for the background processes to run."),
    cloup.option("--memory-limit", metavar="2GB", help="Also see whether a fresh process manages with this much address space."),
    cloup.option("--gpu-memory-limit", metavar="2GB", help="Ceiling of each background process on a GPU; see --background-load."),
)
@cloup.option_group(
    "Models and inputs",
    input_option("Shape of one input, where a model leaves it open."),
    data_option("As for compress; its test images are the inputs. By default the inputs are random."),
    arch_option("The function that builds the network of a torch model."),
    trust_pickle_option(),
    seed_option(),
)
@cloup.option_group(
    "Output",
    cloup.option("--out", metavar="FILE", help="Write the result as JSON to FILE, with every sample."),
    json_option("the result"),
    verbose_option(),
)
def profile(models: tuple[Path, ...], as_json: bool, verbose: bool, **settings: Any) -> None:
    """Measure models side by side on this machine: cold start, memory, latency in turns.

    MODEL is the folder of a compiled model or of a run, an .onnx file, or a torch model as `compress` takes it.
    The first is what the others are compared with.
    """
    with one_line_errors(as_json, verbose=verbose):
        from optimize.measure.text_report import lines
        from optimize.run.profile import profile as measure

        result = measure(models, **settings)
    # Unsorted: the first model stays the first.
    for line in [json.dumps(result)] if as_json else lines(result):
        say(line)
    if settings["out"] is not None and not as_json:
        say(f"written: {settings['out']}, with every sample")
