"""Exit codes, and errors of the user as one line: on standard error, and with `--json` also on standard output."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from optimize.errors import InputError, OptimizeError, printable
from optimize.progress import shown
from optimize.run.renamed import current_flags, notice

EXIT = {"pass": 0, "fail": 1, "inconclusive": 3}
"""Verdict -> exit code."""
LONGEST = 1200
"""Most characters of an error. Beyond them the middle is left out: the end holds the remedy."""
INTERRUPTED = 130
"""Exit code when the user stopped the command."""
OUR_MISTAKE = 70
"""Exit code of a mistake of this program. It must not read as "rejected" to a script that looks at the code alone."""
_ERRORS_OF_FILES = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}
"""Errors of files that the user can mend, wherever they come up."""
_EXTRA = re.compile(r"unexpected extra argument \((\S+)\)$")
"""How click tells of a single word too many."""
_TORCH_ALLOCATOR = "DefaultCPUAllocator: "
"""Part of the RuntimeError that torch raises where others raise a MemoryError."""
_TORCH_WRITER = "inline_container.cc"
"""Part of the RuntimeError that torch raises where others raise an OSError: the file of it that writes archives."""


@contextmanager
def one_line_errors(as_json: bool = False, again: str = "run it again", verbose: bool = False) -> Iterator[None]:
    """Show progress while the block runs; end the process with one line and an exit code for an error that the user can correct.

    Args:
        as_json: whether the line is also printed as JSON on standard output.
        again: what to do after an interruption.
        verbose: whether progress is printed with its details.
    """
    try:
        with shown(verbose), _ended_like_interrupted():
            yield
    except OptimizeError as problem:
        refuse(str(problem), problem.exit_code, as_json)
    except KeyboardInterrupt:
        click.echo(f"interrupted: {again}.", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read standard output left. Python would complain when it closes the pipe at exit, so output goes nowhere from here on.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as problem:
        if text := _mendable(problem):
            refuse(text, InputError.exit_code, as_json)
        # only here a traceback: it is a fault of this program, and whoever reports it needs to know where
        traceback.print_exc()
        click.echo("error: this is a mistake in optimize, not in your input; the lines above say where.", err=True)
        sys.exit(OUR_MISTAKE)


@contextmanager
def _ended_like_interrupted() -> Iterator[None]:
    """Let SIGTERM, by which a scheduler or a container ends a job, do what Ctrl-C does: leave a run that can be resumed."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    # a signal can be handled in the main thread alone
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _mendable(problem: Exception) -> str:
    """Return what the user can do about an error of the disk or the memory; empty for every other error."""
    if isinstance(problem, OSError) and problem.errno in _ERRORS_OF_FILES:
        file, reason = problem.filename or "a file of this run", str(problem.strerror).lower()
        return f"`{file}` cannot be read or written ({reason}): see to its permissions, and to the room on its disk."
    if _TORCH_WRITER in str(problem):
        return "a file of this run cannot be written (no space left on device, or no leave to): see to the room on its disk."
    if isinstance(problem, MemoryError) or _TORCH_ALLOCATOR in str(problem):
        reason = " ".join(str(problem).rpartition(_TORCH_ALLOCATOR)[2].split()).rstrip(".") or "an allocation failed"
        return f"there is not enough memory here ({reason[:200]}): take a smaller --batch, or fewer images."
    return ""


def _option_before_command(problem: click.UsageError, words: Sequence[str], commands: Mapping[str, click.Command]) -> str:
    """What to say of an option of a command that stands before it, as in `optimize --json compress`; empty for every other mistake."""
    command = next((word for word in words if word in commands), None)
    if command is None or not isinstance(problem, click.NoSuchOption):
        return ""
    option = problem.option_name
    if not any(word.startswith(option) for word in words[: words.index(command)]):
        return ""
    return f"option '{option}' stands before the command: write it behind, as in `optimize {command} {option}`"


def _data_without_flag(problem: click.UsageError, text: str) -> str:
    """What to say of one word too many where the command reads data from a flag: "; pass data as --data d.npz"; else empty."""
    command, extra = problem.ctx.command if problem.ctx else None, _EXTRA.search(text)
    if extra is None or command is None or not any("--data" in option.opts for option in command.params):
        return ""
    return f"; data are passed as --data {extra[1]}"


def refuse(text: str, exit_code: int, as_json: bool) -> NoReturn:
    """Print one line, cut in its middle where it is long, and end the process with this exit code."""
    text = printable(text)
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
    if as_json:
        click.echo(json.dumps({"error": text, "exit_code": exit_code}))
    click.echo(f"error: {text}", err=True)
    sys.exit(exit_code)


class OneLineErrors(click.Group):
    """A group of commands that prints a wrong call in one line, with `--json` as JSON too. Click itself would print four lines."""

    def main(self, args: Sequence[str] | None = None, *more: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run the command, as `click.Group.main` does, and end the process."""
        run: Callable[..., Any] = super().main
        if not standalone_mode:
            return run(args, *more, standalone_mode=False, **extra)
        try:
            sys.exit(run(args, *more, standalone_mode=False, **extra))
        except click.exceptions.NoArgsIsHelpError as no_command:
            no_command.show()
            sys.exit(no_command.exit_code)
        except click.UsageError as problem:
            words = sys.argv[1:] if args is None else args
            text = _option_before_command(problem, words, self.commands) or " ".join(problem.format_message().split()).removesuffix(".")
            text += _data_without_flag(problem, text)
            text = text.replace(" (Did", " Did").replace("?)", "?")
            manual = " ".join(["optimize", *[word for word in words if word in self.commands][:1], "--help"])
            text = f"{text[:1].lower()}{text[1:]}{' See' if text.endswith('?') else ': see'} `{manual}`."
            refuse(text, problem.exit_code, "--json" in words)
        except click.Abort:
            click.echo("interrupted: run it again.", err=True)
            sys.exit(INTERRUPTED)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the call after replacing old flags by their present names, each with a notice."""
        current, replaced = current_flags(args)
        if replaced:
            with shown():
                for old, new in replaced:
                    notice(old, new, "this call")
        return super().parse_args(ctx, current)
