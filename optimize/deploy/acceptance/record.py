"""The acceptance record of a site: what was checked, on which machine and cases, by which criteria, and what came out.

    acceptance.json        the record, canonical JSON (RFC 8785); it has the SHA-256 of the page
    acceptance.html        the same for people, one page that needs nothing else
    acceptance.dsse.json   its signature, an envelope of DSSE v1 over acceptance.json; only with a key

The record holds numbers and hashes. It names no case and no patient.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rfc8785

from optimize.errors import InputError
from optimize.files import write_all_atomically
from optimize.report.acceptance import render
from optimize.report.dsse import envelope, keyid

FORMAT, KIND = 1, "optimize-acceptance"
JSON, PAGE, ENVELOPE = "acceptance.json", "acceptance.html", "acceptance.dsse.json"
PAYLOAD_TYPE = "application/vnd.optimize.acceptance+json"
LIMITATIONS = (
    "The record is about this machine, these versions and these cases, on this date. Another machine, or another kind of cases, is another "
    "acceptance.",
    "The bounds take cases, or patients where they are known, as a random sample of those that the site will see. Cases that were chosen, "
    "for example easy ones, show less.",
    "The bounds are for one look at these cases. Whoever judges several models on the same cases, and takes the best, sees it better than "
    "it is.",
    "The criteria compare the compiled model with the original. That the original is fit for its purpose at this site is not shown here.",
)
UNLABELLED = (
    "No labels were given. Agreement with the original bounds how much accuracy was lost; it shows neither how good the original is here, "
    "nor any criterion that is listed as not judged.",
)
NO_CASES = ("No cases of the site were given. The self-test shows that the model computes here what it computed where it was verified.",)
UNSIGNED = ("The bundle was not compared with a key of its maker: whoever had it in hands could have changed all of it.",)


def require_free(folder: Path, bundle: Path) -> None:
    """Check that a record can be written into a folder.

    Args:
        folder: folder for the record; it need not exist.
        bundle: the bundle, into which nothing is written.

    Raises:
        InputError: when the folder lies in the bundle, is no folder, or holds an earlier record.
    """
    if folder.resolve().is_relative_to(bundle.resolve()):
        raise InputError(f"`--record` (={folder}) lies in the bundle, which must stay as it is: name a folder elsewhere.")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"`--record` (={folder}) is no folder: name a folder.")
    if earlier := [name for name in (JSON, PAGE, ENVELOPE) if (folder / name).exists()]:
        raise InputError(f"`--record` (={folder}) holds {earlier[0]} of an earlier acceptance: name another folder for this one.")


def limitations(*, labelled: bool | None, key_compared: bool) -> list[str]:
    """Return what a record does not show, in plain sentences.

    Args:
        labelled: whether the cases had labels; None where there were no cases.
        key_compared: whether the bundle was compared with a key that the user gave.
    """
    of_cases = NO_CASES if labelled is None else () if labelled else UNLABELLED
    return [*of_cases, *(() if key_compared else UNSIGNED), *(LIMITATIONS[:1] if labelled is None else LIMITATIONS)]


def write(content: Mapping[str, Any], folder: Path, key_file: str | Path | None) -> Path:
    """Write a record, its page and, with a key, its signature.

    Args:
        content: the record without its page's hash, plain JSON.
        folder: folder to write into; it is made where it is missing.
        key_file: file of the Ed25519 private key that signs it; None for no signature.

    Returns:
        Path of the page.

    Raises:
        InputError: when the key cannot be used.
    """
    # the page shows the key and is signed by its hash; so it is rendered first, and the JSON that holds its hash is what is signed
    whole = {"format": FORMAT, "kind": KIND, **content, "signed_by": None if key_file is None else keyid(key_file)}
    page = render(whole).encode()
    record: bytes = rfc8785.dumps({**whole, "page": {"path": PAGE, "sha256": hashlib.sha256(page).hexdigest()}})
    files: dict[str, bytes] = {JSON: record, PAGE: page}
    if key_file is not None:
        files[ENVELOPE] = rfc8785.dumps(envelope(PAYLOAD_TYPE, record, key_file))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_all_atomically({folder / name: content for name, content in files.items()})
    except OSError as problem:
        raise InputError(f"`--record` (={folder}) cannot be written ({problem.strerror}): name a folder that can.") from None
    return folder / PAGE
