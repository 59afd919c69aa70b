"""Training in two processes that torchrun starts: the same network as in one, and nobody is left waiting."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from optimize.candidate import Candidate, Reference
from optimize.errors import InputError
from optimize.graph.bypass import NONE, remove_layers
from optimize.run.prepare import labelled
from optimize.searching.snapshot import rebuilt, restore
from optimize.steps.finetune import Finetune
from optimize.steps.prune import Prune
from optimize.training import ddp
from tests import runs
from tests.steps.test_finetune import interrupted

ROOT = Path(__file__).parent.parent.parent
STEP = Finetune(epochs=3, learning_rate=0.02, optimizer="sgd", batch=15, precision="float32")
SCRIPT = """
import sys
from pathlib import Path
import torch
from optimize.run.compress import process_group
from optimize.loading.load import load_model
from optimize.progress import shown
from optimize.run.recipe import resolve
from optimize.searching.snapshot import save
from optimize.training.ddp import rank, size
from tests.training.test_ddp import STEP, pruned

torch.set_num_threads(1)
model, out = map(Path, sys.argv[1:])
recipe = resolve(model, target="onnxruntime", overrides={"out": out})
with shown(), process_group(recipe) as leads:
    print(f"process {rank()} of {size()} leads: {leads}")
    if leads:
        start, aim = pruned(load_model(**recipe.loader_arguments), out)
        once = STEP(start, aim)
        save(STEP(once, aim), out / "made.safetensors")
"""


def pruned(original: Candidate, scratch: Path | None) -> tuple[Candidate, Reference]:
    """A network whose shapes are no longer the original's, and what to train it on."""
    split = runs.split("train")
    aim = Reference(original, split.inputs(), 0, labelled(split), scratch)
    return Prune(0.05)(original, aim), aim


def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Two processes; the launcher's own report of failures is part of standard error."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [*launcher, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_two_processes_train_what_one_trains(brought: Path, tmp_path: Path) -> None:
    """A network of a user's own code, pruned, trained twice, the first time from where one process stopped; 15 make unequal shares."""
    (tmp_path / "script.py").write_text(SCRIPT)
    interrupted(STEP, *pruned(runs.original(), tmp_path), 1)
    done = torchrun(tmp_path / "script.py", brought, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("recovery training goes on after epoch 1\n") == 1
    assert done.stderr.count("epoch 3 of 3: ") == 2
    assert sorted(done.stdout.splitlines()) == ["process 0 of 2 leads: True", "process 1 of 2 leads: False"]
    assert {path.name for path in tmp_path.iterdir()} == {"script.py", "made.safetensors"}
    start, aim = pruned(runs.original(), None)
    made, alone = restore(aim.original, tmp_path / "made.safetensors"), STEP(STEP(start, aim), aim)
    assert alone.fingerprint != start.fingerprint
    assert start.parameters < aim.original.parameters
    assert made.lineage == alone.lineage
    theirs = alone.module.state_dict()
    for name, tensor in made.module.state_dict().items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-5)


def test_the_command_answers_once(any_target: str, tmp_path: Path) -> None:
    """The original does not hold the limit, so the run is over soon; the other process has by then waited for nothing."""
    model, out = runs.bring(tmp_path, runs.arrays(wrong_val=0.3)), tmp_path / "out"
    flags = ("--target", any_target, "--out", out, "--min-class-f1", "95%", "--retrain", "--force")
    done = torchrun("-m", "optimize", "compress", model, *flags)
    assert done.returncode == 1
    assert [line.split(":")[0] for line in done.stdout.splitlines() if not line.startswith(" ")][:1] == ["REJECTED"]
    assert done.stdout.count("REJECTED") == 1
    assert (out / "report.json").is_file()
    assert "optimize.errors" not in done.stderr


@dataclass(frozen=True)
class Recorded:
    """A step that remembers what it is called with."""

    calls: list[Candidate]

    def __call__(self, candidate: Candidate, reference: Reference) -> Candidate:
        self.calls.extend([candidate, reference.original])
        return candidate


def test_the_others_train_what_the_leader_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network with a layer taken out, which its tensors alone do not show, and whose outputs are probabilities."""
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 1), torch.nn.Conv2d(3, 3, 1), torch.nn.Conv2d(3, 2, 1)).eval()
    original = Candidate(net, torch.rand(1, 1, 4, 4))
    module = remove_layers(net, ["1"])
    shorter = replace(original, module=module, kept={"1": NONE}, outputs="probabilities")
    step, sent = Recorded([]), [None]
    monkeypatch.setattr(ddp, "broadcast", lambda value: sent.insert(0, value) if value is not None else sent.pop(0))
    token = ddp._current.set(ddp._Process(0, 2))
    with ddp.mirrored_step(step, shorter, Reference(original, original.example.numpy())):
        ddp._serve(lambda: original, rebuilt)
    ddp._current.reset(token)
    candidate, known = step.calls
    np.testing.assert_array_equal(candidate.predict(original.example.numpy()), shorter.predict(original.example.numpy()))
    assert candidate.kept.keys() == {"1"}
    assert candidate.outputs == known.outputs == "probabilities"


def test_one_process_needs_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with ddp.process_group(lambda: pytest.fail("there is nothing to load"), lambda module, *_: module) as leads:
        assert (leads, ddp.rank(), ddp.size()) == (True, 0, 1)
        assert ddp.broadcast("word") == "word"
        net = torch.nn.Linear(2, 2)
        assert ddp.parallel(net, torch.device("cpu")) is net


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match=r"`--nproc-per-node` \(=3 or more\) is above the 2 GPU\(s\) here: start one process for each\."):
        ddp.process_group(runs.original, lambda module, *_: module).__enter__()


def test_a_batch_must_hold_two_items_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before the others are told anything."""
    split = runs.split("train")
    monkeypatch.setattr(ddp, "size", lambda: 4)
    monkeypatch.setattr(ddp, "mirrored_step", lambda *_: nullcontext(pytest.fail("the others were told")))
    aim = Reference(runs.original(), np.zeros((1, 1, 8, 8), np.float32), 0, labelled(split))
    with pytest.raises(InputError, match=r"`batch` \(=7\) must hold two items for each of the 4 processes: start fewer of them\."):
        Finetune(batch=7)(aim.original, aim)
