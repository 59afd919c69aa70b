"""What somebody may do to a bundle who has no key: seeded changes, from a single byte to a whole bundle made anew.

Whoever changes a file may also change everything that needs no key: the hashes in artifact.json, in the report and in the manifest; and
strip the signature, keep the old one, take that of another bundle, or sign with a key of their own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rfc8785

from optimize.backends import backend
from optimize.backends.artifact import Artifact
from optimize.deploy.bundle.signature import PAYLOAD_TYPE, sign
from optimize.report.dsse import encoded, keyid

MANIFEST, ENVELOPE, REPORT = "manifest.json", "manifest.dsse.json", "report.json"
ARTIFACT, GOLDEN = "model/artifact.json", "model/golden.npz"


@dataclass(frozen=True)
class Attacker:
    """Who tampers, and with what.

    Args:
        folder: folder of the bundle, a copy that may be changed.
        draw: decides everything that is left to chance.
        other: folder of another bundle, validly signed by the same key.
        key: file of the attacker's own private key.
    """

    folder: Path
    draw: np.random.Generator
    other: Path
    key: Path

    def pick(self, *choices: Any) -> Any:
        """One of these."""
        return choices[int(self.draw.integers(len(choices)))]

    def files(self, start: str = "") -> list[str]:
        """Paths of the files whose path starts so, sorted."""
        paths = (path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())
        return sorted(path for path in paths if path.startswith(start))

    def some_file(self) -> Path:
        """A file of the bundle."""
        return self.folder / str(self.pick(*self.files()))

    def manifest(self) -> dict[str, Any]:
        """The manifest as it stands."""
        return dict(json.loads((self.folder / MANIFEST).read_text(encoding="utf-8")))

    def put_manifest(self, content: bytes) -> None:
        """Write a manifest, and do one of four things about the signature."""
        (self.folder / MANIFEST).write_bytes(content)
        way = self.pick("keep", "strip", "resign", "resign under the owner's name", "other's")
        path = self.folder / ENVELOPE
        kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        if way == "strip":
            path.unlink(missing_ok=True)
        elif way.startswith("resign"):
            envelope = json.loads(sign(content, self.key))
            if kept is not None and way.endswith("name"):
                envelope["signatures"][0]["keyid"] = kept["signatures"][0]["keyid"]
            path.write_bytes(rfc8785.dumps(envelope))
        elif way == "other's":
            envelope = json.loads((self.other / ENVELOPE).read_text(encoding="utf-8"))
            path.write_bytes(rfc8785.dumps({**envelope, "payload": base64.b64encode(content).decode()}))

    def cover_up(self, **changes: Any) -> None:
        """Make artifact.json, the report and the manifest true of the folder as it now is; `changes` says what else the manifest says."""
        artifact, report = (json.loads((self.folder / path).read_text(encoding="utf-8")) for path in (ARTIFACT, REPORT))
        for entry in (*artifact["files"], artifact["golden"]):
            entry |= self._hashed(f"model/{entry['name']}")
        (self.folder / ARTIFACT).write_text(json.dumps(artifact, indent=2) + "\n", encoding="utf-8")
        if report.get("artifact"):
            report["artifact"]["files"] = [entry | self._hashed(f"model/{entry['name']}") for entry in report["artifact"]["files"]]
        (self.folder / REPORT).write_text(json.dumps(report, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        digest = hashlib.sha256("".join(f"{entry['sha256']}  {entry['name']}\n" for entry in artifact["files"]).encode()).hexdigest()
        manifest = self.manifest()
        manifest["files"] = [{"path": path, **self._hashed(path)} for path in self.files() if path not in (MANIFEST, ENVELOPE)]
        manifest["artifact"]["sha256"] = manifest["report"]["artifact_sha256"] = digest
        manifest["report"]["sha256"] = self._hashed(REPORT)["sha256"]
        self.put_manifest(rfc8785.dumps({**manifest, **changes}))

    def _hashed(self, path: str) -> dict[str, Any]:
        content = (self.folder / path).read_bytes()
        return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def change_byte(path: Path, draw: np.random.Generator) -> None:
    """Give one byte of a file another value."""
    content = bytearray(path.read_bytes()) or bytearray(1)
    content[int(draw.integers(len(content)))] ^= int(draw.integers(1, 256))
    path.write_bytes(content)


def byte(who: Attacker) -> None:
    """One byte of one file."""
    change_byte(who.some_file(), who.draw)


def byte_of_the_runner(who: Attacker) -> None:
    """One byte of one of the runner's sources."""
    change_byte(who.folder / str(who.pick(*who.files("bundle/"))), who.draw)


def resize(who: Attacker) -> None:
    """A file cut, emptied, or longer."""
    path = who.some_file()
    content = path.read_bytes()
    path.write_bytes(who.pick(content[: len(content) // 2], content[:-1], b"", content + b"\n", content + b"\0", content * 2))


def remove(who: Attacker) -> None:
    """A file is gone."""
    who.some_file().unlink()


def add(who: Attacker) -> None:
    """A file, a folder or a link that does not belong there, among them modules that Python might take for its own."""
    home = who.pick("", "model/", "bundle/", "bundle/runtimes/", "onnx/", "more/")
    path = who.folder / (
        home + who.pick("numpy.py", "json.py", "model.pyc", "extra.bin", ".hidden", "golden2.npz", "ARTIFACT.JSON", "a\nb")
    )
    path.parent.mkdir(exist_ok=True)
    kind = who.pick("file", "file", "folder", "link")
    if kind == "file":
        path.write_bytes(b"raise SystemExit(0)\n")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/etc/hostname")


def compiled_code(who: Attacker) -> None:
    """Compiled code, where the bundle has a file so that there can be none."""
    place = who.folder / who.pick("bundle", "bundle/runtimes", "bundle/images") / "__pycache__"
    place.unlink()
    place.mkdir()
    (place / who.pick("checks.cpython-311.pyc", "__init__.cpython-311.pyc")).write_bytes(who.draw.bytes(64))


def replace_kind(who: Attacker) -> None:
    """In place of a file, a folder, a pipe, or a link to the same bytes elsewhere, or to nothing."""
    path = who.some_file()
    away = who.folder.parent / f"{who.folder.name}.away"
    shutil.copyfile(path, away)
    path.unlink()
    kind = who.pick("folder", "pipe", "link", "nowhere", "inside")
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"link": away, "nowhere": away.with_suffix(".none"), "inside": who.folder / "README.md"}[kind])


def swap(who: Attacker) -> None:
    """Two files in each other's place."""
    one, other = who.some_file(), who.some_file()
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)


def rename(who: Attacker) -> None:
    """A file under another name."""
    path = who.some_file()
    path.rename(path.with_name(who.pick(path.name.upper() + "_", f"{path.name}.bak", f"_{path.name}")))


def edit_manifest(who: Attacker) -> None:
    """The manifest is another, of an earlier format, or allows more; it stays in its canonical form."""
    manifest = who.manifest()
    loose = {"path": GOLDEN, "tolerance": {"same": 0.999, "another": 0.999}}
    changes = who.pick(
        *({"format": 0}, {"format": 2}, {"kind": "bundle"}, {"self_test": None}, {"self_test": loose}, {"name": "other.pt"}),
        *({"verdict": "fail", "accepted": False, "warning": "x"}, {"warning": "Checked."}, {"precision": "int8"}, {"target": "tensorrt"}),
        *({"created": "2020-01-01T00:00:00+00:00"}, {"note": "reviewed"}, {"files": manifest["files"][:-1]}),
        {"machine": {**manifest["machine"], "runtime": {**manifest["machine"]["runtime"], "version": "1.0"}}},
        {"machine": {**manifest["machine"], "isa": "avx2"}},
        {"machine": {**manifest["machine"], "threads": 99}},
    )
    who.put_manifest(rfc8785.dumps({**manifest, **changes}))


def respell_manifest(who: Attacker) -> None:
    """The manifest says the same in other bytes, or something else to another parser."""
    text = (who.folder / MANIFEST).read_text(encoding="utf-8")
    first = '"accepted":true'
    who.put_manifest(
        who.pick(
            *(text + " ", text + "\n", text + "{}", "\ufeff" + text, json.dumps(json.loads(text)), json.dumps(json.loads(text), indent=2)),
            *(text.replace(first, f'"accepted":false,{first}', 1), text.replace(first, f'{first},"accepted":true', 1)),
            *(text.replace('"format":1', '"format":1.0', 1), text.replace('"format":1', '"format":1e0', 1)),
            *(text.replace("optimize-bundle", "optimize\\u002dbundle", 1), "[" * 100_000 + "]" * 100_000, ""),
        ).encode("utf-8")
    )


def edit_signature(who: Attacker) -> None:
    """The signature is stripped, damaged, spelt otherwise, somebody else's, or of something else."""
    path = who.folder / ENVELOPE
    envelope = json.loads(path.read_text(encoding="utf-8"))
    entry = envelope["signatures"][0]
    others = json.loads((who.other / ENVELOPE).read_text(encoding="utf-8"))
    mine = json.loads(sign((who.folder / MANIFEST).read_bytes(), who.key))
    changes: tuple[Any, ...] = (
        None,
        others,
        mine,
        {**envelope, "signatures": []},
        {**envelope, "signatures": [{**entry, "sig": mine["signatures"][0]["sig"]}]},
        {**envelope, "signatures": [{**entry, "keyid": keyid(who.key)}]},
        {**envelope, "signatures": [*mine["signatures"], entry]},
        {**envelope, "signatures": others["signatures"]},
        {**envelope, "signatures": [{**entry, "sig": stray(entry["sig"])}]},
        {**envelope, "signatures": [{**entry, "sig": ""}]},
        {**envelope, "payload": others["payload"]},
        {**envelope, "payloadType": "application/json"},
        {**envelope, "note": "reviewed"},
    )
    chosen = who.pick(*changes)
    if chosen is None:
        path.unlink()
    else:
        path.write_bytes(rfc8785.dumps(chosen))


def stray(text: str) -> str:
    """Base64 that decodes to the same bytes, by bits that decoders ignore."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = len(text.rstrip("=")) - 1
    return text[:last] + letters[letters.index(text[last]) ^ 1] + text[last + 1 :]


def other_self_test(who: Attacker) -> None:
    """A self-test that is another, or lets everything pass; all hashes are recomputed."""
    path = who.folder / GOLDEN
    with np.load(path) as file:
        inputs, outputs = file["inputs"], file["outputs"]
    way = who.pick("reversed", "fewer", "zeros", "noise", "other's", "packed")
    if way == "other's":
        shutil.copyfile(who.other / GOLDEN, path)
    elif way == "packed":
        np.savez_compressed(path, inputs=inputs * 0, outputs=outputs * 0)
    else:
        chosen = {
            "reversed": (inputs, outputs[::-1]),
            "fewer": (inputs[:1], outputs[:1]),
            "zeros": (inputs * 0, outputs * 0),
            "noise": (inputs + who.draw.normal(size=inputs.shape).astype(np.float32), outputs),
        }[way]
        np.savez(path, inputs=chosen[0], outputs=chosen[1])
    who.cover_up()


def other_model(who: Attacker) -> None:
    """Weights are changed; all hashes are recomputed, and half of the time the recorded outputs too."""
    artifact = Artifact.read(who.folder / "model")
    path = who.folder / "model" / artifact.files[-1].name
    content = path.read_bytes()
    start = len(content) // 2 // 4 * 4
    # the same numbers in reverse order: the file stays one that the runtime opens
    floats = np.frombuffer(content[start:][:2048], np.float32, count=min(2048, len(content) - start) // 4)
    path.write_bytes(content[:start] + floats[::-1].tobytes() + content[start + floats.nbytes :])
    if who.draw.random() < 0.5:
        with np.load(who.folder / GOLDEN) as file:
            inputs = file["inputs"]
        # a model that does not open keeps its recorded outputs
        with suppress(Exception), backend(artifact.target).build(artifact) as session:
            np.savez(who.folder / GOLDEN, inputs=inputs, outputs=session.predict(inputs))
    who.cover_up()


def edit_report(who: Attacker) -> None:
    """The report says something else; all hashes are recomputed."""
    path = who.folder / REPORT
    report = json.loads(path.read_text(encoding="utf-8"))
    report |= who.pick(
        *({"verdict": "fail"}, {"accepted": False}, {"target": "tensorrt"}, {"seed": 99}, {"reasons": ["none"]}, {"note": "reviewed"}),
        {"limits": {**report["limits"], "max_drop": 1.0}},
        {"artifact": None},
    )
    path.write_text(json.dumps(report, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if who.draw.random() < 0.7:
        who.cover_up()


def edit_use(who: Attacker) -> None:
    """Classes are swapped, or images prepared in another way; all hashes are recomputed."""
    path = who.folder / ARTIFACT
    artifact = json.loads(path.read_text(encoding="utf-8"))
    steps, output = artifact["use"]["input"]["preprocessing"], artifact["use"]["output"]
    way = who.pick("classes", "mean", "scale", "threshold", "threads")
    if way == "classes":
        output["classes"] = output["classes"][::-1]
    elif way == "mean":
        steps["mean"] = [value + 0.1 for value in steps["mean"]]
    elif way == "scale":
        steps["scale"] = 1.0
    elif way == "threshold":
        output["threshold"] = 0.9
    else:
        artifact["use"]["threads"] = 3
    path.write_text(json.dumps(artifact, indent=2) + "\n", encoding="utf-8")
    who.cover_up()


def edit_runner(who: Attacker) -> None:
    """The runner checks no signature any more; all hashes are recomputed."""
    path = who.folder / "bundle" / who.pick("signature.py", "checks.py", "contents.py", "self_test.py")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("raise Refused(", "print(", int(who.draw.integers(1, 9))), encoding="utf-8")
    who.cover_up()


def of_another_bundle(who: Attacker) -> None:
    """Files of another bundle that the same key signed: one of them, its manifest with its signature, its model, all but the manifest."""
    there = [path.relative_to(who.other).as_posix() for path in sorted(who.other.rglob("*")) if path.is_file()]
    way = who.pick("one", "manifest", "model", "all but the manifest")
    names = {
        "one": [who.pick(*there)],
        "manifest": [MANIFEST, ENVELOPE],
        "model": [path for path in there if path.startswith("model/")],
        "all but the manifest": [path for path in there if path not in (MANIFEST, ENVELOPE)],
    }[way]
    for name in names:
        (who.folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(who.other / name, who.folder / name)
    if way in ("one", "model") and who.draw.random() < 0.5:
        # what was mixed may not go together at all
        with suppress(OSError, KeyError, ValueError):
            who.cover_up()


def signed_for_another_use(who: Attacker) -> None:
    """A change that is covered up, with the owner's signature over something else put in place."""
    byte_path = who.folder / "README.md"
    byte_path.write_text(byte_path.read_text(encoding="utf-8") + "Use it for anything.\n", encoding="utf-8")
    who.cover_up()
    content = (who.folder / MANIFEST).read_bytes()
    owner = json.loads((who.other / ENVELOPE).read_text(encoding="utf-8"))
    owner["payload"] = base64.b64encode(content).decode()
    # the signed bytes of the other bundle begin in the same way: the length in front of them is what tells them apart
    assert encoded(PAYLOAD_TYPE, content) != encoded(PAYLOAD_TYPE, (who.other / MANIFEST).read_bytes())
    (who.folder / ENVELOPE).write_bytes(rfc8785.dumps(owner))


KINDS: dict[str, Callable[[Attacker], None]] = {
    "a byte changed in any file": byte,
    "a byte changed in the runner": byte_of_the_runner,
    "a file cut, emptied or extended": resize,
    "a file removed": remove,
    "something added": add,
    "compiled code planted": compiled_code,
    "a file replaced by a folder, a pipe or a link": replace_kind,
    "two files swapped": swap,
    "a file renamed": rename,
    "the manifest edited or downgraded": edit_manifest,
    "the manifest spelt otherwise": respell_manifest,
    "the signature stripped, damaged or foreign": edit_signature,
    "the self-test replaced, hashes recomputed": other_self_test,
    "weights changed, hashes recomputed": other_model,
    "the report edited": edit_report,
    "classes or preprocessing edited, hashes recomputed": edit_use,
    "the runner's checks removed, hashes recomputed": edit_runner,
    "files of another signed bundle": of_another_bundle,
    "the signature of another bundle, hashes recomputed": signed_for_another_use,
}


def fingerprint(folder: Path) -> str:
    """A hash of everything in a folder, links and empty folders too."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path.relative_to(folder)}\0{path.is_symlink()}\0{path.is_dir()}\0".encode(errors="surrogateescape"))
        if path.is_symlink():
            digest.update(os.readlink(path).encode())
        elif path.is_file():
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def tampered(folder: Path, seed: int, bundle: Path, other: Path, key: Path) -> str:
    """Copy a bundle, tamper with the copy in a way that changes it, and return the kind.

    Args:
        folder: folder of the copy; what is there is removed.
        seed: decides everything.
        bundle: folder of the bundle.
        other: folder of another bundle, validly signed by the same key.
        key: file of the attacker's own private key.
    """
    before, kind = fingerprint(bundle), list(KINDS)[seed % len(KINDS)]
    for attempt in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(bundle, folder)
        KINDS[kind](Attacker(folder, np.random.default_rng((seed, attempt)), other, key))
        if fingerprint(folder) != before:
            return kind
    raise AssertionError(f"{kind} changed nothing in a hundred attempts")
