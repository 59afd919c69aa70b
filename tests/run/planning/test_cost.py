"""The estimate of a run's time and memory, against sums made by hand from round numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate
from optimize.data.dataset import Preprocessing, Split
from optimize.run.planning.cost import FACTOR, MEMORY_FACTOR, Cost, Work, cost, systems
from optimize.run.planning.cuts import cuts
from optimize.run.planning.machine_rates import Rates, product_rate, seconds_per_image

WORK = Work(
    guard=100,
    test=200,
    pool=1000,
    train=0,
    macs=10**6,
    image_bytes=1000,
    proposals=10,
    scans=False,
    epochs=0,
    groups=4,
    systems=(),
    precisions={"onnxruntime": 2},
    batches=2,
    load_s=3.0,
)
RATES = Rates(image_s=0.01, compile_s={"onnxruntime": 2.0}, latency_ms={"onnxruntime": 5.0}, flops=1e9, resident_bytes=10**8, pass_bytes=0)


def test_the_parts_are_what_their_sizes_take() -> None:
    parts = cost(WORK, RATES).parts_s
    assert parts["load"] == 3.0
    assert parts["prepare"] == pytest.approx(100 * 0.01 + 2 * 2.0)
    # once: two passes over the pool and one over the guard; ten times: fit 1,000 images and judge 100 at 0.35 of the cost, compile
    assert parts["search"] == pytest.approx(2100 * 0.01 + 10 * (1100 * 0.35 * 0.01 + 2.0))
    assert parts["judge"] == pytest.approx(200 * (0.01 + 0.005))
    assert "training" not in parts


def test_twice_the_images_and_a_slower_machine_take_longer() -> None:
    first = cost(WORK, RATES)
    assert cost(replace(WORK, guard=200), RATES).seconds > first.seconds
    assert cost(WORK, replace(RATES, image_s=0.02)).seconds > first.seconds
    assert cost(replace(WORK, systems=((2000, 200),)), RATES).seconds > first.seconds
    assert cost(replace(WORK, scans=True), RATES).seconds > first.seconds
    assert cost(replace(WORK, epochs=5, train=1000), RATES).parts_s["training"] > 0


def test_a_heavy_network_is_fitted_on_fewer_images() -> None:
    # 7 * 10^11 / 10^9 multiply-accumulates are 700 images
    assert replace(WORK, macs=10**9).fitted == 700
    assert replace(WORK, macs=10**12).fitted == 256
    assert WORK.fitted == 1000
    assert replace(WORK, train=5000).checked == 2048
    assert replace(WORK, train=50).checked == 0


def test_a_strategy_of_unknown_length_is_left_out_and_said() -> None:
    open_ended = cost(replace(WORK, proposals=None), RATES)
    assert "search" not in open_ended.parts_s
    assert "search is not in it" in open_ended.note


def test_nothing_is_compiled_where_no_runtime_runs() -> None:
    assert set(cost(WORK, replace(RATES, compile_s={}, latency_ms={})).parts_s) == {"load", "prepare", "search"}


def test_the_range_is_the_middle_divided_and_multiplied() -> None:
    made = Cost({"load": 40.0, "search": 60.0}, 300)
    assert made.range_s == (100.0 / FACTOR, 100.0 * FACTOR)
    assert made.memory_range == (300 / MEMORY_FACTOR, 300 * MEMORY_FACTOR)
    assert made.as_dict()["seconds"]["parts"] == {"load": 40.0, "search": 60.0}


def test_the_systems_of_a_network_are_its_columns_and_outputs() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 5)).eval()
    candidate = Candidate(net, torch.zeros(1, 3, 6, 6))
    found = cuts(candidate, net, np.random.default_rng(0).random((2, 3, 6, 6), np.float32))
    assert systems(candidate, found) == ((3 * 9, 8), (8 * 16, 5))


def test_rates_are_taken_by_the_clock() -> None:
    ticks = iter(float(tick) for tick in range(1000))
    assert product_rate(4, clock=lambda: next(ticks)) == 2 * 4**3  # each product takes one tick, a second
    images = Split("calibration", np.zeros((10, 1, 4, 4), np.float32), np.zeros(10, int), Preprocessing())
    candidate = Candidate(nn.Flatten().eval(), torch.zeros(1, 1, 4, 4))
    # one image alone takes a second, so that a pass of two images is what fits twice into five seconds; it takes a second as well
    assert seconds_per_image(candidate, images, seconds=5, clock=lambda: next(ticks)) == pytest.approx(1 / 2)
    assert seconds_per_image(candidate, images, seconds=50, clock=lambda: next(ticks)) == pytest.approx(1 / 10)
