"""The sections of a first recipe: settings that are known, and comments on those that are not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import tomli_w

from optimize.guard.limits import Limits
from optimize.guard.spending import FIRST_SHARE, at_share
from optimize.run.doctor import doctor
from optimize.run.planning.data_facts import DataFacts
from optimize.run.planning.decisions import Decision, decisions, smallest_limit
from optimize.run.planning.model_file import ModelFile

MAX_CANDIDATES = 8
WIDTH = 120
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


@dataclass(frozen=True)
class Section:
    """A section of a recipe.

    Args:
        lines: its lines, the title first.
        questions: settings in it that the user has to fill in.
    """

    lines: tuple[str, ...]
    questions: tuple[str, ...] = ()


def setting(key: str, content: object, why: str = "") -> str:
    """Return a line that sets a key; a comment says where the value comes from.

    >>> setting("input", [1, 8, 8], "the images are this large")
    'input = [1, 8, 8]  # the images are this large'
    """
    text = tomli_w.dumps({key: content}).strip()
    if isinstance(content, list | tuple):  # one line, where tomli_w writes one line for each entry
        inner = ", ".join(tomli_w.dumps({"x": entry}).strip().removeprefix("x = ") for entry in content)
        text = f"{key} = [{inner}]"
    return f"{text}  # {plain(why)}" if why else text


def comment(text: str) -> str:
    r"""Return a comment line. Names from the user's files stand in comments, so a line break in one must not begin a setting.

    >>> comment("a name\ntrust_pickle = true")
    '# a name trust_pickle = true'
    """
    return f"# {plain(text)}"


def suggestion(key: str, content: object, why: str = "") -> str:
    """Return a setting that is not in force: it becomes one when the user takes the # away.

    >>> suggestion("mean", [0.5], "an example")
    '# mean = [0.5]  # an example'
    """
    return f"# {setting(key, content, why)}"


def plain(text: str) -> str:
    """Return a text without line breaks and other control characters."""
    return " ".join(_CONTROL.sub(" ", text).split())


def model_section(path: str, held: ModelFile, facts: DataFacts | None, arch: str | None) -> Section:
    """Return the section on the network.

    Args:
        path: file of weights, relative to the recipe.
        held: what the file holds.
        facts: what the data hold; None where none were named.
        arch: the factory, relative to the recipe; None where it is not known.
    """
    lines = ["[model]", setting("path", path, held.format)]
    if held.why_unread:
        lines.append(comment(held.why_unread))
    else:
        network = "the network is in the file" if held.input_shape else "a factory has to build the network"
        lines.append(comment(f"{held.tensors} weights by name, {held.parameters:,} numbers: {network}"))
        lines += [comment(f"{which} weight in the file: {name}, {list(shape)}") for which, (name, shape) in _ends(held)]
    lines += [comment(note) for note in held.notes]
    questions: list[str] = []
    if arch is not None:
        lines.append(setting("arch", arch, "as you passed it"))
    elif held.whole_module:
        lines.append(comment("arch is not needed with --trust-pickle, which only you can pass: a recipe must not vouch for its model"))
    elif not held.input_shape:
        lines += _candidates(held)
        questions.append("[model] arch")
    shape = _input_line(held, facts)
    lines.append(shape[0])
    return Section(tuple(lines), (*questions, *shape[1]))


def data_section(source: str | None, facts: DataFacts | None, preparation: bool = False) -> Section:
    """Return the section on images and labels.

    Args:
        source: the data, relative to the recipe; None where none were named.
        facts: what they hold.
        preparation: whether the folder of the model states how images are prepared.
    """
    if source is None or facts is None:
        missing = suggestion("path", "data.npz", 'or "file.py:factory": train_images, train_labels, val_*, test_*; see docs/data.md')
        return Section(("[data]", missing, *_statistics(None, preparation)), ("[data] path", _question(preparation)))
    data = facts.dataset
    lines = ["[data]", setting("path", source)]
    task = "masks" if facts.masks else "classes of whole images"
    kind = "bytes, which are divided by 255" if facts.stored_as_bytes else f"{data.test.images.dtype}, which are taken as they are"
    lines.append(comment(f"labels are {task}; images are {kind}"))
    for name in ("train", "calibration", "guard", "test"):
        split = getattr(data, name)
        if split is not None:
            counts = ", ".join(f"{label} {count}" for label, count in split.class_counts(data.classes).items())
            lines += _folded(f"{name} {len(split)} images: {counts}")
    lines += [comment(f"the data: {note}") for note in data.notes]
    patients = data.test.patients is not None
    lines.append(comment("patients are known" if patients else "no test_patient: every image counts as its own patient"))
    columns = ", ".join(data.test.groups) or "none: add test_NAME_group and val_NAME_group for limits within subgroups"
    lines.append(comment(f"subgroup columns: {columns}"))
    named = data.classes if facts.named else None
    lines.append(
        comment(f"classes by name: {', '.join(named)}") if named else suggestion("classes", ["…"], "names of the labels, in order")
    )
    return Section((*lines, *_statistics(facts, preparation)), (_question(preparation),))


def limits_section(facts: DataFacts | None) -> Section:
    """Return the section on limits, with the number of test cases that each class has and needs."""
    limits = Limits()
    lines = ["[limits]", comment("what the artifact may lose; decide before the run, as a change afterwards is no limit")]
    lines += [setting("max_drop", _points(limits.max_drop)), setting("max_class_drop", _points(limits.max_class_drop))]
    if facts is None:
        return Section((*lines, comment("optimize plan says how many test cases of each class these limits need")))
    test, first = facts.dataset.test, at_share(limits, FIRST_SHARE)
    decided = decisions(test, facts.dataset.classes, first)
    unsure = [decision for decision in decided if not decision.decidable]
    lines.append(comment(f"test cases there are / needed, where nothing is lost, at {100 * first.confidence:.4g} % confidence:"))
    lines += _folded("; ".join(f"{decision.title} {decision.n} / {decision.required_n or 'not known'}" for decision in decided))
    if not unsure:
        return Section((*lines, comment("every limit can be decided by the test split")))
    lines.append(comment(f"TOO FEW for {len(unsure)} of {len(decided)}: no run could be accepted. Add cases, or allow larger drops:"))
    lines += [comment(f"  {decision.title}: {decision.remedy}{_or_allow(decision, first.confidence)}") for decision in unsure]
    return Section(tuple(lines), ("[limits] max_drop and max_class_drop, or more test cases",))


def run_section() -> Section:
    """Return the section on the target, with those that run on this machine."""
    able = [target.name for target in doctor().targets if target.runs]
    here = ", ".join(able) or "none: see optimize doctor"
    lines = ["[run]", comment(f"targets that run on this machine: {here}; the machine that the model is for may be another")]
    return Section((*lines, suggestion("target", able[0] if able else "onnxruntime")), ("[run] target, or --target",))


def _ends(held: ModelFile) -> Iterable[tuple[str, tuple[str, tuple[int, ...]]]]:
    return [(which, end) for which, end in (("first", held.first), ("last", held.last)) if end is not None]


def _candidates(held: ModelFile) -> list[str]:
    """Return comments with the factories that may build the network, for the user to choose one."""
    if not held.factories:
        return [suggestion("arch", "net.py:make", "no source file beside the model builds a network: name the function that does")]
    lines = [comment("arch: take away the # in front of the function that builds this network (they were read, not run)")]
    for factory in held.factories[:MAX_CANDIDATES]:
        needs = f"; needs {', '.join(factory.required)}: set arch_args" if factory.required else ""
        lines.append(suggestion("arch", factory.spec, f"{factory.spec.rpartition(':')[2]}{factory.signature}{needs}"))
    if more := held.factories[MAX_CANDIDATES:]:
        lines.append(comment(f"and {len(more)} more"))
    if any(factory.required for factory in held.factories):
        lines.append(comment("arch_args = { classes = 8 }"))
    return lines


def _input_line(held: ModelFile, facts: DataFacts | None) -> tuple[str, tuple[str, ...]]:
    """Return the line on the shape of one input, and the question where it is open."""
    question = ("[model] input",)
    if held.input_shape:
        return setting("input", list(held.input_shape), "as the file says"), ()
    if facts is None or not facts.input_shape:
        return "# input = [C, H, W]  # one input, channels first, as the network was trained", question
    shape = list(facts.input_shape)
    if not held.fits(shape):
        said = f"the images are this large, but no convolution in the file reads {shape[0]} channels with {len(shape) - 1} spatial axes"
        return suggestion("input", shape, said), question
    return setting("input", shape, "the size of the images; where [data] pad adds n zeros, each spatial size grows by 2 n"), ()


def _question(preparation: bool) -> str:
    """Return what of the preparation of images the user has to fill in."""
    return "[data] preprocessing" if preparation else "[data] mean and std"


def _statistics(facts: DataFacts | None, preparation: bool) -> list[str]:
    """Return comments on mean and std; measured values are a hint only, as the training code decides."""
    if preparation:
        return [suggestion("preprocessing", "huggingface", "the model's preprocessor_config.json says how images are prepared")]
    lines = [comment("mean and std must be those of the training code, which no file says; without them nothing is subtracted or divided")]
    mean, std = ([0.5], [0.5]) if facts is None else (list(facts.mean), list(facts.std))
    where = "an example" if facts is None else f"measured on {facts.measured_cases} images of {facts.measured_on}"
    return [*lines, suggestion("mean", mean, where), suggestion("std", std)]


def _or_allow(decision: Decision, confidence: float) -> str:
    """Return the smallest limit that the present cases can decide, in words; empty where it is not known."""
    least = smallest_limit(decision, confidence)
    return "" if least is None else f", or allow at least {100 * least:.1f} pp"


def _points(limit: float | None) -> str:
    return f"{100 * (limit or 0):g}pp"


def _folded(text: str) -> list[str]:
    """Return a long comment as several lines."""
    words: Sequence[str] = plain(text).split(" ")
    lines, line = [], "#  "
    for word in words:
        if len(line) + len(word) + 1 > WIDTH and line.strip("# "):
            lines.append(line)
            line = "#     "
        line = f"{line} {word}"
    return [*lines, line]
