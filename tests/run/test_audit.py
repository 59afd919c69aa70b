"""`optimize audit`: the same figures in JSON, on the page and in the terminal; nothing changed, and no test image read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import optimize as opt
from optimize.errors import InputError
from tests import conftest, runs
from tests.report.read import Page


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.bring(tmp_path_factory.mktemp("audit"))


def test_the_command_writes_a_page_and_a_file_that_agree(model: Path, any_target: str) -> None:
    before = sorted(path.name for path in model.parent.iterdir())
    code, told, _ = runs.command("audit", model, "--target", any_target, "--out", model.parent / "found")
    assert code == 0
    written = json.loads((model.parent / "found/audit.json").read_text(encoding="utf-8"))
    assert sorted(path.name for path in model.parent.iterdir()) == sorted([*before, "found"])
    assert [path.name for path in sorted((model.parent / "found").iterdir())] == ["audit.html", "audit.json"]
    page = Page((model.parent / "found/audit.html").read_text(encoding="utf-8"))
    assert len(written["layers"]) == len(written["playbook"]) > 1
    for layer in written["layers"]:
        assert layer["name"] in page.text
        assert layer["name"] in told
    assert sum(layer["macs_share"] for layer in written["layers"]) == pytest.approx(1)
    assert [each["rank"] for each in written["fidelity"]] == sorted(each["rank"] for each in written["fidelity"])
    assert written["fidelity"][-1]["energy"] == pytest.approx(1)
    assert written["parsimony"]["as_published"]["aic"] == 2 * written["parameters"]
    code, told, _ = runs.command("audit", model, "--target", any_target, "--json")
    assert (code, json.loads(told)) == (0, written)


def test_from_python_the_network_is_left_as_it_was(any_target: str) -> None:
    rng = np.random.default_rng(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    splits = {name: (rng.standard_normal((60, 1, 8, 8)).astype(np.float32), np.arange(60) % 3) for name in ("val", "test")}
    found = opt.audit(net, splits, target=any_target)
    assert [layer.name for layer in found.layers] == ["0", "3"]
    assert str(found).startswith("Sequential: 475 parameters")
    assert all((before[name] == tensor).all() for name, tensor in net.state_dict().items())


def test_what_is_wrong_is_one_line(model: Path, tmp_path: Path) -> None:
    conftest.require("onnxruntime")
    (tmp_path / "file").write_text("")
    code, _, told = runs.command("audit", model, "--target", "onnxruntime", "--out", tmp_path / "file")
    assert code == 2
    assert "is a file: name a folder" in told
    with pytest.raises(InputError, match="`data` is missing"):
        opt.audit(nn.Linear(2, 2), target="onnxruntime", input_shape=(1, 2))
