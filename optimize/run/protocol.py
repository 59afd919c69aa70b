"""The protocol of a change: what is changed, why, and by which criteria it is accepted, written down and signed before the run.

A protocol is a TOML file, or a JSON file with the same keys:

    format = 1
    title = "…"                  name of the change
    date = 2026-11-20            the day on which the protocol was fixed; not after the day of the run
    responsible = "…"            who answers for the change

    [modification]               description, intended_use; optional: reason, unchanged
    [criteria]                   the limits, by the keys of [limits] in optimize.toml; every limit that is left out has its default
    [justification]              a sentence for each limit of [criteria]
    [statistics]                 plan
    [test_data]                  sha256 (the test split's, as report.json has it), description
    [consequences]               accepted, rejected, inconclusive: what follows from each verdict
    [run]                        target; optional: any other setting of a run that must be as stated, by its name
    [model]                      optional: sha256, of the original's file
    [practices]                  optional: data, retraining, update
    [impact]                     optional: benefits, risks, mitigations, each a list of sentences

The hash and the signature are over the file's bytes. The signature lies beside it, in FILE.dsse.json (`report/dsse.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from optimize.errors import InputError, did_you_mean
from optimize.files import write_atomically
from optimize.report import dsse, strict_json

FORMAT = 1
PAYLOAD_TYPE = "application/vnd.optimize.protocol"
ENVELOPE = ".dsse.json"
"""Ending of the name of the signature's file, after the whole name of the protocol."""
MAX_BYTES = 2**18
"""Largest size of a protocol that is read."""
TOP = ("title", "responsible")
TEXTS: Mapping[str, tuple[str, ...]] = {
    "modification": ("description", "intended_use"),
    "statistics": ("plan",),
    "test_data": ("sha256", "description"),
    "consequences": ("accepted", "rejected", "inconclusive"),
    "run": ("target",),
}
"""Section -> its keys that must hold text."""
OPTIONAL_TEXTS: Mapping[str, tuple[str, ...]] = {
    "modification": ("reason", "unchanged"),
    "model": ("sha256",),
    "practices": ("data", "retraining", "update"),
}
LISTS: Mapping[str, tuple[str, ...]] = {"impact": ("benefits", "risks", "mitigations")}
"""Section -> its keys that hold a list of sentences; all of them may be left out."""
MEANING = ("verdict", "confidence", "metric", "class_metric", "threshold", "positive")
"""Keys of [criteria] that are no limit themselves, but decide what the limits mean; they need no justification."""
OPEN = ("criteria", "justification", "run")
"""Sections whose further keys are settings of a run (`run/protocol_agreement.py` reads them)."""


@dataclass(frozen=True)
class Protocol:
    """A protocol that is complete, and what is known of its signature.

    Args:
        file: the protocol's file.
        text: content of the file.
        content: the same, parsed; dates as text.
        signed: its valid signature; None where no signature lies beside it.
    """

    file: Path
    text: str
    content: Mapping[str, Any]
    signed: dsse.Signed | None = None

    @property
    def sha256(self) -> str:
        """SHA-256 of the file's bytes, 64 hexadecimal digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """Return the form that the report uses, with the time of this call as the time of the check.

        It has the whole text and the whole envelope, so that hash and signature can be checked from the report alone.
        """
        signed = self.signed
        return {
            "file": self.file.name,
            "sha256": self.sha256,
            "checked": datetime.now(UTC).isoformat(timespec="seconds"),
            "text": self.text,
            "content": dict(self.content),
            "signature": signed and {"fingerprint": signed.fingerprint, "public_key": signed.public_key, "envelope": dict(signed.envelope)},
        }


def read_protocol(file: Path, *, with_signature: bool = True) -> Protocol:
    """Return the protocol in a file, with its signature where one lies beside it.

    Args:
        file: TOML, or JSON where its name ends in ".json".
        with_signature: whether a signature beside it is read and checked.

    Raises:
        InputError: when the file cannot be read, lacks something, has a key that no protocol has, or its signature is not valid.
    """
    text = _text(file)
    content = _parsed(file, text)
    _require_complete(file, content)
    envelope = envelope_of(file)
    signed = dsse.verify(envelope, PAYLOAD_TYPE, text.encode()) if with_signature and envelope.exists() else None
    return Protocol(file, text, content, signed)


def sign_protocol(protocol: Protocol, key_file: Path) -> Protocol:
    """Sign a protocol, and return it with its signature, which replaces an earlier one beside it.

    Args:
        protocol: a complete protocol.
        key_file: file of an Ed25519 private key in PEM.

    Raises:
        InputError: when the key cannot be used, or the signature cannot be written.
    """
    write_beside(envelope_of(protocol.file), dsse.sign(PAYLOAD_TYPE, protocol.text.encode(), key_file))
    return read_protocol(protocol.file)


def require_writable(file: Path) -> None:
    """Check that the folder of a file is there and can be written, before work is done for the file.

    Raises:
        InputError: when it is not.
    """
    if not file.parent.is_dir():
        raise InputError(f"`protocol` (={file}) cannot be written: there is no folder {file.parent}; make it, or name another file.")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise InputError(f"`protocol` (={file}) cannot be written: you may not write into {file.parent}; name another file.")


def write_beside(file: Path, text: str) -> None:
    """Write a file of a protocol whole or not at all.

    Raises:
        InputError: when it cannot be written, naming this file and not the draft that takes its place.
    """
    try:
        write_atomically(file, text)
    except OSError as problem:
        reason = (problem.strerror or type(problem).__name__).lower()
        raise InputError(f"`{file}` cannot be written ({reason}): see to the permissions of its folder, or copy the protocol.") from None


def envelope_of(file: Path) -> Path:
    """Return the file of a protocol's signature."""
    return file.with_name(file.name + ENVELOPE)


def _text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            payload = stream.read(MAX_BYTES + 1)
        # not `read_text`, which would change line ends, and with them the hash
        text = payload.decode()
    except (OSError, UnicodeDecodeError) as problem:
        reason = " ".join(str(problem).split())[:120]
        raise InputError(f"`--protocol` (={file}) cannot be read as UTF-8 text ({reason}): check the path.") from None
    if len(payload) > MAX_BYTES:
        raise InputError(f"`--protocol` (={file}) is larger than {MAX_BYTES // 1024} KiB: name the protocol's file.")
    return text


def _parsed(file: Path, text: str) -> dict[str, Any]:
    """Return the content; dates, which JSON does not have, as text such as "2026-11-20"."""
    kind = "JSON" if file.suffix.lower() == ".json" else "TOML"
    try:
        content = strict_json.parse(text) if kind == "JSON" else tomllib.loads(text)
        plain = json.dumps(content, default=str, allow_nan=False, ensure_ascii=False)
        # the report is written as UTF-8 after hours of work: what cannot be written must be found now
        plain.encode()
    except (ValueError, RecursionError) as problem:
        reason = " ".join(ascii(str(problem))[1:-1].split())[:200] or "it is nested too deeply"
        raise InputError(f"{file} is no valid {kind} ({reason}): mend it there.") from None
    if not isinstance(content, dict):
        raise InputError(f"{file} holds no table: write it as `optimize protocol FILE --draft MODEL` does.")
    return dict(json.loads(plain))


def _require_complete(file: Path, content: Mapping[str, Any]) -> None:
    """Check that every required key is there and filled, and that there is no other key."""
    if content.get("format") != FORMAT or isinstance(content["format"], bool):
        raise InputError(f"`format` in {file} (={content.get('format')!r}) must be {FORMAT}: no other is known.")
    known = {"format", "date", *TOP, *OPEN, *TEXTS, *OPTIONAL_TEXTS, *LISTS}
    _refuse_unknown(content, known, str(file))
    for key in TOP:
        _require_text(content.get(key), f"`{key}` in {file}")
    _require_date(file, content.get("date"))
    for section in sorted(known - {"format", "date", *TOP}):
        _require_section(file, section, content.get(section, {}))
    if missing := sorted(set(content["criteria"]) - set(content["justification"]) - set(MEANING)):
        raise InputError(f"[justification] in {file} says nothing of `{missing[0]}`: write why this criterion is enough.")
    _refuse_unknown(content["justification"], set(content["criteria"]), f"[justification] in {file}")
    for section in ("test_data", "model"):
        _require_hash(content.get(section, {}).get("sha256"), f"`sha256` of [{section}] in {file}")
    for key, sentence in content["justification"].items():
        _require_text(sentence, f"`{key}` of [justification] in {file}")


def _require_section(file: Path, section: str, table: object) -> None:
    where = f"[{section}] in {file}"
    if not isinstance(table, Mapping):
        raise InputError(f"`{section}` in {file} must be a table: write [{section}].")
    if section in OPEN and not table:
        raise InputError(f"{where} is missing: a protocol fixes it before the run.")
    for key in TEXTS.get(section, ()):
        _require_text(table.get(key), f"`{key}` of {where}")
    for key in OPTIONAL_TEXTS.get(section, ()):
        if key in table:
            _require_text(table[key], f"`{key}` of {where}")
    for key in LISTS.get(section, ()):
        _require_sentences(table.get(key, []), f"`{key}` of {where}")
    if section not in OPEN:
        _refuse_unknown(table, {*TEXTS.get(section, ()), *OPTIONAL_TEXTS.get(section, ()), *LISTS.get(section, ())}, where)


def _require_text(value: object, name: str) -> None:
    # a draft has empty texts: they must not pass for a protocol
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{name} must be text, and not empty: write it before the run.")


def _require_hash(value: object, name: str) -> None:
    # capitals are refused as well: a run compares the text with its own hash
    if value is not None and re.fullmatch("[0-9a-f]{64}", str(value)) is None:
        raise InputError(f"{name} (={str(value)[:80]!r}) must be a SHA-256, 64 hexadecimal digits in lower case: copy the whole of it.")


def _require_sentences(value: object, name: str) -> None:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InputError(f'{name} (={value!r}) must be a list of sentences, such as ["…"].')
    for sentence in value:
        _require_text(sentence, name)


def _require_date(file: Path, value: object) -> None:
    try:
        fixed = date.fromisoformat(str(value))
    except ValueError:
        raise InputError(f"`date` in {file} (={value!r}) must be the day on which the protocol was fixed, such as 2026-11-20.") from None
    if fixed > date.today():
        raise InputError(f"`date` in {file} (={fixed}) lies after today: a protocol is fixed before the run.")


def _refuse_unknown(table: Mapping[str, Any], known: set[str], where: str) -> None:
    if unknown := sorted(set(table) - known):
        near = did_you_mean(unknown[0], sorted(known))
        raise InputError(f"{where} has the key {unknown[0]!r}, which it must not have{near}: leave it out.")
