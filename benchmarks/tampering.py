"""What somebody may do to the folder of a run who has no key: seeded changes, from a single bit to a whole story made anew.

Whoever changes a file may also change everything that needs no key to be changed: the self-test's answers, the manifest, the hashes in the
report, its page; and strip the signature, keep the old one, or sign with a key of his own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from optimize.report.page import as_json
from optimize.report.render import render, signed
from optimize.run.verification.folder_contents import contents, listed

REPORT, PAGE, MANIFEST, LOCK = "report.json", "report.html", "model/artifact.json", "recipe.lock.toml"


@dataclass(frozen=True)
class Attacker:
    """Who tampers, and with what.

    Args:
        folder: of the run, a copy that may be changed.
        draw: decides everything that is left to chance.
        other: folder of another run, validly signed by the same key.
        key: file of the attacker's own private key.
    """

    folder: Path
    draw: np.random.Generator
    other: Path
    key: Path
    touched: list[str] = field(default_factory=list)

    def pick(self, *choices: Any) -> Any:
        """One of these."""
        return choices[int(self.draw.integers(len(choices)))]

    def some_file(self, *, report: bool = True) -> str:
        """A file of the run."""
        return str(self.pick(*(path for path in contents(self.folder).files if report or path not in (REPORT, PAGE))))

    def path(self, name: str) -> Path:
        """Where a file lies, which from now on counts as touched."""
        self.touched.append(name)
        return self.folder / name

    def report(self) -> dict[str, Any]:
        """The report as it stands."""
        return dict(json.loads((self.folder / REPORT).read_text(encoding="utf-8")))

    def put_report(self, report: dict[str, Any]) -> None:
        """Write a report with its page, as a run does."""
        self.touched.append(REPORT)
        try:
            page = render(report)
        except Exception:  # a report that no page can be made of keeps the one it has
            page = (self.folder / PAGE).read_text(encoding="utf-8")
        (self.folder / REPORT).write_text(as_json(report), encoding="utf-8")
        (self.folder / PAGE).write_text(page, encoding="utf-8")

    def cover_up(self) -> None:
        """Make the report true of the folder as it now is, and do one of four things about the signature."""
        report = told_anew(self.folder, self.report())
        way = self.pick("keep", "strip", "resign", "other's")
        if way == "strip":
            report["signature"] = None
        if way == "other's":
            report["signature"] = json.loads((self.other / REPORT).read_text(encoding="utf-8"))["signature"]
        self.put_report(signed(report, self.key) if way == "resign" else report)

    def maybe_cover_up(self) -> None:
        """Cover up half of the time."""
        if self.draw.random() < 0.5:
            self.cover_up()


def told_anew(folder: Path, report: dict[str, Any]) -> dict[str, Any]:
    """The report with its lists of files made true of a folder."""
    found = contents(folder)
    files = [file.as_dict() for file in listed({path: folder / path for path in found.files if path not in (REPORT, PAGE)})]
    by_path = {str(file["name"]): file for file in files}
    report = {**report, "files": files} if "files" in report else dict(report)
    if report.get("artifact"):
        names = [entry["name"] for entry in report["artifact"]["files"]]
        kept = [{**by_path[f"model/{name}"], "name": name} for name in names if f"model/{name}" in by_path]
        report["artifact"] = {"files": kept}
    return report


def reseal(folder: Path) -> None:
    """Make a manifest true of the files beside it."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for entry in (*manifest["files"], *([manifest["golden"]] if "golden" in manifest else [])):
        content = (folder / "model" / entry["name"]).read_bytes()
        entry |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def flip_bit(who: Attacker) -> None:
    """One bit of one file."""
    path = who.path(who.some_file())
    content = bytearray(path.read_bytes()) or bytearray(1)
    content[int(who.draw.integers(len(content)))] ^= 1 << int(who.draw.integers(8))
    path.write_bytes(content)


def resize(who: Attacker) -> None:
    """A file cut, emptied, or longer."""
    path = who.path(who.some_file())
    content = path.read_bytes()
    path.write_bytes(who.pick(content[: len(content) // 2], content[:-1], b"", content + b"\n", content + b"\0", content * 2))


def remove(who: Attacker) -> None:
    """A file is gone."""
    path = who.path(who.some_file())
    path.unlink()
    if path.name not in (REPORT, PAGE):
        who.maybe_cover_up()


def replace_kind(who: Attacker) -> None:
    """In place of a file, a folder, a pipe, or a link to the same bytes elsewhere, or to nothing."""
    path = who.path(who.some_file())
    away = who.folder.parent / f"{who.folder.name}.away"
    shutil.copyfile(path, away)
    path.unlink()
    kind = who.pick("folder", "pipe", "link", "nowhere", "system")
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"link": away, "nowhere": away.with_suffix(".none"), "system": Path("/etc/hostname")}[kind])


def add(who: Attacker) -> None:
    """A file, a folder or a link that does not belong there."""
    home = who.pick("", "model/", "unverified/", ".work/", "model/sub/", "mix/")
    name = who.pick(
        "extra.bin", ".hidden", "golden2.npz", "ARTIFACT.JSON", "mоdel.onnx", "model.onnx ", "a\nb", ".report.json.tmp", "libx.so"
    )
    path = who.path(home + name)
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = who.pick("file", "file", "folder", "link")
    if kind == "file":
        path.write_bytes(who.draw.bytes(8))
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/etc/hostname")
    if kind == "file" and who.draw.random() < 0.3:
        who.cover_up()


def swap(who: Attacker) -> None:
    """Two files in each other's place."""
    one, other = who.some_file(), who.some_file()
    while other == one:
        other = who.some_file()
    held = who.path(one).read_bytes()
    who.path(one).write_bytes(who.path(other).read_bytes())
    who.path(other).write_bytes(held)


def rename(who: Attacker) -> None:
    """A file under another name."""
    path = who.path(who.some_file())
    path.rename(path.with_name(who.pick(path.name.upper(), f"{path.name}.bak", f"_{path.name}")))


def of_the_other_run(who: Attacker) -> None:
    """Files of another run that the same key signed: one of them, its report, its model."""
    taken = who.pick("one", "report", "report and page", "model", "all but the model")
    there = contents(who.other).files
    names = {
        "one": [who.pick(*there)],
        "report": [REPORT],
        "report and page": [REPORT, PAGE],
        "model": [path for path in there if path.startswith("model/")],
        "all but the model": [path for path in there if not path.startswith("model/")],
    }[taken]
    for name in names:
        who.path(name).parent.mkdir(exist_ok=True)
        shutil.copyfile(who.other / name, who.folder / name)
    if taken in ("one", "model"):
        who.maybe_cover_up()


def edit_report(who: Attacker) -> None:
    """One value of the report is another, or gone, or more than it was; the page may follow."""
    report = who.report()
    part = who.pick(*(name for name in report if name != "signature"))
    report[part] = changed(report[part], who.draw) if who.draw.random() < 0.8 else who.pick(None, 0, {}, [], "x", True)
    if who.draw.random() < 0.1:
        del report[part]
    way = who.pick("keep", "strip", "resign")
    if way == "strip":
        report["signature"] = None
    who.touched.append(REPORT)
    if way == "resign":
        try:
            report = signed(report, who.key)
        except Exception:
            way = "keep"  # no page can be made of it
    if who.draw.random() < 0.5:
        who.put_report(report)
    else:
        who.path(REPORT).write_text(as_json(report), encoding="utf-8")


def edit_verdict(who: Attacker) -> None:
    """Another verdict, limit or figure, with all that goes with it."""
    report = who.report()
    report |= who.pick(
        {"verdict": "fail", "accepted": False},
        {"accepted": False},
        {"verdict": "inconclusive"},
        {"precision": "int8+f32"},
        {"target": "tensorrt"},
        {"reasons": []},
    )
    if who.draw.random() < 0.5:
        report["limits"] = {**report["limits"], "max_drop": 1.0, "max_class_drop": 1.0}
    who.put_report(report)


def respell(who: Attacker) -> None:
    """The report says the same in other bytes, or something else to another parser."""
    path = who.path(REPORT)
    text = path.read_text(encoding="utf-8")
    verdict = '"verdict": "pass"'
    path.write_bytes(
        who.pick(
            text.replace("{\n", "{ \n", 1),
            text + " ",
            text + "{}",
            "\ufeff" + text,
            text.replace("\n", "\r\n"),
            json.dumps(json.loads(text)),
            text.replace(verdict, f'"verdict": "fail",\n  {verdict}', 1),
            text.replace(verdict, f'{verdict},\n  "verdict": "pass"', 1),
            text.replace(verdict, '"verdict": "p\\u0061ss"', 1),
            text.replace('"seed": ', '"seed": 0e0, "x": ', 1),
            text.replace('"duration_s": ', '"duration_s": 0', 1),
            text.replace('"duration_s": ', '"duration_s": NaN, "x": ', 1),
            text.replace('"duration_s": ', '"duration_s": 1e999, "x": ', 1),
            text.replace('"duration_s": ', f'"duration_s": {"9" * 5000}, "x": ', 1),
            "[" * 100_000 + "]" * 100_000,
            text.replace('"max_drop": ', '"max_drop": 1.0, "max_drop": ', 1),
        ).encode("utf-8")
    )


def edit_signature(who: Attacker) -> None:
    """The signature is stripped, swapped, damaged, spelt otherwise, or somebody else's."""
    report = who.report()
    block = report["signature"]
    others = json.loads((who.other / REPORT).read_text(encoding="utf-8"))["signature"]
    if block is None:
        report["signature"] = who.pick(others, {}, {"algorithm": "none"}, signed(report, who.key)["signature"])
        who.put_report(report)
        return
    part = who.pick("algorithm", "public_key", "sha256", "value", "page")
    mine = signed(report, who.key)["signature"]
    ways: tuple[Callable[[], Any], ...] = (
        lambda: None,
        lambda: others,
        lambda: mine,
        lambda: {**block, part: others[part] if part != "algorithm" else "none"},
        lambda: {**block, part: mine[part] if part != "algorithm" else "ed25519"},
        lambda: {name: value for name, value in block.items() if name != part},
        lambda: {**block, "note": "reviewed"},
        lambda: {**block, "sha256": block["sha256"].upper()},
        lambda: {**block, "value": stray(block["value"])},
        lambda: {**block, "public_key": stray(block["public_key"])},
        lambda: {**block, "page": {**block["page"], "sha256": others["page"]["sha256"]}},
        lambda: {**block, "page": {**block["page"], "more": 1}},
        lambda: {**block, part: who.pick(None, 0, [], {}, "é", "\ud800")},
    )
    report["signature"] = who.pick(*ways)()
    try:
        who.put_report(report)
    except UnicodeEncodeError:
        who.path(REPORT).write_text(json.dumps(report, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def stray(text: str) -> str:
    """Base64 that decodes to the same bytes, by bits that decoders ignore; or another character where there are none."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = len(text.rstrip("=")) - 1
    return text[:last] + letters[letters.index(text[last]) ^ 1] + text[last + 1 :]


def edit_page(who: Attacker) -> None:
    """The page says something else than the report."""
    path = who.path(PAGE)
    text = path.read_text(encoding="utf-8")
    if who.draw.random() < 0.2:
        path.unlink()
        return
    path.write_text(
        who.pick(text.replace("Accepted", "Rejected"), text + "<p>", text.replace("pp", "‰", 1), text.upper(), ""), encoding="utf-8"
    )


def edit_manifest(who: Attacker) -> None:
    """The manifest names another precision, target, shape, runtime, file or self-test."""
    path = who.path(MANIFEST)
    manifest = json.loads(path.read_text(encoding="utf-8"))
    way = who.pick("precision", "leaf", "leaf", "no golden", "outside", "twice", "spelt")
    if way == "precision":
        manifest["precision"] = who.pick(*({"f32", "bf16", "int8", "int8+f32", "f16", "INT8"} - {manifest["precision"]}))
    elif way == "leaf":
        manifest = changed(manifest, who.draw)
    elif way == "no golden":
        manifest.pop("golden", None)
    elif way == "outside":
        manifest["files"][0]["name"] = who.pick("../report.json", "/etc/hostname", "..\\x", "sub/x", ".", "")
    text = json.dumps(manifest, indent=2) + "\n"
    if way == "twice":
        text = text.replace('"precision": ', '"precision": "int8", "precision": ', 1)
    path.write_text(text + " " * (way == "spelt"), encoding="utf-8")
    who.maybe_cover_up()


def edit_lock(who: Attacker) -> None:
    """The lock file allows everything, or names other code, another key, another seed."""
    path = who.path(LOCK)
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    at = int(who.draw.integers(len(lines)))
    more = who.pick(
        text + "\n# seen\n",
        "".join(lines[:at] + lines[at + 1 :]),
        "\n".join("max_drop = 1.0" if line.startswith("max_drop") else line for line in text.splitlines()) + "\n",
        "\n".join('arch = "evil.py:make"' if line.startswith("arch =") else line for line in text.splitlines()) + "\n#\n",
        "\n".join("trust_pickle = true" if line.startswith("trust_pickle") else line for line in text.splitlines()) + "\n#\n",
    )
    path.write_text(more if more != text else more + "#\n", encoding="utf-8")
    who.maybe_cover_up()


def edit_self_test(who: Attacker) -> None:
    """A self-test that lets more pass: one input, other answers, no numbers, an object."""
    path = who.path("model/golden.npz")
    with np.load(path) as file:
        inputs, outputs = file["inputs"], file["outputs"]
    arrays: dict[str, Any] = who.pick(
        {"inputs": inputs[:1], "outputs": outputs[:1]},
        {"inputs": inputs[:0], "outputs": outputs[:0]},
        {"inputs": inputs, "outputs": outputs * 1000},
        {"inputs": inputs, "outputs": np.full_like(outputs, np.nan)},
        {"inputs": inputs, "outputs": np.full_like(outputs, np.inf)},
        {"inputs": inputs, "outputs": outputs.astype(object)},
        {"inputs": inputs.astype(np.float64), "outputs": outputs},
        {"inputs": inputs * 0, "outputs": outputs * 0},
        {"inputs": inputs[..., :-1], "outputs": outputs},
        {"inputs": inputs},
        {"inputs": inputs, "outputs": outputs, "more": inputs},
    )
    np.savez(path, **arrays)
    reseal(who.folder)
    who.touched.append(MANIFEST)
    who.maybe_cover_up()


def sabotage(who: Attacker) -> None:
    """The weights are reversed, the self-test is made anew, and all hashes are recomputed: nothing contradicts anything."""
    from optimize.backends import backend
    from optimize.backends.artifact import Artifact

    model = who.folder / "model"
    for name in (path.name for path in model.glob("*.bin")):
        _reverse_ir(model / "model.xml", who.path(f"model/{name}"))
    for name in (path.name for path in model.glob("*.onnx")):
        _reverse(who.path(f"model/{name}"))
    reseal(who.folder)
    artifact = Artifact.read(model)
    with np.load(model / "golden.npz") as file:
        inputs = file["inputs"]
    with backend(artifact.target).build(artifact, threads=1) as session:
        np.savez(model / "golden.npz", inputs=inputs, outputs=session.predict(inputs))
    reseal(who.folder)
    who.touched.append(MANIFEST)
    who.cover_up()


def _reverse(path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim > 1:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values[::-1]), tensor.name))
    onnx.save(model, path)


def _reverse_ir(graph: Path, weights: Path) -> None:
    """The numbers of every larger constant of an OpenVINO model, back to front; shapes and axes, in i64, stay."""
    content = bytearray(weights.read_bytes())
    for data in ElementTree.parse(graph).iter("data"):
        width = {"f32": 4, "f16": 2, "i8": 1, "u8": 1}.get(data.get("element_type", ""))
        if width and int(data.get("size", "0")) >= 64:
            part = slice(int(data.attrib["offset"]), int(data.attrib["offset"]) + int(data.attrib["size"]))
            content[part] = np.frombuffer(bytes(content[part]), dtype=f"u{width}")[::-1].tobytes()
    weights.write_bytes(content)


def edit_record(who: Attacker) -> None:
    """A proposal or a case that changed is left out of the record."""
    path = who.path(who.pick(*(name for name in ("ledger.jsonl", "flips.csv") if (who.folder / name).exists())))
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    at = int(who.draw.integers(len(lines)))
    path.write_text("".join(lines[:at] + lines[at + 1 :]) if len(lines) > 1 else "", encoding="utf-8")
    who.maybe_cover_up()


def changed(value: Any, draw: np.random.Generator) -> Any:
    """A value of JSON with one value in it changed."""
    if isinstance(value, dict) and value:
        name = list(value)[int(draw.integers(len(value)))]
        return {**value, name: changed(value[name], draw)}
    if isinstance(value, list) and value:
        at = int(draw.integers(len(value)))
        return [*value[:at], changed(value[at], draw), *value[at + 1 :]]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return [value + 1, -value - 1, value * 1e-3 + 1e-9, 10**30, float(value) + 0.5][int(draw.integers(5))]
    if isinstance(value, str):
        return [value + "x", "", "../" + value, value.swapcase() + "1", None, "\u202e" + value][int(draw.integers(6))]
    return [0, "x", {"x": 1}, [1]][int(draw.integers(4))]


KINDS: dict[str, Callable[[Attacker], None]] = {
    "a bit flipped in any file": flip_bit,
    "a file cut, emptied or extended": resize,
    "a file removed": remove,
    "a file replaced by a folder, a pipe or a link": replace_kind,
    "something added": add,
    "two files swapped": swap,
    "a file renamed": rename,
    "files of another signed run": of_the_other_run,
    "a value of the report edited": edit_report,
    "the verdict or the limits edited": edit_verdict,
    "the report spelt otherwise": respell,
    "the signature stripped, swapped or damaged": edit_signature,
    "the page edited": edit_page,
    "the manifest edited": edit_manifest,
    "the lock file edited": edit_lock,
    "the self-test weakened": edit_self_test,
    "weights reversed, all else recomputed": sabotage,
    "the record of the search or of cases cut": edit_record,
}


def fingerprint(folder: Path) -> str:
    """Hash of everything in a folder, links and empty folders too."""
    found = contents(folder)
    digest = hashlib.sha256(repr((found.folders, sorted(found.strange.items()))).encode("utf-8", errors="surrogateescape"))
    for path in found.files:
        digest.update(path.encode("utf-8", errors="surrogateescape") + hashlib.sha256((folder / path).read_bytes()).digest())
    return digest.hexdigest()


def tampered(folder: Path, seed: int, run: Path, other: Path, key: Path) -> tuple[str, tuple[str, ...]]:
    """Copy a run and tamper with the copy in a way that changes it.

    Args:
        folder: of the copy; what is there is removed.
        seed: decides everything.
        run: folder of the run.
        other: folder of another run, validly signed by the same key where there is one.
        key: file of the attacker's own private key.

    Returns:
        The kind, and the paths that were touched.
    """
    before = fingerprint(run)
    for attempt in range(100):
        draw = np.random.default_rng((seed, attempt))
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(run, folder)
        who = Attacker(folder, draw, other, key)
        kind = list(KINDS)[seed % len(KINDS)]
        KINDS[kind](who)
        if fingerprint(folder) != before:
            return kind, tuple(dict.fromkeys(who.touched))
    raise AssertionError(f"{kind} changed nothing in a hundred attempts")
