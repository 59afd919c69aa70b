"""Signatures, checked by `cryptography` itself and spoilt in every place."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.errors import InputError
from optimize.report.signature import Check, check, fingerprint, is_page_of, sign, sign_page

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat, PublicFormat

REPORT: dict[str, Any] = {
    "verdict": "pass",
    "format": 1,
    "overall": 0.1 + 0.2,
    "class": {"é": [1, None, True], "a": -0.0},
    "text": 'a "b"\n',
}
REPORT_BYTES = (
    '{"class":{"a":-0.0,"é":[1,null,true]},"format":1,"overall":0.30000000000000004,"text":"a \\"b\\"\\n","verdict":"pass"}'.encode()
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def _key(folder: Path, key: Any = None, password: bytes = b"", mode: int = 0o600) -> Path:
    protection = BestAvailableEncryption(password) if password else NoEncryption()
    path = folder / "key.pem"
    path.write_bytes((key or ed25519.Ed25519PrivateKey.generate()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection))
    path.chmod(mode)
    return path


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _key(tmp_path_factory.mktemp("key"))


def _signed(report: dict[str, Any], key_file: Path) -> dict[str, Any]:
    return report | {"signature": sign(report, key_file)}


def test_the_signature_is_what_cryptography_verifies(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    block = sign(REPORT, _key(tmp_path, key))
    assert block["algorithm"] == "Ed25519"
    assert block["sha256"] == hashlib.sha256(REPORT_BYTES).hexdigest()
    assert base64.b64decode(block["public_key"]) == key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    key.public_key().verify(base64.b64decode(block["value"]), REPORT_BYTES)
    assert block == sign(REPORT | {"signature": "an old one"}, tmp_path / "key.pem")


def test_valid_after_writing_and_reading(key_file: Path) -> None:
    signed = _signed(REPORT | {"by count": {10: "ten", 9: "nine"}, "shape": (3, 4)}, key_file)
    found = check(json.loads(json.dumps(signed, indent=2)))
    short = hashlib.sha256(base64.b64decode(signed["signature"]["public_key"])).hexdigest()[:16]
    assert found == Check("valid", f"The report is the one that the holder of key {short} signed.", short)
    assert found
    assert fingerprint(signed["signature"]["public_key"]) == short


@settings(max_examples=60, deadline=None)
@given(report=st.dictionaries(st.text(max_size=5), JSON, max_size=5), data=st.data())
def test_any_report_is_valid_and_any_altered_byte_is_not(report: dict[str, Any], data: st.DataObject, key_file: Path) -> None:
    signed = _signed({key: value for key, value in report.items() if key != "signature"}, key_file)
    text = json.dumps(signed)
    assert check(json.loads(text))
    place = data.draw(st.integers(0, len(text) - 1))
    spoilt = text[:place] + data.draw(st.sampled_from("0a{ ")) + text[place + 1 :]
    try:
        other = json.loads(spoilt)
    except ValueError:
        return
    if other != signed or repr(other) != repr(signed):
        assert not check(other)


@pytest.mark.parametrize("part", ["algorithm", "public_key", "sha256", "value"])
@pytest.mark.parametrize("wrong", ["gone", "", "AAAA", "é", None, 3, ["x"]])
def test_a_spoilt_signature_is_altered(key_file: Path, part: str, wrong: Any) -> None:
    signed = _signed(REPORT, key_file)
    if wrong == "gone":
        del signed["signature"][part]
    else:
        signed["signature"][part] = wrong
    found = check(signed)
    assert (found.state, bool(found), found.fingerprint) == ("altered", False, "")


@pytest.mark.parametrize("part", ["public_key", "value"])
def test_bits_that_base64_ignores_are_not_ignored(key_file: Path, part: str) -> None:
    signed = _signed(REPORT, key_file)
    text = signed["signature"][part]
    last = len(text.rstrip("=")) - 1
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    stray = text[:last] + letters[letters.index(text[last]) + 1] + text[last + 1 :]
    assert base64.b64decode(stray, validate=True) == base64.b64decode(text)
    signed["signature"][part] = stray
    assert check(signed).state == "altered"


@pytest.mark.parametrize("block", ["text", 3, [], {}])
def test_what_is_no_signature_is_altered(block: Any) -> None:
    assert check(REPORT | {"signature": block}) == Check("altered", "The signature is damaged: it lacks a part, or a part is malformed.")


def test_the_reason_says_what_was_altered(key_file: Path, tmp_path: Path) -> None:
    signed = _signed(REPORT, key_file)
    assert check(REPORT).reason == check(REPORT | {"signature": None}).reason == "The report has no signature."
    assert check(REPORT).state == "unsigned"
    changed = copy.deepcopy(signed)
    changed["class"]["a"] = 0.0
    assert check(changed).reason == "The report is not the one that was signed: its sha256 differs."
    changed["signature"]["sha256"] = hashlib.sha256(REPORT_BYTES.replace(b"-0.0", b"0.0")).hexdigest()
    assert check(changed).reason == "The signature was not made for this report by the key that it names."
    other = _signed(REPORT, _key(tmp_path))
    swapped = signed | {"signature": signed["signature"] | {"public_key": other["signature"]["public_key"]}}
    assert check(swapped).reason == "The signature was not made for this report by the key that it names."
    assert check(other).fingerprint != check(signed).fingerprint
    assert check(signed | {"lone": "\ud800"}).reason == check(signed | {"nan": float("nan")}).reason
    assert check(signed | {"nan": float("nan")}).reason == "The report holds what no signed report can."


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, Path("x"), "\ud800"])
def test_what_json_cannot_hold_is_not_signed(key_file: Path, value: Any) -> None:
    with pytest.raises(InputError, match=r"`report` cannot be signed .*: it must hold only what JSON can"):
        sign({"value": value}, key_file)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o602, 0o601])
def test_a_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = _key(tmp_path, mode=mode)
    with pytest.raises(InputError, match=rf"`--sign-key` \(={path}\) is open to others \(mode {mode:o}\): .*; chmod 600 {path}"):
        sign(REPORT, path)
    path.chmod(0o400)
    assert sign(REPORT, path)


def test_keys_that_cannot_be_used_give_one_line(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"

    def refused() -> str:
        with pytest.raises(InputError) as caught:
            sign(REPORT, path)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(f"`--sign-key` (={path}) ")
        return str(caught.value)

    assert "cannot be read (no such file or directory): check the path." in refused()
    for other, kind in (
        (rsa.generate_private_key(65537, 1024), "RSA"),
        (ec.generate_private_key(ec.SECP256R1()), "EllipticCurve|ECPrivate|EC"),
        (x25519.X25519PrivateKey.generate(), "X25519"),
    ):
        _key(tmp_path, other)
        assert any(f"holds a key of another kind ({each}): give an Ed25519" in refused() for each in kind.split("|"))
    _key(tmp_path, password=b"secret")
    assert "is encrypted: the key must be usable without a password; give an Ed25519" in refused()
    public = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for content in (public, b"", b"\x00\xff" * 100_000, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        path.write_bytes(content)
        assert "holds no private key in PEM (PKCS 8): give an Ed25519" in refused()
    path.unlink()
    path.mkdir()
    assert "cannot be read (is a directory)" in refused()


def test_no_key_in_the_error(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    path.chmod(0o600)
    with pytest.raises(InputError) as caught:
        sign(REPORT, path)
    assert "c2VjcmV0" not in str(caught.value)


def test_fingerprint_of_no_key() -> None:
    with pytest.raises(InputError, match=r"`public_key` \(='é'\) is no base64"):
        fingerprint("é")


def test_without_the_package_unsigned_is_still_told(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from optimize.report.signature import check, sign\nfrom optimize.errors import InputError\n"
        "print(check({}).state)\n"
        "for call in (lambda: sign({}, 'key.pem'), lambda: check({'signature': {}})):\n"
        "    try: call()\n    except InputError as error: print(error)\n"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True, env=dict(os.environ))
    line = "signing and checking a signature need the package cryptography: pip install 'optimize[sign]'."
    assert done.stdout.splitlines() == ["unsigned", line, line]


def test_the_page_is_signed_with_its_report(key_file: Path, tmp_path: Path) -> None:
    """Over the three lines that the module names, as `cryptography` verifies them."""
    signed = _signed(REPORT, key_file)
    block = signed["signature"] | {"page": sign_page(signed, b"<p>", key_file)}
    whole = signed | {"signature": block}
    key = ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(block["public_key"]))
    digest = hashlib.sha256(b"<p>").hexdigest()
    key.verify(base64.b64decode(block["page"]["value"]), f"optimize report.html\n{block['sha256']}\n{digest}\n".encode())
    assert check(whole)
    assert (is_page_of(whole, b"<p>"), is_page_of(whole, b"<p> "), is_page_of(signed, b"<p>"), is_page_of(REPORT, b"<p>")) == (1, 0, 0, 0)
    other = _signed(REPORT | {"verdict": "fail"}, key_file)
    others_page = sign_page(other, b"<p>", key_file)
    strangers_page = sign_page(signed, b"<p>", _key(tmp_path))
    reason = "The signature of the page was not made for this report by the key that signed the report."
    for page in (others_page, strangers_page, block["page"] | {"sha256": "0" * 64}):
        assert check(signed | {"signature": block | {"page": page}}) == Check("altered", reason)


@pytest.mark.parametrize(
    "page", [None, 3, "x", {}, {"sha256": "0"}, {"value": ""}, {"sha256": "\ud800", "value": ""}, {"sha256": 3, "value": ""}]
)
def test_a_spoilt_signature_of_a_page_is_altered(key_file: Path, page: Any) -> None:
    signed = _signed(REPORT, key_file)
    signed["signature"]["page"] = page
    assert check(signed) == Check("altered", "The signature is damaged: it lacks a part, or a part is malformed.")


def test_nothing_else_may_stand_in_a_signature(key_file: Path) -> None:
    """It is not among what is signed, so that anyone could write it there."""
    signed = _signed(REPORT, key_file)
    assert check(signed | {"signature": signed["signature"] | {"note": "reviewed"}}).reason == (
        "The signature holds 'note', which no signature does."
    )
    page = sign_page(signed, b"", key_file) | {"note": "reviewed"}
    assert check(signed | {"signature": signed["signature"] | {"page": page}}).state == "altered"


def test_no_second_signature_follows_from_one(key_file: Path) -> None:
    """RFC 8032, 5.1.7: S is below the order of the group; S plus the order would be valid by the equation alone."""
    signed = _signed(REPORT, key_file)
    value = base64.b64decode(signed["signature"]["value"])
    order = 2**252 + 27742317777372353535851937790883648493
    other = value[:32] + (int.from_bytes(value[32:], "little") + order).to_bytes(32, "little")
    signed["signature"]["value"] = base64.b64encode(other).decode()
    assert check(signed).state == "altered"
