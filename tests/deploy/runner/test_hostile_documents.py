"""Whatever stands in manifest.json, artifact.json and report.json, a bundle runs or is refused in one line: nothing ends in a traceback."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from optimize.deploy.runner.errors import Refused, WrongInput
from optimize.deploy.runner.model import Model
from tests.deploy.runner import handmade
from tests.deploy.runner.handmade import entry

VALUES: tuple[Any, ...] = (None, 0, -1, True, "", "x", "\0\n\x1b[2J", "../x", [], {}, [[]], {"a": 1}, 1e308, "0" * 64, 2**53 - 1, ["x"])


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything in a document but the document itself."""
    if path:
        yield path
    for name, inside in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from paths(inside, (*path, name))


def mutated(value: Any, draw: random.Random) -> Any:
    """A document in which something is gone, or is something else."""
    value = json.loads(json.dumps(value))
    *way, last = draw.choice(list(paths(value)))
    parent = value
    for name in way:
        parent = parent[name]
    if draw.random() < 0.2:
        del parent[last]
    else:
        parent[last] = draw.choice(VALUES)
    return value


@pytest.mark.parametrize("name", ["manifest.json", "model/artifact.json", "report.json"])
def test_a_document_of_any_shape_ends_in_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = handmade.bundle(tmp_path / "cells")
    manifest, kept = json.loads((folder / "manifest.json").read_text()), json.loads((folder / name).read_text())
    ran, refused = 0, list[str]()
    for seed in range(60):
        draw = random.Random(seed)
        said = manifest
        if name == "manifest.json":
            said = mutated(manifest, draw)
        else:
            handmade.write(folder / name, mutated(kept, draw))
            # the hashes are made to fit, so that the content itself has to be refused
            files = [{"path": file["path"], **entry(folder / file["path"])} for file in manifest["files"]]
            said = {**manifest, "files": [{key: file[key] for key in ("path", "sha256", "bytes")} for file in files]}
            said["report"] = {**manifest["report"], "sha256": entry(folder / "report.json")["sha256"]}
        (folder / "manifest.json").write_bytes(rfc8785.dumps(said))
        try:
            Model(folder).close()
            ran += 1
        except Refused as problem:
            refused.append(str(problem))
    assert all(line.isprintable() for line in refused), "one line, without control characters"
    assert len(refused) > 20, "most changes are noticed even where all hashes fit"
    assert ran + len(refused) == 60
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", [Refused, WrongInput])
def test_an_error_is_one_line_without_control_characters(kind: type[Exception]) -> None:
    assert str(kind("`a\nb\x1b[2J` é")) == r"`a\nb\x1b[2J` é"
