"""Check images, labels and masks before anything is computed from them.

Every error names the array, what it holds and what it should hold. Images come out in the layout the rest of the package relies on: whole
numbers (uint8) with channels last, (N, *spatial, C), and floats with channels first, (N, C, *spatial).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from optimize.data.array_types import Array as Array
from optimize.data.array_types import Integers as Integers
from optimize.data.label_advice import remedy_of_kind, remedy_of_range
from optimize.data.lazy_images import Images, LazyImages, row_batches
from optimize.errors import InputError

MAX_CLASSES = 100_000


def spread(count: int, most: int) -> Integers:
    """Return at most `most` positions out of `count`, ascending and evenly spread, because files are often sorted by class.

    Example:
        >>> spread(10, 3).tolist()
        [0, 4, 9]
    """
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def checked_images(arrays: Mapping[str, Array], split: str, input_shape: Sequence[int], pad: int | None) -> Images:
    """Return the images of a split in this package's layout, without copying or decoding them all.

    Args:
        arrays: the arrays of the user's data.
        split: one of `optimize.data.layout.SPLITS`.
        input_shape: shape of one input of the network, (C, *spatial).
        pad: pixels of zeros that will be added on each spatial side; None where the user cannot set it.

    Raises:
        InputError: when they have the wrong type, rank or size, or hold NaN or infinity.
    """
    key = f"{split}_images"
    images: Images = arrays[key]
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise InputError(f"`{key}` is {images.dtype}: images must be uint8 (0 to 255) or float32 (taken as they are): convert them.")
    if not len(images.shape) or not len(images):
        raise InputError(f"`{key}` is empty: every split needs at least one item.")
    channels, spatial = input_shape[0], tuple(size - 2 * (pad or 0) for size in input_shape[1:])
    last, first = (*spatial, channels), (channels, *spatial)
    floats = images.dtype.kind == "f"
    # the network's input says which axis is the channels; the shape alone could not (28 x 28 x 3 and 3 x 28 x 28)
    if channels == 1 and images.shape[1:] == spatial:
        images = _rearranged(images, np.expand_dims, axis=0 if floats else -1)
    elif images.shape[1:] == (first if floats else last):
        pass
    elif images.shape[1:] == (last if floats else first):
        source, destination = (-1, 0) if floats else (0, -1)
        images = _rearranged(images, np.moveaxis, source=source, destination=destination)
    else:
        raise InputError(_shape_problem(key, images.shape[1:], input_shape, pad))
    for batch in row_batches(images) if floats else ():
        with np.errstate(over="ignore"):
            # in float32, as the network reads them: a float64 of 1e300 is infinite there. In parts, so that no copy of all images is made
            finite = np.isfinite(images[batch].astype(np.float32)).reshape(batch.stop - batch.start, -1).all(axis=1)
        if not finite.all():
            raise InputError(f"`{key}`[{batch.start + int(np.argmin(finite))}] holds NaN or infinity: every value must be finite.")
    return images


def _rearranged(images: Images, function: Callable[..., Array], **axes: int) -> Images:
    """Return the images with their axes rearranged by NumPy's `function`, whose arguments are axes of one image, from 0 or from -1."""
    if isinstance(images, LazyImages):
        return images.map(partial(function, **axes))
    # the first axis of a whole array counts its images
    return function(images, **{name: axis + 1 if axis >= 0 else axis for name, axis in axes.items()})


def _shape_problem(key: str, shape: tuple[int, ...], input_shape: Sequence[int], pad: int | None) -> str:
    expected = ",".join(map(str, input_shape))
    problem = f"`{key}` holds images of {_times(shape)}, which do not fit the network's input {expected}"
    if pad is None:
        remedy = _differing_channels(shape, input_shape) or "resize them, or leave --data out"
        return f"{problem}: {remedy}."
    problem += f" with pad {pad}"
    # the same gap on every spatial side, and an even one, is what padding leaves
    for layout in (shape, (*shape[1:], *shape[:1]), (*shape, 1)):
        gaps = {wide - narrow for wide, narrow in zip(input_shape[1:], layout, strict=False)}
        fits = len(layout) == len(input_shape) and layout[-1] == input_shape[0] and len(gaps) == 1
        if fits and (gap := gaps.pop()) >= 0 and gap % 2 == 0:
            return f"{problem}: pass --pad {gap // 2}."
    return f"{problem}: {_image_remedy(shape, input_shape, pad)}."


def _differing_channels(shape: tuple[int, ...], input_shape: Sequence[int]) -> str:
    """Return what to do about images that differ from the network's input in their channels alone; empty for all others."""
    channels, spatial = input_shape[0], tuple(input_shape[1:])
    stored = 1 if shape == spatial else shape[-1] if shape[:-1] == spatial else shape[0] if shape[1:] == spatial else channels
    return "" if stored == channels else _channel_remedy(stored, channels)


def _image_remedy(shape: tuple[int, ...], input_shape: Sequence[int], pad: int) -> str:
    """Return what to do about images whose channels or sizes are not the network's."""
    channels, axes = input_shape[0], len(input_shape) - 1
    if len(shape) == axes:
        stored, spatial = 1, shape
    elif len(shape) != axes + 1:
        return f"store each image with {axes} spatial axes, and its channels first or last"
    elif shape[-1] <= 4 or shape[0] > 4:
        stored, spatial = shape[-1], shape[:-1]
    else:
        stored, spatial = shape[0], shape[1:]
    if stored != channels:
        return _channel_remedy(stored, channels)
    expected = _times([size - 2 * pad for size in input_shape[1:]])
    sides = expected.replace("x", ",")
    return (
        f"resize the images to {expected} as for training (image files: --resize {sides}), or pass "
        f"--input {channels},{','.join(str(size + 2 * pad) for size in spatial)} "
        "if the network was trained on that size"
    )


def _channel_remedy(stored: int, channels: int) -> str:
    if stored == 1 and channels == 3:
        return "the images are grayscale and the network reads 3 channels: repeat them, numpy.repeat(images[..., None], 3, axis=-1)"
    if stored == 3 and channels == 1:
        return "the images have 3 channels and the network reads grayscale: convert them as for training"
    if stored == 4 and channels == 3:
        return "the images have a fourth channel, probably alpha: leave it out, images[..., :3]"
    plural = "s" if stored > 1 else ""
    return f"the images have {stored} channel{plural} and the network reads {channels}: store those that it was trained on"


def checked_labels(arrays: Mapping[str, Array], split: str, num_classes: int | None) -> Integers:
    """Return the labels of a split, (N,), from (N,) or (N, 1).

    Raises:
        InputError: when they are missing, not whole numbers, more or fewer than the images, or out of range.
    """
    key, images = f"{split}_labels", arrays[f"{split}_images"]
    if key not in arrays:
        raise InputError(f"`data` has `{split}_images` but no array {key!r}: add one whole number per image.")
    labels = arrays[key]
    cure = remedy_of_kind(labels, "image")
    if labels.dtype.kind not in "iub":
        raise InputError(f"`{key}` is {labels.dtype}: labels must be whole numbers from 0: {cure or 'store the number of each class'}.")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        also = f": {cure}" if cure else ""
        raise InputError(f"`{key}` has shape {labels.shape}: it must be (N,) or (N, 1), one label per image{also}.")
    same_length(key, labels, split, images)
    # without a network the labels themselves say how many classes there are
    top = (num_classes or MAX_CLASSES) - 1
    wrong = np.flatnonzero((labels < 0) | (labels > top))
    if len(wrong):
        where = f"`{key}`[{wrong[0]}] is {labels[wrong[0]]}: labels must be 0 to {top}; {len(wrong)} of {len(labels)} are not"
        raise InputError(f"{where}: {remedy_of_range(labels, top + 1)}.")
    return labels.astype(np.int64)


def checked_masks(arrays: Mapping[str, Array], split: str, num_classes: int, shape: Sequence[int]) -> Array:
    """Return the masks of a split, in one of the two forms of `optimize.data.masks`.

    Args:
        arrays: the arrays of the user's data.
        split: one of `optimize.data.layout.SPLITS`.
        num_classes: number of outputs of the network, K.
        shape: *spatial of a mask.

    Returns:
        Bool (N, K, *spatial) for one output, or for masks (N, K, *spatial); else whole numbers (N, *spatial).

    Raises:
        InputError: when they are missing, not whole numbers, of another shape, more or fewer than the images, or out of range.
    """
    key, images = f"{split}_masks", arrays[f"{split}_images"]
    if key not in arrays:
        raise InputError(f"`data` has `{split}_images` but no array {key!r}: the network gives a mask, so add one mask per image.")
    masks = arrays[key]
    if masks.dtype.kind not in "iub":
        cure = remedy_of_kind(masks, "pixel") or "store the number of each pixel's class"
        raise InputError(f"`{key}` is {masks.dtype}: masks must be whole numbers or booleans: {cure}.")
    if masks.shape[1:] in ((1, *shape), (*shape, 1)):
        masks = masks.reshape(-1, *shape)
    one_each = masks.shape[1:] == (num_classes, *shape)
    if masks.shape[1:] != tuple(shape) and not one_each:
        expected = " or ".join(_times(sizes) for sizes in (shape, (num_classes, *shape))[: min(num_classes, 2)])
        raise InputError(f"`{key}` holds masks of {_times(masks.shape[1:])}: the network asks for {expected}; resize or rearrange them.")
    same_length(key, masks, split, images)
    if one_each or num_classes == 1:
        return _binary(key, masks).reshape(-1, num_classes, *shape)
    outside = (masks < 0) | (masks >= num_classes)
    if outside.any():
        _in_range(key, masks, outside, f"0 to {num_classes - 1}, 0 for the background", remedy_of_range(masks, num_classes, "masks"))
    return masks.astype(np.uint8 if num_classes <= 256 else np.int64)


def _binary(key: str, masks: Array) -> Array:
    """Return masks of 0 and 1, or of 0 and 255, as booleans."""
    # image editors store a mask as black and white, 0 and 255
    foreground = 255 if masks.max() == 255 else 1
    outside = (masks != 0) & (masks != foreground)
    if outside.any():
        values = np.unique(masks)
        several = "the network gives one mask, and these hold several classes: check the model, or store what it was trained to find as 1"
        cure = several if len(values) > 2 else f"store masks == {values[-1]} instead"
        _in_range(key, masks, outside, "0 and 1, or 0 and 255", cure)
    return masks.astype(bool)


def _in_range(key: str, masks: Array, wrong: Array, rule: str, cure: str) -> None:
    item = int(np.argmax(wrong.reshape(len(wrong), -1).any(1)))
    raise InputError(f"`{key}`[{item}] holds {masks[item][wrong[item]][0]}: masks must hold {rule}: {cure}.")


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "one number"


def same_length(key: str, array: Array, split: str, images: Images) -> None:
    """Check that the array of the name `key` has one entry for each of the split's images.

    Raises:
        InputError: when the numbers differ.
    """
    if len(array) != len(images):
        raise InputError(f"`{key}` has {len(array)} entries for {len(images)} images in `{split}_images`: there must be one per image.")
