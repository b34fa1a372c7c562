"""Data that nearest neighbours are searched in, an index of each library over them, and its `ef` for a recall.

Why apart: what is searched, and with which setting, is decided once for a run; every row of the suite shares it.
Not here: the rows and what they measure (`suites.vectors`), the libraries (`neighbours`), points (`points`, `texts`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from symbi.bench import neighbours
from symbi.bench.points import clustered, nearest, recall
from symbi.bench.texts import embedded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from symbi.bench.frame import BenchContext

__all__ = ["RECALLS", "Data", "Searched", "asked_of", "data_of", "ef_for", "index_of"]

RECALLS = (0.90, 0.95, 0.98, 0.99)

_EFS = (10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24, 28, 32, 36, 40, 48, 64, 80, 96, 128, 192, 256, 512, 1024)
_QUERIES = 1000
_SLOW_QUERIES = 100  # of a library that takes milliseconds each


@dataclass(frozen=True, slots=True)
class Data:
    """Rows and queries, normalised, and the true ten."""

    rows: NDArray[np.float32]
    queries: NDArray[np.float32]
    truth: list[set[int]]


@dataclass(frozen=True, slots=True)
class Searched:
    """A set of data, and what was promised on it."""

    dimension: int
    count: int
    real: bool = False
    surface: int = 0

    @property
    def name(self) -> str:
        """What it is and how large: a row says what ran."""
        kind = "real text" if self.real else "clustered"
        seed = f", seed {self.surface}" if self.surface else ""
        return f"{kind} {self.count:,} x {self.dimension}{seed}"

    @property
    def times(self) -> float:
        """The best peer's queries a second."""
        return 3.5 if self.dimension > 1000 else 2.5

    @property
    def builds(self) -> float:
        """hnswlib's speed."""
        return 6.0 if self.dimension > 1000 else 3.0

    @property
    def percent(self) -> float:
        """Of the float32 bytes."""
        return 10.0 if self.dimension > 1000 else 26.0


def data_of(context: BenchContext, data: Searched) -> Data:
    def make() -> Data:
        count, asked = data.count, context.scale(_QUERIES, floor=200)
        both = (
            embedded(count + asked, data.dimension)
            if data.real
            else clustered(count + asked, data.dimension, 1, data.surface)
        )
        return Data(both[:count], both[count:], nearest(both[:count], both[count:]))

    return context.once(f"vectors/{data.name}", make)


def index_of(context: BenchContext, data: Searched, name: str) -> neighbours.Library:
    def make() -> neighbours.Library:
        index = neighbours.make(name, data.dimension)
        index.add(data_of(context, data).rows, len(os.sched_getaffinity(0)))
        return index

    return context.once(f"vectors/{data.name}/{name}", make)


def asked_of(context: BenchContext, data: Searched, name: str) -> Data:
    """The queries that a library is asked; fewer of a slow one."""
    there = data_of(context, data)
    if name != "lancedb":
        return there
    return Data(there.rows, there.queries[:_SLOW_QUERIES], there.truth[:_SLOW_QUERIES])


def ef_for(context: BenchContext, data: Searched, name: str, share: float) -> int | None:
    """The smallest `ef` that reaches the recall `share`; None where none does."""

    def sweep() -> dict[int, float]:
        index, asked = index_of(context, data, name), asked_of(context, data, name)
        reached = {}
        for ef in _EFS:
            index.ef(ef)
            reached[ef] = recall(index.many(asked.queries, 1), asked.truth)
            if reached[ef] >= max(RECALLS):
                break
        return reached

    reached = context.once(f"vectors/{data.name}/{name}/sweep", sweep)
    return next((ef for ef, found in reached.items() if found >= share), None)
