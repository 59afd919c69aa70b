"""A torch `Dataset` or `DataLoader` becomes a stack of images and an array of labels; its own transforms are kept.

Each item is read once, in the order of the dataset, and is kept (`optimize.data.streamed_images`): labels are known only by reading, and
images are needed about ten times. Where there is no room for the images of a `Dataset` on disk, they are read from it again each time.

A `DataLoader` that shuffles is read in the order of its dataset, because two runs must see the same data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler

from optimize.data.array_conversion import as_array
from optimize.data.arrays import Array
from optimize.data.disk_cache import has_room, image_cache_folder
from optimize.data.image_cache import IN_MEMORY_BYTES
from optimize.data.lazy_images import Images, LazyImages
from optimize.data.streamed_images import StreamedImages
from optimize.errors import InputError
from optimize.progress import note

MAX_ITEMS = 20_000_000
"""Most items of a dataset; one that has no length could go on for ever."""
READ_AGAIN = 8
"""Items that are read a second time, to see whether they are augmented at random."""
_IMAGES = ("image", "images", "pixel_values", "img", "inputs", "input")
_LABELS = ("label", "labels", "mask", "masks", "target", "targets")
"""Keys of items that are dicts; the first that is there is taken."""


def items_of(content: object, where: str) -> tuple[Any, Array]:
    """Return images and labels of a dataset or a loader.

    Args:
        content: a torch `Dataset`, or anything with a length and items; an `IterableDataset`; or a `DataLoader`. Items are pairs of image
            and label, or dicts.
        where: what it is, for errors: "data['val']".

    Returns:
        Images, an array or a `LazyImages`, (N, *item_shape), and labels, (N,), or masks, (N, *spatial).

    Raises:
        InputError: when it is nothing of that, fails at an item, samples its items, or gives other images when it is read again.
    """
    if isinstance(content, DataLoader):
        return _of_loader(content, where)
    if isinstance(content, IterableDataset):
        return _of_stream(content, where)
    if hasattr(content, "__getitem__") and hasattr(content, "__len__") and not isinstance(content, np.ndarray | torch.Tensor):
        return _of_dataset(content, where)
    raise InputError(f"`{where}` is a {type(content).__name__}: pass (images, labels), a torch Dataset or a DataLoader.")


def _of_loader(loader: DataLoader[Any], where: str) -> tuple[Images, Array]:
    remedy = "pass DataLoader(dataset, batch_size=…), or the dataset itself"
    if isinstance(loader.dataset, IterableDataset):
        # the last items that do not fill a batch would be missing from every figure
        if loader.drop_last:
            raise InputError(f"`{where}` is a DataLoader with drop_last=True, which leaves items out: {remedy}.")
        return _of_stream(loader, where, batched=loader.batch_size is not None)
    sampler, batches = loader.sampler, loader.batch_sampler
    everything = len(loader.dataset)  # type: ignore[arg-type]
    shuffles = isinstance(sampler, RandomSampler) and not sampler.replacement and sampler.num_samples == everything
    if not (shuffles or isinstance(sampler, SequentialSampler)) or type(batches) not in (BatchSampler, type(None)):
        raise InputError(f"`{where}` is a DataLoader that samples its items, so no two runs would see the same data: {remedy}.")
    if shuffles or loader.drop_last:
        does = "shuffles" if shuffles else "drops items"
        note(f"`{where}` is a DataLoader that {does}: all items of its dataset are read, in their order.")
        loader = DataLoader(
            loader.dataset, batch_size=loader.batch_size, num_workers=loader.num_workers, collate_fn=loader.collate_fn, shuffle=False
        )
    return _of_stream(loader, where, batched=loader.batch_size is not None)


def _of_stream(items: Iterable[Any], where: str, *, batched: bool = False) -> tuple[Images, Array]:
    """Return images and labels of items, or batches of them, that are read from the first to the last."""
    stream, labels = StreamedImages(where), _Labels(where)
    try:
        first = _read_through(items, where, batched, stream, labels)
        # read again, up to the first: random augmentation in the dataset gives another image the second time
        again = next(iter(_read(items, where)), None)
        if again is not None:
            _require_same(first, _image(again, where), where)
        return stream.images(), labels.array()
    finally:
        stream.discard()


def _of_dataset(dataset: Any, where: str) -> tuple[Images, Array]:
    count = len(dataset)
    if not count:
        raise InputError(f"`{where}` is empty: every split needs at least one item.")
    if count > MAX_ITEMS:
        raise InputError(f"`{where}` has {count:,} items, and at most {MAX_ITEMS:,} are read: pass fewer.")
    items = map(dataset.__getitem__, range(count))
    image = _image(next(_read(map(dataset.__getitem__, range(1)), where)), where)
    labels = _Labels(where)
    size, folder = image.nbytes * count, image_cache_folder()
    if size <= IN_MEMORY_BYTES or (folder is not None and has_room(folder, size)):
        stream = StreamedImages(where)
        try:
            _read_through(items, where, False, stream, labels)
            images: Images = stream.images()
        finally:
            stream.discard()
    else:
        for item in _read(items, where):
            labels.add(as_array(_pair(item, where)[1], where)[None])
        rows = np.arange(count, dtype=np.int64)
        images = LazyImages(range(count), _ItemsOf(dataset, where), image.shape, image.dtype, rows)
    for place in np.unique(np.linspace(0, count - 1, READ_AGAIN).astype(int)).tolist():
        _require_same(images[place], _image(dataset[place], where), where)
    return images, labels.array()


def _read_through(items: Iterable[Any], where: str, batched: bool, stream: StreamedImages, labels: _Labels) -> Array:
    """Put all images and labels where they are kept, and return the first image, or the first batch of images."""
    first: Array | None = None
    for item in _read(items, where):
        image, label = (as_array(part, where) for part in _pair(item, where))
        first = image if first is None else first
        stream.add(image if batched else image[None])
        labels.add(label if batched else label[None])
        if len(stream) > MAX_ITEMS:
            raise InputError(f"`{where}` has more than {MAX_ITEMS:,} items: pass fewer.")
    if first is None:
        raise InputError(f"`{where}` is empty: every split needs at least one item.")
    return first


class _Labels:
    """Labels, or masks, in the order in which they come; whole numbers below 256 of a mask are kept as bytes."""

    def __init__(self, where: str) -> None:
        self._where, self._parts = where, list[Array]()

    def add(self, labels: Array) -> None:
        if labels.ndim > 2 and labels.dtype.kind in "iu" and labels.size and labels.min() >= 0 and labels.max() < 256:
            labels = labels.astype(np.uint8)
        if self._parts and labels.shape[1:] != self._parts[0].shape[1:]:
            shapes = ", ".join(map(str, sorted((labels.shape[1:], self._parts[0].shape[1:]))))
            raise InputError(f"`{self._where}` has labels of different shapes ({shapes}): give each item one of the same form.")
        self._parts.append(np.array(labels))

    def array(self) -> Array:
        return np.concatenate(self._parts)


@dataclass(frozen=True, eq=False)
class _ItemsOf:
    """Reads the image of item k from a dataset."""

    dataset: Any
    where: str

    def __call__(self, place: int) -> Array:
        return _image(next(_read(map(self.dataset.__getitem__, (place,)), self.where)), self.where)


def _read(items: Iterable[Any], where: str) -> Iterator[Any]:
    """Yield the items, or batches, of a user's dataset, whose code may fail at any of them.

    Raises:
        InputError: naming the position and what the dataset raised.
    """
    position, iterator = 0, None
    while True:
        try:
            iterator = iter(items) if iterator is None else iterator
            item = next(iterator)
        except StopIteration:
            return
        except InputError:
            raise
        except Exception as problem:  # whatever the code of the dataset raises
            said = f"{type(problem).__name__}: {' '.join(str(problem).split())[:200]}"
            raise InputError(f"`{where}` fails at item or batch {position} ({said}): mend the dataset, or leave that out.") from problem
        yield item
        position += 1


def _image(item: object, where: str) -> Array:
    return as_array(_pair(item, where)[0], where)


def _pair(item: object, where: str) -> Sequence[object]:
    """Return image and label of an item, or images and labels of a batch."""
    if isinstance(item, Mapping):
        keys = [next((key for key in names if key in item), None) for names in (_IMAGES, _LABELS)]
        if None in keys:
            has = ", ".join(map(repr, item)) or "nothing"
            raise InputError(f"`{where}` gives dicts with {has}: name the image 'image' and the label 'label' in each.")
        return [item[key] for key in keys]
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise InputError(f"`{where}` gives a {type(item).__name__}: each item, or batch, must be a pair (images, labels).")
    return item[:2]


def _require_same(first: Array, again: Array, where: str) -> None:
    """Check that a second reading gives the same images, as it does not where they are augmented at random."""
    if first.shape != again.shape or not np.array_equal(first, again, equal_nan=first.dtype.kind == "f"):
        raise InputError(f"`{where}` gives other images when it is read again: leave random augmentation out of it.")
