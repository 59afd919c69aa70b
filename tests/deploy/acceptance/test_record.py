"""The record: its signature by cryptography and a hand-written encoding, its page by its hash, and what it may not overwrite."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from optimize.deploy.acceptance.record import limitations, require_free, write
from optimize.errors import InputError
from tests import keys
from tests.report.acceptance import record


def test_the_signature_is_over_the_record_and_the_page_by_its_hash(tmp_path: Path) -> None:
    private, public = keys.pair(tmp_path, "site")
    page = write(record(), tmp_path / "out", private)
    content = (tmp_path / "out" / "acceptance.json").read_bytes()
    envelope = json.loads((tmp_path / "out" / "acceptance.dsse.json").read_text())
    assert base64.b64decode(envelope["payload"]) == content
    kind = envelope["payloadType"]
    assert kind == "application/vnd.optimize.acceptance+json"
    (signature,) = envelope["signatures"]
    key: Any = load_pem_public_key(public.read_bytes())
    signed = f"DSSEv1 {len(kind)} {kind} {len(content)} ".encode() + content
    key.verify(base64.b64decode(signature["sig"]), signed)
    with pytest.raises(InvalidSignature):
        key.verify(base64.b64decode(signature["sig"]), signed + b" ")
    assert signature["keyid"] == hashlib.sha256(key.public_bytes_raw()).hexdigest() == json.loads(content)["signed_by"]
    assert json.loads(content)["page"] == {"path": page.name, "sha256": hashlib.sha256(page.read_bytes()).hexdigest()}
    assert signature["keyid"] in page.read_text()
    # canonical: sorted keys, no spaces, nothing after it
    assert content == json.dumps(json.loads(content), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_without_a_key_there_is_no_envelope(tmp_path: Path) -> None:
    write(record(), tmp_path / "out", None)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["acceptance.html", "acceptance.json"]


def test_nothing_is_written_into_the_bundle_or_over_an_earlier_record(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    with pytest.raises(InputError, match="lies in the bundle"):
        require_free(bundle / "record", bundle)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is no folder"):
        require_free(tmp_path / "file", bundle)
    write(record(), tmp_path / "out", None)
    with pytest.raises(InputError, match="an earlier acceptance"):
        require_free(tmp_path / "out", bundle)
    require_free(tmp_path / "new", bundle)


def test_limitations_say_what_was_not_given() -> None:
    assert limitations(labelled=None, key_compared=True)[0].startswith("No cases of the site were given")
    assert any(line.startswith("No labels were given") for line in limitations(labelled=False, key_compared=True))
    assert any("was not compared with a key" in line for line in limitations(labelled=True, key_compared=False))
    assert not any("key" in line for line in limitations(labelled=True, key_compared=True))
