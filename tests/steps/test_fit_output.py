"""The last layer's fit to the answers, against scikit-learn's logistic regression on weighted copies of the rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from torch import nn

from optimize.candidate import Candidate
from optimize.graph.surgery import with_tensors
from optimize.guard.divergence import divergence, log_shares
from optimize.steps.fit_output import FitOutput, fit_to_answers, output_layer
from optimize.steps.prune_to_widths import PruneToWidths
from tests import nets
from tests.nets import candidate, cases, reference

DRAW = np.random.default_rng(0)
GIVEN = DRAW.standard_normal((300, 3)) * (1, 10, 0.1) + (0, 5, 2)


def wanted(classes: int) -> np.ndarray:
    """Logits that no linear map of the rows gives."""
    return DRAW.standard_normal((300, classes)) + GIVEN @ DRAW.standard_normal((3, classes)) * 0.3


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_without_a_pull_it_is_logistic_regression(classes: int) -> None:
    logits = wanted(classes)
    both = np.hstack([np.zeros_like(logits), logits]) if classes == 1 else logits
    shares = softmax(both, axis=1)
    weight, bias = fit_to_answers(GIVEN, logits, np.zeros((3, classes)), np.zeros(classes), 0.0)
    made = GIVEN @ weight + bias
    made = softmax(np.hstack([np.zeros_like(made), made]) if classes == 1 else made, axis=1)
    labels = np.repeat(np.arange(shares.shape[1]), len(GIVEN))
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=5000)
    oracle.fit(np.tile(GIVEN, (shares.shape[1], 1)), labels, sample_weight=shares.T.ravel())
    np.testing.assert_allclose(made, oracle.predict_proba(GIVEN), atol=1e-4)


def test_the_pull_holds_the_weights_and_lets_the_bias_go() -> None:
    logits, start = wanted(4), DRAW.standard_normal((3, 4))
    far, near = (np.abs(fit_to_answers(GIVEN, logits, start, np.zeros(4), pull)[0] - start).max() for pull in (1e-3, 1e3))
    assert near < 1e-2 < far
    _, bias = fit_to_answers(GIVEN, logits, np.zeros((3, 4)), np.zeros(4), 1e3)
    np.testing.assert_allclose(softmax(bias), softmax(logits, axis=1).mean(0), atol=1e-4)


def test_columns_that_say_nothing_do_no_harm() -> None:
    doubled = np.hstack([GIVEN, GIVEN[:, :1], np.ones((300, 1))])
    logits = wanted(3)
    one, other = (
        given @ weight + bias
        for given in (GIVEN, doubled)
        for weight, bias in [fit_to_answers(given, logits, np.zeros((given.shape[1], 3)), np.zeros(3), 0.0)]
    )
    np.testing.assert_allclose(softmax(one, axis=1), softmax(other, axis=1), atol=1e-4)


def test_the_original_is_its_own_best_answer() -> None:
    start = candidate(nets.chain())
    made = FitOutput()(start, reference(start))
    np.testing.assert_allclose(made.predict(cases(8)), start.predict(cases(8)), atol=1e-4)


@pytest.mark.parametrize("net", [nets.chain, nets.chain_inplace], ids=["a linear layer", "a convolution"])
def test_answers_come_nearer_than_least_squares_brings_them(net: type[nn.Module]) -> None:
    drawn = candidate(net())
    last = output_layer(drawn)
    assert last is not None
    # decided answers: where logits are small, both losses are the same
    start = candidate_like(drawn, last, 8.0)
    aim = reference(start, 400)
    squares = PruneToWidths((("0", 4), ("2", 3)), l2=1e6)(start, aim)
    before = squares.fingerprint
    made = FitOutput(l2=0.0)(squares, aim)
    wanted = log_shares(start.predict(aim.calibration))
    far, near = (divergence([(wanted, log_shares(each.predict(aim.calibration)))]) for each in (squares, made))
    assert near < 0.95 * far
    assert squares.fingerprint == before
    assert made.lineage == (*squares.lineage, FitOutput(l2=0.0))
    same = [key for key, tensor in squares.module.state_dict().items() if torch.equal(tensor, made.module.state_dict()[key])]
    assert set(squares.module.state_dict()) - set(same) == {f"{last}.weight", f"{last}.bias"}


def candidate_like(drawn: Candidate, last: str, scale: float) -> Candidate:
    weight = drawn.module.get_submodule(last).get_parameter("weight").detach()
    return Candidate(with_tensors(drawn.module, last, weight=scale * weight), drawn.example)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(self.layer(x).relu())
        return out


@pytest.mark.parametrize(
    "net",
    [nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softmax(1)), nn.Sequential(nn.Conv2d(3, 4, 2), nn.ConvTranspose2d(4, 2, 2)), Twice()],
    ids=["softmax", "transposed", "twice"],
)
def test_without_an_answering_layer_nothing_changes(net: nn.Module) -> None:
    start = candidate(net)
    assert output_layer(start) is None
    assert FitOutput()(start, reference(start)).fingerprint == start.fingerprint


def test_a_layer_without_a_bias_gets_none() -> None:
    start = candidate(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1, bias=False)))
    made = PruneToWidths((("0", 2),))(start, reference(start))
    np.testing.assert_equal(np.isfinite(made.predict(cases(2))), True)
    assert FitOutput()(start, reference(start)).module.get_submodule("2").bias is None
