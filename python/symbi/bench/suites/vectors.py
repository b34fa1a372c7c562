"""Nearest neighbours beside other libraries: speed only ever beside recall.

The work: the ten nearest under cosine, one query a call on one thread unless a row says otherwise. Clustered data of
low intrinsic dimension (24 latent dimensions in 200 clusters, and noise), as embeddings are: uniform noise would make
all alike; and sentences of the standard library through MiniLM. For each library the smallest of a list of `ef` that
reaches the recall is taken; one that does not reach it shows 0. `m` is 16 and `ef_construct` 200 for all.
"""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from symbi.bench import neighbours
from symbi.bench.frame import BenchContext, NotMeasured, Peer, Point, Row, Sample, percentile
from symbi.bench.texts import embedded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from symbi.vectors import VectorIndex

NAME, SUMMARY = "vectors", "nearest neighbours: queries a second at a recall, memory, builds, changes"

_EFS = (10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384, 512, 768, 1024)
_RECALLS = (0.90, 0.95, 0.98, 0.99)
_QUERIES = 1000
_BUILT = 10_000  # vectors of the rows that build: a whole build each run
_SEED = 20_240_229
_LATENT, _CLUSTERS = 24, 200
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class _Data:
    """Rows and queries, normalised, and the true ten."""

    rows: NDArray[np.float32]
    queries: NDArray[np.float32]
    truth: list[set[int]]


@dataclass(frozen=True, slots=True)
class _Set:
    """A set of data, and what was promised on it."""

    name: str
    dimension: int
    count: int
    real: bool
    times: float  # the best peer's queries
    builds: float  # hnswlib's speed
    percent: float  # of the float32 bytes


_SETS = (
    _Set("clustered 50,000 x 1536", 1536, 50_000, False, 3.5, 6.0, 10.0),
    _Set("clustered 20,000 x 384", 384, 20_000, False, 2.5, 3.0, 26.0),
    _Set("real text 20,000 x 384", 384, 20_000, True, 2.5, 3.0, 26.0),
)


def rows(context: BenchContext) -> list[Row]:  # noqa: ARG001
    """The rows of this suite."""
    found = [row for data in _SETS for row in _of_set(data)]
    large = _SETS[0]
    found += [
        _row(f"{large.name}: from the mapped file, warm, recall ≥ 0.95", "1/s", partial(_mapped, data=large)),
        _row(f"{large.name}: from the mapped file, cold", "1/s", partial(_mapped, data=large, cold=True)),
        _row(
            f"{large.name}: filter of 1 %, time over unfiltered",
            "times",
            partial(_filtered, data=large),
            2.0,
            "lower",
        ),
        _row(f"{large.name}: filter of 1 %, recall@10", "share", partial(_filtered_recall, data=large), 0.95),
        _row(f"{large.name}: upsert until found, p99", "ms", partial(_upsert, data=large), 1.0, "lower"),
        _row(f"{large.name}: open", "ms", partial(_open, data=large), 100.0, "lower"),
        _row("1,000,000 x 1536: search p99", "ms", _million_search, 5.0, "lower"),
        _row("1,000,000 x 1536: recall@10", "share", _million_recall, 0.95),
        _row("1,000,000 x 1536: most memory of the process", "GiB", _million_memory, 8.0, "lower"),
        _row("1,000,000 x 1536: open", "ms", _million_open, 100.0, "lower"),
    ]
    return found


def _of_set(data: _Set) -> list[Row]:
    curve = f"Queries a second against recall: {data.name}"
    made = []
    for recall in _RECALLS:
        made.append(
            Row(
                NAME,
                f"{data.name}: queries at recall ≥ {recall}",
                "1/s",
                "higher",
                measure=partial(_speed, data=data, recall=recall, name="symbi"),
                peers=_peers(partial(_speed, data=data, recall=recall)),
                point=Point(curve, round(1 - recall, 2), "share of the true ten that is missed"),
            )
        )
        if recall in {0.95, 0.99}:
            name = f"{data.name}: queries over the best peer's, recall ≥ {recall}"
            made.append(_row(name, "times", partial(_times, data=data, recall=recall), data.times))
    made += [
        _row(
            f"{data.name}: `{code}`, queries at recall ≥ 0.95",
            "1/s",
            partial(_speed, data=data, recall=0.95, name=f"symbi {code}"),
        )
        for code in ("none", "int8", "int4", "binary")
    ]
    batch = partial(_speed, data=data, recall=0.95, threads=2)
    name = f"{data.name}: batches on two threads, recall ≥ 0.95"
    made.append(Row(NAME, name, "1/s", "higher", measure=partial(batch, name="symbi"), peers=_peers(batch)))
    if not data.real:
        builders = [
            peer
            for peer in _peers(partial(_build, data=data))
            if peer.name in {"faiss-cpu", "hnswlib", "usearch"}
        ]
        build = f"build {_BUILT:,} x {data.dimension} on one thread"
        made.append(
            Row(NAME, build, "s", "lower", measure=partial(_build, data=data, name="symbi"), peers=builders)
        )
        made.append(
            _row(f"{build}, times hnswlib's speed", "times", partial(_build_times, data=data), data.builds)
        )
    memory = f"{data.name}: graph and codes, of the float32 bytes"
    made.append(_row(memory, "%", partial(_memory, data=data), data.percent, "lower"))
    return made


def _row(
    name: str,
    unit: str,
    measure: Callable[[BenchContext], Sample],
    target: float | None = None,
    better: Any = "higher",
) -> Row:
    return Row(NAME, name, unit, better, measure=measure, target=target)


def _peers(measure: Callable[..., Sample]) -> list[Peer]:
    return [
        Peer(name, partial(measure, name=name), version=neighbours.version_of(name))
        for name in neighbours.LIBRARIES
    ]


# --- data ---


def _clustered(count: int, dimension: int, seed: int) -> NDArray[np.float32]:
    """Points near clusters on a surface of few dimensions; one seed, one surface."""
    surface = np.random.default_rng(_SEED)
    spread = surface.standard_normal((_LATENT, dimension)).astype(np.float32) / np.sqrt(_LATENT)
    centres = surface.standard_normal((_CLUSTERS, _LATENT)).astype(np.float32)
    draw = np.random.default_rng(seed)
    latent = centres[draw.integers(_CLUSTERS, size=count)]
    latent = latent + 0.5 * draw.standard_normal((count, _LATENT), np.float32)
    points = latent @ spread
    points += 0.1 * draw.standard_normal((count, dimension), np.float32)
    return _unit(points)


def _unit(points: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(points / np.linalg.norm(points, axis=1, keepdims=True), np.float32)


def _truth(base: NDArray[np.float32], queries: NDArray[np.float32]) -> list[set[int]]:
    found: list[set[int]] = []
    for begin in range(0, len(queries), 100):
        near = queries[begin : begin + 100] @ base.T
        found += [set(row.tolist()) for row in np.argpartition(-near, 10, axis=1)[:, :10]]
    return found


def _data(context: BenchContext, data: _Set) -> _Data:
    def make() -> _Data:
        count, asked = context.scale(data.count, floor=2_000), context.scale(_QUERIES, floor=200)
        both = embedded(count + asked) if data.real else _clustered(count + asked, data.dimension, 1)
        return _Data(both[:count], both[count:], _truth(both[:count], both[count:]))

    return context.once(f"vectors/{data.name}", make)


def _index(context: BenchContext, data: _Set, name: str) -> neighbours.Library:
    def make() -> neighbours.Library:
        index = neighbours.make(name, data.dimension)
        index.add(_data(context, data).rows, len(os.sched_getaffinity(0)))
        return index

    return context.once(f"vectors/{data.name}/{name}", make)


def _recall(found: Any, truth: list[set[int]]) -> float:
    right = sum(len(true & set(ids)) for ids, true in zip(np.asarray(found).tolist(), truth, strict=True))
    return right / (10 * len(truth))


def _ef_for(context: BenchContext, data: _Set, name: str, recall: float) -> int | None:
    """The smallest `ef` that reaches `recall`; None where none does."""

    def sweep() -> dict[int, float]:
        index, truth = _index(context, data, name), _data(context, data)
        reached = {}
        for ef in _EFS:
            index.ef(ef)
            reached[ef] = _recall(index.many(truth.queries, 1), truth.truth)
            if reached[ef] >= max(_RECALLS):
                break
        return reached

    reached = context.once(f"vectors/{data.name}/{name}/sweep", sweep)
    return next((ef for ef, share in reached.items() if share >= recall), None)


# --- speed ---


def _speed(context: BenchContext, data: _Set, recall: float, name: str, threads: int = 0) -> Sample:
    """Queries a second at `recall`; one a call, or with `threads` in one batch."""
    ef = _ef_for(context, data, name, recall)
    if ef is None:
        return Sample(0.0)
    index, queries = _index(context, data, name), _data(context, data).queries
    index.ef(ef)
    if name == "lancedb":
        queries = queries[:100]
    begin = time.perf_counter()
    if threads:
        index.many(queries, threads)
    else:
        for query in queries:
            index.one(query)
    return Sample(len(queries) / (time.perf_counter() - begin))


def _times(context: BenchContext, data: _Set, recall: float) -> Sample:
    """Ours over the best peer's, all in this run."""
    there = [name for name in neighbours.LIBRARIES if neighbours.version_of(name)]
    if not there:
        raise NotMeasured("no other library is installed: pip install faiss-cpu hnswlib usearch")
    best = max(_speed(context, data, recall, name).value for name in there)
    ours = _speed(context, data, recall, "symbi").value
    if best == 0:
        raise NotMeasured("no other library reaches this recall")
    return Sample(ours / best)


def _build(context: BenchContext, data: _Set, name: str) -> Sample:
    built = _data(context, data).rows[: context.scale(_BUILT)]
    index = neighbours.make(name, data.dimension)
    begin = time.perf_counter()
    index.add(built, 1)
    return Sample(time.perf_counter() - begin)


def _build_times(context: BenchContext, data: _Set) -> Sample:
    if not neighbours.version_of("hnswlib"):
        raise NotMeasured("hnswlib is not installed: pip install hnswlib")
    return Sample(_build(context, data, "hnswlib").value / _build(context, data, "symbi").value)


def _ours(context: BenchContext, data: _Set) -> VectorIndex:
    index = _index(context, data, "symbi")
    if not isinstance(index, neighbours.Symbi):
        raise TypeError("the index is not ours")
    return index.index


def _memory(context: BenchContext, data: _Set) -> Sample:
    index = _ours(context, data)
    return Sample(100 * index.memory_bytes / (4 * data.dimension * len(index)))


# --- files, filters, changes ---


def _saved(context: BenchContext, data: _Set) -> Path:
    def make() -> Path:
        from symbi.vectors import VectorIndex

        path = context.fresh() / "index"
        copy = VectorIndex(data.dimension)
        kept = _data(context, data).rows
        copy.add(np.arange(len(kept), dtype=np.uint64), kept)
        copy.save(path)
        return path

    return context.once(f"vectors/{data.name}/saved", make)


def _mapped(context: BenchContext, data: _Set, cold: bool = False) -> Sample:
    from symbi.vectors import VectorIndex

    path, queries = _saved(context, data), _data(context, data).queries
    ef = _ef_for(context, data, "symbi", 0.95) or 64
    index = VectorIndex.open(path, read_only=True)
    index.search(queries[:100], ef=ef)
    if cold:
        # Out of our own tables first, then out of the page cache: what follows comes from the disk.
        del index
        with (path / "snapshot").open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        index = VectorIndex.open(path, read_only=True)
        queries = queries[:50]
    begin = time.perf_counter()
    for query in queries:
        index.search(query, ef=ef)
    return Sample(len(queries) / (time.perf_counter() - begin))


def _one_percent(context: BenchContext, data: _Set) -> NDArray[np.uint64]:
    count = len(_data(context, data).rows)
    return np.random.default_rng(3).choice(count, count // 100, replace=False).astype(np.uint64)


def _filtered(context: BenchContext, data: _Set) -> Sample:
    from symbi.vectors import VectorFilter

    index, queries = _ours(context, data), _data(context, data).queries
    chosen = VectorFilter(_one_percent(context, data))
    ef = _ef_for(context, data, "symbi", 0.95) or 64
    times = []
    for passing in (chosen, None):
        begin = time.perf_counter()
        for query in queries:
            index.search(query, ef=ef, filter=passing)
        times.append(time.perf_counter() - begin)
    return Sample(times[0] / times[1])


def _filtered_recall(context: BenchContext, data: _Set) -> Sample:
    index, all_data = _ours(context, data), _data(context, data)
    ids = _one_percent(context, data)
    truth = [{int(ids[place]) for place in row} for row in _truth(all_data.rows[ids], all_data.queries)]
    ef = _ef_for(context, data, "symbi", 0.95) or 64
    return Sample(_recall(index.search(all_data.queries, ef=ef, filter=ids)[0], truth))


def _upsert(context: BenchContext, data: _Set) -> Sample:
    index, count = _ours(context, data), context.scale(500)
    fresh = _clustered(count, data.dimension, 9)
    times = []
    for place, vector in enumerate(fresh):
        begin = time.perf_counter()
        index.upsert([10_000_000 + place], vector[None])
        found = index.search(vector, 1)[0]
        times.append((time.perf_counter() - begin) * 1e3)
        if found.tolist() != [10_000_000 + place]:
            raise AssertionError("an upsert was not found at once")
    index.remove(np.arange(10_000_000, 10_000_000 + count))
    times.sort()
    return Sample(percentile(times, 0.99), percentile(times, 0.5), percentile(times, 0.99))


def _open(context: BenchContext, data: _Set) -> Sample:
    return _open_ms(_saved(context, data))


def _open_ms(path: Path) -> Sample:
    from symbi.vectors import VectorIndex

    begin = time.perf_counter()
    VectorIndex.open(path, read_only=True)
    return Sample((time.perf_counter() - begin) * 1e3)


# --- a million: half an hour, by SYMBI_LONG=1 ---


@dataclass(frozen=True, slots=True)
class _Million:
    path: Path
    index: VectorIndex
    queries: NDArray[np.float32]
    truth: list[set[int]]
    gib: float


def _million(context: BenchContext) -> _Million:
    """Built from pieces, saved now and then so that vectors go to the file; exact neighbours piece by piece."""
    if os.environ.get("SYMBI_LONG", "") in {"", "0"}:
        raise NotMeasured("half an hour: SYMBI_LONG=1 symbi bench vectors")

    def make() -> _Million:
        from symbi.vectors import VectorIndex

        count, step = context.scale(_MILLION), context.scale(50_000)
        path, queries = context.fresh() / "index", _clustered(200, 1536, 2)
        index = VectorIndex(1536)
        best = np.full((len(queries), 10), -np.inf, np.float32)
        ids = np.zeros((len(queries), 10), np.int64)
        for piece, first in enumerate(range(0, count, step)):
            part = _clustered(step, 1536, 100 + piece)
            index.add(np.arange(first, first + step, dtype=np.uint64), part)
            near = np.concatenate([best, queries @ part.T], axis=1)
            names = np.concatenate([ids, np.tile(np.arange(first, first + step), (len(queries), 1))], axis=1)
            top = np.argpartition(-near, 10, axis=1)[:, :10]
            best, ids = np.take_along_axis(near, top, 1), np.take_along_axis(names, top, 1)
            if piece % 4 == 3:
                index.save(path)
        index.save(path)
        gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return _Million(path, index, queries, [set(row) for row in ids.tolist()], gib)

    return context.once("vectors/million", make)


def _million_search(context: BenchContext) -> Sample:
    million = _million(context)
    times = []
    for query in million.queries:
        begin = time.perf_counter()
        million.index.search(query, ef=128)
        times.append((time.perf_counter() - begin) * 1e3)
    times.sort()
    return Sample(percentile(times, 0.99), percentile(times, 0.5), percentile(times, 0.99))


def _million_recall(context: BenchContext) -> Sample:
    million = _million(context)
    return Sample(_recall(million.index.search(million.queries, ef=128)[0], million.truth))


def _million_memory(context: BenchContext) -> Sample:
    return Sample(_million(context).gib)


def _million_open(context: BenchContext) -> Sample:
    return _open_ms(_million(context).path)
