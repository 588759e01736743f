"""How images are divided into parts: stratified by class, in the order of a hash of their ids.

A hash gives the same order on every machine and in every version. This file is part of the code hash of all evidence.
"""

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pipelines.sources import Request, Split


def with_split_seed(request: "Request", seed: int) -> "Request":
    """The request of a run with this seed: where none was given, the run's seed also decides the split."""
    return request if request.split_seed is not None else replace(request, split_seed=seed)


def rank_by_hash(seed: int, ids: np.ndarray) -> np.ndarray:
    """The rank int64 (n,) of each of `ids`, str (n,), when they are sorted by the SHA-256 of "seed/id"."""
    digests = [hashlib.sha256(f"{seed}/{name}".encode()).hexdigest() for name in ids]
    rank = np.empty(len(digests), dtype=np.int64)
    rank[np.argsort(digests)] = np.arange(len(digests))
    return rank


def _rank_in_class(part: "Split", seed: int) -> np.ndarray:
    """The rank int64 (n,) of each image among those of its class."""
    overall = rank_by_hash(seed, part.ids)
    rank = np.empty(len(part), dtype=np.int64)
    for label in np.unique(part.labels):
        members = np.flatnonzero(part.labels == label)
        rank[members[np.argsort(overall[members])]] = np.arange(len(members))
    return rank


def first_of_each_class(part: "Split", images: int, classes: int, seed: int) -> np.ndarray:
    """The positions of `images` of them, as many of each class. A smaller number gives a subset of a larger one."""
    return np.flatnonzero(_rank_in_class(part, seed) < images // classes)


def split(pool: "Split", share: float, seed: int) -> "tuple[Split, Split]":
    """Take `share` (0 to 1) of each class out of `pool`; return the rest, and what was taken out."""
    rank = _rank_in_class(pool, seed)
    per_class = np.bincount(pool.labels)
    held_out = np.round(share * per_class).astype(np.int64)[pool.labels]
    # The last of each class are held out, so that smaller training parts are contained in larger ones.
    out = rank >= per_class[pool.labels] - held_out
    return pool.take(np.flatnonzero(~out)), pool.take(np.flatnonzero(out))
