"""docs/bundle.md from its first command to its last, in one folder, in the order of the page."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.docs.pages import ROOT, blocks
from tests.docs.test_code_blocks import commands
from tests.runs import command

PAGE = "docs/bundle.md"


def run(line: str, folder: Path) -> Path:
    """Run one command of the page, and return the folder that it leaves the reader in."""
    words = shlex.split(line, comments=True)
    if words[0] == "cd":
        return folder / words[1]
    if words[0] == "optimize":
        code, stdout, stderr = command(*words[1:])
        assert code == 0, stdout + stderr
    else:
        words[0] = sys.executable if words[0] == "python" else words[0]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder


def test_the_page_can_be_followed(page_folder: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), dtype=np.uint8)
    np.save(page_folder / "images.npy", images)
    folder = page_folder
    for block in blocks(PAGE, (ROOT / PAGE).read_text(encoding="utf-8")):
        if block.language == "sh" and not block.reason:
            for line in commands(block.text):
                folder = run(line, folder)
        elif "from bundle import" in block.text:
            folder = run(shlex.join(["python", "-c", block.text]), folder)
    assert folder == page_folder / "model-onnxruntime-bundle"
    assert os.listdir(folder / "onnx")
