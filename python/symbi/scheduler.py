"""The scheduler by itself, without a runtime: who runs next, and where.

Why: whoever has tasks, nodes and limits of his own can have the order, the placement and the fairness of a runtime, and
do the running himself. It decides and never acts: no thread, no timer, no clock but the one it is given.
Not here: policy, records, agents that really run (`Runtime`); the rules (the native core; docs/scheduling.md).

    scheduler = symbi.Scheduler(nodes=[symbi.Node(0, cpu_cores=8, memory_mb=16_384)])
    scheduler.submit_many([symbi.Task(1, memory_mb=512), symbi.Task(2, priority=200)])
    for placed in scheduler.next_many():
        ...  # start `placed.id` on `placed.node`; when it is over: scheduler.complete(placed.id)

Invariants
- SD1 no task is lost: what was not taken is named, by row, in an exception.
- SD2 what cannot be a task is refused before anything of its batch is taken.
- SD3 the same calls with the same times give the same answers.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

import numpy as np

from symbi import _core
from symbi.errors import ColumnError, InputError, SchedulerFullError, TaskRefusedError
from symbi.tasks import Node, Placement, Placements, Task, TaskBatch, Tenant, task_row, whole
from symbi.waits import Move, Stats, Why

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["Scheduler", "Strategy"]

Strategy: TypeAlias = Literal["first_fit", "best_fit", "priority"]
Ids: TypeAlias = "Sequence[int] | NDArray[Any]"

_UNCOUNTED = 1 << 32  # of a resource that a node does not count: more than anybody can hold
_AMOUNT_MAX = _UNCOUNTED - 1
_ALL = 2**63 - 1
_RESOURCES = ("memory_mb", "cpu_cores", "disk_io_mbps", "network_io_mbps", "accelerators", "sandboxes")


class Scheduler:
    """Decides who runs next, and where. Safe to share between threads; batches leave the interpreter to others."""

    __slots__ = ("_clock", "_columns", "_native", "_nodes")

    def __init__(
        self,
        nodes: Iterable[Node | int],
        strategy: Strategy = "first_fit",
        *,
        tenants: Mapping[int, Tenant] | None = None,
        headroom_percent: int = 10,
        critical_priority: int = 224,
        ageing_ms: int = 1_000,
        batch_turn: int = 16,
        quantum_ms: int = 20,
        realtime_percent: int = 50,
        preemption: bool = True,
        tasks_max: int = 1 << 20,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """An empty scheduler over these nodes.

        Args:
            nodes: What there is. A number is a node of so many cores that counts nothing else, named by its place.
            strategy: Which of the nodes with room a task is placed on: the first (quickest), the one with the least
                left afterwards (highest use), or the first that keeps its headroom, which only critical tasks may use.
            tenants: What accounts may have, by number; one that is not named has the weight 1 and no limits.
            headroom_percent: With `"priority"`: the share of every node kept for critical tasks, 0 to 90.
            critical_priority: A task of this priority or above is critical, 0 to 255; so is every realtime one.
            ageing_ms: An interactive task gains one level of priority for so much waiting, 1 to 86,400,000.
            batch_turn: One start in so many is a batch task's while one waits, 2 to 1,000,000.
            quantum_ms: A task runs at least so long before it is told to stand still, each time, 0 to 86,400,000.
            realtime_percent: The share of all cores that realtime tasks may be promised, 0 to 100.
            preemption: Whether a running task may be told to stand still for a more urgent one (`kind` `"suspend"`).
                Turn it off where a task cannot be stopped.
            tasks_max: Tasks that may wait and run in all, 1 to 16,777,216; about 250 bytes each.
            clock: Nanoseconds from any start, never backwards. A simulation gives its own, or `now_ns` with each call.

        Raises:
            SchedulerError: an option out of its range, two nodes of one name.
            InputError: a node or a tenant that cannot be.
        """
        given = [_node(place, node) for place, node in enumerate(nodes)]
        self._nodes = {node.id: node for node in given}
        self._clock = clock
        self._columns = False
        self._native = _core.Scheduler(
            [_node_row(node) for node in given],
            strategy=strategy,
            headroom_percent=_number("headroom_percent", headroom_percent, 255),
            critical_priority=_number("critical_priority", critical_priority, 255),
            ageing_ms=_number("ageing_ms", ageing_ms, 2**32 - 1),
            batch_turn=_number("batch_turn", batch_turn, 2**32 - 1),
            quantum_ms=_number("quantum_ms", quantum_ms, 2**32 - 1),
            realtime_percent=_number("realtime_percent", realtime_percent, 255),
            preemption=bool(preemption),
            tasks_max=_number("tasks_max", tasks_max, _ALL),
        )
        for number, tenant in (tenants or {}).items():
            self.set_tenant(number, tenant)

    # --- tasks ---

    def submit(self, task: Task, *, now_ns: int | None = None) -> None:
        """Lets one task wait for its turn.

        Raises:
            InputError: no task. ColumnError: a field that cannot be right.
            TaskRefusedError: `code` says why; `scheduler.never_fits` says what would fit.
            SchedulerFullError: as many tasks are scheduled as may be.

        Cost: about a microsecond. Many at once are cheaper: `submit_many`.
        """
        if not isinstance(task, Task):
            raise InputError(f"what is submitted is a `symbi.Task`, not a {type(task).__name__}")
        self._columns = False
        self._native.submit(task_row(task), self._now(now_ns))

    def submit_many(self, tasks: TaskBatch | Iterable[Task], *, now_ns: int | None = None) -> int:
        """Lets tasks wait for their turn, in this order. Each stands alone: those that can be taken are.

        Returns:
            How many were taken: all of them, for otherwise it raises.

        Raises:
            ColumnError: a field that cannot be right; nothing was taken (SD2).
            TaskRefusedError: some were refused: `refused` has their rows by code; `done` others were taken (SD1).
            SchedulerFullError: the same, and among the refused are some for which there was no room
                (`refused["scheduler.full"]`): submit these again when some are complete, `batch.take(rows)`.

        Cost: about 0.3 µs a task from a batch, twice that from objects; without the GIL.
        """
        now = self._now(now_ns)
        if isinstance(tasks, TaskBatch):
            self._columns = True
            return _settle(self._native.submit_batch(tasks._native, now))
        self._columns = False
        return _settle(self._native.submit_rows(list(map(task_row, tasks)), now))

    def next(self, *, now_ns: int | None = None) -> Placement | None:
        """The next decision, None where there is none now: see `next_many`."""
        return self._native.next(self._now(now_ns))

    @overload
    def next_many(
        self, limit: int | None = None, *, columns: Literal[True], now_ns: int | None = None
    ) -> Placements: ...
    @overload
    def next_many(
        self, limit: int | None = None, *, columns: Literal[False], now_ns: int | None = None
    ) -> list[Placement]: ...
    @overload
    def next_many(
        self, limit: int | None = None, *, columns: None = None, now_ns: int | None = None
    ) -> Placements | list[Placement]: ...
    def next_many(
        self, limit: int | None = None, *, columns: bool | None = None, now_ns: int | None = None
    ) -> Placements | list[Placement]:
        """What is to be done now, in this order; ask again after every change.

        A decision is `start` (run it on `node`), `resume` (let it go on there) or `suspend` (bring it to a standstill
        and say so with `suspended`; `urgent` waits for what it gives back). A task that was started holds what it needs
        until `complete`, whether it runs or not.

        Args:
            limit: Decisions at most; `None`: all.
            columns: True for `Placements` (numpy columns), False for a list of `Placement`; `None`: columns if the last
                tasks were submitted in columns, otherwise a list.
            now_ns: The time, in place of the clock's.

        Cost: about 0.3 µs a decision in columns; without the GIL.
        """
        now, most = self._now(now_ns), _ALL if limit is None else _number("limit", limit, _ALL)
        if self._columns if columns is None else columns:
            return Placements(self._native.next_columns(most, now))
        return self._native.next_rows(most, now)

    def complete(self, task: int, *, now_ns: int | None = None) -> None:
        """The task is over, however it ended: what it held is free again, once.

        Raises:
            TaskRefusedError: `scheduler.unknown_task` (as for a second time), `scheduler.not_running`.
        """
        self._native.act("complete", task, self._now(now_ns))

    def complete_many(self, ids: Ids, *, now_ns: int | None = None) -> int:
        """`complete` for each; those that can be completed are. Returns how many: all, for otherwise it raises.

        Raises:
            ColumnError: not whole numbers; nothing was completed.
            TaskRefusedError: `refused` has the rows of `ids` that were not completed, by code.
        """
        return self._each("complete", ids, now_ns)

    def suspended(self, task: int, *, now_ns: int | None = None) -> None:
        """The task that was to `suspend` stands still now. It gives back processor and bandwidth, keeps memory,
        accelerators and sandbox, its node and its place, and its deadline moves by the time that it stands.

        Raises:
            TaskRefusedError: `scheduler.not_suspending`, `scheduler.unknown_task`.
        """
        self._native.act("suspended", task, self._now(now_ns))

    def suspended_many(self, ids: Ids, *, now_ns: int | None = None) -> int:
        """`suspended` for each, as `complete_many`."""
        return self._each("suspended", ids, now_ns)

    def hold(self, task: int, *, now_ns: int | None = None) -> None:
        """The task stands still, by an operator's wish or for a limit: as `suspended`, until `release`.

        Raises:
            TaskRefusedError: `scheduler.not_running`, `scheduler.unknown_task`.
        """
        self._native.act("hold", task, self._now(now_ns))

    def release(self, task: int, *, now_ns: int | None = None) -> None:
        """A held task may go on: it gets a `resume` when it is its turn and what it needs is free.

        Raises:
            TaskRefusedError: `scheduler.not_held`, `scheduler.unknown_task`.
        """
        self._native.act("release", task, self._now(now_ns))

    def cancel(self, task: int, *, now_ns: int | None = None) -> None:
        """Forgets a task that waits for its start.

        Raises:
            TaskRefusedError: `scheduler.running` (stop it, and `complete` it), `scheduler.unknown_task`.
        """
        self._native.act("cancel", task, self._now(now_ns))

    def cancel_many(self, ids: Ids, *, now_ns: int | None = None) -> int:
        """`cancel` for each, as `complete_many`."""
        return self._each("cancel", ids, now_ns)

    def cancel_agent(self, agent: int, *, now_ns: int | None = None) -> list[int]:
        """Forgets every waiting task of an agent; their ids, in the order in which they would have run."""
        return self._native.cancel_agent(_number("agent", agent, 2**64 - 1), self._now(now_ns))

    def inherit(self, task: int, source: int, *, now_ns: int | None = None) -> None:
        """`task` becomes as urgent as `source`, which waits for its answer, until `disinherit` or either's end.

        Raises:
            TaskRefusedError: `scheduler.unknown_task`.
        """
        self._native.inherit(_id("task", task), _id("source", source), self._now(now_ns))

    def disinherit(self, task: int, source: int, *, now_ns: int | None = None) -> None:
        """Takes back what `inherit` gave.

        Raises:
            TaskRefusedError: `scheduler.unknown_task`.
        """
        self._native.disinherit(_id("task", task), _id("source", source), self._now(now_ns))

    # --- nodes and tenants ---

    def set_tenant(self, tenant: int, share: Tenant, *, now_ns: int | None = None) -> None:
        """Sets what an account may have, from now on.

        Raises:
            SchedulerError: a weight out of its range, too many tenants.
        """
        amounts = [getattr(share, name) for name in _RESOURCES]
        quota = None if all(amount is None for amount in amounts) else _amounts("tenant", amounts)
        waiting_max = None if share.waiting_max is None else _number("waiting_max", share.waiting_max, _ALL)
        weight = _number("weight", share.weight, 2**32 - 1)
        self._native.set_tenant(
            _number("tenant", tenant, 2**32 - 1), weight, quota, waiting_max, self._now(now_ns)
        )

    def add_node(self, node: Node, *, now_ns: int | None = None) -> None:
        """From now on tasks are placed there too; also a drained node, once it is empty.

        Raises:
            SchedulerError: `scheduler.duplicate_node`.
        """
        self._native.add_node(_node_row(node), self._now(now_ns))
        self._nodes[node.id] = node

    def drain_node(self, node: int, *, now_ns: int | None = None) -> None:
        """Nothing starts there any more; what is there goes on.

        Raises:
            SchedulerError: `scheduler.unknown_node`.
        """
        self._native.drain_node(_number("node", node, 2**32 - 1), self._now(now_ns))

    def lose_node(self, node: int, *, now_ns: int | None = None) -> list[int]:
        """The node is gone. Its tasks wait again, at their place; their ids, in order.

        Raises:
            SchedulerError: `scheduler.unknown_node`.
        """
        lost = self._native.lose_node(_number("node", node, 2**32 - 1), self._now(now_ns))
        self._nodes.pop(node, None)
        return lost

    def rebalance(self, limit: int = 64, *, now_ns: int | None = None) -> list[Move]:
        """Running tasks that would better run elsewhere, at most `limit`. A proposal: move them, and say `moved`."""
        moves = self._native.rebalance(_number("limit", limit, _ALL), self._now(now_ns))
        return [Move(task, source, target) for task, source, target in moves]

    def moved(self, task: int, node: int, *, now_ns: int | None = None) -> None:
        """A running task runs on another node now.

        Raises:
            TaskRefusedError: `scheduler.no_room`, `scheduler.not_running`, `scheduler.unknown_node`,
                `scheduler.unknown_task`.
        """
        self._native.moved(_id("task", task), _number("node", node, 2**32 - 1), self._now(now_ns))

    # --- questions ---

    def why(self, task: int, *, now_ns: int | None = None) -> Why | None:
        """Where a task stands and why, with a sentence for people; None where none of that name is scheduled.

        Cost: may look at every waiting task. For people who ask, not for the hot path.
        """
        told = self._native.why(_id("task", task), self._now(now_ns))
        return None if told is None else Why.of(task, told)

    def wake_at_ns(self, *, now_ns: int | None = None) -> int | None:
        """When time alone changes what `next` says, on the clock; None: never. So nobody needs to poll."""
        return self._native.wake_at_ns(self._now(now_ns))

    def free(self, node: int, *, now_ns: int | None = None) -> dict[str, float] | None:
        """What nobody holds on a node, by resource; infinite where it does not count. None: no such node."""
        free = self._native.free(_number("node", node, 2**32 - 1), self._now(now_ns))
        known = self._nodes.get(node)
        if free is None or known is None:
            return None
        shown = _shown(free)
        return {name: shown[name] if getattr(known, name) is not None else math.inf for name in shown}

    def stats(self, *, now_ns: int | None = None) -> Stats:
        """Counts by state and tier, and what all nodes have and hold together."""
        told = self._native.stats(self._now(now_ns))
        for name in ("capacity", "allocated", "reserved"):
            told[name] = _shown(told[name])
        return Stats(**told)

    def __len__(self) -> int:
        """Tasks that are not over: that wait, run or stand still."""
        return len(self._native)

    def __repr__(self) -> str:
        return f"Scheduler({len(self._nodes)} nodes, {len(self)} tasks)"

    def _now(self, now_ns: int | None) -> int:
        return self._clock() if now_ns is None else _number("now_ns", now_ns, _ALL)

    def _each(self, verb: str, ids: Ids, now_ns: int | None) -> int:
        rows = whole("id", _flat(ids)) if isinstance(ids, np.ndarray) else list(ids)
        return _settle(self._native.act_many(verb, rows, self._now(now_ns)))


def _settle(outcome: tuple[int, list[tuple[str, bytearray]], tuple[int, str] | None]) -> int:
    """How many rows were done, if all were (SD1)."""
    done, refused, first = outcome
    if first is None:
        return done
    row, words = first
    rows = {code: np.frombuffer(cells, np.uint64) for code, cells in refused}
    count = sum(map(len, rows.values()))
    others = f", and {count - 1} more rows are refused" if count > 1 else ""
    kind = SchedulerFullError if "scheduler.full" in rows else TaskRefusedError
    code = "" if kind is SchedulerFullError else next(code for code, those in rows.items() if those[0] == row)
    raise kind(f"row {row}: {words}{others}; {done} were done", code=code, done=done, refused=rows)


def _flat(ids: NDArray[Any]) -> NDArray[Any]:
    if ids.ndim != 1:
        raise ColumnError(f"`ids` has the shape {ids.shape}: one dimension is needed", column="id")
    return ids if ids.size else ids.astype(np.uint64)


def _number(name: str, value: int, most: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise InputError(f"`{name}` must be a whole number, and is {value!r:.40}")
    number = value.__index__()
    if not 0 <= number <= most:
        raise InputError(f"`{name}` must be 0 to {most}, and is {number}")
    return number


def _id(name: str, value: int) -> int:
    return _number(name, value, 2**64 - 1)


def _node(place: int, given: Node | int) -> Node:
    if isinstance(given, Node):
        return given
    return Node(place, cpu_cores=_number("nodes", given, _AMOUNT_MAX // 1_000))


def _node_row(node: Node) -> tuple[int, list[int]]:
    amounts = _amounts(f"node {node.id}", [getattr(node, name) for name in _RESOURCES])
    return _number("node", node.id, 2**32 - 2), amounts


def _amounts(whose: str, amounts: Sequence[float | None]) -> list[int]:
    """Amounts in the order of `_RESOURCES`, cores in thousandths, `None` as more than anybody can hold."""
    found = []
    for name, amount in zip(_RESOURCES, amounts, strict=True):
        if amount is None:
            found.append(_UNCOUNTED)
        elif name == "cpu_cores":
            found.append(_number(f"{name} of {whose}", _core.task_millicores(amount), _AMOUNT_MAX))
        else:
            found.append(_number(f"{name} of {whose}", amount, _AMOUNT_MAX))  # type: ignore[arg-type]
    return found


def _shown(amounts: Mapping[str, int]) -> dict[str, float]:
    """Amounts by name, cores in cores; infinite where at least one node does not count."""
    shown: dict[str, float] = {
        name: math.inf if amount >= _UNCOUNTED else amount for name, amount in amounts.items()
    }
    millicores = shown.pop("cpu_millicores")
    return {"cpu_cores": millicores / 1_000, **shown}
