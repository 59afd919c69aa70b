"""`optimize compress`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
import cloup

from optimize.cli.limit_options import either, limit_options
from optimize.cli.one_line_errors import EXIT, one_line_errors
from optimize.cli.options import (
    FILE,
    Function,
    arch_option,
    data_option,
    history_option,
    input_option,
    json_option,
    most_used,
    seed_option,
    sign_key_option,
    trust_pickle_option,
    verbose_option,
)
from optimize.cli.printing import print_plan, print_summary, say
from optimize.searching.strategy_names import strategy_names

MODEL_OPTIONS = cloup.option_group(
    "What to compress, and for what",
    cloup.option("--target", metavar="NAME", help="openvino, onnxruntime, cpu for the faster of the two, tensorrt or tensorrt-rtx."),
    arch_option(),
    input_option(),
    cloup.option("--weights", metavar="NAME", help="Set of weights in the file, such as state_dict_ema; by default not an averaged one."),
    cloup.option("--output", metavar="NAME|INDEX", help="Output to take, where the network returns several; by default the usual one."),
    cloup.option("--outputs", metavar="MEANING", help="What the network gives: logits or probabilities; by default its values show it."),
    cloup.option("--expect", metavar="0.96", help="Overall accuracy, or Dice, that the original must reach."),
    cloup.option("--allow-weak-original", is_flag=True, default=None, help="Accept an original that is no better than a constant answer."),
    trust_pickle_option(),
    cloup.option("--cpu-level", metavar="LEVEL", help="Processor to compile for, such as avx2; by default this one."),
    cloup.option("--compute-capability", metavar="8.6,…", help="For tensorrt-rtx: GPUs to compile for; by default this one, or the usual."),
    cloup.option("--threads", metavar="N", help="Number of threads of the runtime; by default its own choice."),
    cloup.option("--batch", metavar="N", help="The batch size that is timed beside 1."),
)
DATA_OPTIONS = cloup.option_group(
    "Data",
    data_option("Images and labels: an .npz, a folder, a table, shards or file.py:factory; see docs/data.md."),
    cloup.option("--preprocessing", metavar="NAME", help="A usual preparation: imagenet, timm or huggingface; the next flags override it."),
    cloup.option("--mean", metavar="M,…", help="Mean of each channel, of pixels in 0..1."),
    cloup.option("--std", metavar="S,…", help="Standard deviation of each channel, of pixels in 0..1."),
    cloup.option("--pad", metavar="N", help="Zeros around each image, after normalising."),
    cloup.option("--standardize", metavar="image", help="Use each image's own mean and std per channel, of pixels as stored."),
    cloup.option("--resize", metavar="S|H,W", help="Resize image files: the shorter side, or both."),
    cloup.option("--crop", metavar="S|H,W", help="Cut this out of the middle of image files, after resizing."),
    cloup.option("--interpolation", metavar="NAME", help="How image files are resized: bilinear, bicubic, nearest or lanczos."),
    cloup.option("--classes", metavar="NAME,…", help="Names of the labels; with masks, of the foreground classes."),
    cloup.option("--drop-overlap", is_flag=True, default=None, help="Drop items that stand in two splits instead of refusing the data."),
    cloup.option("--task", metavar="NAME", help="Labels: classification, multilabel, ordinal, regression, embedding; often shown."),
    history_option("Record of looks at the test split; by default DATA.looks.jsonl, beside the data."),
    cloup.option("--fresh-test", is_flag=True, default=None, help="Nobody has looked at the test split: refuse it if the record knows it."),
)
_SEARCH = cloup.option_group(
    "Search",
    cloup.option("--speedup", metavar="4x", help="Speed that must be reached, as a multiple of the original's in the target's runtime."),
    cloup.option("--latency-target", "latency_target_ms", metavar="5ms", help="Median latency at batch 1 that must be reached."),
    cloup.option("--retrain/--no-retrain", default=None, help="Train briefly after repair; needs a train split with labels."),
    cloup.option("--strategy", metavar="NAME", help=f"How the search proceeds: {either(strategy_names())}."),
    cloup.option(
        "--importance",
        metavar="NAME",
        help="Signal that says which channels go first: output_error, magnitude, taylor, …; see docs/search.md.",
    ),
    cloup.option("--prefer", metavar="WHAT", help="What the allowed loss is spent on: balanced, latency or size."),
    cloup.option("--power", metavar="P", help="Chance of acceptance that the search aims at; 0.9 by default. Less is bolder."),
    seed_option(),
    cloup.option("--time-budget", metavar="3min", help="Time that the run may take: 90s, 3min or 1h. The search ends early enough for it."),
    cloup.option("--force", is_flag=True, default=None, help="Run also where the test split is known to be too small for a verdict."),
)
_OUTPUT = cloup.option_group(
    "Run and output",
    cloup.option("--recipe", "recipe_file", type=FILE, help="A toml file of settings; it overrides the optimize.toml beside the model."),
    cloup.option("--out", metavar="DIR", help="Folder for the results; by default MODEL-TARGET in the current folder."),
    cloup.option("--resume", is_flag=True, help="Continue the interrupted run in --out."),
    cloup.option("--overwrite", is_flag=True, help="Replace the run in --out."),
    cloup.option("--reason", metavar="TEXT", help="Why this change is made, for the report's change control."),
    cloup.option("--protocol", metavar="FILE", help="Protocol of the change that was fixed before the run; a run that differs is refused."),
    sign_key_option(),
    json_option("the report"),
    verbose_option(),
)
MOST_USED = ("target", "data", "arch", "out", "recipe_file", "max_drop", "max_class_drop", "speedup", "retrain", "resume")


def run_options(command: Function) -> Function:
    """Add the model and every setting of a run to a command, with the most used ones first in its help."""
    # innermost first: `most_used` moves options that the groups have added before
    for decorate in (_OUTPUT, _SEARCH, limit_options, DATA_OPTIONS, MODEL_OPTIONS, most_used(*MOST_USED)):
        command = decorate(command)
    return click.argument("model", required=False, type=FILE)(command)


@cloup.command()
@run_options
@cloup.option("--dry-run", is_flag=True, help="Plan the run and end: what would be done, how long, and what can be decided.")
def compress(
    model: Path | None,
    target: str | None,
    recipe_file: Path | None,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    verbose: bool,
    dry_run: bool,
    **settings: Any,
) -> None:
    """Prune, repair, quantize, compile and verify MODEL for --target.

    Command-line flags override --recipe FILE, which overrides the optimize.toml beside the model, which overrides the defaults.

    Exit code: 0 accepted, 1 rejected, 2 wrong input, 3 inconclusive, 4 the target cannot run here. With --dry-run those of `optimize plan`.
    """
    if dry_run:
        print_plan(model, target, recipe_file, settings, resume=resume, overwrite=overwrite, as_json=as_json, verbose=verbose)
    again = f"the same command with --resume{' instead of --overwrite' if overwrite else ''} continues this run"
    # Imported inside the block: they take seconds, in which the user may stop the command.
    with one_line_errors(as_json, again, verbose):
        from optimize.run.compress import compress as run
        from optimize.run.compress import process_group
        from optimize.run.recipe import resolve

        recipe = resolve(model, target=target, overrides=settings, recipe_file=recipe_file)
        with process_group(recipe) as leads:
            report = run(recipe, resume=resume, overwrite=overwrite) if leads else None
    if report is None:
        return
    if as_json:
        say(json.dumps(report, sort_keys=True))
    else:
        print_summary(report, recipe.out)
    # a script decides by the exit code alone, without reading the report
    sys.exit(EXIT[report["verdict"]])
