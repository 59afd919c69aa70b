"""A large block that was freed is there again without the kernel's help.

Not from the first time on: torch asks for aligned blocks, and glibc before 2.38 keeps the few bytes left over at a block's ends for the
thread, seven of each size, before it joins them to the block again. Until then a freed block is a little too small for the next tensor.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from optimize.hardware.malloc import retain_freed_memory

ROUNDS = 24

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(12 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages = (48 << 20) // resource.getpagesize()
assert min(faults() for _ in range(4)) > pages / 2, "the premise: every block is paged in anew"
if not retain_freed_memory():
    raise SystemExit(7)
found = [faults() for _ in range(ROUNDS)]
assert sorted(found)[ROUNDS // 2] < pages / 10, found
"""


def test_a_freed_block_is_kept() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    if done.returncode == 7:
        pytest.skip("this C library's malloc cannot be told")
    if "the premise" in done.stderr:
        pytest.skip("huge pages: blocks are not paged in one by one")
    assert done.returncode == 0, done.stderr
