from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from optimize.errors import InputError
from optimize.settings import size_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GB", 2_000_000_000),
        ("2 GiB", 2 * 1024**3),
        ("512MiB", 512 * 1024**2),
        ("1.5k", 1500),
        ("1.5KB", 1500),
        ("7", 7),
        ("9B", 9),
        (8, 8),
    ],
)
def test_sizes(text: Any, size: int) -> None:
    assert size_bytes(text, "--memory-limit", Path()) == size


@pytest.mark.parametrize("text", ["", "0", "-1GB", "2XB", "GB", "nan", True, None, "0.5"])
def test_what_is_no_size(text: Any) -> None:
    with pytest.raises(InputError, match=r"`--memory-limit` \(=.*\) must be a number of bytes such as '2GB' or '512MiB'"):
        size_bytes(text, "--memory-limit", Path())
