"""How images are split into parts: by class, and by a hash of their names, so that no version changes it."""

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np


def of_seed(request: Any, seed: int) -> Any:
    """The images of a run: where no split is asked for, the seed's own, so that seeds differ by what is learned too."""
    return request if request.split_seed is not None else replace(request, split_seed=seed)


def rank_by_hash(seed: int, ids: np.ndarray) -> np.ndarray:
    """The positions of `ids`, str (n,), when sorted by the SHA-256 of "seed/id": a shuffle that no version changes."""
    digests = [hashlib.sha256(f"{seed}/{name}".encode()).hexdigest() for name in ids]
    rank = np.empty(len(digests), dtype=np.int64)
    rank[np.argsort(digests)] = np.arange(len(digests))
    return rank


def _rank_in_class(part: Any, seed: int) -> np.ndarray:
    overall = rank_by_hash(seed, part.ids)
    rank = np.empty(len(part), dtype=np.int64)
    for label in np.unique(part.labels):
        members = np.flatnonzero(part.labels == label)
        rank[members[np.argsort(overall[members])]] = np.arange(len(members))
    return rank


def first_of_each_class(part: Any, images: int, classes: int, seed: int) -> np.ndarray:
    return np.flatnonzero(_rank_in_class(part, seed) < images // classes)


def split(pool: Any, share: float, seed: int) -> tuple[Any, Any]:
    """`pool` without `share` of each class, and that share."""
    rank = _rank_in_class(pool, seed)
    per_class = np.bincount(pool.labels)
    held_out = np.round(share * per_class).astype(np.int64)[pool.labels]
    # The part held out is the last of each class, so that training parts of any size nest from the front.
    out = rank >= per_class[pool.labels] - held_out
    return pool.take(np.flatnonzero(~out)), pool.take(np.flatnonzero(out))
