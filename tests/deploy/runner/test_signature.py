"""Signatures are made by cryptography and by hand, and refused when a key is pinned and anything about them is another."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from optimize.deploy.runner.checks import check
from optimize.deploy.runner.errors import Refused, WrongInput
from optimize.deploy.runner.signature import VARIABLE
from tests.deploy.runner import handmade
from tests.deploy.runner.handmade import base64_of, seal
from tests.keys import public


def test_the_key_may_come_as_a_file_as_base64_or_from_the_environment(
    sealed: Path, key: Ed25519PrivateKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = public(tmp_path / "key.pub", key)
    found = [check(sealed, pinned).fingerprint for pinned in (path, str(path), base64_of(key), base64_of(key) + "\n")]
    monkeypatch.setenv(VARIABLE, str(path))
    found.append(check(sealed).fingerprint)
    assert found == [json.loads((sealed / "manifest.dsse.json").read_text())["signatures"][0]["keyid"]] * 5
    # an argument goes before the environment
    with pytest.raises(Refused, match="the pinned key is"):
        check(sealed, base64_of(Ed25519PrivateKey.generate()))


def test_without_a_signature_a_pinned_key_refuses(copied: Path, key: Ed25519PrivateKey) -> None:
    (copied / "manifest.dsse.json").unlink()
    check(copied)
    with pytest.raises(Refused, match="is not signed"):
        check(copied, base64_of(key))


def test_a_bundle_signed_again_by_somebody_else_is_refused(copied: Path, key: Ed25519PrivateKey) -> None:
    seal(copied, Ed25519PrivateKey.generate())
    check(copied)
    with pytest.raises(Refused, match="is signed by key"):
        check(copied, base64_of(key))


def test_a_signature_of_another_bundle_of_the_same_key_is_refused(copied: Path, key: Ed25519PrivateKey) -> None:
    kept = (copied / "manifest.dsse.json").read_bytes()
    seal(copied, name="other.pt")
    (copied / "manifest.dsse.json").write_bytes(kept)
    for pinned in (None, base64_of(key)):
        with pytest.raises(Refused, match="holds another manifest"):
            check(copied, pinned)


def spelt(content: dict[str, Any]) -> None:
    """The same bytes of the signature in another spelling of base64."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    text = content["signatures"][0]["sig"]
    assert text.endswith("==")
    content["signatures"][0]["sig"] = text[:-3] + letters[letters.index(text[-3]) ^ 1] + "=="
    assert base64.b64decode(content["signatures"][0]["sig"]) == base64.b64decode(text)


def pae_of_payload_alone(content: dict[str, Any]) -> None:
    """A valid signature over the manifest itself, without the type in front of it."""
    key = Ed25519PrivateKey.generate()
    content["signatures"][0]["sig"] = base64.b64encode(key.sign(base64.b64decode(content["payload"]))).decode()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content.update(payloadType="text/plain"), "no envelope"),
        (lambda content: content.update(note="reviewed"), "no envelope"),
        (lambda content: content.pop("payload"), "no envelope"),
        (lambda content: content.update(signatures=[]), "no signature"),
        (lambda content: content.update(signatures={}), "no signature"),
        (lambda content: content["signatures"].append({"keyid": "0" * 64, "sig": ""}), "is signed by key '0000000000000000'"),
        (lambda content: content["signatures"][0].update(note="x"), "other parts"),
        (lambda content: content["signatures"][0].update(keyid=1), "other parts"),
        (lambda content: content["signatures"][0].update(sig=base64.b64encode(bytes(64)).decode()), "is none of this manifest"),
        (lambda content: content["signatures"][0].update(sig=""), "is none of this manifest"),
        (spelt, "spelt"),
        (pae_of_payload_alone, "is none of this manifest"),
    ],
)
def test_an_envelope_that_was_touched_is_refused(
    change: Callable[[dict[str, Any]], Any], words: str, copied: Path, key: Ed25519PrivateKey
) -> None:
    path = copied / "manifest.dsse.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_bytes(rfc8785.dumps(content))
    with pytest.raises(Refused, match=words):
        check(copied, base64_of(key))


@pytest.mark.parametrize("more", [b" ", b"\n", b"{}"])
def test_an_envelope_has_one_form(more: bytes, copied: Path, key: Ed25519PrivateKey) -> None:
    path = copied / "manifest.dsse.json"
    path.write_bytes(path.read_bytes() + more)
    with pytest.raises(Refused, match="damaged"):
        check(copied, base64_of(key))


def test_a_key_that_cannot_be_used_is_a_wrong_call(sealed: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no key")
    for pinned, words in (
        (tmp_path / "text", "no public key in PEM"),
        (tmp_path, "cannot be read"),
        (tmp_path / "none", "is neither a file nor a key in base64"),
        (base64_of(Ed25519PrivateKey.generate())[4:], "is neither a file nor a key in base64"),
        ("k" * 5000, "is neither a file nor a key in base64"),
        (" ", "is an empty text"),
        (public(tmp_path / "ec.pub", generate_private_key(SECP256R1())), "no Ed25519 key"),
        (sealed / "README.md", "lies in the bundle"),
    ):
        with pytest.raises(WrongInput, match=words) as problem:
            check(sealed, pinned)
        assert "\n" not in str(problem.value)


def test_a_name_that_no_file_has_is_not_said_to_lie_in_the_bundle(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sealed)
    with pytest.raises(WrongInput, match=r"'key\.pub' is neither a file nor"):
        check(sealed, "key.pub")


def test_without_cryptography_a_pinned_key_refuses(
    sealed: Path, copied: Path, key: Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("cryptography")]:
        monkeypatch.setitem(sys.modules, name, None)
    check(sealed)
    with pytest.raises(Refused, match="pip install cryptography"):
        check(sealed, base64_of(key))
    # the bundle's own list has the exact versions
    (copied / "requirements-sign.txt").write_text("cryptography==1.0\n")
    with pytest.raises(Refused, match=r"pip install -r requirements-sign\.txt in the bundle's folder"):
        check(copied, base64_of(key))


def test_the_builder_signs_in_the_form_that_the_runner_takes(copied: Path, tmp_path: Path) -> None:
    from optimize.deploy.bundle.signature import sign
    from tests.keys import pair

    private, pinned = pair(tmp_path, "key")
    (copied / "manifest.dsse.json").write_bytes(sign((copied / "manifest.json").read_bytes(), private))
    assert check(copied, pinned).fingerprint
    assert handmade.OWN[1] == "manifest.dsse.json"
