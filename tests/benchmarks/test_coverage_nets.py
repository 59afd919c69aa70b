"""Small networks of other libraries are traced and cut, so that a fault is seen before the study of all of them runs."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.networks.catalogue import build
from benchmarks.networks.without_operators import torchvision
from benchmarks.studies.coverage_nets import measure_norms
from optimize.candidate import Candidate, Reference
from optimize.graph.trace import trace
from optimize.loading.load import load_model
from optimize.steps.prune_to_widths import PruneToWidths

NETWORKS = [
    ("torchvision", "squeezenet1_1"),
    *(("timm", name) for name in ("test_vit", "test_convnext", "lcnet_035", "regnetx_002")),
    *(("monai", name) for name in ("UNet", "AttentionUnet", "BasicUNet", "DynUNet", "SegResNet", "ViT")),
    *(("odd", name) for name in ("ecg_1d", "tabular_mlp", "volume_3d", "conv_lstm", "scalar_parameter")),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")  # of the libraries
@pytest.mark.parametrize(("family", "name"), NETWORKS)
def test_network_of_a_library_has_groups_and_can_be_cut(family: str, name: str) -> None:
    if family != "odd":
        try:
            torchvision()
        except ImportError:
            pytest.skip("torchvision is not installed, and timm needs it")
        pytest.importorskip(family, reason=f"{family} is not installed")
    built = build(family, name)
    inputs = np.random.default_rng(0).standard_normal((4, *built.shape), np.float32)
    measure_norms(built.module, inputs)
    candidate = load_model(built.module, input_shape=built.shape)
    graph = trace(candidate)
    assert not [reason for layer, reason in graph.fixed if layer == "(network)"]
    halved = tuple((group.name, max(1, group.size // 2)) for group in graph.groups)
    cut = PruneToWidths(halved)(candidate, Reference(candidate, inputs))
    # by hand: every group lost half of its channels, and the network still runs
    assert cut.parameters < candidate.parameters
    assert np.isfinite(cut.predict(inputs)).all()
    _same_shapes(candidate, cut, inputs)


def _same_shapes(before: Candidate, after: Candidate, inputs: np.ndarray) -> None:
    assert after.predict(inputs).shape == before.predict(inputs).shape
