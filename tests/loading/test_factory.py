from __future__ import annotations

import sys
from pathlib import Path

import pytest

from optimize.errors import InputError
from optimize.loading.factory import describe, load_factory


def _write(folder: Path, text: str, name: str = "net.py") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_returns_what_the_file_defines(tmp_path: Path) -> None:
    file = _write(tmp_path / "ünï cödé ☃", "def make(a, b=2):\n    return (a, b, 'é')\n")
    assert load_factory(f"{file}:make")(1, b=5) == (1, 5, "é")


def test_relative_path_starts_at_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, "def make(): return 7\n")
    monkeypatch.chdir(tmp_path)
    assert load_factory("net.py:make")() == 7


def test_dataclasses_with_late_annotations_work(tmp_path: Path) -> None:
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass P:\n    a: int\n"
    text += "def make(): return P(3).a\n"
    assert load_factory(_write(tmp_path, text) + ":make")() == 3


def test_edited_file_is_read_anew_and_leaves_no_bytecode(tmp_path: Path) -> None:
    file = _write(tmp_path, "def make(): return 1\n")
    assert load_factory(f"{file}:make")() == 1
    _write(tmp_path, "def make(): return 2\n")
    assert load_factory(f"{file}:make")() == 2
    assert [path.name for path in tmp_path.iterdir()] == ["net.py"]


def test_siblings_of_two_folders_do_not_mix(tmp_path: Path) -> None:
    made = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        _write(folder, f"value = {number}\n", "layers_sibling.py")
        _write(folder / "pack_sibling", f"value = {number * 10}\n", "part.py")
        text = "import layers_sibling\ndef make():\n    from pack_sibling import part\n    return layers_sibling.value + part.value\n"
        made.append(load_factory(_write(folder, text) + ":make"))
    assert [make() for make in made] == [11, 22]
    assert not {"layers_sibling", "pack_sibling", "pack_sibling.part"} & sys.modules.keys()
    assert str(tmp_path / "1") not in sys.path


def test_modules_from_elsewhere_stay_loaded(tmp_path: Path) -> None:
    _write(tmp_path / "venv" / "lib", "value = 1\n", "deep_library.py")
    text = "import sys\nsys.path.append(__file__.replace('net.py', 'venv/lib'))\nimport deep_library\nsys.path.pop()\n"
    text += "def make(): return 1\n"
    load_factory(_write(tmp_path, text) + ":make")
    assert "deep_library" in sys.modules
    del sys.modules["deep_library"]


def test_printing_goes_to_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_factory(_write(tmp_path, "print('importing')\ndef make(): print('making')\n") + ":make")()
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "importing\nmaking\n"


@pytest.mark.parametrize("spec", ["", ":", "net.py", "net:make", "net.py:", "net.py:a.b", "net.py:2x", "net.txt:make", "net.py:make()"])
def test_malformed_spec(spec: str) -> None:
    with pytest.raises(InputError, match=r"`--arch` \(=.*must read 'path/to/file.py:factory'"):
        load_factory(spec)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file at"):
        load_factory(f"{tmp_path}/gone.py:make")
    (tmp_path / "net.py").mkdir()
    with pytest.raises(InputError, match="there is a folder at"):
        load_factory(f"{tmp_path}/net.py:make", "--data")


def test_missing_function_names_those_there(tmp_path: Path) -> None:
    file = _write(tmp_path, "def vgg(): ...\ndef resnet(): ...\ndef _hidden(): ...\nvalue = 3\n")
    with pytest.raises(InputError, match=r"net.py has no function 'make'; it has: resnet, vgg\."):
        load_factory(f"{file}:make")
    with pytest.raises(InputError, match="no function 'value'"):
        load_factory(f"{file}:value")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise ValueError('wrong\\n  width')", r"raised ValueError: wrong width \(net.py, line 2\)"),
        ("import sys; sys.exit(3)", r"raised SystemExit: 3 \(net.py, line 2\)"),
        ("raise BaseException", r"raised BaseException \(net.py, line 2\)"),
        ("import not_there_at_all", "raised ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("from . import x", "raised ImportError: attempted relative import"),
        ("1 / 0", r"ZeroDivisionError: division by zero \(net.py, line 2\)"),
    ],
)
@pytest.mark.parametrize("when", ["import", "call"])
def test_whatever_is_raised_is_one_line(tmp_path: Path, body: str, words: str, when: str) -> None:
    text = f"\n{body}\n" if when == "import" else f"def make():\n    {body}\n"
    with pytest.raises(InputError, match=words) as caught:
        load_factory(_write(tmp_path, text) + ":make")()
    assert "\n" not in str(caught.value)
    left = [module for module in sys.modules.values() if getattr(module, "__file__", None) == f"{tmp_path}/net.py"]
    assert len(left) == (1 if when == "call" else 0)


def test_syntax_error_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"raised SyntaxError: .*\(net.py, line 3\)"):
        load_factory(_write(tmp_path, "\n\ndef make(:\n") + ":make")


def test_binary_file(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_bytes(b"\x80\x02\x00\xff")
    with pytest.raises(InputError, match=r"raised (Syntax|Unicode|Value)Error"):
        load_factory(f"{tmp_path}/net.py:make")


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"make\(\) raised TypeError: .*'widht'"):
        load_factory(_write(tmp_path, "def make(width): ...\n") + ":make")(widht=3)


def test_keyboard_interrupt_passes(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        load_factory(_write(tmp_path, "def make(): raise KeyboardInterrupt\n") + ":make")()


def test_describe_shortens() -> None:
    assert describe(ValueError()) == "ValueError"
    assert len(describe(ValueError("x" * 5000))) < 350


@pytest.mark.parametrize("place", ["", "def make(): "])
def test_torchvision_of_another_index_is_named_as_the_cause(tmp_path: Path, place: str) -> None:
    text = f"{place}raise RuntimeError('operator torchvision::nms does not exist')\n"
    with pytest.raises(InputError, match=r"nms does not exist .*Install torch and torchvision from the same package index\.$"):
        load_factory(_write(tmp_path, text) + ":make")()
