"""The pages on extending: their files are written into a copy of the repository, nothing else is touched there, and its tests are run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import EXTENDING, ROOT, blocks, name

MARK = "# file: "
KINDS = [page for page in EXTENDING if page.parent.name == "extending"]
SHAPE = (
    "tests/docs/placed_pages.py",
    "tests/test_architecture.py",
    "tests/test_public_names.py::test_all_is_what_is_written_here",
    "tests/cli/test_cli.py::test_every_command_has_help_and_stands_in_the_readme",
    "tests/cli/test_cli.py::test_every_option_says_what_it_is",
    "tests/cli/test_cli.py::test_help_and_version_of_the_whole",
    "tests/guard/rails/test_table.py",
    "tests/backends/test_targets.py::test_targets_are_found_without_any_runtime",
    "tests/backends/test_targets.py::test_versions_import_nothing",
    "tests/backends/test_targets.py::test_lists_of_targets",
    "tests/backends/test_targets.py::test_a_report_names_runtimes_as_their_modules_do",
    "tests/searching/test_strategies.py::test_every_strategy_is_found_by_its_name",
    "tests/data/test_sources.py::test_formats_of_others_are_gone_afterwards",
    "tests/loading/test_model_formats.py::test_formats_of_others_are_gone_afterwards",
    "tests/steps/test_every_step.py::test_a_step_is_restored_from_disk[Sparsify]",
)
"""What must hold in the copy, beside the tests of the new files: the pages' own lines, and the tests that look at everything."""


def files(page: Path) -> dict[str, str]:
    """Path -> text of the files that a page writes; the first line of their blocks names them."""
    texts = [block.text for block in blocks(name(page), page.read_text(encoding="utf-8")) if block.text.startswith(MARK)]
    return {text.partition("\n")[0].removeprefix(MARK): text.partition("\n")[2] + "\n" for text in texts}


def copy_with_new_files(folder: Path) -> list[str]:
    """Copy the repository into a folder, add the files of all pages, and return their paths."""
    for part in ("optimize", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("README.md", "CONTRIBUTING.md", "pyproject.toml", "docs", "models"):
        os.symlink(ROOT / part, folder / part)
    new = {path: text for page in KINDS for path, text in files(page).items()}
    for path, text in new.items():
        assert not (folder / path).exists(), path
        (folder / path).write_text(text, encoding="utf-8")
    return list(new)


@pytest.mark.parametrize("page", KINDS, ids=name)
def test_a_page_writes_one_file_and_its_test(page: Path) -> None:
    file, test = files(page)
    assert file.startswith("optimize/")
    assert test.startswith("tests/")
    assert Path(test).name == f"test_{Path(file).name}"


def test_one_new_file_and_its_test_are_enough(tmp_path: Path) -> None:
    tests = [path for path in copy_with_new_files(tmp_path) if path.startswith("tests/")]
    assert len(tests) == len(KINDS)
    call = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, *SHAPE]
    done = subprocess.run(call, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
