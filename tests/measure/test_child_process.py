"""A process of this package: it answers, and it is gone after the block, also after an error in it."""

from __future__ import annotations

import psutil
import pytest

from optimize.measure.child_process import child_process

ECHO = "this"
"""A module of the standard library that prints and ends."""


def test_what_it_prints_is_read_and_it_is_gone_afterwards() -> None:
    with child_process(ECHO) as (child, errors):
        assert child.stdout is not None
        assert child.stdout.readline() == "The Zen of Python, by Tim Peters\n"
        assert child.wait() == 0
        errors.seek(0)
        assert errors.read() == ""
    assert child.stdout.closed


def test_an_error_in_the_block_ends_a_process_that_waits() -> None:
    with pytest.raises(ZeroDivisionError), child_process("code") as (child, _):  # an interactive interpreter, which waits for input
        _ = 1 / (0 if child.poll() is None else 1)
    assert not psutil.pid_exists(child.pid)


def test_its_last_words_are_kept() -> None:
    with child_process("no_such_module") as (child, errors):
        assert child.wait() == 1
        errors.seek(0)
        assert "No module named no_such_module" in errors.read()
