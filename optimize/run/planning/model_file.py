"""What a file of weights holds, and which functions beside it may build its network; nothing of the user's is run.

Source files are parsed and never imported. Example: beside `model.pt` lies `net.py` with `def make(classes: int = 8) -> nn.Module`: its
candidate is "net.py:make".
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from optimize.errors import InputError
from optimize.loading.checkpoint import read_checkpoint
from optimize.loading.huggingface_folder import PREPROCESSOR
from optimize.loading.model_formats import NetworkFile, format_of

MAX_SOURCE_BYTES = 1 << 20
"""Source files above this are left out: nobody writes a network of that length by hand."""
MAX_SOURCES = 200
_NETWORK_NAMES = {"Module", "Sequential"}


@dataclass(frozen=True)
class FactoryCandidate:
    """A function or class that may build the network.

    Args:
        spec: "file.py:function", as `--arch` takes it.
        signature: its arguments, as written.
        required: names of the arguments without a default.
    """

    spec: str
    signature: str
    required: tuple[str, ...]


@dataclass(frozen=True)
class ModelFile:
    """What a file of weights holds.

    Args:
        format: the format in words.
        whole_module: whether it is a pickled network, which runs code when it is loaded.
        tensors: number of weights; 0 where the file was not opened.
        parameters: number of numbers in them.
        first: name and shape of the first weight in the file with two axes or more; None where there is none.
        last: name and shape of the last such weight in the file.
        reads: (channels, number of spatial axes) that each convolution reads.
        notes: sentences on which of several sets of weights is taken, and how to take another one.
        why_unread: why the weights could not be read; empty where they were.
        factories: functions beside the file that may build the network.
        input_shape: shape of one input, (C, *spatial), where the file holds the network too; empty where it holds weights alone.
        preparation: whether the file's folder states how images are prepared, see `huggingface_folder.preparation`.
    """

    format: str
    whole_module: bool = False
    tensors: int = 0
    parameters: int = 0
    first: tuple[str, tuple[int, ...]] | None = None
    last: tuple[str, tuple[int, ...]] | None = None
    reads: frozenset[tuple[int, int]] = frozenset()
    notes: tuple[str, ...] = ()
    why_unread: str = ""
    factories: tuple[FactoryCandidate, ...] = ()
    input_shape: tuple[int, ...] = ()
    preparation: bool = False

    def fits(self, shape: Sequence[int]) -> bool:
        """Return whether a convolution in the file may read one input of this shape, (C, *spatial); true where there is no convolution.

        The order of the weights does not say which layer comes first, so any convolution may be the one that reads the input. A grouped
        one reads more channels than its weight shows, and then this may be false of a shape that is right.
        """
        return not self.reads or (shape[0], len(shape) - 1) in self.reads


def inspect_model(path: Path) -> ModelFile:
    """Return what a file of weights holds.

    Args:
        path: file of weights.

    Raises:
        InputError: when there is no such file, it is damaged, or of a kind that is not read.
    """
    form = format_of(path)
    factories = factories_beside(path)
    try:
        checkpoint = read_checkpoint(path)
    except InputError as problem:
        # a pickle that was not trusted, or several sets of weights: the user decides, and the file need not be opened for that
        if "--trust-pickle" not in str(problem) and "--weights" not in str(problem):
            raise
        return ModelFile(form.NAMED, "--trust-pickle" in str(problem), why_unread=str(problem), factories=factories)
    content = checkpoint.content
    shape: tuple[int, ...] = ()
    if isinstance(content, NetworkFile):
        try:
            content = content.build(())
            shape = content.input_shape
        except InputError as problem:
            if "--input" not in str(problem):
                raise
            return ModelFile(form.NAMED, False, why_unread=str(problem), factories=factories)
    weights = content.state_dict() if isinstance(content, nn.Module) else content
    matrices = [(name, tuple(tensor.shape)) for name, tensor in weights.items() if tensor.ndim > 1]
    count = sum(tensor.numel() for tensor in weights.values() if torch.is_floating_point(tensor))
    first, last = (matrices[0], matrices[-1]) if matrices else (None, None)
    reads = frozenset((shape[1], len(shape) - 2) for _, shape in matrices if len(shape) > 2)
    held = ModelFile(form.NAMED, False, len(weights), count, first, last, reads, checkpoint.notes, factories=factories)
    return replace(held, input_shape=shape, preparation=path.is_dir() and (path / PREPROCESSOR).is_file())


def factories_beside(path: Path) -> tuple[FactoryCandidate, ...]:
    """Return the functions and classes in the source files beside a file that may build a network, by file and line.

    A class counts that inherits from something called `…Module` or `Sequential`. A function counts that says it returns one, or that
    calls such a class or `nn.Sequential`.

    Args:
        path: file of weights.
    """
    sources = sorted(source for source in path.absolute().parent.glob("*.py") if source.is_file())[:MAX_SOURCES]
    return tuple(candidate for source in sources for candidate in _candidates(source))


def _candidates(source: Path) -> Iterator[FactoryCandidate]:
    try:
        if source.stat().st_size > MAX_SOURCE_BYTES:
            return
        tree = ast.parse(source.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return  # a file that Python cannot read holds no factory that could be called
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef) and _inherits(node)}
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name in classes:
            begin = next((part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"), None)
            yield _candidate(source, node.name, None if begin is None else begin.args, method=True)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and _builds(node, classes):
            yield _candidate(source, node.name, node.args, method=False)


def _candidate(source: Path, name: str, arguments: ast.arguments | None, *, method: bool) -> FactoryCandidate:
    if arguments is None:
        return FactoryCandidate(f"{source.name}:{name}", "()", ())
    positional = [*arguments.posonlyargs, *arguments.args]
    required = positional[: len(positional) - len(arguments.defaults)][1 if method else 0 :]
    keyword = [argument for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if default is None]
    names = tuple(argument.arg for argument in (*required, *keyword))
    return FactoryCandidate(f"{source.name}:{name}", f"({ast.unparse(arguments)})", names)


def _inherits(node: ast.ClassDef) -> bool:
    return any(ast.unparse(parent).rpartition(".")[2].endswith(tuple(_NETWORK_NAMES)) for parent in node.bases)


def _builds(node: ast.FunctionDef, classes: set[str]) -> bool:
    """Return whether a function says that it returns a network, or calls something that is one."""
    if node.returns is not None:
        stated = ast.unparse(node.returns).strip("'\"").rpartition(".")[2]
        return stated in _NETWORK_NAMES | classes
    called = {ast.unparse(part.func).rpartition(".")[2] for part in ast.walk(node) if isinstance(part, ast.Call)}
    returns = any(isinstance(part, ast.Return) and part.value is not None for part in ast.walk(node))
    return returns and bool(called & (_NETWORK_NAMES | classes))
