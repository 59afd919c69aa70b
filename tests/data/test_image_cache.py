"""Images that are decoded once and kept, with a count of what is decoded; the files are damaged, cut and removed by hand."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from optimize.data import disk_cache, image_cache
from optimize.data.disk_cache import VARIABLE, has_room, image_cache_folder, state_of
from optimize.data.image_cache import described, kept
from optimize.data.lazy_images import LazyImages, lazy_images

DECODED: list[str] = []


def decode(path: str, add: int = 0) -> np.ndarray:
    """The first 12 bytes of a file as an image; what was decoded is kept in `DECODED`."""
    DECODED.append(Path(path).name)
    return np.frombuffer(Path(path).read_bytes()[:12], np.uint8).reshape(2, 2, 3) + np.uint8(add)


def images(folder: Path, add: int = 0) -> LazyImages:
    """A stack of five files, written where they are missing; nothing of it is counted yet."""
    for k in range(5):
        if not (folder / f"{k}.raw").exists():
            (folder / f"{k}.raw").write_bytes(bytes(range(k, k + 12)))
    stack = lazy_images([str(folder / f"{k}.raw") for k in range(5)], partial(decode, add=add), files=True)
    DECODED.clear()
    return stack


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for decoded images, and no stack so small that it is kept in memory."""
    folder = tmp_path_factory.mktemp("cache") / "images"
    monkeypatch.setenv(VARIABLE, str(folder))
    monkeypatch.setattr(image_cache, "IN_MEMORY_BYTES", 0)
    return folder


def test_few_images_are_an_array_and_nothing_is_written(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_cache, "IN_MEMORY_BYTES", 5 * 12)
    stack = images(tmp_path)

    array = kept(stack)

    assert type(array) is np.ndarray
    np.testing.assert_array_equal(array, stack[:])
    assert not cache.exists()


def test_each_image_is_decoded_once_also_by_the_next_run(cache: Path, tmp_path: Path) -> None:
    stack = images(tmp_path)
    expected = stack[:]
    first = kept(stack)
    assert isinstance(first, LazyImages)
    DECODED.clear()

    for _ in range(3):
        np.testing.assert_array_equal(first[:3], expected[:3])
    np.testing.assert_array_equal(kept(images(tmp_path))[1:3], expected[1:3])

    assert DECODED == []
    assert sorted(path.suffix for path in cache.iterdir()) == [".hashes", ".images"]
    assert {path.stat().st_mode & 0o777 for path in cache.iterdir()} == {0o600}
    assert cache.stat().st_mode & 0o777 == 0o700


def test_what_is_missing_or_damaged_is_decoded_again(cache: Path, tmp_path: Path) -> None:
    expected = images(tmp_path)[:]
    kept(images(tmp_path))[:4]
    file = next(cache.glob("*.images"))
    content = bytearray(file.read_bytes())
    content[12 * 2 + 5] ^= 1
    file.write_bytes(content[: 12 * 3 + 6])
    DECODED.clear()

    again = kept(images(tmp_path))
    np.testing.assert_array_equal(again[:], expected)

    # 2 was changed, 3 was cut off, 4 was never there
    assert DECODED == ["2.raw", "3.raw", "4.raw"]
    DECODED.clear()
    np.testing.assert_array_equal(kept(images(tmp_path))[:], expected)
    assert DECODED == []


def test_another_content_or_another_decoding_is_another_file(cache: Path, tmp_path: Path) -> None:
    kept(images(tmp_path))[:]
    assert kept(images(tmp_path, add=1))[1, 0, 0].tolist() == [2, 3, 4]
    status = (tmp_path / "1.raw").stat()
    (tmp_path / "1.raw").write_bytes(bytes(range(100, 112)))
    os.utime(tmp_path / "1.raw", ns=(status.st_atime_ns, status.st_mtime_ns))  # as if it had not been written to

    assert kept(images(tmp_path))[1, 0, 0].tolist() == [100, 101, 102]
    assert len(list(cache.glob("*.images"))) == 3


def test_a_file_that_is_removed_meanwhile_is_not_needed(cache: Path, tmp_path: Path) -> None:
    stack = kept(images(tmp_path))
    expected = stack[:]
    for path in cache.iterdir():
        path.unlink()

    np.testing.assert_array_equal(stack[:], expected)


@pytest.mark.parametrize("reason", ["off", "no room", "nameless"])
def test_without_a_file_images_are_decoded_each_time(reason: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = images(tmp_path)
    if reason == "off":
        monkeypatch.setenv(VARIABLE, "off")
    elif reason == "no room":
        monkeypatch.setattr(disk_cache, "MAX_BYTES", 59)
    else:
        stack = stack.map(lambda image: image)
    DECODED.clear()

    twice = [kept(stack)[2:4] for _ in range(2)]

    np.testing.assert_array_equal(*twice)
    assert DECODED == ["2.raw", "3.raw"] * 2
    assert not cache.exists() or not list(cache.iterdir())


def test_the_least_recently_used_files_make_room(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = image_cache_folder()
    assert folder == cache
    for age, name in enumerate("abc"):
        (cache / name).write_bytes(bytes(4096))
        os.utime(cache / name, (1000 - age, 1000 - age))
    monkeypatch.setattr(disk_cache, "MAX_BYTES", 3 * 4096)

    assert has_room(cache, 4096, keep=[cache / "c"])
    assert sorted(path.name for path in cache.iterdir()) == ["a", "c"]
    assert not has_room(cache, 4 * 4096)


def test_a_state_changes_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    first = state_of(tmp_path / "a")
    assert state_of(tmp_path / "a") == first
    os.replace(tmp_path / "a", tmp_path / "b")
    (tmp_path / "a").write_bytes(b"1")
    assert state_of(tmp_path / "a") != first


def test_functions_without_a_name_are_refused() -> None:
    assert described(partial(decode, add=1)).endswith("test_image_cache.decode; add=1)")
    for nameless in (lambda image: image, partial(decode, add=np.zeros(1)), partial(decode, add=object())):
        with pytest.raises(ValueError, match="has no name"):
            described(nameless)
