"""README.md: how to use the bundle, for an engineer at the site where it is unpacked."""

from __future__ import annotations

from typing import Any

from optimize.backends import title
from optimize.deploy.bundle.bundled_run import BundledRun
from optimize.deploy.bundle.runtime_machine import RuntimeMachine
from optimize.hardware.cpu_level import in_words

NAME = "README.md"
_TESTED = "Then it computes the recorded outputs again and compares them."

_TEXT = """{warning}# {title}

{what}

This folder needs no network and no other software of its maker. It needs Python, numpy and the runtime, in the versions of
`requirements.txt`. Where the folder `wheels/` is there, this installs them without a network:

```sh
python -m pip install --no-index --find-links wheels -r requirements.txt
```

## First: check it

```sh
python -m bundle check
python -m bundle check --key public.pem
```

Call it in this folder. It compares every file with `manifest.json`, and looks at the versions and the processor or GPU.
{self_test}
The second line also checks the signature. It needs the package of `requirements-sign.txt`, which is installed in the same way. Take the
public key from its owner, never from this folder.

## Use it

```sh
python -m bundle infer image.png
python -m bundle infer images.npy --json
```

```python
import numpy
from bundle import Model

model = Model(".")
outputs = model.predict(numpy.load("images.npy"))
```

- Images are given as they are stored: {stored}. One image has the shape {image}. The runner prepares them as `preprocess.json` says.
- Outputs have the shape {answers} and are {meaning}.
- The decision is: {decision}.
- Classes, in the order of the outputs: {classes}.

Exit codes: 0 done, 2 the call or an image is wrong, 4 the bundle refuses to run here. An error is one line that says what to do.

## What it was verified on

| what | value |
|---|---|
{machine}

On another machine `check` compares the recorded outputs with a wider tolerance. It says what is different.

## What is in it

| file | content |
|---|---|
| `manifest.json` | the hash of every other file, and what this bundle is |
| `manifest.dsse.json` | the signature of `manifest.json`; only in a signed bundle |
| `bundle/` | the runner: Python code that you can read |
| `model/` | the compiled model, with recorded inputs and outputs |
| `onnx/` | the same network and the original it was made from, in ONNX |
| `preprocess.json`, `schema.json` | how an image becomes an input, and what goes in and comes out |
| `report.html`, `report.json` | what was measured before the model was {handed} |
| `criteria.json`, `recipe.lock.toml` | the limits and settings that were fixed before |
| `model_card.md`, `change_control.md`, `change_control.json` | what the model is for, and what was changed |
| `requirements.txt` | the packages that it needs; `requirements-sign.txt` for signatures, `requirements-serve.txt` to answer over HTTP |
| `LICENSES.md`, `sbom.cdx.json` | licences, and the bill of materials (CycloneDX) |
| `wheels/` | those packages; only where they were asked for |

Change no file. With any change the runner refuses to start.
"""


def render(run: BundledRun) -> str:
    """Return the text; its first line is the warning, where the run was not accepted."""
    given, answered = run.use["input"], run.use["output"]
    return _TEXT.format(
        warning="" if run.warning is None else f"**WARNING: {run.warning}**\n\n",
        title=run.title,
        what=_what(run),
        self_test=_TESTED if run.artifact.golden is not None else "It has no recorded outputs to repeat, since it never ran.",
        stored=given["preprocessing"]["stored"],
        image=_image_shape(given),
        answers=_shape(answered["shape"]),
        meaning=answered["meaning"],
        decision=answered["decision"] + ("" if answered["threshold"] is None else f", which is {answered['threshold']:g}"),
        classes=", ".join(answered["classes"]),
        machine="\n".join(f"| {name} | {value} |" for name, value in _machine(run)),
        handed="accepted" if run.accepted else "bundled",
    )


def _what(run: BundledRun) -> str:
    kept = "It held every limit that was set before: `report.html` and `criteria.json`." if run.accepted else "See `report.html`."
    return f"A {answered_task(run)} network, compiled for {title(run.artifact.target)} in {run.artifact.precision}. {kept}"


def answered_task(run: BundledRun) -> str:
    """Return the task of the network, such as "classification"."""
    return str(run.use["output"]["task"])


def _image_shape(given: dict[str, Any]) -> str:
    """Return the shape of one stored image: without the padding that is added later, and with its channels where they are stored."""
    channels, *spatial = given["shape"][1:]
    sizes = [size - 2 * given["preprocessing"]["pad"] for size in spatial]
    return _shape([*sizes, channels] if given["preprocessing"]["stored"].startswith("uint8") else [channels, *sizes])


def _shape(sizes: list[object]) -> str:
    return f"({', '.join(map(str, sizes))})"


def _machine(run: BundledRun) -> list[tuple[str, str]]:
    """Return the rows of the table: what it is, and its value."""
    said = RuntimeMachine.of(run)
    memory = None if said.peak_memory_bytes is None else f"{said.peak_memory_bytes / 2**20:.0f} MiB at most, Python and runtime included"
    rows = (
        ("processor", said.cpu),
        ("instructions", None if said.isa is None else in_words(said.isa)),
        ("made for", None if said.made_for is None else in_words(said.made_for)),
        ("compute capability of the GPU", None if said.compute_capabilities is None else ", ".join(said.compute_capabilities)),
        ("runtime", f"{title(said.runtime['name'])} {said.runtime['version']}"),
        ("Python", said.python),
        ("numpy", said.numpy),
        ("threads", "as the runtime chooses" if said.threads is None else str(said.threads)),
        ("memory", memory),
    )
    return [(name, value) for name, value in rows if value is not None]
