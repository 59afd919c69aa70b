"""A large block that was freed is there again without the kernel's help."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from optimize.heap import keep_freed

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages = (64 << 20) // resource.getpagesize()
faults()
assert faults() > pages / 2, "the premise: every block is paged in anew"
if not keep_freed():
    raise SystemExit(7)
faults()
assert faults() < pages / 10
"""


def test_a_freed_block_is_kept() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    if done.returncode == 7:
        pytest.skip("this C library's malloc cannot be told")
    if "the premise" in done.stderr:
        pytest.skip("huge pages: blocks are not paged in one by one")
    assert done.returncode == 0, done.stderr
