"""What a scheduler is given and gives back: tasks, nodes, tenants, placements; one by one or in numpy columns.

Why columns: a million tasks as Python objects cost more to build than to schedule. A batch is read, checked and copied
once, when it is made; after that no Python object stands for a task.
Not here: the checks themselves and what a field may hold (`symbi-py/src/scheduler`), the scheduler (`scheduler`).

Invariants
- TB1 a batch that exists is right: every cell was checked when it was made, and nothing changes it afterwards.
- TB2 a task means the same as an object and as a row of a batch.
- TB3 a number is never silently changed to fit: only shares and times are rounded, to their smallest unit.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from symbi import _core
from symbi.errors import ColumnError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "KINDS",
    "NO_NODE",
    "TIERS",
    "Node",
    "Placement",
    "Placements",
    "Task",
    "TaskBatch",
    "Tenant",
    "Tier",
]

Tier: TypeAlias = Literal["realtime", "interactive", "batch"]
Placement = _core.Placement

TIERS: tuple[Tier, ...] = (
    "realtime",
    "interactive",
    "batch",
)  # a column of tiers may hold these, or their places
KINDS = ("start", "resume", "suspend")  # what stands in `Placements.kind`: the place of the word
NO_NODE = 2**32 - 1  # in `Placements.node`, for a task that shall stand still

# Short names that a batch takes as well; the unit is that of the long one.
_SHORT = {
    "deadline": "deadline_ms",
    "duration": "duration_ms",
    "memory": "memory_mb",
    "cpu": "cpu_cores",
    "disk_io": "disk_io_mbps",
    "network_io": "network_io_mbps",
}
_REAL = frozenset({"deadline_ms", "duration_ms", "cpu_cores"})
_PLACE = {name: place for place, name in enumerate(_core.TASK_FIELDS)}


@dataclass(slots=True)  # not frozen: that makes one three times as dear, and there may be a million
class Task:
    """One piece of work. It is read when it is submitted: who changes it afterwards changes nothing.

    Args:
        id: Its name, a number of your own, unique among the tasks that are not over; 0 to 2^64 - 1.
        tier: `realtime` (earliest deadline first, admitted only if every admitted deadline can be kept), `interactive`
            (by priority; who waits gains), `batch` (fair shares between tenants).
        priority: 0 to 255, the highest first. 224 and above is critical (see `Scheduler`).
        agent: Who does it, a number of your own from 1; an agent does one task at a time. `None`: nobody in particular.
        tenant: On whose account, a number of your own; 0 is everybody's who was given none.
        deadline_ms: Time from its submission until it must be over; required of realtime tasks, ignored for others.
        duration_ms: How long it runs at most, by your estimate; required of realtime tasks, a better place for others.
        cpu_cores: Cores it holds, in thousandths.
        memory_mb: Memory it holds, MiB.
        disk_io_mbps: Disk bandwidth it holds, MiB/s.
        network_io_mbps: Network bandwidth it holds, MiB/s.
        accelerators: Accelerator slots it holds.
        sandboxes: Sandboxes it holds.
        preemptible: Whether it may be told to stand still for a more urgent one.

    Nothing is checked here: `submit` does, and names the field.
    """

    id: int
    _: KW_ONLY
    tier: Tier = "interactive"
    priority: int = 128
    agent: int | None = None
    tenant: int = 0
    deadline_ms: float | None = None
    duration_ms: float | None = None
    cpu_cores: float = 1.0
    memory_mb: int = 0
    disk_io_mbps: int = 0
    network_io_mbps: int = 0
    accelerators: int = 0
    sandboxes: int = 0
    preemptible: bool = True


task_row = attrgetter(*_core.TASK_FIELDS)
"""A task as the tuple that crosses the border."""


@dataclass(frozen=True, slots=True)
class Node:
    """A machine, or a share of one.

    Args:
        id: Its name, a number of your own; 0 to 2^32 - 2.
        cpu_cores: Cores it has; `None`, here and below: not counted on this node, so it never runs out.
        memory_mb: Memory it has, MiB.
        disk_io_mbps: Disk bandwidth it has, MiB/s.
        network_io_mbps: Network bandwidth it has, MiB/s.
        accelerators: Accelerator slots it has; none unless said.
        sandboxes: Sandboxes it has room for.
    """

    id: int
    _: KW_ONLY
    cpu_cores: float | None = None
    memory_mb: int | None = None
    disk_io_mbps: int | None = None
    network_io_mbps: int | None = None
    accelerators: int = 0
    sandboxes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """What one account may have.

    Args:
        weight: Its part of the batch tier against the others' weights, 1 to 1,000,000.
        waiting_max: Tasks that may wait at once; `None`: no limit but the scheduler's.
        cpu_cores: What all its tasks together may hold at once; `None`, here and below: no limit.
        memory_mb: As above, MiB.
        disk_io_mbps: As above, MiB/s.
        network_io_mbps: As above, MiB/s.
        accelerators: As above.
        sandboxes: As above.
    """

    weight: int = 1
    waiting_max: int | None = None
    cpu_cores: float | None = None
    memory_mb: int | None = None
    disk_io_mbps: int | None = None
    network_io_mbps: int | None = None
    accelerators: int | None = None
    sandboxes: int | None = None


class TaskBatch:
    """Tasks in columns: what `Task` says of one, for thousands, each field a numpy array.

    Every column but `id` may be missing, and then every task has the field's default; a single value stands for a whole
    column. Fields that are whole numbers take any integer or boolean type; times and cores take floats too. Strides and
    read-only arrays are fine. A field has the name that it has in `Task`; the short names `deadline`, `duration`,
    `cpu`, `memory`, `disk_io` and `network_io` are the same columns in the same units (ms, cores, MiB, MiB/s).
    A column has no `None`: 0 stands for no agent, no deadline, no estimate. A column of tiers holds words or 0, 1, 2.

    Args:
        id: Shape `(n,)`.
        columns: Shape `(n,)` each, or one value.

    Raises:
        ColumnError: an unknown column, a wrong shape or type, a value that cannot be (negative, NaN, too large); the
            error has `column` and, where it is a cell, `row`.

    Cost: about 10 ns a cell, without the GIL for the most part.
    """

    __slots__ = ("_native",)

    _native: _core.TaskBatch

    def __init__(self, id: ArrayLike, **columns: ArrayLike) -> None:  # noqa: A002 - the field's name
        ids = _column("id", id, None)
        given: list[NDArray[Any] | None] = [None] * len(_PLACE)
        given[0] = ids
        for word, values in columns.items():
            name = _SHORT.get(word, word)
            if name not in _PLACE:
                raise ColumnError(f"no column is called `{word}`: there are {', '.join(_PLACE)}", column=word)
            if given[_PLACE[name]] is not None:
                raise ColumnError(f"column `{name}` is given twice", column=name)
            given[_PLACE[name]] = _column(name, values, len(ids))
        self._native = _core.TaskBatch(len(ids), given)

    @classmethod
    def of(cls, tasks: Sequence[Task]) -> TaskBatch:
        """The batch of these tasks, in their order."""
        return cls._of(_core.TaskBatch.of_rows(list(map(task_row, tasks))))

    @classmethod
    def _of(cls, native: _core.TaskBatch) -> TaskBatch:
        batch = cls.__new__(cls)
        batch._native = native
        return batch

    def __len__(self) -> int:
        return len(self._native)

    def __getattr__(self, word: str) -> NDArray[Any]:
        name = _SHORT.get(word, word)
        if name not in _PLACE:
            raise AttributeError(f"a batch has no column `{word}`: there are {', '.join(_PLACE)}")
        cells = np.frombuffer(self._native.column(_PLACE[name]), np.float64 if name in _REAL else np.uint64)
        if name == "preemptible":
            cells = cells.astype(np.bool_)
        cells.flags.writeable = False  # a copy: writing to it would change no batch (TB1)
        return cells

    def take(self, rows: ArrayLike) -> TaskBatch:
        """The tasks of these rows, in this order: such as those that a full scheduler did not take.

        Raises:
            InputError: a row that is not there.
        """
        return self._of(self._native.take(_column("id", rows, None)))

    def __repr__(self) -> str:
        return f"TaskBatch({len(self)} tasks)"


def _column(name: str, values: ArrayLike, rows: int | None) -> NDArray[Any]:
    """`values` as the border takes them: `uint64` or `float64`, `rows` long."""
    array = np.asarray(values)
    if array.dtype.kind in "fO" and not isinstance(values, np.ndarray) and name not in _REAL:
        array = _beyond_int64(name, values, array)
    if array.ndim == 0 and rows is not None:
        array = np.broadcast_to(array, (rows,))
    if array.ndim != 1:
        raise ColumnError(
            f"column `{name}` has the shape {array.shape}: one dimension is needed", column=name
        )
    if rows is not None and len(array) != rows:
        raise ColumnError(f"column `{name}` has {len(array)} rows, and `id` has {rows}", column=name)
    if array.size == 0:
        array = array.astype(np.uint64)  # an empty list has no type of its own
    if name == "tier" and array.dtype.kind in "UOT":
        array = _tiers(array)
    if name in _REAL:
        return _real(name, array)
    return whole(name, array)


def _beyond_int64(name: str, values: Any, array: NDArray[Any]) -> NDArray[Any]:
    """Python numbers that numpy has no one type for, such as 1 beside 2^63: read again, one by one (TB3)."""
    given = np.array(values, object)
    if given.ndim != 1 or not all(isinstance(one, int) for one in given):
        return array
    for row, one in enumerate(given):
        if not 0 <= one < 2**64:
            beyond = "below 0" if one < 0 else f"above {2**64 - 1}"
            raise ColumnError(f"column `{name}`, row {row}: {one!s:.40} is {beyond}", column=name, row=row)
    return given.astype(np.uint64)


def _real(name: str, array: NDArray[Any]) -> NDArray[np.float64]:
    if array.dtype.kind not in "fiub":
        raise ColumnError(f"column `{name}` is {array.dtype}: numbers are needed", column=name)
    return np.ascontiguousarray(array, np.float64)


def whole(name: str, array: NDArray[Any]) -> NDArray[np.uint64]:
    """Whole numbers of any type as `uint64`.

    Raises:
        ColumnError: another type, or a number below 0.
    """
    if array.dtype.kind not in "iub":
        advice = (
            f": whole numbers are needed, such as `{name}.astype('uint64')`"
            if array.dtype.kind == "f"
            else ""
        )
        raise ColumnError(
            f"column `{name}` is {array.dtype}{advice or ': whole numbers are needed'}", column=name
        )
    if array.dtype.kind == "i" and array.size and array.min() < 0:
        row = int((array < 0).argmax())
        raise ColumnError(f"column `{name}`, row {row}: {array[row]} is below 0", column=name, row=row)
    return np.ascontiguousarray(array, np.uint64)


def _tiers(array: NDArray[Any]) -> NDArray[np.uint64]:
    places = np.full(len(array), len(TIERS), np.uint64)
    for place, tier in enumerate(TIERS):
        places[array == tier] = place
    unknown = places == len(TIERS)
    if unknown.any():
        row = int(unknown.argmax())
        listed = ", ".join(f"`{tier}`" for tier in TIERS)
        text = f"column `tier`, row {row}: `{array[row]!s:.40}` is no tier: there are {listed}"
        raise ColumnError(text, column="tier", row=row)
    return places


class Placements:
    """Decisions in columns, in the order in which they are to be carried out.

    Attributes:
        id: Tasks, `uint64`.
        node: Where each runs, `uint32`; `NO_NODE` for one that shall stand still.
        kind: `uint8`, the place in `KINDS`: 0 start, 1 resume, 2 suspend.
        urgent: For one that shall stand still, the task that it makes room for, `uint64`; otherwise 0.
    """

    __slots__ = ("id", "kind", "node", "urgent")

    def __init__(self, columns: tuple[bytearray, bytearray, bytearray, bytearray]) -> None:
        ids, nodes, kinds, urgent = columns
        self.id: NDArray[np.uint64] = np.frombuffer(ids, np.uint64)
        self.node: NDArray[np.uint32] = np.frombuffer(nodes, np.uint32)
        self.kind: NDArray[np.uint8] = np.frombuffer(kinds, np.uint8)
        self.urgent: NDArray[np.uint64] = np.frombuffer(urgent, np.uint64)

    @property
    def started(self) -> NDArray[np.uint64]:
        """The tasks that run from now on: those that start and those that go on."""
        runs: NDArray[np.uint64] = self.id[self.kind != KINDS.index("suspend")]
        return runs

    @property
    def suspend(self) -> NDArray[np.uint64]:
        """The tasks that shall stand still; say so with `Scheduler.suspended_many`."""
        stands: NDArray[np.uint64] = self.id[self.kind == KINDS.index("suspend")]
        return stands

    def __len__(self) -> int:
        return len(self.id)

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        """`(kind, id, node)` each; for people, not for the hot path."""
        for kind, task, node in zip(self.kind.tolist(), self.id.tolist(), self.node.tolist(), strict=True):
            yield KINDS[kind], task, node

    def __repr__(self) -> str:
        return f"Placements({len(self)} decisions)"
