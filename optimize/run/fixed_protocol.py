"""The job behind `optimize protocol`: draft a protocol, or see that it is complete, and sign it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from optimize.errors import InputError
from optimize.run.protocol import read_protocol, sign_protocol
from optimize.run.protocol_agreement import require_known


@dataclass(frozen=True)
class FixedProtocol:
    """What became of a protocol.

    Args:
        file: file of the protocol.
        state: "draft", "unsigned" or "signed".
        sha256: SHA-256 of the file; None for a draft, which is still to be filled in.
        fingerprint: SHA-256 of the public key that signed it; None where it is not signed.
    """

    file: Path
    state: str
    sha256: str | None = None
    fingerprint: str | None = None

    @property
    def sentence(self) -> str:
        """One line for a terminal."""
        if self.state == "draft":
            return f"{self.file} is a draft: fill in every empty text, then call optimize protocol {self.file} --sign-key KEY."
        if self.state == "unsigned":
            return f"{self.file} is complete and not signed: sha256 {self.sha256}."
        return f"{self.file} is complete and signed with the key {self.fingerprint}: sha256 {self.sha256}."

    def as_dict(self) -> dict[str, str | None]:
        """Return the form for other programs."""
        return {"file": str(self.file), "state": self.state, "sha256": self.sha256, "fingerprint": self.fingerprint}


def fix_protocol(
    file: Path, *, draft: Path | None, sign_key: Path | None, recipe_file: Path | None, settings: Mapping[str, object]
) -> FixedProtocol:
    """Draft a protocol, or check it and sign it.

    Args:
        file: file of the protocol.
        draft: model of the change for which a draft is written; None to check a protocol that is there.
        sign_key: file of the private key that signs it, or None.
        recipe_file: for a draft, toml file of the settings of the run.
        settings: for a draft, settings of the run by the names of `Recipe`; None counts as not given.

    Raises:
        InputError: when the protocol is not complete, the call is wrong, or model or data of a draft are.
    """
    if draft is None:
        given = [name for name, value in {**settings, "recipe": recipe_file}.items() if value is not None]
        if given:
            raise InputError(f"`--{given[0].replace('_', '-')}` is for a draft: add --draft MODEL, or leave it out.")
        protocol = read_protocol(file, with_signature=sign_key is None)
        require_known(protocol)
        if sign_key is not None:
            protocol = sign_protocol(protocol, sign_key)
        signed = protocol.signed
        return FixedProtocol(file, "signed" if signed else "unsigned", protocol.sha256, None if signed is None else signed.fingerprint)
    if sign_key is not None:
        raise InputError(f"`--sign-key` (={sign_key}) signs what is complete, and a draft is not: fill it in first.")
    # late: torch is needed for a draft alone
    from optimize.run.protocol_draft import write_draft
    from optimize.run.recipe import resolve

    values = dict(settings)
    target = values.pop("target", None)
    recipe = resolve(draft, target=None if target is None else str(target), overrides=values, recipe_file=recipe_file)
    return FixedProtocol(write_draft(recipe, file), "draft")
