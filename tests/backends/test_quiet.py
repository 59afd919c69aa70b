from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from optimize.backends.quiet import quiet


def test_prints_and_logs_are_dropped_and_come_back_afterwards(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("loud.child")
    with quiet("loud"):
        print("out")
        print("error", file=sys.stderr)
        log.critical("inside")
    log.warning("after")
    assert capfd.readouterr().out == ""
    assert caplog.messages == ["after"]


def test_errors_get_out_and_leave_everything_as_it_was() -> None:
    log = logging.getLogger("loud")
    before = (log.level, list(log.handlers), sys.stdout, sys.stderr)
    with pytest.raises(RuntimeError, match="no good"), quiet("loud"):
        raise RuntimeError("no good")
    assert (log.level, log.handlers, sys.stdout, sys.stderr) == before


def test_root_logger_gets_no_handler() -> None:
    """In a process of its own: a test runner gives the root logger handlers."""
    script = "import logging\nfrom optimize.backends.quiet import quiet\n"
    script += "with quiet(''): logging.warning('x')\nassert not logging.root.handlers"
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (child.returncode, child.stderr) == (0, "")
