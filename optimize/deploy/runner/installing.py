"""The command that installs what the runner lacks."""

from __future__ import annotations

from pathlib import Path


def pip_command(root: Path, purpose: str, *packages: str) -> str:
    """Return the command for the bundle's own list of packages, whose versions are exact; for their names where it has none.

    Args:
        root: folder of the bundle.
        purpose: what the packages are for: "sign" or "serve".
        packages: names of the packages.

    Example:
        >>> pip_command(Path("no bundle"), "sign", "cryptography")
        'pip install cryptography'
    """
    name = f"requirements-{purpose}.txt"
    # a bundle has the list where its packages were installed when it was made
    if not (root / name).is_file():
        return f"pip install {' '.join(packages)}"
    return f"pip install -r {name} in the bundle's folder (offline: with --no-index --find-links wheels)"
