"""What images of the reader's own say about themselves: copies, wrong labels, and classes that mirror one another."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.names import shown

if TYPE_CHECKING:
    from pipelines.sources import Data, Split

PARTS = ("training", "validation", "test")
EXAMPLES = 3
SIDE = 8  # Pixels that images are averaged to before they are compared with the means of classes.
AT_MOST, OF_A_CLASS = 10_000, 20  # Images that are compared: so many in all, but at least so many of each class.
SHARE = 0.2  # Of two classes' images must change sides when they are mirrored. Of CIFAR-10's it is less than 0.01.
ERROR = 0.001  # The chance of a warning where mirroring changes nothing.


@dataclass(frozen=True)
class Remarks:
    """`notes` are for the report, `warnings` for the card too. `mirrored` is a sentence that lacks what to do."""

    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    mirrored: str


def of(data: "Data", varying: Collection[str] = ()) -> Remarks:
    """Look at all images. How many copies a part in `varying` has depends on the seed, which splits them anew."""
    notes, warnings = _on_copies(data, varying)
    return Remarks(notes, warnings, _on_mirrors(data.train, data.classes))


def _on_copies(data: "Data", varying: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    parts = dict(zip(PARTS, (data.train, data.validation, data.test), strict=True))
    keys = np.concatenate([_hashes(part) for part in parts.values()])
    ids, labels = (np.concatenate([getattr(part, name) for part in parts.values()]) for name in ("ids", "labels"))
    part_of = np.repeat(np.arange(len(parts)), [len(part) for part in parts.values()])
    _, firsts, groups = np.unique(keys, return_index=True, return_inverse=True)
    first = firsts[groups]  # The first image with the same pixels: one for training, if there is one.
    warnings = []
    for number, part, others in ((2, "test", "training or validation"), (1, "validation", "training")):
        found = np.flatnonzero((part_of == number) & (part_of[first] < number))
        if len(found):
            counted = f"{'About ' if part in varying else ''}{len(found):,} of {len(parts[part]):,} {part} images"
            verb = "is" if len(found) == 1 else "are"
            pairs = [f"{shown(ids[place])} is {shown(ids[first[place]])}" for place in found[:EXAMPLES]]
            warnings.append(
                f"{counted} {verb} also among the {others} images, so {part} accuracy is too high: "
                f"{_listed(pairs, len(found))}."
            )
    wrong = np.flatnonzero(labels != labels[first])
    if len(wrong):
        both = [(first[place], place) for place in wrong[:EXAMPLES]]
        pairs = [
            " and ".join(f"{shown(ids[place])} of class {shown(data.classes[labels[place]])}" for place in two)
            for two in both
        ]
        count = int(np.isin(groups, groups[wrong]).sum())
        warnings.append(
            f"{count:,} of {len(keys):,} images have a copy with another label: {_listed(pairs, len(wrong))}."
        )
    notes = []
    for number, part in enumerate(parts):
        count = int(np.sum(part_of == number) - len(np.unique(groups[part_of == number])))
        if count:
            notes.append(f"{'about ' if part in varying else ''}{count:,} {part}")
    said = (f"Copies of an image in the same part: {', '.join(notes)}.",) if notes else ()
    return said, tuple(warnings)


def _hashes(part: "Split") -> np.ndarray:
    """A hash of each image's pixels, uint64 (n,)."""
    digests = (hashlib.blake2b(image.tobytes(), digest_size=8).digest() for some in part.chunks() for image in some)
    return np.frombuffer(b"".join(digests), np.uint64)


def _listed(examples: Sequence[str], count: int) -> str:
    return "; ".join(examples) + f"; and {count - len(examples):,} more" * (count > len(examples))


def _on_mirrors(train: "Split", classes: Sequence[str]) -> str:
    """Which two classes' images are taken for one another when they are mirrored; empty if none are.

    An image is of the class whose mean is nearest. The means are those of one half of the images, and the other half is
    compared with them, because an image is near to a mean that it is a part of. A pair counts where clearly more images
    come to the other class by being mirrored than leave it, as in a sign test over all pairs.
    """
    place = _place_in_class(train.labels)
    part = train.take(np.flatnonzero(place < max(OF_A_CLASS, AT_MOST // len(classes))))
    half = _place_in_class(part.labels) % 2
    small = np.concatenate([_averaged(some) for some in part.chunks()])
    there: dict[tuple[int, int], int] = {}
    back: dict[tuple[int, int], int] = {}
    for own in (0, 1) if half.any() else ():
        means = _Means(small[half == own], part.labels[half == own], len(classes))
        others = small[half != own]
        for label, before, after in zip(
            part.labels[half != own].tolist(),
            means.nearest(others),
            means.nearest(others[:, :, ::-1]),
            strict=True,
        ):
            if before != after:
                for now, counts in ((after, there), (before, back)):
                    pair = min(label, now), max(label, now)
                    counts[pair] = counts.get(pair, 0) + (label != now)
    sizes = np.bincount(part.labels, minlength=len(classes))
    pairs, found = len(classes) * (len(classes) - 1) // 2, []
    for pair, more in there.items():
        less = back.get(pair, 0)
        share = (more - less) / sizes[list(pair)].sum()
        if share >= SHARE and pairs * _sign_test(more, less) < ERROR:
            found.append((share, pair))
    if not found:
        return ""
    share, (one, other) = max(found)
    more = len(found) - 1
    many = f", and so it is with {more:,} more pair{'s' if more > 1 else ''} of classes" if more else ""
    return (
        f"Mirrored, images of {shown(classes[one])} look like {shown(classes[other])}, or the other way round "
        f"({100 * share:.0f} % of both classes){many}."
    )


def _place_in_class(labels: np.ndarray) -> np.ndarray:
    """The place int64 (n,) of each image among those of its class."""
    order = np.argsort(labels, kind="stable")
    place = np.empty(len(labels), np.int64)
    place[order] = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    return place


def _averaged(images: np.ndarray) -> np.ndarray:
    """Images as sums over areas, float32 (n, SIDE, SIDE, 3), with the brightness and the contrast of each taken out."""
    height, width = ((np.arange(SIDE) * size) // SIDE for size in images.shape[1:3])
    sums = np.add.reduceat(np.add.reduceat(images, height, axis=1, dtype=np.float32), width, axis=2)
    sums -= sums.mean(axis=(1, 2, 3), keepdims=True)
    return sums / np.maximum(sums.std(axis=(1, 2, 3), keepdims=True), 1)


class _Means:
    """The mean image of each class; one without an image is never the nearest."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, classes: int) -> None:
        counts = np.bincount(labels, minlength=classes)
        self.means = np.zeros((classes, images[0].size), np.float32)
        np.add.at(self.means, labels, images.reshape(len(images), -1))
        self.means /= np.maximum(counts, 1)[:, None]
        self.offset = np.where(counts > 0, np.square(self.means).sum(axis=1) / 2, np.inf)

    def nearest(self, images: np.ndarray) -> list[int]:
        found: list[Any] = []
        for start in range(0, len(images), 1000):
            some = images[start : start + 1000]
            found += (some.reshape(len(some), -1) @ self.means.T - self.offset).argmax(axis=1).tolist()
        return found


def _sign_test(more: int, less: int) -> float:
    """The chance of so many heads or more when a coin is tossed more + less times."""
    from scipy.special import bdtrc

    return float(bdtrc(more - 1, more + less, 0.5))
