"""A million vectors built, saved, opened and searched: `python -m symbi.bench.million DIRECTORY COUNT`.

Why a process: how much memory it took is what the system says of it at its end, and other libraries' indexes are not
among it. Vectors come in pieces and the index is saved now and then, so that they lie in the file and not in memory;
what the file's pages take in memory is counted too, as far as the system keeps them.
Not here: the rows (`suites.vectors`).
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

from symbi.bench.points import NEAREST, clustered, recall

__all__ = ["run"]

_DIMENSION = 1536
_PIECES = 20
_SAVED_EACH = 4  # pieces; what is not saved yet lies in memory: at most 1.3 GB
_QUERIES = 1000  # the first half chooses `ef`, the second is measured: what it reads, nobody has read before
_EFS = (24, 32, 48, 64, 96, 128, 192)
_RECALL = 0.95


def run(directory: Path, count: int) -> dict[str, float]:
    """Builds an index of `count` vectors in `directory`; figures by name, milliseconds, seconds and GiB.

    Cost: at a million about a quarter of an hour on two cores and 13 GB of disk while it is saved.
    """
    from symbi.vectors import VectorIndex

    step = count // _PIECES
    queries = clustered(_QUERIES, _DIMENSION, 2)
    index = VectorIndex(_DIMENSION)
    best = np.full((_QUERIES, NEAREST), -np.inf, np.float32)
    ids = np.zeros((_QUERIES, NEAREST), np.int64)
    built = saved = 0.0
    for piece in range(_PIECES):
        first = piece * step
        part = clustered(step, _DIMENSION, 100 + piece)
        begin = time.perf_counter()
        index.add(np.arange(first, first + step, dtype=np.uint64), part)
        built += time.perf_counter() - begin
        for row, query in enumerate(
            queries
        ):  # one after the other: what is measured is the index's memory, not this
            near = np.concatenate([best[row], part @ query])
            top = np.argpartition(-near, NEAREST)[:NEAREST]
            ids[row] = np.where(top < NEAREST, ids[row][top % NEAREST], first + top - NEAREST)
            best[row] = near[top]
        del part
        if piece % _SAVED_EACH == _SAVED_EACH - 1:
            begin = time.perf_counter()
            index.save(directory)
            saved += time.perf_counter() - begin
        sys.stderr.write(f"{first + step:,} vectors after {built:.0f} s\n")
    memory = index.memory_bytes
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    del index
    begin = time.perf_counter()
    index = VectorIndex.open(directory, read_only=True)
    opened = (time.perf_counter() - begin) * 1e3
    half = _QUERIES // 2
    truth = [set(row) for row in ids.tolist()]
    for ef in _EFS:
        if recall(index.search(queries[:half], NEAREST, ef=ef)[0], truth[:half]) >= _RECALL:
            break
    times = []
    found = []
    for query in queries[half:]:
        begin = time.perf_counter()
        found.append(index.search(query, NEAREST, ef=ef)[0])
        times.append((time.perf_counter() - begin) * 1e3)
    times.sort()
    return {
        "count": count,
        "ef": ef,
        "build_s": built,
        "save_s": saved,
        "open_ms": opened,
        "recall": recall(found, truth[half:]),
        "p50_ms": times[len(times) // 2],
        "p99_ms": times[int(0.99 * len(times))],
        "building_gib": gib,
        "memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "of_float32": memory / (4 * _DIMENSION * count),
    }


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.stdout.write(json.dumps(run(Path(sys.argv[1]), int(sys.argv[2]))) + "\n")
