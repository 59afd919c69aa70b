"""manifest.json: what the bundle is, and the hash of every file in it.

It is canonical JSON (RFC 8785) with nothing after it, so one content has one form and can be signed as bytes.
"""

from __future__ import annotations

import json


def readable_json(content: object) -> str:
    """Return JSON for people as well as programs: sorted keys, two spaces, a line feed at the end.

    Raises:
        ValueError: when a number in it is not finite.
    """
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
