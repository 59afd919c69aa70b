"""Every code block of the pages does what the page says.

Python blocks of a page run one after the other in one namespace, in a folder with the files that pages name. `optimize …` lines of a
shell block are parsed by the command itself and their values are read by the recipe; cheap ones also run. toml blocks are read by the
recipe. Text blocks say that they are text. A block that is not run says why in an HTML comment in front of it. The pages on
extending write files into a copy of the package, where `test_extending.py` runs them.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from optimize.cli import main
from optimize.errors import InputError
from optimize.run.recipe import _SETTINGS, resolve
from tests.docs.pages import EXTENDING, LANGUAGES, PAGES, ROOT, Block, blocks, name
from tests.runs import command

BLOCKS = [block for page in PAGES if page not in EXTENDING for block in blocks(name(page), page.read_text(encoding="utf-8"))]
RUN = ("optimize doctor", "optimize report out", "optimize verify out")
"""Commands that cost little and need nothing but a finished run: they are run wherever a page has them."""


def of(language: str) -> list[Block]:
    """The blocks that are run, of one language."""
    return [block for block in BLOCKS if block.language == language and not block.reason]


def commands(text: str) -> list[str]:
    """The commands of a block of shell, one a line; a backslash at the end of a line goes on with the next."""
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def parsed(words: list[str]) -> click.Context:
    """What the command makes of its arguments, before it does anything.

    Raises:
        click.UsageError: when there is no such command, option or number of arguments.
    """
    group = click.Context(main, info_name="optimize")
    subcommand = main.get_command(group, words[0])
    if subcommand is None:
        raise click.UsageError(f"there is no command {words[0]!r}")
    return subcommand.make_context(words[0], words[1:], parent=group)


def read_settings(params: Mapping[str, Any]) -> None:
    """Let the recipe read the values of a call of `compress` or `plan`.

    Raises:
        InputError: when it cannot.
    """
    settings = {key: value for key, value in params.items() if key in _SETTINGS}
    resolve(settings.pop("model", None), target=settings.pop("target", None), overrides=settings, recipe_file=params.get("recipe_file"))


def check_make(words: list[str]) -> None:
    """Goals and variables of a call of make stand in the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        pattern = rf"^{word.partition('=')[0]} \?=" if "=" in word else rf"^{word}:"
        assert re.search(pattern, makefile, re.MULTILINE), f"the Makefile has no {word}"


def check_pip(line: str) -> None:
    """Extras stand in pyproject.toml."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = [extra for group in re.findall(r"\[([\w,\-]+)\]", line) for extra in group.split(",")]
    assert set(named) <= set(extras), line


def check_module(module: str) -> None:
    """`python -m` finds it."""
    path = ROOT / module.replace(".", "/")
    here = path.with_suffix(".py").exists() or (path / "__main__.py").exists()
    assert here or module in ("pytest", "venv", "bundle"), f"no module {module}"


def check(line: str) -> None:
    """Run or parse one command of a page."""
    words = shlex.split(line, comments=True)
    match words:
        case ["optimize", *rest]:
            context = parsed(rest)
            if context.info_name in ("compress", "plan"):
                read_settings(context.params)
            if shlex.join(words) in RUN:
                code, stdout, stderr = command(*rest)
                assert code == 0, stdout + stderr
        case ["make", *goals]:
            check_make(goals)
        case ["pip", "install", *_]:
            check_pip(line)
        case ["python", "-m", module, *_]:
            check_module(module)
        case ["openssl", *_]:
            if shutil.which("openssl"):
                subprocess.run(["bash", "-ec", line], check=True, capture_output=True)
        case ["ruff" | "mypy" | ".ci/run" | "git", *_]:
            pass  # what a contributor calls; the suite does not call itself
        case ["tar" | "cd", *_]:
            pass  # `test_bundle_page.py` runs the whole page
        case _:
            raise AssertionError(f"no rule for the command {line!r}: mark the block as text, or say in a comment why it is not run")


def test_every_block_says_what_it_is() -> None:
    assert [str(block) for block in BLOCKS if block.language not in LANGUAGES] == []


@pytest.mark.parametrize("block", of("sh"), ids=str)
def test_commands(block: Block, page_folder: Path) -> None:
    for line in commands(block.text):
        check(line)


@pytest.mark.parametrize("block", of("toml"), ids=str)
def test_settings(block: Block, page_folder: Path) -> None:
    (page_folder / "optimize.toml").unlink()
    (page_folder / "block.toml").write_text(block.text, encoding="utf-8")
    assert resolve("model.pt", target="onnxruntime", recipe_file="block.toml").model == page_folder / "model.pt"


@pytest.mark.parametrize("page", sorted({block.page for block in of("python")}))
def test_python(page: str, page_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in of("python"):
        if block.page == page:
            # Empty lines in front, so that a traceback names the line of the page.
            exec(compile("\n" * (block.line - 1) + block.text, f"<{page}>", "exec"), namespace)


def test_cheap_commands_are_those_of_the_pages() -> None:
    lines = {shlex.join(shlex.split(line, comments=True)) for block in of("sh") for line in commands(block.text)}
    assert set(RUN) <= lines


def test_blocks_are_found_as_they_stand() -> None:
    text = "# a\n\n    optimize doctor\n\n- item\n    goes on\n\n<!-- not run: takes an hour -->\n```sh\nmake all\n```\n\n```\nplain\n```\n"
    first, marked, plain = blocks("p.md", text)
    assert (first.language, first.text, first.line, first.reason) == ("sh", "optimize doctor", 3, "")
    assert (marked.language, marked.text, marked.line, marked.reason) == ("sh", "make all", 10, "takes an hour")
    assert (plain.language, plain.text, plain.reason) == ("", "plain", "")


@pytest.mark.parametrize(
    ("line", "error", "text"),
    [
        ("optimize compres model.pt", click.UsageError, "no command 'compres'"),
        ("optimize compress model.pt --target openvino --faster", click.UsageError, "--faster"),
        ("optimize compress model.pt --target openvino --max-drop 2potatoes", InputError, "2potatoes"),
        ("optimize compress model.pt --target openvino --strategy best", InputError, "best"),
        ("optimize verify", click.UsageError, "run"),
        ("make tea", AssertionError, "no tea"),
        ("pip install 'optimize[tea]'", AssertionError, "tea"),
        ("python -m benchmarks.studies.tea", AssertionError, "tea"),
        ("brew tea", AssertionError, "no rule"),
    ],
)
def test_a_wrong_command_is_noticed(line: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        check(line)
