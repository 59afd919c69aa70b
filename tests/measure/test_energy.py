"""A tree of files stands for the processor's counters: what they move by is known, so the energy is a sum on paper."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from optimize.hardware import nvml
from optimize.measure import energy
from optimize.measure.energy import Meters, measure, meters

RANGE = 262_143_328_850


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "present", lambda: False)


def zone(root: Path, folder: str, name: str, energy_uj: int = 0, highest: int = RANGE) -> Path:
    """One counter as Linux shows it."""
    made = root / folder
    made.mkdir(parents=True)
    for file, value in (("name", name), ("energy_uj", energy_uj), ("max_energy_range_uj", highest)):
        (made / file).write_text(f"{value}\n")
    return made / "energy_uj"


def test_packages_count_and_nothing_that_is_part_of_them_or_holds_them(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl").mkdir()
    for number, name in (("1", "package-1"), ("0", "package-0"), ("0:0", "core"), ("2", "psys")):
        zone(tmp_path, f"intel-rapl:{number}", name)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0")
    found = meters(tmp_path)
    assert [each.name for each in found.meters] == ["package-0", "package-1"]
    assert found.as_dict() == {"meters": ["package-0", "package-1"], "notes": ["no NVIDIA GPU or driver found"]}


@pytest.mark.parametrize(("before", "after", "joules"), [(10, 2_000_010, 2.0), (RANGE - 1_500_000, 500_000, 2.0), (RANGE - 1, 0, 1e-6)])
def test_a_counter_that_starts_again_is_followed(before: int, after: int, joules: float, tmp_path: Path) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", before)
    (meter,) = meters(tmp_path).meters
    first = meter.read()
    counter.write_text(f"{after}\n")
    assert meter.joules(first, meter.read()) == pytest.approx(joules, rel=1e-12)


def spending(counter: Path, microjoules: int) -> Iterator[None]:
    """Each step moves the counter, which starts again at its highest value."""
    while True:
        counter.write_text(f"{(int(counter.read_text()) + microjoules) % RANGE}\n")
        yield


def test_energy_of_each_item_by_the_closed_formula(tmp_path: Path) -> None:
    """A call of "a" takes 3 J in 0.5 s, one of "b" 1 J in 0.25 s; idle takes 4 W; the counter starts again on the way."""
    counter = zone(tmp_path, "intel-rapl:0", "package-0", RANGE - 20_000_000)
    now = 0.0

    def lasts(seconds: float, watts: float) -> None:
        nonlocal now
        now += seconds
        next(spending(counter, round(1e6 * watts * seconds)))

    calls = {"a": lambda: lasts(0.5, 6), "b": lambda: lasts(0.25, 4)}
    found = measure(calls, meters(tmp_path), batch=8, seconds=6, timer=lambda: now, sleep=lambda seconds: lasts(seconds, 4))
    assert found["idle_w"] == {"package-0": pytest.approx(4)}
    a, b = found["contenders"]["a"], found["contenders"]["b"]
    # Three blocks of two seconds each.
    assert (a["calls"], a["seconds"], b["calls"], b["seconds"]) == (12, 6, 24, 6)
    assert a["meters"]["package-0"] == {"joules_per_item": pytest.approx(3 / 8), "watts": pytest.approx(6)}
    assert b["meters"]["package-0"] == {"joules_per_item": pytest.approx(1 / 8), "watts": pytest.approx(4)}
    assert int(counter.read_text()) < 100_000_000


def test_contenders_take_turns(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0")
    order: list[str] = []
    ticks = iter(range(1000))
    quick = {"timer": lambda: float(next(ticks)), "sleep": lambda _: None}
    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    measure(calls, meters(tmp_path), batch=1, seconds=0.001, **quick)  # type: ignore[arg-type]
    # One untimed call and one that counts, three times over.
    assert "".join(order) == "aabb" * 3


def test_a_counter_that_only_root_may_read_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0")
    counter.chmod(0)
    if os.access(counter, os.R_OK):  # the tests run as root
        monkeypatch.setattr(energy, "_counter", refuse)
    found = meters(tmp_path)
    assert found == Meters((), (f"{counter} cannot be read: it needs root, or the right to read it", "no NVIDIA GPU or driver found"))


def refuse(path: Path) -> int:
    raise PermissionError(13, "Permission denied", str(path))


@pytest.mark.parametrize(("virtual", "where"), [(True, "in this virtual machine"), (False, "on this machine")])
def test_a_machine_without_counters_says_so(virtual: bool, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "virtual", lambda: virtual)
    zone(tmp_path, "intel-rapl:0", "psys")
    assert meters(tmp_path).notes[0] == f"no RAPL counter of a processor package {where}: {tmp_path} names none"
    assert meters(tmp_path / "none").notes[0].endswith("none names none")


def test_a_damaged_counter_is_named(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0").write_text("lost\n")
    assert meters(tmp_path).meters == ()
    assert meters(tmp_path).notes[0].startswith(f"{tmp_path / 'intel-rapl:0'} cannot be read: invalid literal")
