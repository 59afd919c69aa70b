"""Exported programs: rebuilt without user code, and only when their author is trusted."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import optimize as opt
from optimize.errors import InputError
from optimize.graph.trace import trace


class Boom:
    """Writes a file when its pickle is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 4)]
    nn.init.uniform_(layers[1].running_var, 0.5, 2)
    return nn.Sequential(*layers).eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program of one image: its batch is fixed."""
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    torch.export.save(torch.export.export(net(), (torch.randn(1, 3, 8, 8),)), path)
    return path


def test_it_computes_the_same_for_any_batch_and_can_be_cut(saved: Path) -> None:
    candidate = opt.load_model(saved, trust_pickle=True)
    inputs = np.random.default_rng(0).standard_normal((5, 3, 8, 8), np.float32)
    np.testing.assert_allclose(candidate.predict(inputs), net()(torch.from_numpy(inputs)).detach().numpy(), atol=1e-5)
    assert [group.size for group in trace(candidate).groups] == [8]


def test_a_pickle_inside_does_not_run(saved: Path, tmp_path: Path) -> None:
    mark, changed = tmp_path / "ran", tmp_path / "changed.pt2"
    torch.save(Boom(mark), tmp_path / "boom.pt")
    with zipfile.ZipFile(saved) as before, zipfile.ZipFile(changed, "w") as after:
        for name in before.namelist():
            evil = name.endswith("sample_inputs/model.pt")
            after.writestr(name, (tmp_path / "boom.pt").read_bytes() if evil else before.read(name))
    with pytest.raises(InputError, match="cannot be read as an exported program"):
        opt.load_model(changed, trust_pickle=True)
    assert not mark.exists()


def rewritten(saved: Path, path: Path, replaced: Mapping[str, str], added: Mapping[str, bytes]) -> Path:
    """Return `path`, where a copy of the program has other contents behind names that end so, and further files."""
    with zipfile.ZipFile(saved) as before, zipfile.ZipFile(path, "w") as after:
        names = before.namelist()
        for name in names:
            ending = next((ending for ending in replaced if name.endswith(ending)), None)
            after.writestr(name, before.read(name) if ending is None else replaced[ending])
        for name, content in added.items():
            after.writestr(f"{names[0].partition('/')[0]}/{name}", content)
    return path


@pytest.mark.parametrize("kind", ["object", "expression"])
def test_nothing_runs_without_the_users_word(kind: str, saved: Path, tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / "evil.pt2"
    if kind == "object":
        config = {"config": {"x": {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}}}
        changed = {"constants_config.json": json.dumps(config)}
        rewritten(saved, path, changed, {"data/constants/opaque_obj_0": pickle.dumps(Boom(mark))})
    else:
        with zipfile.ZipFile(saved) as archive:
            program = json.loads(archive.read(next(name for name in archive.namelist() if name.endswith("models/model.json"))))
        size = {"as_expr": {"expr_str": f"__import__('pathlib').Path({str(mark)!r}).touch()", "hint": None}}
        next(iter(program["graph_module"]["graph"]["tensor_values"].values()))["sizes"][0] = size
        rewritten(saved, path, {"models/model.json": json.dumps(program)}, {})
    with pytest.raises(InputError, match="--trust-pickle"):
        opt.load_model(path)
    assert not mark.exists()
    with pytest.raises(InputError):
        opt.load_model(path, trust_pickle=True)
    assert mark.exists()  # so this is a file that runs something, and the refusal is needed


def test_a_damaged_one_is_said(saved: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "net.pt2"
    shutil.copy(saved, damaged)
    with zipfile.ZipFile(damaged) as archive:
        names = archive.namelist()
    with zipfile.ZipFile(damaged, "w") as archive:
        archive.writestr(next(name for name in names if name.endswith("archive_format")), "pt2")
    with pytest.raises(InputError, match="cannot be read as an exported program"):
        opt.load_model(damaged, trust_pickle=True)
