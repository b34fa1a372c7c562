"""Nearest neighbours beside other libraries: speed only ever beside recall.

The work: the ten nearest under cosine, one query a call on one thread unless a row says otherwise. Clustered data of
low intrinsic dimension (24 latent dimensions in 200 clusters, and noise), as embeddings are: uniform noise would make
all alike; and sentences of the standard library through MiniLM. For each library the smallest of a list of `ef` that
reaches the recall is taken; one that does not reach it shows 0. `m` is 16 and `ef_construct` 200 for all.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from symbi.bench import million, neighbours
from symbi.bench.frame import BenchContext, NotMeasured, Peer, Point, Row, Sample, percentile
from symbi.bench.points import clustered, nearest, recall
from symbi.bench.searched import RECALLS, Searched, asked_of, data_of, ef_for, index_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from symbi.vectors import VectorIndex

NAME, SUMMARY = "vectors", "nearest neighbours: queries a second at a recall, memory, builds, changes"

_LEAST = 2_000  # vectors of a set, however quick
_BUILT = 10_000  # vectors of the rows that build: a whole build each run
_MILLION = 1_000_000
_BUILDERS = ("faiss-cpu", "hnswlib")
_SEEDS = (2, 3)
_ALONE = "no other library was run beside: pip install faiss-cpu hnswlib usearch"


def _sets(context: BenchContext) -> list[Searched]:
    def sized(dimension: int, count: int, *, real: bool = False) -> Searched:
        return Searched(dimension, context.scale(count, floor=_LEAST), real)

    return [
        sized(1536, 50_000),
        sized(1536, 20_000, real=True),
        sized(384, 20_000),
        sized(384, 20_000, real=True),
    ]


def rows(context: BenchContext) -> list[Row]:
    """The rows of this suite."""
    sets = _sets(context)
    found = [row for data in sets for row in _of_set(context, data)]
    for dimension in (1536, 384):
        count = context.scale(20_000, floor=_LEAST)
        seeded = [Searched(dimension, count, surface=seed) for seed in _SEEDS]
        found += [
            _row(
                f"clustered {count:,} x {dimension}, least of two more seeds: queries over the better of faiss' and"
                f" hnswlib's, recall ≥ {share}",
                "times",
                partial(_least, sets=seeded, share=share),
                seeded[0].times,
            )
            for share in (0.95, 0.99)
        ]
    large = sets[0]
    found += [
        _row(f"{large.name}: from the mapped file, warm, recall ≥ 0.95", "1/s", partial(_mapped, data=large)),
        _row(
            f"{large.name}: from the mapped file, warm, over the best peer's in memory, recall ≥ 0.95",
            "times",
            partial(_mapped_times, data=large),
            large.times,
        ),
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
    ]
    return found + [
        _row(
            f"{context.scale(_MILLION):,} x 1536: {what}",
            unit,
            partial(_million, figure=figure),
            target,
            better,
        )
        for what, unit, figure, target, better in (
            ("search p99", "ms", "p99_ms", 5.0, "lower"),
            ("recall@10", "share", "recall", 0.95, "higher"),
            ("most memory of the process", "GiB", "memory_gib", 8.0, "lower"),
            ("open", "ms", "open_ms", 100.0, "lower"),
            ("build, all processors", "s", "build_s", None, "lower"),
        )
    ]


def _of_set(context: BenchContext, data: Searched) -> list[Row]:
    curve = f"Queries a second against recall: {data.name}"
    made = []
    for share in RECALLS:
        made.append(
            Row(
                NAME,
                f"{data.name}: queries at recall ≥ {share}",
                "1/s",
                "higher",
                measure=partial(_speed, data=data, share=share, name="symbi"),
                peers=_peers(partial(_speed, data=data, share=share)),
                point=Point(curve, round(1 - share, 2), "recall@10", complement=True),
            )
        )
        if share in {0.95, 0.99}:
            name = f"{data.name}: queries over the best peer's, recall ≥ {share}"
            made.append(_row(name, "times", partial(_times, data=data, share=share), data.times))
    made += [
        _row(
            f"{data.name}: `{code}`, queries at recall ≥ 0.95",
            "1/s",
            partial(_speed, data=data, share=0.95, name=f"symbi {code}"),
        )
        for code in ("none", "int8", "int4", "binary")
    ]
    for share in (0.95, 0.99):
        batch = partial(_speed, data=data, share=share, threads=2)
        name = f"{data.name}: batches on two threads, recall ≥ {share}"
        made.append(
            Row(NAME, name, "1/s", "higher", measure=partial(batch, name="symbi"), peers=_peers(batch))
        )
        made.append(
            _row(
                f"{data.name}: batches on two threads, over the best peer's, recall ≥ {share}",
                "times",
                partial(_times, data=data, share=share, threads=2),
                data.times,
            )
        )
    if not data.real:
        build = f"build {context.scale(_BUILT):,} x {data.dimension} on one thread"
        built = partial(_build, data=data)
        peers = [peer for peer in _peers(built) if peer.name in _BUILDERS]
        made.append(
            Row(
                NAME,
                build,
                "s",
                "lower",
                measure=partial(built, name="symbi"),
                peers=peers,
                bars="Time to build",
            )
        )
        made.append(
            _row(f"{build}, times hnswlib's speed", "times", partial(_build_times, data=data), data.builds)
        )
        held = partial(_held, data=data)
        made.append(
            Row(
                NAME,
                f"{data.name}: bytes a vector that searches hold in memory",
                "bytes",
                "lower",
                measure=partial(held, name="symbi"),
                peers=_peers(held),
                bars="Memory a vector",
            )
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


# --- speed ---


def _speed(context: BenchContext, data: Searched, share: float, name: str, threads: int = 0) -> Sample:
    """Queries a second at the recall `share`; one a call, or with `threads` in one batch."""
    ef = ef_for(context, data, name, share)
    rate = 0.0
    if ef is not None:
        index, queries = index_of(context, data, name), asked_of(context, data, name).queries
        index.ef(ef)
        begin = time.perf_counter()
        if threads:
            index.many(queries, threads)
        else:
            for query in queries:
                index.one(query)
        rate = len(queries) / (time.perf_counter() - begin)
    _noted(context, f"{data.name}/{share}/{threads}").setdefault(name, []).append(rate)
    return Sample(rate)


def _noted(context: BenchContext, what: str) -> dict[str, list[float]]:
    """The runs so far, by library: rows of ratios take theirs from the runs of the row before them."""
    return context.once(f"vectors/{what}/noted", dict)


def _ratio(context: BenchContext, what: str, best: Callable[[Sequence[float]], float]) -> tuple[float, float]:
    """Ours and the best peer's, of the next run of `what` that no ratio was taken from yet."""
    noted = _noted(context, what)
    place = context.once(f"vectors/{what}/ratios", lambda: iter(range(1_000_000)))
    run = next(place)
    ours = noted.get("symbi", [])
    theirs = [
        values[run] for name, values in noted.items() if name in neighbours.LIBRARIES and run < len(values)
    ]
    if run >= len(ours) or not theirs:
        raise NotMeasured(_ALONE)
    return ours[run], best(theirs)


def _times(context: BenchContext, data: Searched, share: float, threads: int = 0) -> Sample:
    """Ours over the best peer's, run by run."""
    ours, best = _ratio(context, f"{data.name}/{share}/{threads}", max)
    if best == 0:
        raise NotMeasured("no other library reaches this recall")
    return Sample(ours / best)


def _least(context: BenchContext, sets: Sequence[Searched], share: float) -> Sample:
    """Ours over the better of two peers', on the set where that is least."""
    there = [name for name in _BUILDERS if neighbours.version_of(name)]
    if not there:
        raise NotMeasured("no other library is installed: pip install faiss-cpu hnswlib")
    ratios = []
    for data in sets:
        ours, *theirs = (_speed(context, data, share, name).value for name in ("symbi", *there))
        if max(theirs) > 0:
            ratios.append(ours / max(theirs))
    if not ratios:
        raise NotMeasured("no other library reaches this recall")
    return Sample(min(ratios))


def _build(context: BenchContext, data: Searched, name: str) -> Sample:
    built = data_of(context, data).rows[: context.scale(_BUILT)]
    index = neighbours.make(name, data.dimension)
    begin = time.perf_counter()
    index.add(built, 1)
    seconds = time.perf_counter() - begin
    _noted(context, f"{data.name}/build").setdefault(name, []).append(seconds)
    return Sample(seconds)


def _build_times(context: BenchContext, data: Searched) -> Sample:
    noted = _noted(context, f"{data.name}/build")
    if "hnswlib" not in noted:
        raise NotMeasured("hnswlib was not run beside: pip install hnswlib")
    run = next(context.once(f"vectors/{data.name}/build/ratios", lambda: iter(range(1_000_000))))
    return Sample(noted["hnswlib"][run] / noted["symbi"][run])


def _ours(context: BenchContext, data: Searched) -> VectorIndex:
    index = index_of(context, data, "symbi")
    if not isinstance(index, neighbours.Symbi):
        raise TypeError("the index is not ours")
    return index.index


def _held(context: BenchContext, data: Searched, name: str) -> Sample:
    return Sample(index_of(context, data, name).held() / len(data_of(context, data).rows))


def _memory(context: BenchContext, data: Searched) -> Sample:
    index = _ours(context, data)
    return Sample(100 * index.memory_bytes / (4 * data.dimension * len(index)))


# --- files, filters, changes ---


def _saved(context: BenchContext, data: Searched) -> Path:
    def make() -> Path:
        from symbi.vectors import VectorIndex

        path = context.fresh() / "index"
        copy = VectorIndex(data.dimension)
        kept = data_of(context, data).rows
        copy.add(np.arange(len(kept), dtype=np.uint64), kept)
        copy.save(path)
        return path

    return context.once(f"vectors/{data.name}/saved", make)


def _mapped(context: BenchContext, data: Searched, cold: bool = False) -> Sample:
    from symbi.vectors import VectorIndex

    path, queries = _saved(context, data), data_of(context, data).queries
    ef = ef_for(context, data, "symbi", 0.95) or 64
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


def _mapped_times(context: BenchContext, data: Searched) -> Sample:
    """Ours from a warm file over the best peer's from memory: each peer by the median of its runs."""
    noted = _noted(context, f"{data.name}/0.95/0")
    theirs = [median(rates) for name, rates in noted.items() if name in neighbours.LIBRARIES and rates]
    if not theirs:
        raise NotMeasured(_ALONE)
    return Sample(_mapped(context, data).value / max(theirs))


def _one_percent(context: BenchContext, data: Searched) -> NDArray[np.uint64]:
    count = len(data_of(context, data).rows)
    return np.random.default_rng(3).choice(count, count // 100, replace=False).astype(np.uint64)


def _filtered(context: BenchContext, data: Searched) -> Sample:
    from symbi.vectors import VectorFilter

    index, queries = _ours(context, data), data_of(context, data).queries
    chosen = VectorFilter(_one_percent(context, data))
    ef = ef_for(context, data, "symbi", 0.95) or 64
    times = []
    for passing in (chosen, None):
        begin = time.perf_counter()
        for query in queries:
            index.search(query, ef=ef, filter=passing)
        times.append(time.perf_counter() - begin)
    return Sample(times[0] / times[1])


def _filtered_recall(context: BenchContext, data: Searched) -> Sample:
    index, all_data = _ours(context, data), data_of(context, data)
    ids = _one_percent(context, data)
    truth = [{int(ids[place]) for place in row} for row in nearest(all_data.rows[ids], all_data.queries)]
    ef = ef_for(context, data, "symbi", 0.95) or 64
    return Sample(recall(index.search(all_data.queries, ef=ef, filter=ids)[0], truth))


def _upsert(context: BenchContext, data: Searched) -> Sample:
    index, count = _ours(context, data), context.scale(500)
    fresh = clustered(count, data.dimension, 9)
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


def _open(context: BenchContext, data: Searched) -> Sample:
    return _open_ms(_saved(context, data))


def _open_ms(path: Path) -> Sample:
    from symbi.vectors import VectorIndex

    begin = time.perf_counter()
    VectorIndex.open(path, read_only=True)
    return Sample((time.perf_counter() - begin) * 1e3)


# --- a million: by SYMBI_LONG=1 ---


def _million(context: BenchContext, figure: str) -> Sample:
    """A figure of `symbi.bench.million`, which runs once, in a process of its own."""
    if os.environ.get("SYMBI_LONG", "") in {"", "0"}:
        raise NotMeasured("a quarter of an hour: SYMBI_LONG=1 symbi bench vectors")

    def make() -> dict[str, float]:
        directory, count = context.fresh() / "index", context.scale(_MILLION)
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            return pool.submit(million.run, directory, count).result()

    found = context.once("vectors/million", make)
    if figure == "p99_ms":
        return Sample(found["p99_ms"], found["p50_ms"], found["p99_ms"])
    return Sample(found[figure])
