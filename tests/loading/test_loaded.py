"""What a run has loaded before it does any work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from optimize.errors import InputError
from optimize.run.prepare import loaded
from optimize.run.recipe import Recipe, resolve
from tests import runs


def recipe(model: Path, **more: object) -> Recipe:
    return resolve(model, target="onnxruntime", overrides={"out": model.parent / "out", **more})


def test_the_example_is_a_calibration_image_and_the_weights_are_those_asked_for(tmp_path: Path) -> None:
    model = runs.bring(tmp_path)
    state = runs.trained().state_dict()
    torch.save({"state_dict": state, "state_dict_ema": {name: 0.5 * tensor for name, tensor in state.items()}}, model)
    job = loaded(recipe(model), lambda _: None)
    example = job.original.example.numpy()
    assert any(np.array_equal(example, image[None]) for image in job.data.calibration.inputs())
    assert torch.equal(job.original.module.state_dict()["0.weight"], state["0.weight"])
    assert job.original.notes == (
        "the weights are those under `state_dict`; the file also holds `state_dict_ema`: take them with --weights state_dict_ema",
    )
    asked = loaded(recipe(model, weights="state_dict_ema"), lambda _: None)
    assert torch.equal(asked.original.module.state_dict()["0.weight"], 0.5 * state["0.weight"])


def test_calibration_images_are_tried_before_any_work(tmp_path: Path) -> None:
    """Random numbers are fine, but of an image of its own kind the network takes the logarithm of nothing."""
    model = runs.bring(tmp_path)
    net = (tmp_path / "net.py").read_text()
    log = "    def forward(self, x):\n        return super().forward(x + 0 * torch.log(x + 1.9))\n"
    made = f"\n\nclass Log(nn.Sequential):\n{log}\n\ndef logarithm():\n    return Log(*net())\n"
    (tmp_path / "net.py").write_text(f"import torch\n{net}{made}")
    with pytest.raises(InputError, match="output on calibration images is not finite: check that mean, std and standardize"):
        loaded(recipe(model, arch=f"{tmp_path / 'net.py'}:logarithm"), lambda _: None)
    assert not (tmp_path / "out").exists()
