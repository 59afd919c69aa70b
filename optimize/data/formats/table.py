"""A table of image files, CSV or Parquet: one row for each image, with its path, its label and what else is known of it.

Columns are recognised by their names, in any case:

    path, image, image_path, file, filename, filepath   the image file, relative to the folder of the table
    label, class, target, diagnosis                     number or text
    split, subset, partition, set                       train, val, test or calibration; rows without it are one split, "train"
    patient, patient_id, subject, subject_id            the patient
    group, site, NAME_group                             a subgroup; `site` is the column "site" in reports
    id, image_id                                        what the user calls the image

Other columns are passed over. Images are decoded as they are needed. Parquet is read with pyarrow.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from optimize.data.array_types import Array
from optimize.data.formats.image_folder import SPLIT_FOLDERS
from optimize.data.image_decoding import decode_file
from optimize.data.lazy_images import lazy_images
from optimize.errors import InputError, did_you_mean, printable

NAMED = "a table of image files (.csv, .tsv or .parquet)"
DELIMITERS = {".csv": ",", ".tsv": "\t"}
PARQUET = (".parquet", ".pq")
MAX_ROWS = 20_000_000
"""Most rows of a table; their paths and labels are held in memory."""
COLUMNS = {
    "path": ("path", "image_path", "file_path", "filepath", "filename", "file_name", "file", "image"),
    "labels": ("label", "labels", "class", "target", "diagnosis"),
    "split": ("split", "subset", "partition", "set"),
    "patient": ("patient", "patient_id", "patientid", "subject", "subject_id"),
    "id": ("id", "image_id", "imageid"),
}
"""Names of the columns, in lower case, the first of them that is there is taken."""
GROUP = re.compile(r"(?:.+_)?group|site")


def recognises(source: str) -> bool:
    """Return whether the source is a file whose name ends as a table's does."""
    path = Path(source)
    return path.suffix.lower() in (*DELIMITERS, *PARQUET) and path.is_file() and path.stat().st_size > 0


def read(source: str) -> Mapping[str, Any]:
    """Return the images of each split as a `LazyImages`, with labels and what else the columns say.

    Raises:
        InputError: when there is no column of paths or labels, a split has an unknown name, or a cell of path, label or patient is empty.
    """
    path = Path(source)
    table = _parquet(path) if path.suffix.lower() in PARQUET else _csv(path)
    columns = _recognised(table, source)
    size = len(columns["path"])
    if not size:
        raise InputError(f"`data` (={source}) has no rows: add one for each image.")
    for field in [name for name in ("path", "labels", "patient") if name in columns]:
        empty = np.flatnonzero(columns[field] == "") if columns[field].dtype.kind == "U" else np.array([], np.int64)
        if len(empty):
            raise InputError(f"`data` (={source}) has no {field.removesuffix('s')} in row {empty[0] + 1}: fill it in, or remove the row.")
    splits = _splits(columns.pop("split", np.full(size, "train")), source)
    names = columns.pop("path")
    arrays: dict[str, Any] = {}
    for split in sorted(set(splits.tolist())):
        rows = np.flatnonzero(splits == split)
        files = [str(path.parent / name) for name in names[rows].tolist()]
        _require_files(files, names[rows].tolist(), source)
        arrays[f"{split}_images"] = lazy_images(files, decode_file, parallel=True, files=True)
        arrays[f"{split}_names"] = np.array([printable(name) for name in names[rows].tolist()])
        arrays |= {f"{split}_{field}": values[rows] for field, values in columns.items()}
    return arrays


def _csv(path: Path) -> dict[str, Array]:
    """Return the columns by name, numbers where every cell is a whole number, else text."""
    # utf-8-sig: spreadsheets write a mark in front of the first name
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=DELIMITERS[path.suffix.lower()], strict=True)
        header = next(reader)
        rows: list[list[str]] = []
        for row in filter(None, reader):
            if len(row) != len(header):
                raise InputError(f"`data` (={path}) has {len(row)} cells in line {reader.line_num}, and its header {len(header)}: mend it.")
            rows.append(row)
            if len(rows) > MAX_ROWS:
                raise InputError(f"`data` (={path}) has more than {MAX_ROWS:,} rows: pass a smaller table.")
    return {name: typed([row[place].strip() for row in rows]) for place, name in enumerate(header)}


def _parquet(path: Path) -> dict[str, Array]:
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError as problem:
        raise InputError(f"`data` (={path}) needs pyarrow: pip install 'optimize[tables]', or save the table as CSV.") from problem
    with parquet.ParquetFile(path) as file:
        if file.metadata.num_rows > MAX_ROWS:
            raise InputError(f"`data` (={path}) has more than {MAX_ROWS:,} rows: pass a smaller table.")
        wanted = [name for name in file.schema_arrow.names if _field(name)]
        table = file.read(columns=wanted)
    return {name: typed(table.column(name).to_pylist()) for name in wanted}


def typed(cells: list[Any]) -> Array:
    """Return whole numbers or floats where every cell is one, else text; a missing cell is the empty text."""
    texts = ["" if cell is None else str(cell) for cell in cells]
    for kind in (np.int64, np.float64):
        try:
            # "007" is a name and no number
            if not any(len(text) > 1 and text[0] == "0" and text.isdigit() for text in texts):
                return np.array([kind(text) for text in texts])
        except (ValueError, OverflowError):
            continue
    return np.array(texts, dtype=str)


def labels_of(cells: list[Any]) -> Array:
    """Return labels: whole numbers, floats or text, one for each image, or rows of numbers where each cell is a list.

    Example:
        >>> labels_of(["3", "4"]).tolist(), labels_of([[0, 1], [1, 1]]).shape
        ([3, 4], (2, 2))
    """
    many = all(isinstance(cell, list) for cell in cells) and len({len(cell) for cell in cells}) == 1
    return np.array(cells) if many else typed(cells)


def _field(name: str) -> str:
    """Return what a column of this name is, as in `COLUMNS`, or the name of a subgroup column; empty where it is passed over."""
    lower = name.strip().lower()
    if GROUP.fullmatch(lower):
        return "site_group" if lower == "site" else lower
    return next((field for field, names in COLUMNS.items() if lower in names), "")


def _recognised(table: Mapping[str, Array], source: str) -> dict[str, Array]:
    """Return the columns that are read, by what they are.

    Raises:
        InputError: when there is none of paths or none of labels.
    """
    found: dict[str, str] = {}
    for name in table:
        field = _field(name)
        names = COLUMNS.get(field, ())
        # of two columns for one thing, the one whose name stands first in the list
        if field and (field not in found or (names and names.index(name.strip().lower()) < names.index(found[field].strip().lower()))):
            found[field] = name
    for field, what in (("path", "paths"), ("labels", "labels")):
        if field not in found:
            meant = did_you_mean(COLUMNS[field][0], list(table))
            raise InputError(
                f"`data` (={source}) has no column of {what}; it has {', '.join(map(printable, table))}{meant}: "
                f"call it {COLUMNS[field][0]!r}."
            )
    columns = {field: table[name] for field, name in found.items()}
    # labels alone may be numbers; "1.0" of a patient is a name
    return {field: values if field == "labels" else values.astype(str) for field, values in columns.items()}


def _splits(names: Array, source: str) -> Array:
    """Return the split of each row, by this package's names.

    Raises:
        InputError: when a name is of no split.
    """
    known = {alias: split for split, aliases in SPLIT_FOLDERS.items() for alias in aliases}
    unknown = sorted({name for name in names.tolist() if name.lower() not in known})
    if unknown:
        raise InputError(f"`data` (={source}) has split {unknown[0]!r}: name them {', '.join(SPLIT_FOLDERS)}.")
    return np.array([known[name.lower()] for name in names.tolist()])


def _require_files(files: list[str], names: list[str], source: str) -> None:
    for file, name in zip(files, names, strict=True):
        if not Path(file).is_file():
            shown = printable(name)
            raise InputError(f"`data` (={source}) names {shown!r}, which is no file: paths are relative to the folder of the table.")
