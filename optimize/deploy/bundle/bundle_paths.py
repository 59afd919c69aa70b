"""Which paths a bundle may hold: such as every file system can store, and none that could leave the folder.

    model/model.onnx     accepted
    ../model.onnx        leaves the folder
    /etc/passwd          is absolute
    C:x                  leaves the folder on Windows
    aux.json             opens a device on Windows
    README.md readme.md  are one file where capitals do not count

Source: "Naming Files, Paths, and Namespaces" of the documentation of Windows.
"""

from __future__ import annotations

import unicodedata

MAX_DEPTH = 16
MAX_NAME_BYTES = 255
"""Longest name of a file that the usual file systems store, in bytes."""
_DEVICES = {"con", "prn", "aux", "nul", *(f"{name}{digit}" for name in ("com", "lpt") for digit in "0123456789¹²³")}
_FORBIDDEN = '<>:"|?*\\'


def path_fault(path: str) -> str:
    """Return what is wrong with a path in a bundle, as "it …"; empty text where nothing is.

    >>> path_fault("model/artifact.json"), path_fault("../x")
    ('', "it leaves the folder ('..')")
    """
    names = path.split("/")
    if path.startswith("/"):
        return "it is absolute"
    if len(names) > MAX_DEPTH:
        return f"it is nested deeper than {MAX_DEPTH} folders"
    return next((fault for name in names if (fault := _name_fault(name))), "")


def _name_fault(name: str) -> str:
    if name in ("", ".", ".."):
        return f"it leaves the folder ({name!r})" if name == ".." else f"it is not in its normal form ({name!r})"
    if any(letter in _FORBIDDEN or not letter.isprintable() for letter in name):
        return f"it has a character that not every file system stores ({name!a})"
    # "con", "con.txt" and "con .txt" all open the console on Windows, which also drops dots and spaces at the end
    if name[-1] in ". " or name.split(".")[0].rstrip().casefold() in _DEVICES:
        return f"it is no name for a file on Windows ({name!a})"
    if len(name.encode("utf-8", errors="replace")) > MAX_NAME_BYTES:
        return f"it has a name longer than {MAX_NAME_BYTES} bytes"
    return ""


class PathSet:
    """The paths of one bundle: adding one that clashes with an earlier one gives the reason."""

    def __init__(self) -> None:
        # folded path -> the path itself and whether it is a folder
        self._paths: dict[str, tuple[str, bool]] = {}
        self._files: set[str] = set()

    def add(self, path: str, *, folder: bool = False) -> str:
        """Add a path with its folders; return what is wrong with it, as "it …", or empty text.

        A folder may be added any number of times, a file once.
        """
        if fault := path_fault(path):
            return fault
        names = path.split("/")
        parents = ["/".join(names[:count]) for count in range(1, len(names))]
        for part, is_folder in (*((parent, True) for parent in parents), (path, folder)):
            known, known_folder = self._paths.setdefault(_folded(part), (part, is_folder))
            if known != part:
                return f"it is the same as {known!a} where capitals do not count"
            if known_folder != is_folder:
                return f"{known!a} is both a file and a folder"
            if not is_folder and part in self._files:
                return "it occurs twice"
        if not folder:
            self._files.add(path)
        return ""


def _folded(path: str) -> str:
    """Return a path as a file system sees it for which capitals and ways to compose an accent do not count."""
    # macOS decomposes accents, so that "é" and "e" with an accent are one name there
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
