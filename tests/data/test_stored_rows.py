"""Large arrays in an archive, read row by row, against NumPy's own reading of the whole."""

from __future__ import annotations

import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from optimize.data import stored_rows
from optimize.data.dataset import load_data
from optimize.data.disk_cache import VARIABLE
from optimize.data.lazy_images import LazyImages
from optimize.data.stored_rows import large_member
from optimize.errors import InputError

RNG = np.random.default_rng(0)
ARRAYS = {
    "val_images": RNG.integers(0, 256, (40, 18, 20, 3), np.uint8),
    "val_labels": np.arange(40) % 2,
    "test_images": RNG.integers(0, 256, (30, 18, 20, 3), np.uint8),
    "test_labels": np.arange(30) % 2,
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for what is written out; every array counts as large."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(stored_rows, "LARGE_BYTES", 1)
    return tmp_path / "cache"


@pytest.mark.parametrize("compressed", [False, True])
def test_rows_are_those_of_the_whole_array(compressed: bool, cache: Path, tmp_path: Path) -> None:
    (np.savez_compressed if compressed else np.savez)(tmp_path / "a.npz", **ARRAYS)

    lazy = load_data(tmp_path / "a.npz")
    whole = load_data(ARRAYS)

    assert isinstance(lazy.test.images, LazyImages)
    np.testing.assert_array_equal(lazy.test.images[::-3], ARRAYS["test_images"][::-3])
    np.testing.assert_array_equal(lazy.guard.inputs([2, 5]), whole.guard.inputs([2, 5]))
    assert lazy.test.sha256 == whole.test.sha256
    assert sorted(path.suffix for path in cache.glob("*")) == ([".rows", ".rows"] if compressed else [])
    again = pickle.loads(pickle.dumps(lazy.test.images))
    np.testing.assert_array_equal(again[4], ARRAYS["test_images"][4])


def test_what_is_written_out_is_used_again_and_replaced_when_the_archive_changes(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=ARRAYS["val_images"])
    first = large_member(path, "images")
    file = next(cache.iterdir())
    assert first is not None
    written = file.stat().st_ino
    again = large_member(path, "images")
    assert file.stat().st_ino == written
    np.savez_compressed(path, images=ARRAYS["test_images"])
    changed = large_member(path, "images")
    for row in cache.iterdir():
        row.unlink()

    assert again is not None
    assert changed is not None
    np.testing.assert_array_equal(again[3], ARRAYS["val_images"][3])
    np.testing.assert_array_equal(changed[3], ARRAYS["test_images"][3])


def test_a_damaged_archive_is_found_before_any_row_is_used(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **ARRAYS)
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)

    with pytest.raises(InputError, match=r"val_images cannot be read .*Bad CRC"):
        load_data(path)


def test_small_arrays_and_other_layouts_are_read_as_a_whole(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", columns=np.asfortranarray(ARRAYS["val_images"]), labels=np.arange(9), images=ARRAYS["val_images"])

    assert large_member(tmp_path / "a.npz", "columns") is None
    assert large_member(tmp_path / "a.npz", "labels") is None
    assert large_member(tmp_path / "a.npz", "images") is not None
    monkeypatch.setattr(stored_rows, "LARGE_BYTES", ARRAYS["val_images"].nbytes * 2)
    assert large_member(tmp_path / "a.npz", "images") is None


def test_a_large_array_does_not_come_into_memory(cache: Path, tmp_path: Path) -> None:
    size = 2**25
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("images.npy", "w") as file,
    ):
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (32, size // 32)})
        for _ in range(32):
            file.write(bytes(size // 32))

    tracemalloc.start()
    images = large_member(tmp_path / "a.npz", "images")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert images is not None
    assert images.shape == (32, size // 32)
    assert peak < size / 2
