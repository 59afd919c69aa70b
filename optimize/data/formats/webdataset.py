"""WebDataset: tar archives of images and labels, a sample after the other. They are read with the standard library, and never unpacked.

Files with one name up to the first point of the last part are one sample:

    train-000000.tar    cat/0001.jpg    cat/0001.cls     "3"
                        cat/0002.jpg    cat/0002.json    {"label": "tabby", "patient": "p17", "site_group": "north"}

The data are a folder of such archives, one archive, or a pattern: `shards/{train,val,test}-{000000..000009}.tar`. The split of an archive
is the first word of its name, or the name of its folder; where neither is a split, it is "train".
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from optimize.data.file_parts import FilePart, decode_part
from optimize.data.formats.image_folder import SPLIT_FOLDERS
from optimize.data.formats.table import COLUMNS, GROUP, labels_of
from optimize.data.image_decoding import is_image_name
from optimize.data.lazy_images import lazy_images
from optimize.errors import InputError, printable
from optimize.loading.factory import describe

NAMED = "WebDataset shards (a folder of .tar, or a pattern such as shards/{train,val,test}-{000..009}.tar)"
LABELS = (".cls", ".json", ".txt")
"""Endings of a sample's label, the first that is there is taken; further columns are read from `.json`."""
MAX_SHARDS = 100_000
MAX_SAMPLES = 20_000_000
MAX_LABEL_BYTES = 2**20
"""Most bytes of one label."""
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]{1,9})\.\.([0-9]{1,9})")
_SPLITS = {alias: split for split, aliases in SPLIT_FOLDERS.items() for alias in aliases}
_FIRST_WORD = re.compile(r"[a-z]+")


def recognises(source: str) -> bool:
    """Return whether the source is a folder with tar archives, an archive, or a pattern of archives.

    Raises:
        InputError: when it is a pattern, and none of its archives is there, or not all are.
    """
    path = Path(source)
    if path.is_dir():
        return next(_in_folder(path), None) is not None
    if not source.lower().endswith(".tar"):
        return False
    return path.is_file() or (bool(_BRACES.search(source)) and bool(_expanded(source)))


def read(source: str) -> Mapping[str, Any]:
    """Return the images of each split as a `LazyImages`, with labels and what else the samples say.

    Raises:
        InputError: when an archive is damaged or packed, a sample has no image or no label, or an archive of a split has other columns.
    """
    path = Path(source)
    shards = sorted(_in_folder(path)) if path.is_dir() else [path] if path.is_file() else _expanded(source)
    by_split: dict[str, list[Path]] = {}
    for shard in shards:
        by_split.setdefault(_split(shard), []).append(shard)
    arrays: dict[str, Any] = {}
    for split, files in by_split.items():
        samples = [sample for file in files for sample in _samples(file)]
        if not samples:
            raise InputError(f"`data` (={source}) has no sample for {split}: {files[0].name} holds no image.")
        if len(samples) > MAX_SAMPLES:
            raise InputError(f"`data` (={source}) has more than {MAX_SAMPLES:,} samples: pass fewer shards.")
        arrays[f"{split}_images"] = lazy_images([sample.image for sample in samples], decode_part, parallel=True, files=True)
        arrays[f"{split}_names"] = np.array([printable(sample.key) for sample in samples])
        arrays |= {f"{split}_{name}": values for name, values in _columns(samples, source).items()}
    return arrays


@dataclass(frozen=True)
class _Sample:
    """What an archive holds under one key: an image, its label and what else is known of it."""

    key: str
    image: FilePart
    columns: Mapping[str, Any]


def _in_folder(folder: Path) -> Iterator[Path]:
    """Yield the archives of a folder, and of folders in it that are named as splits."""
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.name.lower().endswith(".tar") and path.is_file():
            yield path
        elif path.name.lower() in _SPLITS and path.is_dir():
            yield from (inner for inner in path.glob("*.tar") if inner.is_file() and not inner.name.startswith("."))


def _expanded(pattern: str) -> list[Path]:
    """Return the archives that a pattern with braces names.

    Example:
        >>> [path.name for path in _paths("{train,val}-{08..10}.tar")][:4]
        ['train-08.tar', 'train-09.tar', 'train-10.tar', 'val-08.tar']

    Raises:
        InputError: when one of them is missing.
    """
    paths = _paths(pattern)
    if missing := [path for path in paths if not path.is_file()]:
        raise InputError(f"`data` (={pattern}) names {len(paths)} shards, and {len(missing)} of them are missing, such as {missing[0]}.")
    return paths


def _paths(pattern: str) -> list[Path]:
    texts, choices, place = [], [], 0
    for braces in _BRACES.finditer(pattern):
        texts.append(pattern[place : braces.start()])
        place = braces.end()
        ends = _RANGE.fullmatch(braces[1])
        if ends is None:
            choices.append(braces[1].split(","))
            continue
        first, last = int(ends[1]), int(ends[2])
        if not first <= last < first + MAX_SHARDS:
            raise InputError(f"`data` (={pattern}): {braces[0]} must rise, by at most {MAX_SHARDS:,} numbers.")
        choices.append([str(number).zfill(len(ends[1])) for number in range(first, last + 1)])
    if np.prod([len(words) for words in choices]) > MAX_SHARDS:
        raise InputError(f"`data` (={pattern}) names more than {MAX_SHARDS:,} shards: pass fewer.")
    rest = pattern[place:]
    return [Path("".join(text + word for text, word in zip(texts, words, strict=True)) + rest) for words in product(*choices)]


def _split(shard: Path) -> str:
    """Return the split of an archive, by the first word of its name, else by its folder."""
    word = _FIRST_WORD.match(shard.name.lower())
    return _SPLITS.get(word[0] if word else "") or _SPLITS.get(shard.parent.name.lower()) or "train"


def _samples(shard: Path) -> Iterator[_Sample]:
    """Yield the samples of an archive, in their order.

    Raises:
        InputError: when the archive cannot be read, or a sample has no image or no label.
    """
    try:
        with tarfile.open(shard, "r:") as archive:
            key, members = "", list[tarfile.TarInfo]()
            for member in archive:
                # links and devices could lead out of the archive, and nothing is unpacked for a sparse file
                if not member.isreg() or member.issparse() or Path(member.name).name.startswith("."):
                    continue
                if (own := _key(member.name)) != key:
                    if members:
                        yield _sample(shard, archive, key, members)
                    key, members = own, []
                members.append(member)
                # tarfile keeps every member, and there may be millions
                archive.members = []  # type: ignore[attr-defined]
            if members:
                yield _sample(shard, archive, key, members)
    except (tarfile.TarError, OSError, EOFError) as problem:
        with shard.open("rb") as file:
            packed = file.read(3)[:2] in (b"\x1f\x8b", b"BZ", b"\xfd7")
        remedy = "unpack it with gunzip, since single images cannot be read from a packed one" if packed else "copy it again"
        raise InputError(f"`data`: shard {printable(str(shard))} cannot be read as tar ({describe(problem)}): {remedy}.") from problem


def _key(name: str) -> str:
    folder, _, last = name.rpartition("/")
    return f"{folder}/{last.partition('.')[0]}".lstrip("/")


def _sample(shard: Path, archive: tarfile.TarFile, key: str, members: list[tarfile.TarInfo]) -> _Sample:
    images = [member for member in members if is_image_name(Path(member.name).name)]
    where = f"`data`: sample {printable(key)} of {printable(str(shard))}"
    if len(images) != 1:
        has = ", ".join(printable(Path(member.name).name) for member in members[:4])
        raise InputError(f"{where} has {len(images)} images ({has}): each needs one.")
    columns: dict[str, Any] = {}
    for ending in LABELS:
        for member in members:
            if member.name.lower().endswith(ending):
                text = _content(archive, member, where)
                stated = _json_columns(text, where) if ending == ".json" else {"labels": text}
                # the first ending that states a label counts
                columns = {**stated, **columns}
    if columns.get("labels", "") == "":
        raise InputError(f"{where} has no label: add {Path(key).name}.cls, or a .json with 'label'.")
    return _Sample(key, FilePart(str(shard), images[0].offset_data, images[0].size, images[0].name), columns)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> str:
    if member.size > MAX_LABEL_BYTES:
        raise InputError(f"{where}: {printable(member.name)} has {member.size:,} bytes, at most {MAX_LABEL_BYTES:,} are read as a label.")
    stream = archive.extractfile(member)
    assert stream is not None
    try:
        return stream.read().decode().strip()
    except UnicodeDecodeError as problem:
        raise InputError(f"{where}: {printable(member.name)} is no UTF-8 text: write the label as text.") from problem


def _json_columns(text: str, where: str) -> dict[str, Any]:
    """Return the label, and patient, id and subgroups, of a sample's `.json`; other keys are passed over."""
    try:
        stated = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise InputError(f"{where}: its .json cannot be read ({describe(problem)}): write it again.") from problem
    if not isinstance(stated, dict):
        return {"labels": stated}
    columns: dict[str, Any] = {}
    lower = {str(name).lower(): value for name, value in stated.items() if value is not None}
    for name in ("labels", "patient", "id"):
        if known := next((alias for alias in (*COLUMNS[name], *(("cls",) if name == "labels" else ())) if alias in lower), None):
            columns[name] = lower[known]
    return columns | {("site_group" if name == "site" else name): value for name, value in lower.items() if GROUP.fullmatch(name)}


def _columns(samples: list[_Sample], source: str) -> dict[str, Any]:
    """Return the columns of a split's samples, which all have the same ones."""
    names = samples[0].columns.keys()
    for sample in samples:
        if sample.columns.keys() != names:
            name = next(iter(sample.columns.keys() ^ names))
            without = next(other for other in (samples[0], sample) if name not in other.columns)
            said = f"`data` (={source}): sample {printable(without.key)} has no {name.removesuffix('s')!r}, and others have it"
            raise InputError(f"{said}: write it for all samples of a split, or for none.")
    columns = {}
    for name in names:
        cells = [sample.columns[name] for sample in samples]
        columns[name] = labels_of(cells) if name == "labels" else np.array([str(cell) for cell in cells])
    return columns
