"""The command `optimize`: parse, call the library, print.

Exit codes: 0 accepted, 1 rejected, 2 wrong input, 3 inconclusive, 4 the target cannot run here; 130 interrupted, 70 a mistake of ours.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from optimize.errors import InputError, OptimizeError

EXIT = {"pass": 0, "fail": 1, "inconclusive": 3}
VERIFIED = {"pass": "VERIFIED on this machine", "fail": "REFUSED on this machine", "inconclusive": "INCONCLUSIVE on this machine"}
_OF_THE_MACHINE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}
"""Errors of files that the user can mend, wherever they come up."""
_TORCH_ALLOCATOR = "DefaultCPUAllocator: "
"""In a RuntimeError of torch, where others raise a MemoryError."""
INTERRUPTED, OURS = 130, 70
"""Stopped by the user; a mistake of this program, which must not read as "rejected" to whoever looks at the code alone."""


@contextmanager
def _answered(as_json: bool = False, again: str = "run it again") -> Iterator[None]:
    """Show progress while the block runs; end with one line and the exit code for whatever the user can mend."""
    from optimize.progress import shown

    try:
        with shown():
            yield
    except OptimizeError as problem:
        _refuse(str(problem), problem.exit_code, as_json)
    except KeyboardInterrupt:
        click.echo(f"interrupted: {again}.", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as problem:
        if isinstance(problem, OSError) and problem.errno in _OF_THE_MACHINE:
            file, reason = problem.filename or "a file of this run", str(problem.strerror).lower()
            text = f"`{file}` cannot be read or written ({reason}): see to its permissions, and to the room on its disk."
            _refuse(text, InputError.exit_code, as_json)
        if isinstance(problem, MemoryError) or _TORCH_ALLOCATOR in str(problem):
            said = " ".join(str(problem).rpartition(_TORCH_ALLOCATOR)[2].split()).rstrip(".") or "an allocation failed"
            text = f"there is not enough memory here ({said[:200]}): take a smaller --batch, or fewer images."
            _refuse(text, InputError.exit_code, as_json)
        traceback.print_exc()
        click.echo("error: this is a mistake in optimize, not in your input; the lines above say where.", err=True)
        sys.exit(OURS)


def _refuse(text: str, exit_code: int, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(json.dumps({"error": text, "exit_code": exit_code}))
    click.echo(f"error: {text}", err=True)
    sys.exit(exit_code)


class _Commands(click.Group):
    """Tells a wrong call as every other mistake is told, in one line: click's own way takes four, and knows no JSON."""

    def main(self, args: Sequence[str] | None = None, *more: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        run: Callable[..., Any] = super().main
        if not standalone_mode:
            return run(args, *more, standalone_mode=False, **extra)
        try:
            sys.exit(run(args, *more, standalone_mode=False, **extra))
        except click.exceptions.NoArgsIsHelpError as no_command:
            no_command.show()
            sys.exit(no_command.exit_code)
        except click.UsageError as problem:
            given = sys.argv[1:] if args is None else args
            said = " ".join(problem.format_message().split()).removesuffix(".")
            manual = " ".join(["optimize", *[each for each in given if each in self.commands][:1], "--help"])
            text = f"{said[:1].lower()}{said[1:]}{' See' if said.endswith('?') else ': see'} `{manual}`."
            _refuse(text, problem.exit_code, "--json" in given)
        except click.Abort:
            click.echo("interrupted: run it again.", err=True)
            sys.exit(INTERRUPTED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="optimize")
def main() -> None:
    """Take a trained model to a smaller, faster, verified artifact for the machine that will run it."""


@main.command()
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option("--target", metavar="NAME", help="openvino, onnxruntime, cpu for the faster of the two, tensorrt or tensorrt-rtx.")
@click.option("--compute-capability", metavar="8.6,…", help="GPUs that tensorrt-rtx compiles for; by default this one, or the usual ones.")
@click.option("--data", metavar="DATA", help="An .npz in the MedMNIST layout, or file.py:factory.")
@click.option("--out", metavar="DIR", help="Folder for the results; by default MODEL-TARGET here.")
@click.option("--arch", metavar="FILE.py:FACTORY", help="The function that builds the network.")
@click.option("--input", "input_shape", metavar="C,H,W", help="Shape of one input, such as 3,32,32.")
@click.option("--weights", metavar="NAME", help="Which weights of the file to take, such as state_dict_ema; by default no averaged ones.")
@click.option("--mean", metavar="M,…", help="Per channel, of pixels in 0..1.")
@click.option("--std", metavar="S,…", help="Per channel, of pixels in 0..1.")
@click.option("--pad", metavar="N", help="Zeros around each image, after normalising.")
@click.option("--standardize", metavar="image", help="By each image's own mean and std per channel, of pixels as stored.")
@click.option("--classes", metavar="NAME,…", help="Names of the labels; with masks, of the foreground classes.")
@click.option("--outputs", metavar="MEANING", help="What the network gives: logits or probabilities; by default its values show it.")
@click.option("--expect", metavar="0.96", help="Overall accuracy, or Dice, that the original is known to reach; it must.")
@click.option("--allow-weak-original", is_flag=True, default=None, help="Go on with an original that is no better than a constant answer.")
@click.option("--drop-overlap", is_flag=True, default=None, help="Drop items that stand in two splits instead of refusing the data.")
@click.option("--history", metavar="FILE", help="Record of looks at the test split; by default DATA.looks.jsonl, beside the data.")
@click.option("--fresh-test", is_flag=True, default=None, help="Nobody has looked at the test split: refuse it if the record knows it.")
@click.option("--recipe", "recipe_file", type=click.Path(path_type=Path), help="Settings; overrule the optimize.toml beside the model.")
@click.option("--preset", metavar="NAME", help="Limits by name: celeba, cifar, bloodmnist or clinical; single ones overrule it.")
@click.option("--verdict", metavar="MODE", help="statistical: the bound of a loss must stay within its limit; point: the measured loss.")
@click.option("--confidence", metavar="0.95", help="Of each bound of the statistical verdict.")
@click.option("--max-drop", metavar="2pp", help="Largest allowed drop of overall accuracy, or Dice; 2% is a share of the original's.")
@click.option("--max-class-drop", metavar="6pp", help="Largest allowed drop of any class's recall; with masks, of its Dice.")
@click.option("--max-group-drop", metavar="6pp", help="Largest allowed drop within any subgroup; as --max-class-drop where not said.")
@click.option("--metric", metavar="NAME", help="What --max-drop is about: accuracy, macro_f1 or auc.")
@click.option("--class-metric", metavar="NAME", help="What --max-class-drop is about: recall, precision or f1.")
@click.option("--min-class-f1", metavar="0.85", help="F1, or Dice, that every class must reach.")
@click.option("--min-class-recall", metavar="0.9", help="Recall that every class must reach.")
@click.option("--min-agreement", metavar="0.95", help="With masks: Dice with the original's masks that must be reached.")
@click.option("--threshold", metavar="0.5", help="Share of the answer from which a case counts as positive for a class.")
@click.option("--positive", metavar="NAME,…", help="The classes that count as positive; every class where none is named.")
@click.option("--max-sensitivity-drop", metavar="3pp", help="Largest allowed drop of the sensitivity at --threshold.")
@click.option("--max-specificity-drop", metavar="3pp", help="Largest allowed drop of the specificity at --threshold.")
@click.option("--max-ece-rise", metavar="2pp", help="Largest allowed rise of the expected calibration error.")
@click.option("--max-regressed", metavar="5%", help="Largest allowed share of cases that were right and are wrong.")
@click.option("--reason", metavar="TEXT", help="Why this change is made, for the report's change control.")
@click.option("--sign-key", metavar="FILE", help="Private Ed25519 key (PEM) that signs the report.")
@click.option("--strategy", metavar="NAME", help="How the search goes about it: allocate, budget, stepwise or local.")
@click.option("--importance", metavar="NAME", help="Which channels go first: output_error, magnitude, taylor, …; see docs/search.md.")
@click.option("--prefer", metavar="WHAT", help="What to spend the room within the limits on: balanced, latency or size.")
@click.option("--latency-target", "latency_target_ms", metavar="5ms", help="Median at batch 1 that must be reached; see --speedup.")
@click.option("--speedup", metavar="4x", help="The same, as a multiple of the original's speed in the target's runtime.")
@click.option("--retrain/--no-retrain", default=None, help="Train briefly after repair; needs a train split with labels.")
@click.option("--seed", metavar="N", help="Of everything drawn at random.")
@click.option("--cpu-level", "--isa", "cpu_level", metavar="LEVEL", help="Processor it is made for, such as avx2; by default this one.")
@click.option("--threads", metavar="N", help="Of the runtimes; by default their own choice.")
@click.option("--batch", metavar="N", help="The batch size timed beside 1.")
@click.option("--trust-pickle", is_flag=True, default=None, help="Load a model file that runs code; only if you trust its author.")
@click.option("--force", is_flag=True, default=None, help="Run also where the test split is known to be too small for a verdict.")
@click.option("--resume", is_flag=True, help="Continue the interrupted run in --out.")
@click.option("--overwrite", is_flag=True, help="Replace the run in --out.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on standard output.")
def compress(
    model: Path | None,
    target: str | None,
    recipe_file: Path | None,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Prune, repair, quantize, compile and verify MODEL for --target.

    What is not given here comes from --recipe, then from an optimize.toml beside the model.

    Exit code: 0 accepted, 1 rejected, 2 wrong input, 3 inconclusive, 4 the target cannot run here.
    """
    # Imported inside the block: they take seconds, in which the user may think better of it.
    with _answered(as_json, f"the same command with --resume{' instead of --overwrite' if overwrite else ''} continues this run"):
        from optimize.run.compress import compress as run
        from optimize.run.compress import process_group
        from optimize.run.recipe import resolve

        recipe = resolve(model, target=target, overrides=settings, recipe_file=recipe_file)
        with process_group(recipe) as leads:
            report = run(recipe, resume=resume, overwrite=overwrite) if leads else None
    if report is None:
        return
    if as_json:
        click.echo(json.dumps(report, sort_keys=True))
    else:
        _summary(report, recipe.out)
    sys.exit(EXIT[report["verdict"]])


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--public-key", metavar="FILE|BASE64", help="The Ed25519 key (PEM or base64) that must have signed the report.")
@click.option("--model", type=click.Path(path_type=Path), metavar="FILE", help="The original, where it lies elsewhere on this machine.")
@click.option("--arch", metavar="FILE.py:FACTORY", help="The function that builds its network, likewise.")
@click.option("--sign-key", metavar="FILE", help="Private Ed25519 key (PEM) that signs the new report.")
@click.option("--data", metavar="DATA", help="The run's data, likewise; a finished run's model is judged on its test split again.")
@click.option("--history", metavar="FILE", help="Record of looks at the test split, likewise; by default the run's.")
@click.option("--trust-pickle", is_flag=True, default=None, help="Load an original that runs code; only if you trust its author.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON on standard output.")
def verify(run: Path, as_json: bool, **asked: Any) -> None:
    """Check a compiled model on this machine, or finish the verdict of a run that could not be judged where it was compiled.

    RUN is the folder of a run, or the `model` in it.

    Exit code: 0 it holds, 1 it does not, 2 wrong input, 3 inconclusive, 4 the target cannot run here.
    """
    with _answered(as_json):
        from optimize.run.verification.verify import verify as check

        found = check(run, **asked)
    if as_json:
        click.echo(json.dumps(found.as_dict(), sort_keys=True))
    elif found.report is not None:
        _summary(dict(found.report), run)
    else:
        for line in (VERIFIED[found.outcome], *found.findings):
            click.echo(line)
    sys.exit(EXIT[found.outcome])


@main.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--batches", metavar="N,…", help="Batch sizes such as 1,8 or 1-4, each measured by itself; 1 by default.")
@click.option("--threads", metavar="N,…", help="Numbers of threads, likewise, or all; by default the runtimes' own choice.")
@click.option("--seconds", metavar="S", help="Shortest time of the rounds of each measurement; 5 by default.")
@click.option("--contend", metavar="N", help="Measure once more while N background processes run the same model.")
@click.option("--contend-with", metavar="MODEL", help="What the background processes run instead.")
@click.option("--memory-limit", metavar="2GB", help="Also see whether a fresh process manages with this much address space.")
@click.option("--gpu-memory-limit", metavar="2GB", help="Ceiling of each background process on a GPU; see --contend.")
@click.option("--input", "input_shape", metavar="C,H,W", help="Shape of one input, where a model leaves it open.")
@click.option("--data", metavar="DATA", help="As for compress; its test images are the inputs. Random ones by default.")
@click.option("--arch", metavar="FILE.py:FACTORY", help="The function that builds the network of a torch model.")
@click.option("--trust-pickle", is_flag=True, default=None, help="Load a model file that runs code; only if you trust its author.")
@click.option("--seed", metavar="N", help="Of everything drawn at random.")
@click.option("--out", metavar="FILE", help="Write the result as JSON to FILE, with every sample.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def profile(models: tuple[Path, ...], as_json: bool, **asked: Any) -> None:
    """Measure models side by side on this machine: cold start, memory, latency in turns.

    MODEL is the folder of a compiled model or of a run, an .onnx file, or a torch model as `compress` takes it.
    The first is what the others are compared with.
    """
    with _answered(as_json):
        from optimize.measure.text_report import lines
        from optimize.run.profile import side_by_side

        result = side_by_side(models, **asked)
    # Unsorted: the first contender stays the first.
    for line in [json.dumps(result)] if as_json else lines(result):
        click.echo(line)
    if asked["out"] is not None and not as_json:
        click.echo(f"written: {asked['out']}, with every sample")


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Folder for all it makes.")
def demo(out: Path) -> None:
    """Train a small net on handwritten digits and compress it for every runtime that runs here."""
    with _answered():
        from optimize.run.demo import demo as run

        results = run(out)
    for folder, report in results.items():
        _summary(report, folder)
    sys.exit(max(EXIT[report["verdict"]] for report in results.values()))


@main.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="For a comparison of several; comparison by default.")
def report(runs: tuple[Path, ...], out: Path | None) -> None:
    """Render report.html again from the report.json in folder RUN.

    Several are also compared: comparison.html, comparison.json and comparison.csv, one row for each run.
    """
    with _answered():
        from optimize.report.compare import compare
        from optimize.report.render import rerender

        if out is not None and len(runs) == 1:
            raise InputError(f"`--out` (={out}) is for a comparison of several runs: name another run, or leave it out.")
        click.echo(str(compare(runs, out or Path("comparison")) if len(runs) > 1 else rerender(runs[0])))


@main.command()
@click.option("--roofline", is_flag=True, help="Also measure, in seconds, what arithmetic and memory of this machine reach.")
@click.option("--threads", metavar="N", help="Of --roofline; by default all cores.")
@click.option("--json", "as_json", is_flag=True, help="Print the diagnosis as JSON on standard output.")
def doctor(roofline: bool, threads: str | None, as_json: bool) -> None:
    """Say which targets run on this machine, and why others do not.

    Exit code: 0 when at least one target runs here, else 4.
    """
    with _answered(as_json):
        from optimize.run.doctor import doctor as look
        from optimize.run.doctor import lines

        found = look(roofline=roofline, threads=threads)
        click.echo(json.dumps(found.as_dict(), sort_keys=True) if as_json else "\n".join(lines(found)))
    sys.exit(found.exit_code)


def _summary(report: dict[str, Any], out: Path) -> None:
    from optimize.report.summary import summary

    for line in summary(report):
        click.echo(line)
    click.echo(f"report: {out / 'report.html'}")


COMMANDS: tuple[Callable[..., Any], ...] = (compress, verify, profile, demo, report, doctor)
