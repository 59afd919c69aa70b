"""Find near duplicates: pairs of images that show the same picture with other bytes (stored again, brightened, shifted, resized).

Pairs are compared in three stages. Each stage costs more per pair than the one before, and sees only the pairs that passed it. All stages
look at the mean over channels, averaged over areas:

    difference hash       64 signs of neighbours in a row, of the image at 8 x 9 pixels; no more than `HASH_BITS` of them differ
    coarse correlation    of the same 72 pixels, at least 1 - SHIFT_LOSS (28 / size)^2 - 0.01: what a shift by one pixel leaves of it
    fine correlation      of thumbnails of at most `FINE` pixels a side, at the best shift by up to one of their pixels, at least `ALIKE`

A difference hash keeps one bit per pair of neighbouring pixels: whether the right one is brighter. A row of 9 grey values gives 8 bits:

    10 12 15 15 9 7 8 8 20   ->   1 1 0 0 0 1 0 1        brightening the whole row changes no bit

A hash alone calls smooth images alike that are not, such as two brains or two cells. Where the thresholds come from: of 41 million pairs of
blood cells (28 pixels) and 90,000 of brain slices of different patients (128 pixels), no two different pictures whose hashes agree
correlate finely above 0.969; the least alike pair that is one photograph stored twice does at 0.993. Of 50 million pairs of CIFAR-10, five
pass, all of them one photograph in two colourings. Images smaller than `SMALLEST` pixels say too little and are not compared.

A volume is compared in the last two axes, as up to `SLABS` slabs of its depth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from optimize.candidate import Floats
from optimize.data.arrays import Array, Integers, spread
from optimize.data.lazy_images import Images, taken
from optimize.data.preprocessing import Preprocessing

HASH_BITS = 14
SHIFT_LOSS = 0.14
ALIKE = 0.98
FINE, SLABS, SMALLEST = 24, 4, 16
VALUES_AT_ONCE = 2**20
BLOCK = 2048
"""Images of either side at a time."""
MAX_FINE_PAIRS = 2**16
"""Most pairs of a block that are compared finely, the most alike ones first: it bounds the time where all images resemble each other. Only
there a near duplicate may be missed because of it."""


@dataclass(frozen=True, eq=False)
class ImageHashes:
    """Hashes and thumbnails by which N images are compared.

    Args:
        signs: the difference hash as -1 and 1, (N, 64).
        coarse: the 72 pixels with mean 0 and length 1, (N, 72); 0 for an image without contrast, which resembles no other.
        fine: thumbnails, (N, D, H, W).
        size: smaller side of the images, in pixels.
    """

    signs: Floats
    coarse: Floats
    fine: Floats
    size: int

    @classmethod
    def of(cls, images: Images, usual_contrast: float | None = None) -> ImageHashes:
        """Return the hashes of uint8 images (N, *spatial, C) or (N, H, W), or floats (N, C, *spatial).

        Args:
            images: the images; of a lazy stack a few are decoded at a time.
            usual_contrast: median contrast of the data set that the images belong to; None for that of the images.
        """
        coarse, fine, size = _small(images)
        signs = np.where(coarse[:, :, 1:] > coarse[:, :, :-1], np.float32(1), np.float32(-1))
        # the pattern of an almost flat image is noise, which must not make two flat images look alike
        contrast = coarse.std((1, 2))
        unit = _unit(coarse) * (contrast > 0.02 * (np.median(contrast) if usual_contrast is None else usual_contrast))[:, None]
        return cls(signs.reshape(len(signs), -1), unit, fine, size)


def hash_blocks(images: Images) -> Iterator[tuple[int, ImageHashes]]:
    """Yield the position of the first image of each block, and the block's hashes; so those of all images are never in memory at once.

    What counts as an almost flat image is decided by up to `BLOCK` images, spread over all: by all of them where there are no more.
    """
    sample = taken(images, spread(len(images), BLOCK)) if len(images) > BLOCK else None
    usual = None if sample is None else float(np.median(_small(sample)[0].std((1, 2))))
    for start in range(0, len(images), BLOCK):
        yield start, ImageHashes.of(taken(images, slice(start, start + BLOCK)), usual)


def near_duplicate_pairs(some: ImageHashes, partners: ImageHashes) -> Integers:
    """Return pairs of images that show the same picture, (P, 2): row in `some` and row in `partners`, the most similar pair first."""
    pairs, likeness = similar_pairs(some, partners)
    return pairs[np.argsort(-likeness, kind="stable")]


def similar_pairs(some: ImageHashes, partners: ImageHashes) -> tuple[Integers, Floats]:
    """Return the pairs of `near_duplicate_pairs` in the order of their rows, (P, 2), and the correlation of each, (P,)."""
    if min(some.size, partners.size) < SMALLEST:
        return np.zeros((0, 2), np.int64), np.zeros(0, np.float32)
    pairs, likeness = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.float32)]
    # in blocks: the products of all pairs at once would not fit into memory
    for top in range(0, len(some.signs), BLOCK):
        for left in range(0, len(partners.signs), BLOCK):
            candidates = _candidates(some, partners, slice(top, top + BLOCK), slice(left, left + BLOCK)) + np.array([top, left])
            for start in range(0, len(candidates), 1024):
                part = candidates[start : start + 1024]
                alike = correlation(some.fine[part[:, 0]], partners.fine[part[:, 1]])
                pairs.append(part[alike >= ALIKE])
                likeness.append(alike[alike >= ALIKE])
    return np.concatenate(pairs), np.concatenate(likeness)


def correlation(some: Floats, partners: Floats) -> Floats:
    """Return the correlation of thumbnails, pair by pair, at the best shift by up to one pixel: 2 x (N, D, H, W) -> (N,)."""
    height, width = some.shape[2:]
    # the inner part of one thumbnail against the nine parts of that size in the other
    inner = _unit(partners[:, :, 1 : height - 1, 1 : width - 1])
    shifts = [(down, across) for down in range(3) for across in range(3)]
    moved = (_unit(some[:, :, down : height - 2 + down, across : width - 2 + across]) for down, across in shifts)
    best = np.full(len(some), -1, np.float32)
    for shifted in moved:
        np.maximum(best, np.einsum("nk,nk->n", shifted, inner), out=best)
    return best


def _candidates(some: ImageHashes, partners: ImageHashes, rows: slice, columns: slice) -> Integers:
    """Return the pairs of one block that pass the hash and the coarse correlation, (P, 2)."""
    coarse = some.coarse[rows] @ partners.coarse[columns].T
    # The sum of products of 64 signs is 64 - 2 d where d of them differ: 64 for equal hashes, 36 for 14 bits that differ.
    close = some.signs[rows] @ partners.signs[columns].T >= 64 - 2 * HASH_BITS
    close &= coarse >= 0.99 - SHIFT_LOSS * (28 / max(28, min(some.size, partners.size))) ** 2
    pairs = np.argwhere(close)
    if len(pairs) > MAX_FINE_PAIRS:
        # only a set of images that all resemble each other gets here
        pairs = pairs[np.argpartition(-coarse[close], MAX_FINE_PAIRS)[:MAX_FINE_PAIRS]]
    return pairs.astype(np.int64)


def _small(images: Images) -> tuple[Floats, Floats, int]:
    """Return the images at 8 x 9 pixels, (N, 8, 9), their thumbnails, (N, D, H, W), and their smaller side in pixels."""
    # A few at a time: their float copies are all that is added to memory beside the thumbnails.
    size = max(1, VALUES_AT_ONCE // prod(images.shape[1:]))
    greys = (_grey(images[start : start + size]) for start in range(0, len(images), size))
    small = [(_shrink(grey.mean(1), 8, 9), _thumbnails(grey), min(grey.shape[2:])) for grey in greys]
    coarse, fine = (np.concatenate(parts) for parts in zip(*[(pixels, thumbnails) for pixels, thumbnails, _ in small], strict=True))
    return coarse, fine, small[0][2]


def _grey(images: Array) -> Floats:
    """Return stored images -> the mean over channels, (N, D, H, W); D is 1 for images, H as well for signals."""
    grey: Floats = Preprocessing()(images).mean(1)
    spatial = grey.shape[1:]
    return grey.reshape(len(grey), -1, *(1, *spatial)[-2:])


def _thumbnails(grey: Floats) -> Floats:
    depth, height, width = grey.shape[1:]
    slabs = np.einsum("sd,ndhw->nshw", _areas(depth, min(depth, SLABS)), grey)
    return _shrink(slabs, min(height, FINE), min(width, FINE))


def _shrink(images: Floats, height: int, width: int) -> Floats:
    """Average (…, H, W) over areas."""
    return np.asarray(_areas(images.shape[-2], height) @ images @ _areas(images.shape[-1], width).T)


def _areas(size: int, count: int) -> Floats:
    """Return weights that average `size` pixels into `count` equal areas, (count, size)."""
    # example: 3 pixels into 2 areas have the edges 0, 1.5, 3, so the middle pixel counts by half in either
    edges, pixels = np.linspace(0, size, count + 1), np.arange(size)
    shared = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.asarray(np.clip(shared, 0, None) * (count / size), dtype=np.float32)


def _unit(images: Floats) -> Floats:
    """Return each image as a vector of mean 0 and length 1, (N, …) -> (N, K); 0 where it has no contrast."""
    flat = images.reshape(len(images), -1)
    flat = flat - flat.mean(1, keepdims=True)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6))
