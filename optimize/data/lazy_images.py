"""Stacks of images that are decoded as they are needed, so that a data set need not fit into memory.

A `LazyImages` has the length, shape and type of an array of images. Indexing decodes the items that are asked for and gives a real array;
`take` selects items and `map` adds a step to their decoding, and neither decodes any. Code that works on a whole stack goes through it by
`row_batches`, which bounds its memory:

    sources    a.png   b.png   c.png   d.png          what an item is made from: a path, a range of bytes, an index
    rows         3       0                            after `take([3, 0])`
    [0:1]      decode("d.png")[None]                  real numbers, only now
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from optimize.data.array_types import Array, Integers
from optimize.errors import InputError, printable

BATCH_BYTES = 2**25
"""Most bytes of stored images that code which goes through a whole stack holds at a time."""
MAX_THREADS = 16


@dataclass(frozen=True, eq=False)
class LazyImages:
    """A stack of N images of one shape and type; each is decoded when it is asked for.

    Args:
        sources: what each item is decoded from, in the order of the data set.
        decode: function from a source to its image: the same image at each call. It is called by threads where `parallel`.
        item_shape: shape of one image: (H, W, C) for uint8 in this package's layout, (C, H, W) for floats.
        dtype: type of the values.
        rows: positions in `sources` of the items of this stack, (N,).
        parallel: whether `decode` may run in several threads at once; what Pillow, zlib and NumPy do in it then runs in parallel.
        files: whether the items are image files as people keep them, of any size and gray or in colour: they are fitted to the network's
            input before use.
        known_hashes: hashes of contents by position in `sources`, filled by `content_hashes`; stacks taken from one another share it.

    Example:
        >>> images = lazy_images([1, 2, 3], lambda value: np.full((2, 2, 1), value, np.uint8))
        >>> len(images), images.shape, images.dtype
        (3, (3, 2, 2, 1), dtype('uint8'))
        >>> images.take([2, 0])[:].reshape(2, 4).tolist()
        [[3, 3, 3, 3], [1, 1, 1, 1]]
    """

    sources: Sequence[Any]
    decode: Callable[[Any], Array]
    item_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rows: Integers
    parallel: bool = False
    files: bool = False
    known_hashes: dict[int, int] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the stack, (N, *item_shape)."""
        return len(self), *self.item_shape

    @property
    def ndim(self) -> int:
        """Number of axes of the stack."""
        return 1 + len(self.item_shape)

    @property
    def size(self) -> int:
        """Number of values of the stack."""
        return prod(self.shape)

    def __getitem__(self, index: Any) -> Array:
        """Return images as a real array: one image for a number; for a slice, integers or a mask, (n, *item_shape)."""
        if isinstance(index, tuple):
            # further axes are those of the images: `images[:, 0]` is the first row of pixels of each
            some = self[index[0]]
            return some[index[1:] if some.ndim == len(self.item_shape) else (slice(None), *index[1:])]
        if isinstance(index, int | np.integer):
            return self._checked(int(self.rows[index]))
        rows = self.rows[index].tolist()
        stack = np.empty((len(rows), *self.item_shape), self.dtype)
        threads = min(MAX_THREADS, os.cpu_count() or 1, len(rows)) if self.parallel else 1
        if threads > 1:
            with ThreadPoolExecutor(threads) as pool:
                for place, image in enumerate(pool.map(self._checked, rows)):
                    stack[place] = image
        else:
            for place, row in enumerate(rows):
                stack[place] = self._checked(row)
        return stack

    def __iter__(self) -> Iterator[Array]:
        """Yield the images one by one; a few are decoded ahead."""
        for batch in row_batches(self):
            yield from self[batch]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        # so that foreign code works; it decodes everything, and nothing in this package relies on it
        return self[:].astype(dtype or self.dtype, copy=False)

    def take(self, index: Any) -> LazyImages:
        """Return the stack of some items, selected by a slice, integers or a mask; none is decoded."""
        return replace(self, rows=self.rows[index])

    def map(self, function: Callable[[Array], Array]) -> LazyImages:
        """Return the stack of `function(image)`, which is applied to each image when it is decoded.

        The shape and the type are those of the first image, so one image is decoded. Images of any shape may come in: a function that
        resizes them makes a stack of one shape of them.

        Raises:
            InputError: when the first image cannot be decoded.
        """
        # `decode` and not `_checked`: images may have any shape before this function
        return lazy_images(self.sources, _Composed(self.decode, function), rows=self.rows, parallel=self.parallel, files=self.files)

    def content_hashes(self) -> Integers:
        """Return 64 bits of the hash of each image, (N,); an image is decoded for it only once."""
        unknown = self.take([row not in self.known_hashes for row in self.rows.tolist()])
        self.known_hashes.update(zip(unknown.rows.tolist(), map(content_hash, unknown), strict=True))
        return np.fromiter(map(self.known_hashes.__getitem__, self.rows.tolist()), np.int64, len(self))

    def _checked(self, row: int) -> Array:
        """Return the image at a position of `sources`.

        Raises:
            InputError: when it has not the shape or the type of the stack, with its source.
        """
        image = self.decode(self.sources[row])
        if image.shape != self.item_shape or image.dtype != self.dtype:
            forms = f"is {_form(image.shape, image.dtype)}, the first one is {_form(self.item_shape, self.dtype)}"
            raise InputError(f"`data`: image {printable(str(self.sources[row]))} {forms}: store all images alike, or pass --resize H,W.")
        return image


Images: TypeAlias = Array | LazyImages
"""Images of a split: an array, or a stack that is decoded as it is needed. `len`, `shape`, `dtype` and indexing are alike."""


def lazy_images(
    sources: Sequence[Any],
    decode: Callable[[Any], Array],
    *,
    rows: Integers | None = None,
    parallel: bool = False,
    files: bool = False,
) -> LazyImages:
    """Return a stack of images, one for each source; its shape and type are those of the first image, which is decoded.

    Args:
        sources: what each item is decoded from: paths, ranges of bytes, indices.
        decode: function from a source to its image, (H, W, C): the same image at each call. What it raises should be an `InputError`.
        rows: positions in `sources` of the items of the stack; None for all.
        parallel: whether `decode` may run in several threads at once.
        files: whether the items are image files, of any size and gray or in colour.

    Raises:
        InputError: when there is no source, or the first image cannot be decoded.
    """
    rows = np.arange(len(sources), dtype=np.int64) if rows is None else rows
    if not len(rows):
        raise InputError("`data` has a split without images: every split needs at least one item.")
    first = decode(sources[int(rows[0])])
    return LazyImages(sources, decode, first.shape, first.dtype, rows, parallel, files)


def row_batches(images: Images) -> Iterator[slice]:
    """Yield slices that go through all images in order, at most `BATCH_BYTES` of them at a time, but at least one image.

    Example:
        >>> [batch.stop - batch.start for batch in row_batches(np.zeros((3, 2**12, 2**12, 1), np.uint8))]
        [2, 1]
    """
    size = max(1, BATCH_BYTES // max(1, prod(images.shape[1:]) * images.dtype.itemsize))
    for start in range(0, len(images), size):
        yield slice(start, min(start + size, len(images)))


def taken(images: Images, index: Any) -> Images:
    """Return some of the images, selected by a slice, integers or a mask; those of a lazy stack are not decoded."""
    return images.take(index) if isinstance(images, LazyImages) else images[index]


def joined(first: Images, second: Images, order: Integers) -> Images:
    """Return the images of both, `second` behind `first` and then in the given order; none of a lazy stack is decoded.

    Example:
        >>> a = lazy_images([1, 2, 3], lambda value: np.full((1, 1, 1), value, np.uint8))
        >>> joined(a.take([0, 2]), a.take([1]), np.array([0, 2, 1]))[:].reshape(-1).tolist()
        [1, 2, 3]
    """
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return np.concatenate([first, second])[order]
    lazy = [images for images in (first, second) if isinstance(images, LazyImages)]
    # parts of one stack are one stack again, without a second layer of look-up
    if len(lazy) == 2 and lazy[0].decode is lazy[1].decode and lazy[0].sources is lazy[1].sources:
        return replace(lazy[0], rows=np.concatenate([stack.rows for stack in lazy])[order])
    return LazyImages(range(len(order)), _Chained(first, second), first.shape[1:], first.dtype, order)


def content_hash(image: Array) -> int:
    """Return 64 bits of the hash of an image's bytes, as a signed number."""
    return int.from_bytes(hashlib.blake2b(image.tobytes(), digest_size=8).digest(), "little", signed=True)


@dataclass(frozen=True)
class _Composed:
    decode: Callable[[Any], Array]
    function: Callable[[Array], Array]

    def __call__(self, source: Any) -> Array:
        return self.function(self.decode(source))


@dataclass(frozen=True)
class _Chained:
    """Decodes item `row` of one stack followed by another one."""

    first: Images
    second: Images

    def __call__(self, row: int) -> Array:
        image: Array = self.first[row] if row < len(self.first) else self.second[row - len(self.first)]
        return image


def _form(shape: Sequence[int], dtype: np.dtype[Any]) -> str:
    return f"{'x'.join(map(str, shape))} {dtype}"
