"""Find likely causes why an original does badly on its own data; causes that were tried and raise its score come first.

The most frequent cause is an input that is prepared in another way than in training. So some guard images are prepared in other usual ways
and evaluated again, and the classes are compared with the labels in every order. A change that raises the score by much is named with the
flag that sets it. Causes that cannot be tried are listed after these: weights that were never trained, data of another kind.

Example: accuracy 31 % as called, 33 % with `--standardize image`, 96 % with `--mean 0.5 --std 0.5`. Only the last explains enough of the
way to 100 % (`MUCH`), so it is named: "images are prepared by --mean 0.5 --std 0.5 (then accuracy is 96.0 %)".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from optimize.candidate import Candidate, Floats, Predict
from optimize.data.arrays import spread
from optimize.data.dataset import Split
from optimize.data.masks import Array
from optimize.data.output_meaning import MEANINGS, THRESHOLD
from optimize.data.preprocessing import Preprocessing
from optimize.graph.macs import macs
from optimize.graph.surgery import copy_module
from optimize.guard.classification_score import ClassificationScore
from optimize.guard.evaluate import score_split
from optimize.guard.intervals import quantile
from optimize.guard.no_information import CONFIDENCE, SKILL, NoInformation
from optimize.guard.score import Score
from optimize.guard.score_intervals import wilson

CASES, LEAST_CASES = 256, 16
"""Largest and smallest number of guard images on which a cause is tried."""
MAC_BUDGET = 10**11
"""Most multiply–accumulates of one evaluation of these images: a heavy network is evaluated on fewer."""
MUCH = 0.3
"""Share of the way from the figure to a perfect one that a cause must explain."""
ABOUT = 0.1
"""Share of what the best cause explains by which another may explain less."""
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def causes(original: Candidate, guard: Split, classes: tuple[str, ...], score: Score, compared: NoInformation) -> tuple[str, ...]:
    """Return causes, the most likely first, each as a clause.

    Args:
        original: the original network.
        guard: guard split, on which the original does badly.
        classes: names of the labels.
        score: score of the original on `guard`.
        compared: comparison of that score with the best constant answer.
    """
    return (*visible_causes(original, guard, classes, score, compared), *_untried(compared))


def visible_causes(
    original: Candidate, guard: Split, classes: tuple[str, ...], baseline: Score, compared: NoInformation
) -> tuple[str, ...]:
    """Return causes that were tried and raise the score by much, the best first, two at most; arguments as for `causes`.

    The second is returned only where it explains about as much and is not the first one with something added.
    """
    # each cause costs one evaluation of these images, so a heavy network gets fewer of them
    count = int(np.clip(MAC_BUDGET // max(1, macs(original)), LEAST_CASES, CASES))
    some = guard.take(spread(len(guard), count)).loaded()
    n = len(some)
    tried = _orders(baseline, "")
    for words, split in _prepared(some):
        score = score_split(original.predict, split, classes, "look for a cause")
        tried += [(score.overall, words), *_orders(score, words)]
    for words, predict, split in _read_otherwise(original, some):
        tried.append((score_split(predict, split, classes, "look for a cause").overall, words))
    for words, predict in _with_batch_statistics(original):
        # in an order that mixes the classes: a batch of one class has statistics of its own
        mixed = some.take(np.random.default_rng(0).permutation(n))
        tried.append((score_split(predict, mixed, classes, "look for a cause").overall, words))
    # A cause must explain a good part of the gap, and lift the original clearly above a constant answer; else it is chance.
    enough = max(compared.original + MUCH * (1 - compared.original), compared.constant + SKILL * (1 - compared.constant))
    floor = max(compared.original, compared.constant)
    best = [
        trial
        for trial in sorted(tried, key=lambda trial: -trial[0])
        if trial[0] >= enough and (compared.figure != "accuracy" or _beyond_chance(trial[0], n, floor, len(tried)))
    ]
    second = [
        trial for trial in best[1:] if trial[0] >= best[0][0] - ABOUT * (best[0][0] - compared.original) and best[0][1] not in trial[1]
    ]
    return tuple(f"{words} (then {compared.figure} is {100 * figure:.1f} %)" for figure, words in (best[:1] + second[:1]))


def _beyond_chance(figure: float, n: int, floor: float, trials: int) -> bool:
    """Whether an accuracy on `n` cases is above `floor` by more than chance; the error is shared among the trials (Bonferroni)."""
    return wilson(figure * n, n, quantile(1 - (1 - CONFIDENCE) / max(1, trials)))[0] > floor


def _untried(compared: NoInformation) -> Iterator[str]:
    """Yield causes that cannot be tried, the most likely first."""
    if compared.same:
        yield "the weights were never trained, or the network does not look at its input"
    yield "--mean, --std or the order of the channels are not those of training"
    if not compared.same:
        yield "the weights were never trained, or are not of this network (--arch, arch_args)"
    yield "the data are of another kind than in training, or the labels are in another order or of other images"


def _read_otherwise(original: Candidate, split: Split) -> Iterator[tuple[str, Predict, Split]]:
    """Yield other ways to read the outputs as masks: what to do in words, the function that predicts, and the split."""
    if split.labels.dtype != bool:
        return
    # mirrored at the threshold: what was above it is below it
    middle = THRESHOLD[original.outputs]
    yield "the masks mark the background: invert them", lambda inputs: 2 * middle - original.predict(inputs), split
    for meaning in MEANINGS:
        if meaning != original.outputs:
            yield f"--outputs {meaning}", original.predict, replace(split, outputs=meaning)


def _with_batch_statistics(original: Candidate) -> Iterator[tuple[str, Predict]]:
    """Yield the network with each batch's own statistics in place of the stored ones, where it has batch norms."""
    norms = [name for name, layer in original.module.named_modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    if not norms:
        return
    module = copy_module(original.module, share=False)
    for name in norms:
        # only the norms: dropout stays off, and this copy's own running statistics are of no further use
        module.get_submodule(name).train()

    def predict(inputs: Floats) -> Floats:
        with torch.no_grad():
            return np.asarray(module(torch.from_numpy(np.array(inputs))).numpy(), dtype=np.float32)

    yield "the running statistics of the batch norms are not those of training: save the whole state dict, with its buffers", predict


def _prepared(split: Split) -> Iterator[tuple[str, Split]]:
    """Yield the images prepared in other usual ways: what to do in words, and the split."""
    own, channels = split.preprocessing, split.inputs(slice(0, 1)).shape[1]
    floats = split.images.dtype != np.uint8
    images = np.asarray(split.images, dtype=np.float32)
    ways = {
        "": ((), (), None),
        "--mean 0.5 --std 0.5": ((0.5,), (0.5,), None),
        "--standardize image": ((), (), "image"),
    }
    if channels == 3:
        ways["--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"] = (*IMAGENET, None)
    for words, (mean, std, standardize) in ways.items():
        preprocessing = Preprocessing(mean, std, own.pad, standardize)
        if preprocessing != own:
            yield f"images are prepared by {words or 'no mean and std'}", replace(split, preprocessing=preprocessing)
    # the scale of float images shows in their largest value: 255 for bytes, about 1 for images that were divided
    high = float(images.max(initial=0.0))
    if floats and high > 2:
        yield "the float images hold 0 to 255: divide them by 255", replace(split, images=split.images / split.images.dtype.type(255))
    elif floats:
        yield "the float images hold 0 to 1: multiply them by 255", replace(split, images=split.images * split.images.dtype.type(255))
    else:
        whole: Floats = np.moveaxis(images[..., None] if images.ndim == 3 else images, -1, 1)
        yield "the network takes 0 to 255: store float images", replace(split, images=whole)
    height, width = (-2, -1) if floats else (1, 2)
    # images (N, H, W), bytes (N, H, W, C) or floats (N, C, H, W): volumes have more axes, and series fewer
    if split.inputs(slice(0, 1)).ndim == 4 and split.images.shape[height] == split.images.shape[width]:
        turned = np.ascontiguousarray(np.swapaxes(split.images, height, width))
        yield "the images are transposed: swap height and width", replace(split, images=turned)
    if channels == 3:
        axis = 1 if floats else -1
        yield "the channels are in the order blue, green, red: reverse them", replace(split, images=np.flip(split.images, axis))


def _orders(score: Score, words: str) -> list[tuple[float, str]]:
    """Return the accuracy with the classes in the order that fits best, and the order in words; empty where the present order does.

    Example: a network that calls every cat a dog and every dog a cat has the accuracy 0; with the two swapped it has 1.
    """
    if not isinstance(score, ClassificationScore) or len(score.classes) < 3:
        return []
    rows, columns = _best_order(score.confusion)
    if (rows == columns).all():
        return []
    also = f"{words}, and " if words else ""
    names = score.classes
    pairs = ", ".join(f"{names[k]} -> {names[row]}" for row, k in zip(rows, columns, strict=True) if row != k)
    # a hundred classes in another order would fill the screen
    shown = pairs if len(pairs) < 80 else f"{pairs[:77]}…"
    return [(_held_out_accuracy(score), f"{also}the labels are in another order ({shown})")]


def _best_order(confusion: Array) -> tuple[Array, Array]:
    """Return the assignment of predicted classes (columns) to labels (rows) with the most agreement, without trying all K! orders."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-confusion)
    return rows, columns


def _held_out_accuracy(score: ClassificationScore) -> float:
    """Return the accuracy with the classes in the best order, each order found on the other half of the cases.

    An order that is found and judged on the same cases fits a network of random weights, too: 14 % became 40 % with 80 cases of 8 classes.
    """
    labels, predicted, k = score.labels, score.predicted, len(score.classes)
    # every second case of each class, so that both halves have all classes
    half = np.zeros(len(labels), dtype=np.int64)
    half[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % 2
    hits = 0
    for judged in (0, 1):
        fitted = half != judged
        confusion = np.bincount(k * labels[fitted] + predicted[fitted], minlength=k * k).reshape(k, k)
        rows, columns = _best_order(confusion)
        renamed = np.empty(k, dtype=np.int64)
        renamed[columns] = rows
        hits += int((renamed[predicted[~fitted]] == labels[~fitted]).sum())
    return hits / len(labels)
