"""Data formats are found by looking into a folder: a made-up one is put there, and everything knows it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from optimize.data import formats
from optimize.data.dataset import Preprocessing, load_data
from optimize.data.formats import npz
from optimize.data.sources import DataFormat, data_formats, format_of, read_arrays
from optimize.errors import InputError
from optimize.progress import shown
from tests.runs import arrays, bring, command

FOLDER_OF_ARRAYS = '''"""A folder with one .npy file per array."""

from pathlib import Path

import numpy as np

NAMED = "a folder of .npy files"


def recognises(source):
    return any(Path(source).glob("*_images.npy"))


def read(source):
    return {file.stem: np.load(file, allow_pickle=False) for file in Path(source).glob("*.npy")}
'''


@pytest.fixture
def npy_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One more format, in a folder that belongs to the package for the time of a test."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "npy_folder.py").write_text(FOLDER_OF_ARRAYS)
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path / "more")])
    yield
    sys.modules.pop("optimize.data.formats.npy_folder", None)


def _stored(folder: Path) -> Path:
    folder.mkdir()
    for name, array in arrays().items():
        np.save(folder / f"{name}.npy", array)
    return folder


@pytest.mark.parametrize("format", data_formats(), ids=lambda format: format.__name__.rpartition(".")[2])
def test_every_format_defines_what_the_protocol_lists(format: DataFormat) -> None:
    assert isinstance(format.NAMED, str)
    for name in ("recognises", "read"):
        expected = list(inspect.signature(getattr(DataFormat, name)).parameters)[1:]
        assert list(inspect.signature(getattr(format, name)).parameters) == expected
        assert inspect.getdoc(getattr(format, name))
    assert not format.recognises("nothing/lies.here")


@pytest.mark.usefixtures("npy_folder")
def test_a_new_format_gives_the_same_data_as_an_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **arrays())  # type: ignore[arg-type]
    expected, read = (
        load_data(str(source), preprocessing=Preprocessing(), input_shape=(1, 8, 8))
        for source in (tmp_path / "d.npz", _stored(tmp_path / "scans"))
    )
    for name in ("train", "calibration", "guard", "test"):
        assert getattr(read, name).sha256 == getattr(expected, name).sha256


@pytest.mark.usefixtures("npy_folder")
def test_the_command_reads_a_new_format(tmp_path: Path) -> None:
    model, scans = bring(tmp_path / "brought"), _stored(tmp_path / "scans")
    (scans / "test_labels.npy").unlink()  # noticed only after everything was read
    code, _, stderr = command("compress", model, "--target", "onnxruntime", "--out", tmp_path / "out", "--data", scans)
    assert code == 2
    assert "`data` has `test_images` but no array 'test_labels'" in stderr


@pytest.mark.usefixtures("npy_folder")
def test_a_damaged_file_of_a_new_format_gives_one_line(tmp_path: Path) -> None:
    scans = _stored(tmp_path / "scans")
    (scans / "test_labels.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(InputError, match=r"`data` \(=.*scans\): it cannot be read \(\w+: .*\): copy or save it again") as raised:
        read_arrays(scans)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"something else altogether", b"\x00" * 100])
def test_an_unknown_source_is_answered_with_all_formats(content: bytes, tmp_path: Path, npy_folder: None) -> None:
    (tmp_path / "scans.dat").write_bytes(content)
    (tmp_path / "empty").mkdir()
    for source in ("scans.dat", "empty"):
        with pytest.raises(InputError, match=r"pass .*a folder of \.npy files, .*an \.npz.* or .*\w"):
            format_of(tmp_path / source)


def test_formats_of_others_are_gone_afterwards() -> None:
    assert {format.NAMED for format in data_formats()} >= {"an .npz", "file.py:factory"}
    assert {Path(inspect.getfile(format)).parent for format in data_formats()} == {Path(formats.__file__).parent}  # type: ignore[arg-type]


def test_arrays_that_nobody_asks_for_are_not_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **arrays(), notes=np.array([{}], dtype=object))  # type: ignore[arg-type]
    assert set(read_arrays(tmp_path / "d.npz")) == set(arrays())
    archive = npz.read(str(tmp_path / "d.npz"))
    assert len(archive) == len(arrays()) + 1
    with pytest.raises(InputError, match="notes holds Python objects"):
        archive["notes"]


def test_arrays_named_almost_like_patients_are_named_not_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    everything = arrays()
    np.savez(tmp_path / "d.npz", **everything, test_patients=np.arange(len(everything["test_labels"])), notes=np.arange(3))  # type: ignore[arg-type]
    with shown():
        found = read_arrays(tmp_path / "d.npz")
    said = " ".join(capsys.readouterr().err.split())
    assert said == f"`data` (={tmp_path / 'd.npz'}): test_patients is not read: if it is test_patient, call it so."
    assert set(found) == set(everything)
