"""Who runs next, and where: how long a decision takes and how many there are a second, however many tasks wait.

The work, the same for all: tasks of 10,000 agents, priorities at random, five kinds of need, over 100 nodes. What
waits stays as many as the row says: for each task that ends, one comes. Where one decision is timed, the nodes are
full; where batches are, there is room for one. Everything is called from Python, the clock read with each call.

Peers: `heapq` and `asyncio.PriorityQueue` keep the order and nothing else: no nodes, no agents, no ageing, no tenants.
`heapq+first-fit` adds the same first fit over the same nodes, written in Python as plainly as it goes; it still knows
no agents and lets nobody pass a blocked head. Each is created once and left as it is between runs.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import platform
import random
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

import symbi
from symbi.bench.frame import BenchContext, Peer, Point, Row, Sample, percentile

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from symbi.scheduler import Strategy

NAME, SUMMARY = "schedule", "decisions of the scheduler, with placement"

_WAITING = (1_000, 10_000, 100_000, 1_000_000)
_USUAL = 100_000
_AGENTS = 10_000
_NODES = 100
_CORES, _MEMORY_MB = 16, 524_288  # of a node: about 1,000 tasks at once on all; processors are what is short
_NEEDS = ((0.5, 256), (1.0, 512), (1.0, 2_048), (2.0, 1_024), (4.0, 4_096))  # cores, MiB
_DECISIONS = 20_000  # a run, timed one by one
_PEER_DECISIONS = 20_000
_BATCH = 4_096
_BATCHES = 64  # a run
_ROOMY = 128  # cores of a node where whole batches start at once
_SEED = 20_240_229

_T = TypeVar("_T")

_LATENCY = "Time of one decision with placement, p99"
_RATE = "Decisions a second: submitted, placed, completed"
_X_LABEL = "waiting tasks"


def rows(context: BenchContext) -> list[Row]:  # noqa: ARG001
    """The rows of this suite."""
    latency = [
        Row(
            NAME,
            f"one decision with placement, {waiting:,} waiting, p99",
            "µs",
            "lower",
            measure=partial(_decision, waiting=waiting),
            target=10.0 if waiting == _USUAL else None,
            peers=_peers(partial(_peer_decision, waiting=waiting)),
            point=Point(_LATENCY, waiting, _X_LABEL),
        )
        for waiting in _WAITING
    ]
    strategies = [
        Row(
            NAME,
            f"one decision with placement, `{strategy}`, {_USUAL:,} waiting, p99",
            "µs",
            "lower",
            measure=partial(_decision, waiting=_USUAL, strategy=strategy),
            target=10.0,
        )
        for strategy in _OTHER_STRATEGIES
    ]
    batches = [
        Row(
            NAME,
            f"decisions in columns, {waiting:,} waiting",
            "/s",
            "higher",
            measure=partial(_columns, waiting=waiting),
            target=1_000_000.0 if waiting == _USUAL else None,
            peers=_peers(partial(_peer_rate, waiting=waiting)),
            point=Point(_RATE, waiting, _X_LABEL),
        )
        for waiting in _WAITING
    ]
    objects = Row(
        NAME,
        f"decisions as objects, {_USUAL:,} waiting",
        "/s",
        "higher",
        measure=_objects,
        target=300_000.0,
        peers=_peers(partial(_peer_rate, waiting=_USUAL)),
    )
    single = Row(
        NAME,
        f"submit, next and complete, one call each, {_USUAL:,} waiting",
        "/s",
        "higher",
        measure=_single,
        peers=_peers(partial(_peer_rate, waiting=_USUAL)),
    )
    scaling = Row(
        NAME,
        f"decisions in columns: time of one, worst over best from {_WAITING[0]:,} to {_WAITING[-1]:,} waiting",
        "times",
        "lower",
        measure=_scaling,
        target=3.0,
    )
    return [*latency, *strategies, *batches, objects, single, scaling]


_OTHER_STRATEGIES: tuple[Strategy, ...] = ("best_fit", "priority")


# --- ours ---


class _Load:
    """A scheduler with so many waiting tasks, and the tasks that come. `full`: so many run that nothing else fits."""

    def __init__(self, waiting: int, strategy: Strategy, full: bool) -> None:
        cores = _CORES if full else _ROOMY
        nodes = [symbi.Node(node, cpu_cores=cores, memory_mb=_MEMORY_MB) for node in range(_NODES)]
        self.random = np.random.default_rng(_SEED)
        self.next_id = 0
        self.running: deque[int] = deque()
        # Nobody here can stop a task: so none is told to stand still.
        self.scheduler = symbi.Scheduler(nodes, strategy, preemption=False, tasks_max=1 << 21)
        while (lacking := waiting - (len(self.scheduler) - len(self.running))) > 0:
            self.scheduler.submit_many(self.batch(lacking))
            if full:
                self.running.extend(self.scheduler.next_many(columns=True).id.tolist())

    def batch(self, count: int) -> symbi.TaskBatch:
        """So many new tasks."""
        ids, priority, cpu, memory = self.fields(count)
        return symbi.TaskBatch(ids, agent=ids % _AGENTS + 1, priority=priority, cpu=cpu, memory=memory)

    def tasks(self, count: int) -> list[symbi.Task]:
        """The same, as objects."""
        return [
            symbi.Task(
                task, agent=task % _AGENTS + 1, priority=priority, cpu_cores=cores, memory_mb=memory_mb
            )
            for task, priority, cores, memory_mb in zip(
                *(column.tolist() for column in self.fields(count)), strict=True
            )
        ]

    def fields(self, count: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Ids, priorities, cores, MiB."""
        ids = np.arange(self.next_id, self.next_id + count)
        self.next_id += count
        kinds = self.random.integers(0, len(_NEEDS), count)
        cores, memory_mb = (np.array(column)[kinds] for column in zip(*_NEEDS, strict=True))
        return ids, self.random.integers(0, 256, count), cores, memory_mb


def _load(
    context: BenchContext, waiting: int, strategy: Strategy = "first_fit", *, full: bool = False
) -> _Load:
    return context.once(
        f"schedule/{waiting}/{strategy}/{full}", lambda: _settled(_Load(waiting, strategy, full))
    )


def _settled(made: _T) -> _T:
    """The same, out of the garbage collector's way: millions of one peer's tuples must not slow down another."""
    gc.collect()
    gc.freeze()
    return made


def _decision(context: BenchContext, waiting: int, strategy: Strategy = "first_fit") -> Sample:
    """One ends, one comes; then `next` until there is no more. Timed: each `next` that places a task."""
    load = _load(context, waiting, strategy, full=True)
    scheduler, running, clock = load.scheduler, load.running, time.perf_counter_ns
    times: list[int] = []
    for task in load.tasks(context.scale(_DECISIONS)):
        scheduler.submit(task)
        scheduler.complete(running.popleft())
        while True:
            begin = clock()
            placed = scheduler.next()
            took = clock() - begin
            if placed is None:
                break
            times.append(took)
            running.append(placed.id)
    return _p99(times)


def _columns(context: BenchContext, waiting: int) -> Sample:
    """Made, submitted, placed and completed, a batch at a time."""
    load = _load(context, waiting)
    scheduler, batches = load.scheduler, context.scale(_BATCHES, floor=8)
    size = min(_BATCH, waiting)
    begin, done = time.perf_counter(), 0
    for _ in range(batches):
        scheduler.submit_many(load.batch(size))
        placed = scheduler.next_many(size, columns=True)
        scheduler.complete_many(placed.id)
        done += len(placed)
    return Sample(done / (time.perf_counter() - begin))


def _objects(context: BenchContext) -> Sample:
    """The same with objects, whose making is counted."""
    load = _load(context, _USUAL)
    scheduler, batches = load.scheduler, context.scale(_BATCHES, floor=8)
    took, done = 0.0, 0
    for _ in range(batches):
        begin = time.perf_counter()
        scheduler.submit_many(load.tasks(_BATCH))
        placed = scheduler.next_many(_BATCH, columns=False)
        scheduler.complete_many([one.id for one in placed])
        took += time.perf_counter() - begin
        done += len(placed)
    return Sample(done / took)


def _single(context: BenchContext) -> Sample:
    load = _load(context, _USUAL)
    scheduler = load.scheduler
    tasks = load.tasks(context.scale(_DECISIONS))
    begin, done = time.perf_counter(), 0
    for task in tasks:
        scheduler.submit(task)
        placed = scheduler.next()
        if placed is not None:
            scheduler.complete(placed.id)
            done += 1
    return Sample(done / (time.perf_counter() - begin))


def _scaling(context: BenchContext) -> Sample:
    rates = [_columns(context, waiting).value for waiting in _WAITING]
    return Sample(max(rates) / min(rates))


def _p99(times: list[int]) -> Sample:
    times.sort()
    p50, p99 = percentile(times, 0.50) / 1e3, percentile(times, 0.99) / 1e3
    return Sample(p99, p50, p99)


# --- peers ---


class _Heap:
    """`heapq`: order, nothing else."""

    def __init__(self, waiting: int) -> None:
        self.random = random.Random(_SEED)  # noqa: S311 - a load, no secret
        self.count = 0
        self.heap: list[tuple[int, int, float, int]] = []
        for _ in range(waiting):
            self.submit()

    def task(self) -> tuple[int, int, float, int]:
        """Priority, number, cores, MiB."""
        self.count += 1
        cores, memory_mb = _NEEDS[self.random.randrange(len(_NEEDS))]
        return -self.random.randrange(256), self.count, cores, memory_mb

    def submit(self) -> None:
        heapq.heappush(self.heap, self.task())

    def next(self) -> object:
        return heapq.heappop(self.heap)

    def complete(self) -> None:
        """Nothing is held."""


class _HeapFirstFit(_Heap):
    """`heapq`, and the first node that has room."""

    def __init__(self, waiting: int) -> None:
        self.cores = [float(_CORES)] * _NODES
        self.memory = [_MEMORY_MB] * _NODES
        self.running: deque[tuple[int, float, int]] = deque()
        super().__init__(waiting)
        while self.next() is not None:
            self.submit()

    def next(self) -> object:
        _, _, cores, memory_mb = self.heap[0]
        for node, free in enumerate(self.cores):
            if free >= cores and self.memory[node] >= memory_mb:
                self.cores[node] -= cores
                self.memory[node] -= memory_mb
                self.running.append((node, cores, memory_mb))
                return heapq.heappop(self.heap), node
        return None

    def complete(self) -> None:
        node, cores, memory_mb = self.running.popleft()
        self.cores[node] += cores
        self.memory[node] += memory_mb


class _Queue(_Heap):
    """`asyncio.PriorityQueue`: order, and somebody who could wait for it."""

    def __init__(self, waiting: int) -> None:
        self.queue: asyncio.PriorityQueue[tuple[int, int, float, int]] = asyncio.PriorityQueue()
        super().__init__(waiting)

    def submit(self) -> None:
        self.queue.put_nowait(self.task())

    def next(self) -> object:
        return self.queue.get_nowait()


_KINDS = {"heapq": _Heap, "heapq+first-fit": _HeapFirstFit, "asyncio.PriorityQueue": _Queue}


def _peers(measure: Callable[..., Sample]) -> list[Peer]:
    version = f"Python {platform.python_version()}"
    return [Peer(name, partial(measure, name=name), version) for name in _KINDS]


def _peer(context: BenchContext, name: str, waiting: int) -> _Heap:
    return context.once(f"schedule/{name}/{waiting}", lambda: _settled(_KINDS[name](waiting)))


def _peer_decision(context: BenchContext, name: str, waiting: int) -> Sample:
    peer, clock = _peer(context, name, waiting), time.perf_counter_ns
    full = isinstance(peer, _HeapFirstFit)
    times: list[int] = []
    for _ in range(context.scale(_PEER_DECISIONS)):
        peer.submit()
        peer.complete()
        while True:
            begin = clock()
            placed = peer.next()
            took = clock() - begin
            if placed is None:
                break
            times.append(took)
            if not full:  # nothing stops it: one for one
                break
    return _p99(times)


def _peer_rate(context: BenchContext, name: str, waiting: int) -> Sample:
    peer, count = _peer(context, name, waiting), context.scale(_PEER_DECISIONS)
    begin, done = time.perf_counter(), 0
    for _ in range(count):
        peer.submit()
        peer.complete()
        if peer.next() is not None:
            done += 1
    return Sample(done / (time.perf_counter() - begin))
