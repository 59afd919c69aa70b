"""A candidate on disk is the same candidate; a file that is none is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from optimize.candidate import Candidate, Reference, Step
from optimize.errors import InputError
from optimize.searching.snapshot import describe, restore, save
from optimize.steps import steps
from optimize.steps.chain import Chain
from optimize.steps.factorize import Factorize
from optimize.steps.finetune import Finetune
from optimize.steps.prune import Prune
from optimize.steps.prune_to_widths import PruneToWidths
from optimize.steps.remove_channels import RemoveChannels
from optimize.steps.repair import Repair
from tests.nets import INTRICATE, TOPOLOGIES, candidate, cases, reference
from tests.steps.test_factorize import Twice


def low_rank() -> Candidate:
    """Two big layers of rank 2, one without bias, behind a convolution."""
    start = candidate(
        nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 20), nn.ReLU(), nn.Sequential(nn.Linear(20, 20, bias=False))
        )
    )
    for name in ("3", "5.0"):
        weight = start.module.get_submodule(name).get_parameter("weight")
        left, sigma, right = torch.linalg.svd(weight.detach(), full_matrices=False)
        weight.data = left[:, :2] * sigma[:2] @ right[:2]
    return start


@pytest.mark.parametrize("name", TOPOLOGIES | INTRICATE)
def test_what_is_saved_comes_back(name: str, tmp_path: Path) -> None:
    start = candidate((TOPOLOGIES | INTRICATE)[name]())
    before = start.fingerprint
    made = Prune(0.3)(start, reference(start))
    save(made, tmp_path / "a.safetensors")
    back = restore(start, tmp_path / "a.safetensors")
    assert back.fingerprint == made.fingerprint
    assert back.lineage == made.lineage
    assert back.parameters == made.parameters
    assert {layer: index.tolist() for layer, index in back.kept.items()} == {layer: index.tolist() for layer, index in made.kept.items()}
    assert np.array_equal(back.predict(cases(8)), made.predict(cases(8)))
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    assert start.fingerprint == before


@pytest.mark.parametrize("tied", [False, True])
def test_a_layer_under_two_names_comes_back_as_one(tied: bool, tmp_path: Path) -> None:
    start, inputs = Candidate(Twice(tied).eval(), torch.zeros(1, 32)), cases(64, (32,))
    made = Factorize(0.999, worth=0)(start, Reference(start, inputs))
    save(made, tmp_path / "a.safetensors")
    back = restore(start, tmp_path / "a.safetensors")
    assert (back.parameters, back.fingerprint) == (made.parameters, made.fingerprint)
    assert np.array_equal(back.predict(inputs), made.predict(inputs))


def test_layers_that_were_split_come_back(tmp_path: Path) -> None:
    start = low_rank()
    made = Factorize(0.9999)(start, reference(start))
    assert made.parameters < start.parameters
    save(made, tmp_path / "a")
    back = restore(start, tmp_path / "a")
    assert back.module.get_submodule("3.0").bias is None
    assert back.module.get_submodule("5.0.1").bias is None
    assert back.fingerprint == made.fingerprint
    assert np.array_equal(back.predict(cases(8)), made.predict(cases(8)))


def test_layers_that_were_taken_out_stay_out(tmp_path: Path) -> None:
    start = candidate(TOPOLOGIES["chain with batch norm"]())
    made = PruneToWidths((("0", 0), ("3", 4)))(start, reference(start))
    save(made, tmp_path / "a")
    back = restore(start, tmp_path / "a")
    assert isinstance(back.module.get_submodule("1"), nn.Identity)
    assert back.fingerprint == made.fingerprint
    assert np.array_equal(back.predict(cases(8)), made.predict(cases(8)))
    made = PruneToWidths((("3", 2),))(back, reference(start))
    assert made.module.get_submodule("3").out_channels == 2


def test_what_did_not_change_is_left_out(tmp_path: Path) -> None:
    start = candidate(TOPOLOGIES["chain with batch norm"]())
    made = RemoveChannels("3", (1,), "none")(start, reference(start))
    save(made, tmp_path / "a", start)
    assert set(load_file(tmp_path / "a")) == {
        *("3.weight", "4.weight", "4.bias", "4.running_mean", "4.running_var", "8.weight"),
        *("kept channels of 3", "kept channels of 4"),
    }
    back = restore(start, tmp_path / "a", start)
    assert back.fingerprint == made.fingerprint
    assert np.array_equal(back.predict(cases(8)), made.predict(cases(8)))
    with pytest.raises(InputError, match="is no snapshot of this model"):
        restore(start, tmp_path / "a")
    split = low_rank()
    factors = Factorize(0.9999)(split, reference(split))
    save(factors, tmp_path / "b", split)
    assert "3.weight" not in load_file(tmp_path / "b")
    assert restore(split, tmp_path / "b", split).fingerprint == factors.fingerprint


def test_what_comes_back_can_be_worked_on(tmp_path: Path) -> None:
    start = candidate(TOPOLOGIES["chain with batch norm"]())
    aim = reference(start)
    made = Prune(0.1)(start, aim)
    save(made, tmp_path / "a")
    assert Prune(0.5)(restore(start, tmp_path / "a"), aim).fingerprint == Prune(0.5)(made, aim).fingerprint


@pytest.mark.parametrize(
    "step",
    [
        Prune(0.1, multiple=8),
        RemoveChannels("a", (1, 2), operator="medoid", merge_into=(0, 3)),
        Repair(layers=("a", "b")),
        Factorize(0.9, whiten=False),
        Finetune(3, optimizer="sgd"),
        PruneToWidths((("a", 3), ("b", 8)), rows=100),
        PruneToWidths(()),
        Chain((PruneToWidths((("a", 3),)), Finetune(2))),
        Chain((Chain((Repair(layers=("a",)),)), RemoveChannels("a", (1,)))),
    ],
    ids=str,
)
def test_steps_come_back_equal(step: Step, tmp_path: Path) -> None:
    start = candidate(TOPOLOGIES["chain"]())
    save(start.after(step, start.module), tmp_path / "a")
    assert restore(start, tmp_path / "a").lineage == (step,)
    assert json.loads(json.dumps(describe(step)))["step"] in steps()


def test_a_chain_leaves_its_steps_in_the_lineage(tmp_path: Path) -> None:
    start = candidate(TOPOLOGIES["chain"]())
    parts = (PruneToWidths((("0", 5), ("2", 3))), Repair(rows=500))
    made = Chain(parts)(start, reference(start))
    save(made, tmp_path / "a")
    back = restore(start, tmp_path / "a")
    assert (back.lineage, back.fingerprint) == (parts, made.fingerprint)


def test_the_same_candidate_gives_the_same_bytes(tmp_path: Path) -> None:
    start = candidate(TOPOLOGIES["residual"]())
    for name in "ab":
        save(Prune(0.2)(start, reference(start)), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def damaged(path: Path, how: str) -> None:
    whole = path.read_bytes()
    tensors = load_file(path)
    lineage = {"made": '{"lineage": [], "same": []}'}
    match how:
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(whole[: len(whole) // 2])
        case "missing":
            path.unlink()
        case "no lineage":
            save_file(tensors, path)
        case "broken lineage":
            save_file(tensors, path, metadata={"made": '{"lineage": [{'})
        case "unknown step":
            save_file(tensors, path, metadata={"made": '{"lineage": [{"step": "os.system", "settings": {}}], "same": []}'})
        case "unknown setting":
            save_file(tensors, path, metadata={"made": '{"lineage": [{"step": "Prune", "settings": {"x": 1}}], "same": []}'})
        case "unknown sharing":
            save_file(tensors, path, metadata={"made": '{"lineage": [], "same": ["elsewhere.weight"]}'})
        case "unknown tensor":
            save_file({**tensors, "elsewhere.weight": torch.zeros(2)}, path, metadata=lineage)
        case "lacks a tensor":
            save_file({name: tensor for name, tensor in tensors.items() if name != "6.weight"}, path, metadata=lineage)


@pytest.mark.parametrize(
    "how",
    [
        "empty",
        "cut",
        "missing",
        "no lineage",
        "broken lineage",
        "unknown step",
        "unknown setting",
        "unknown sharing",
        "unknown tensor",
        "lacks a tensor",
    ],
)
def test_what_is_no_snapshot_of_this_model_is_refused_in_one_line(how: str, tmp_path: Path) -> None:
    start = candidate(TOPOLOGIES["chain"]())
    path = tmp_path / "a.safetensors"
    save(start, path)
    damaged(path, how)
    with pytest.raises(InputError, match=r"`.*a.safetensors` is no snapshot of this model \(.+\): delete the folder it is in") as raised:
        restore(start, path)
    assert "\n" not in str(raised.value)


def test_another_networks_snapshot_is_refused(tmp_path: Path) -> None:
    save(candidate(TOPOLOGIES["residual"]()), tmp_path / "a")
    with pytest.raises(InputError, match="is no snapshot of this model"):
        restore(candidate(TOPOLOGIES["chain"]()), tmp_path / "a")
