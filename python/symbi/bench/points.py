"""Points near clusters on a surface of few dimensions, their true neighbours, and what share of them was found.

Why: embeddings lie near a surface of few dimensions, in clusters; uniform noise makes every index look alike.
Not here: embeddings of real text (`texts`), what is measured on them (`suites.vectors`, `million`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NEAREST", "clustered", "nearest", "recall"]

NEAREST = 10  # neighbours asked for, everywhere

_SURFACE = 20_240_229
_LATENT, _CLUSTERS = 24, 200
_AT_ONCE = 100  # queries compared with all rows in one product


def clustered(count: int, dimension: int, seed: int, surface: int = 0) -> NDArray[np.float32]:
    """`count` normalised rows: 24 latent dimensions in 200 clusters, and noise. One `surface`, one distribution."""
    drawn = np.random.default_rng(_SURFACE + surface)
    spread = drawn.standard_normal((_LATENT, dimension)).astype(np.float32) / np.sqrt(_LATENT)
    centres = drawn.standard_normal((_CLUSTERS, _LATENT)).astype(np.float32)
    draw = np.random.default_rng(seed)
    latent = centres[draw.integers(_CLUSTERS, size=count)]
    latent = latent + 0.5 * draw.standard_normal((count, _LATENT), np.float32)
    points = latent @ spread
    points += 0.1 * draw.standard_normal((count, dimension), np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return np.ascontiguousarray(points, np.float32)


def nearest(rows: NDArray[np.float32], queries: NDArray[np.float32]) -> list[set[int]]:
    """The places of the ten rows with the largest inner product, for each query, by looking at all."""
    found: list[set[int]] = []
    for begin in range(0, len(queries), _AT_ONCE):
        near = queries[begin : begin + _AT_ONCE] @ rows.T
        found += [set(row.tolist()) for row in np.argpartition(-near, NEAREST, axis=1)[:, :NEAREST]]
    return found


def recall(found: Any, truth: list[set[int]]) -> float:
    """The share of the true ten that stands in rows of `found`, ids of shape (n, 10)."""
    right = sum(len(true & set(ids)) for ids, true in zip(np.asarray(found).tolist(), truth, strict=True))
    return right / (NEAREST * len(truth))
