"""The scheduler over random histories, held against plain Python that keeps the same books.

Two models. One predicts every decision, where the rules alone determine it: one tier, tasks of one size. The other lets
everything happen (tiers, sizes, tenants, standstills, holds, lost and drained nodes, moves) and checks after each step
that the books agree: what each node has free, where each task is, that no decision is made about a task that it cannot
be made about, and at the end that every task that was taken can be completed, exactly once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np
import pytest
import symbi
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

LONG = os.environ.get("SYMBI_LONG") == "1"
SIZES = ("cpu_cores", "memory_mb", "disk_io_mbps", "network_io_mbps", "accelerators", "sandboxes")
KEPT_STANDING = (
    "memory_mb",
    "accelerators",
    "sandboxes",
)  # by a task that stands still; the rest is given back

MS = 1_000_000


# --- one tier, one size: every decision is predicted ---


@dataclass
class Plain:
    """The rule as one would write it down: the most urgent, then the oldest, of agents not at work; the first node."""

    room: list[int]
    waiting: list[tuple[int, int, int | None]] = field(default_factory=list)  # (-priority, id, agent)
    running: dict[int, tuple[int, int | None]] = field(default_factory=dict)  # id: (node, agent)

    def next(self) -> tuple[int, int] | None:
        busy = {agent for _, agent in self.running.values() if agent is not None}
        node = next((node for node, room in enumerate(self.room) if room), None)
        ready = [task for task in sorted(self.waiting) if task[2] not in busy]
        if node is None or not ready:
            return None
        self.waiting.remove(ready[0])
        _, task, agent = ready[0]
        self.room[node] -= 1
        self.running[task] = (node, agent)
        return task, node

    def complete(self, task: int) -> bool:
        if task not in self.running:
            return False
        node, _ = self.running.pop(task)
        self.room[node] += 1
        return True


steps = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(0, 255), st.sampled_from((None, 1, 2, 3))),
        st.tuples(st.just("next"), st.integers(1, 4), st.booleans()),
        st.tuples(st.just("complete"), st.integers(0, 20), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=2_000 if LONG else 250, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), steps)
def test_each_decision_is_the_one_that_the_rule_names(nodes: list[int], history: list[tuple]) -> None:
    plain, one = Plain(list(nodes)), symbi.Scheduler(nodes, preemption=False, clock=lambda: 0)
    submitted = 0
    for act, number, more in history:
        if act == "submit":
            plain.waiting.append((-number, submitted, more))
            if submitted % 2:
                one.submit(symbi.Task(submitted, priority=number, agent=more))
            else:
                one.submit_many(symbi.TaskBatch([submitted], priority=number, agent=more or 0))
            submitted += 1
        elif act == "next":
            wanted = [decision for _ in range(number) if (decision := plain.next()) is not None]
            got = one.next_many(number, columns=True) if more else one.next_many(number, columns=False)
            pairs = [(task, node) for _, task, node in got] if more else [(p.id, p.node) for p in got]
            assert pairs == wanted
        elif plain.complete(number):
            one.complete(number)
        else:
            with pytest.raises(symbi.TaskRefusedError):
                one.complete(number)
        assert len(one) == len(plain.waiting) + len(plain.running)
    for task in sorted(plain.waiting):
        told = one.why(task[1])
        assert told is not None
        assert told.state == "waiting"


# --- everything: the books agree ---


@dataclass
class Book:
    """What is known of one task."""

    task: symbi.Task
    state: str = "waiting"  # running, suspending, suspended, held
    node: int | None = None

    def holds(self, name: str) -> float:
        if self.state == "waiting" or (self.state in {"suspended", "held"} and name not in KEPT_STANDING):
            return 0
        return getattr(self.task, name)


amounts = st.integers(0, 4)


class Books(RuleBasedStateMachine):
    """A host that starts, stops and ends what it is told, and writes it all down."""

    @initialize(
        strategy=st.sampled_from(("first_fit", "best_fit", "priority")),
        nodes=st.lists(st.tuples(amounts, amounts), min_size=1, max_size=3),
        quantum_ms=st.sampled_from((0, 5)),
        preemption=st.booleans(),
    )
    def begin(self, strategy: str, nodes: list[tuple[int, int]], quantum_ms: int, preemption: bool) -> None:
        self.now = 0
        self.strategy = strategy
        self.books: dict[int, Book] = {}
        self.nodes = {n: self.node(n, cores, memory) for n, (cores, memory) in enumerate(nodes)}
        self.drained: set[int] = set()
        self.count, self.done = 0, set[int]()
        self.one = symbi.Scheduler(
            self.nodes.values(),
            strategy,  # type: ignore[arg-type]
            tenants={1: symbi.Tenant(weight=5), 2: symbi.Tenant(cpu_cores=3, memory_mb=4)},
            quantum_ms=quantum_ms,
            preemption=preemption,
            batch_turn=3,
            clock=lambda: self.now,
        )

    def node(self, number: int, cores: int, memory_mb: int) -> symbi.Node:
        return symbi.Node(
            number,
            cpu_cores=cores + 1,
            memory_mb=memory_mb + 1,
            disk_io_mbps=9,
            network_io_mbps=9,
            accelerators=2,
            sandboxes=5,
        )

    def most(self, node: symbi.Node, name: str, task: symbi.Task) -> float:
        """What the node could ever give the task: a tenth stays free for critical ones where that is the strategy."""
        critical = task.tier == "realtime" or task.priority >= 224
        size = getattr(node, name)
        if critical or self.strategy != "priority":
            return size
        unit = 1_000 if name == "cpu_cores" else 1
        return size - int(size * unit) // 10 / unit

    def pick(self, number: int, *states: str) -> int | None:
        found = [task for task, book in self.books.items() if book.state in states]
        return found[number % len(found)] if found else None

    @rule(
        tier=st.sampled_from(("interactive", "interactive", "batch", "realtime")),
        priority=st.sampled_from((0, 100, 128, 230, 255)),
        agent=st.sampled_from((None, None, 1, 2)),
        tenant=st.integers(0, 2),
        sizes=st.tuples(amounts, amounts, amounts, amounts, st.integers(0, 1), amounts),
        duration_ms=st.sampled_from((None, 1, 50)),
        preemptible=st.booleans(),
    )
    def submit(
        self,
        *,
        tier: str,
        priority: int,
        agent: int | None,
        tenant: int,
        sizes: tuple,
        duration_ms: int | None,
        preemptible: bool,
    ) -> None:
        fields = dict(zip(SIZES, sizes, strict=True))
        if tier == "realtime":
            fields |= {"deadline_ms": 1_000, "duration_ms": duration_ms or 10}
        else:
            fields["duration_ms"] = duration_ms
        task = symbi.Task(
            self.count,
            tier=tier,
            priority=priority,
            agent=agent,
            tenant=tenant,
            preemptible=preemptible,
            **fields,
        )
        self.count += 1
        refused = None
        try:
            self.one.submit(task)
            self.books[task.id] = Book(task)
        except symbi.TaskRefusedError as error:
            refused = error.code
        fits = any(
            all(
                not getattr(task, name) or self.most(node, name, task) >= getattr(task, name)
                for name in SIZES
            )
            for number, node in self.nodes.items()
            if number not in self.drained
        )
        quota = tenant == 2 and (task.cpu_cores > 3 or task.memory_mb > 4)
        known = {None: True, "scheduler.deadline": tier == "realtime", "scheduler.over_quota": quota}
        assert known.get(refused, refused == "scheduler.never_fits" and not fits), refused

    @rule(limit=st.sampled_from((1, 3, 100)), columns=st.booleans())
    def decide(self, limit: int, columns: bool) -> None:
        if columns:
            for kind, task, node in self.one.next_many(limit, columns=True):
                self.carry_out(kind, task, node)
        else:
            for placed in self.one.next_many(limit, columns=False):
                self.carry_out(placed.kind, placed.id, placed.node)

    def carry_out(self, kind: str, task: int, node: int | None) -> None:
        book = self.books[task]
        if kind == "suspend":
            assert book.state == "running", book
            assert book.task.preemptible, book
            book.state = "suspending"
            return
        assert node in self.nodes, "it runs on a node that is there"
        if kind == "start":
            assert book.state == "waiting", book
            assert node not in self.drained
            agents = [other.task.agent for other in self.books.values() if other.state != "waiting"]
            assert book.task.agent is None or book.task.agent not in agents, (
                "an agent does one task at a time"
            )
        else:
            assert (kind, book.state, book.node) == ("resume", "suspended", node), book
        book.state, book.node = "running", node

    @rule(number=st.integers(0, 99))
    def complete(self, number: int) -> None:
        task = self.pick(number, "running", "suspending", "suspended", "held")
        if task is not None and self.books[task].node is not None:
            self.one.complete(task)
            self.over(task)
            with pytest.raises(symbi.TaskRefusedError, match="not scheduled"):
                self.one.complete(task)

    def over(self, task: int) -> None:
        assert task not in self.done, "it ends once"
        self.done.add(task)
        del self.books[task]

    @rule(number=st.integers(0, 99))
    def stands_still(self, number: int) -> None:
        task = self.pick(number, "suspending")
        if task is not None:
            self.one.suspended_many([task])
            self.books[task].state = "suspended"

    @rule(number=st.integers(0, 99))
    def hold(self, number: int) -> None:
        task = self.pick(number, "running", "suspending", "suspended")
        if task is not None:
            self.one.hold(task)
            self.books[task].state = "held"

    @rule(number=st.integers(0, 99))
    def release(self, number: int) -> None:
        task = self.pick(number, "held")
        if task is not None:
            self.one.release(task)
            book = self.books[task]
            book.state = (
                "waiting" if book.node is None else "suspended"
            )  # its node may have been lost meanwhile

    @rule(number=st.integers(0, 99))
    def cancel(self, number: int) -> None:
        task = self.pick(number, "waiting")
        if task is not None:
            self.one.cancel_many(np.array([task]))
            self.over(task)

    @rule(number=st.integers(0, 99), other=st.integers(0, 99))
    def inherit(self, number: int, other: int) -> None:
        task, source = self.pick(number, "running", "waiting"), self.pick(other, "waiting")
        if task is not None and source is not None and task != source:
            self.one.inherit(task, source)

    @rule(ms=st.sampled_from((1, 20, 5_000)))
    def time_goes_on(self, ms: int) -> None:
        self.now += ms * MS

    @precondition(lambda self: len(self.nodes) > 1)
    @rule(number=st.integers(0, 99))
    def lose(self, number: int) -> None:
        node = sorted(self.nodes)[number % len(self.nodes)]
        there = {task for task, book in self.books.items() if book.node == node}
        assert set(self.one.lose_node(node)) == there
        del self.nodes[node]
        self.drained.discard(node)
        for task in there:
            book = self.books[task]
            # A task that an operator holds is held wherever it waits.
            book.state, book.node = ("waiting" if book.state != "held" else "held"), None

    @precondition(lambda self: len(self.nodes) < 4)
    @rule(cores=amounts, memory=amounts)
    def add(self, cores: int, memory: int) -> None:
        number = next(number for number in range(100) if number not in self.nodes)
        self.nodes[number] = self.node(number, cores, memory)
        self.one.add_node(self.nodes[number])

    @rule(number=st.integers(0, 99))
    def drain(self, number: int) -> None:
        node = sorted(self.nodes)[number % len(self.nodes)]
        self.one.drain_node(node)
        self.drained.add(node)

    @rule()
    def rebalance(self) -> None:
        for move in self.one.rebalance():
            book = self.books[move.id]
            assert (book.state, book.node) == ("running", move.source)
            self.one.moved(move.id, move.target)
            book.node = move.target

    @invariant()
    def what_is_free_is_what_nobody_holds(self) -> None:
        for number, node in getattr(self, "nodes", {}).items():
            free = self.one.free(number)
            for name in SIZES:
                held = sum(book.holds(name) for book in self.books.values() if book.node == number)
                assert free[name] == getattr(node, name) - held >= 0, (number, name)

    @invariant()
    def each_task_is_where_the_books_say(self) -> None:
        if not hasattr(self, "one"):
            return
        stats = self.one.stats()
        for state in ("waiting", "running", "suspending", "suspended"):
            wanted = [book for book in self.books.values() if self.shown(book) == state]
            assert sum(getattr(stats, state).values()) == len(wanted), state
        for task, book in self.books.items():
            told = self.one.why(task)
            assert (told.state, str(task) in told.text) == (self.shown(book), True)
        assert len(self.one) == len(self.books)

    def shown(self, book: Book) -> str:
        if book.state == "held":
            return "suspended" if book.node is not None else "waiting"
        return book.state

    def teardown(self) -> None:
        """Once nothing is taken away any more, every task comes to its end."""
        if not hasattr(self, "one"):
            return
        self.nodes[50] = symbi.Node(
            50, cpu_cores=20, memory_mb=20, disk_io_mbps=20, network_io_mbps=20, accelerators=20, sandboxes=20
        )
        self.one.add_node(self.nodes[50])
        for task, book in self.books.items():
            if book.state == "held":
                self.one.release(task)
                book.state = "suspended" if book.node is not None else "waiting"
        for _ in range(4 * len(self.books) + 4):
            self.now += 1_000 * MS
            self.decide(100, False)
            for task in [
                task for task, book in self.books.items() if book.state in {"running", "suspending"}
            ]:
                self.one.complete(task)
                self.over(task)
            self.what_is_free_is_what_nobody_holds()
        assert self.books == {}, "each task that was taken comes to its end"
        assert len(self.one) == 0


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=400 if LONG else 60, stateful_step_count=40, deadline=None)
