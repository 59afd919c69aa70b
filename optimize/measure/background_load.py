"""Run a model in background processes while another one is measured: latency as it is on a machine that is shared.

`python -m optimize.measure.background_load` is such a process: it reads a request as one line of JSON, opens the model, writes "ready" once
it has predicted, and goes on predicting until it is ended or its standard input ends. The input also ends when the process that started it
dies, in whatever way, so no background process is left behind:

    measuring process                       background process
    request as one line of JSON      ->     opens the model, predicts once
                                     <-     "ready"
    measures                                predicts in a loop
    closes the input, or dies        ->     ends
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Any

from optimize.backends.artifact import Artifact
from optimize.errors import OptimizeError
from optimize.measure.child_process import child_process
from optimize.measure.memory import answering, importer, last_words, model_in_words, source

READY = "ready"


@contextmanager
def contending(
    model: Artifact | Mapping[str, object], count: int, *, batch: int, threads: int | None, gpu_limit_bytes: int | None = None
) -> Iterator[list[int]]:
    """Let `count` fresh processes run the model while the block runs; yield their process ids once all are at work.

    Args:
        model: artifact, or arguments of `load_model`, as in `peak_memory`.
        count: number of processes.
        batch: inputs in one call of a process.
        threads: number of threads of each process, as in `build`.
        gpu_limit_bytes: largest GPU memory that torch hands out in each process, with the buffers of an engine; None for no limit.

    Raises:
        OptimizeError: when one fails, before the block or in it: what was measured then was not under load.
    """
    request = json.dumps({**source(model), "batch": batch, "threads": threads, "gpu_limit_bytes": gpu_limit_bytes}, default=str)
    with ExitStack() as started:
        children = [started.enter_context(_child(request)) for _ in range(count)]
        for child, errors in children:
            # lines in front of it are what a runtime prints when it is loaded; where the output ends without it, the process has failed
            if not any(line.strip() == READY for line in child.stdout or ()):
                raise _failed(model, child, errors)
        yield [child.pid for child, _ in children]
        for child, errors in children:
            # a process that ended while the block ran left the machine quieter than it was said to be
            if child.poll() is not None:
                raise _failed(model, child, errors)


@contextmanager
def _child(request: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    with child_process("optimize.measure.background_load") as (child, errors):
        with suppress(BrokenPipeError):  # it died at once; its last words say why
            print(request, file=child.stdin, flush=True)
        yield child, errors


def _failed(model: Artifact | Mapping[str, object], child: subprocess.Popen[str], errors: IO[str]) -> OptimizeError:
    code = child.wait()
    errors.seek(0)
    return OptimizeError(f"latency under load of {model_in_words(model)} could not be measured: {last_words(errors.read(), code)}.")


def serve(lines: IO[str], answers: IO[str]) -> None:
    """Answer the request in `lines`, and predict until they end."""
    import numpy as np

    request: dict[str, Any] = json.loads(lines.readline())
    # a thread of its own waits for the input to end: the loop below must not stop between two calls to look
    ended = threading.Event()

    def wait_for_end() -> None:
        lines.read()
        ended.set()

    opener = importer(request)
    if request.get("gpu_limit_bytes") is not None:
        _limit_gpu(request["gpu_limit_bytes"])
    with opener() as session:
        inputs = np.zeros((request["batch"], *session.input_shape), dtype=np.float32)
        session.predict(inputs)
        # only after a first call: opening a model uses the machine in another way than running it
        print(READY, file=answers, flush=True)
        # Not before: an error above would have to wait for the thread, which waits for the one who reads the error.
        threading.Thread(target=wait_for_end, daemon=True).start()
        while not ended.is_set():
            session.predict(inputs)


def _limit_gpu(limit_bytes: int) -> None:
    """Let torch hand out no more than this of the first GPU, which makes an allocation fail and never slows one down."""
    import torch

    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(limit_bytes / total, 1.0), 0)


if __name__ == "__main__":
    with answering():
        serve(sys.stdin, sys.stdout)
    # No destructors: a runtime that takes its time to shut down has nothing left to lose.
    os._exit(0)
