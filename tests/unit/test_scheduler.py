"""The scheduler by itself, at its border: objects and columns, bad input, back-pressure, threads."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import threading

import numpy as np
import pytest
import symbi
from symbi import _core

SECOND = 1_000_000_000


def scheduler(*nodes: symbi.Node | int, **options: object) -> symbi.Scheduler:
    """One whose clock stands still unless a test moves it."""
    return symbi.Scheduler(nodes or (4,), **{"clock": lambda: 0, **options})  # type: ignore[arg-type]


def placed(decisions: list[symbi.Placement]) -> list[tuple[int, int | None]]:
    return [(one.id, one.node) for one in decisions if one.kind == "start"]


def test_sd1_what_was_not_taken_is_named_by_row_and_the_others_are_taken() -> None:
    """SD1, BS5."""
    one = scheduler(4)
    ids = [1, 2, 2, 3, 1]
    for make in (
        lambda: symbi.TaskBatch(ids, cpu=[1, 1, 1, 9, 1]),
        lambda: [symbi.Task(id_, cpu_cores=cores) for id_, cores in zip(ids, [1, 1, 1, 9, 1], strict=True)],
    ):
        with pytest.raises(
            symbi.TaskRefusedError, match=r"row 2: task `2` is already .*2 more rows"
        ) as caught:
            one.submit_many(make())
        assert caught.value.code == "scheduler.duplicate"
        assert caught.value.done == 2
        assert {code: rows.tolist() for code, rows in caught.value.refused.items()} == {
            "scheduler.duplicate": [2, 4],
            "scheduler.never_fits": [3],
        }
        assert len(one) == 2
        one.cancel_many([1, 2])


def test_what_no_node_could_ever_run_is_refused_with_what_would_fit() -> None:
    one = scheduler(symbi.Node(0, memory_mb=100), symbi.Node(1, memory_mb=900))
    with pytest.raises(symbi.TaskRefusedError, match=r"needs 901 `memory_mb`.* has 900") as caught:
        one.submit(symbi.Task(1, memory_mb=901))
    assert caught.value.code == "scheduler.never_fits"
    assert caught.value.refused == {"scheduler.never_fits": (0,)}


def test_beyond_the_limit_there_is_back_pressure_and_never_a_lost_task() -> None:
    """SD1: 1,000,000 more than fit; each comes to its turn in the end."""
    limit, more = 50_000, 1_000_000
    one = scheduler(symbi.Node(0, cpu_cores=100), tasks_max=limit)
    left = symbi.TaskBatch(np.arange(limit + more), cpu=0.01)
    done = []
    while len(left):
        try:
            taken = one.submit_many(left)
            left = left.take([])
        except symbi.SchedulerFullError as full:
            taken = full.done
            left = left.take(full.refused["scheduler.full"])
        assert len(one) <= limit
        assert taken > 0
        while len(decisions := one.next_many(columns=True)):
            done.append(decisions.id)
            one.complete_many(decisions.id)
    assert np.array_equal(np.sort(np.concatenate(done)), np.arange(limit + more))
    assert len(one) == 0


def test_a_task_is_completed_once() -> None:
    one = scheduler(4)
    one.submit_many([symbi.Task(1), symbi.Task(2)])
    for verb, code in (("complete", "not_running"), ("hold", "not_running"), ("release", "not_held")):
        with pytest.raises(symbi.TaskRefusedError) as caught:
            getattr(one, verb)(1)
        assert caught.value.code == f"scheduler.{code}"
    one.next_many()
    with pytest.raises(symbi.TaskRefusedError) as caught:
        one.cancel(1)
    assert caught.value.code == "scheduler.running"
    with pytest.raises(symbi.TaskRefusedError, match="2 were done") as caught:
        one.complete_many([1, 1, 2, 77])
    assert {code: rows.tolist() for code, rows in caught.value.refused.items()} == {
        "scheduler.unknown_task": [1, 3]
    }
    assert one.free(0)["cpu_cores"] == 4


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("id", -1, "-1 is below 0"),
        ("id", 2**64, "is above 18446744073709551615"),
        ("id", 1.5, "1.5 is no whole number"),
        ("id", "seven", "'seven' is no whole number"),
        ("id", None, ""),
        ("tier", "urgent", "`urgent` is no tier"),
        ("tier", 3, "3 is no tier"),
        ("priority", 256, "256 is above 255"),
        ("priority", -1, "-1 is below 0"),
        ("tenant", 2**32, "is above 4294967295"),
        ("deadline_ms", math.nan, "nan is no number"),
        ("deadline_ms", -0.1, "-0.1 is below 0"),
        ("duration_ms", math.inf, "inf is above"),
        ("cpu_cores", math.nan, "nan is no number"),
        ("cpu_cores", -1, "-1 is below 0"),
        ("cpu_cores", 1e30, "is above"),
        ("cpu_cores", "all", "'all' is no number"),
        ("memory_mb", -1, "-1 is below 0"),
        ("memory_mb", 2**41, "is above 1099511627776"),
        ("memory_mb", 0.5, "0.5 is no whole number"),
        ("accelerators", 10**400, "is above"),
        ("preemptible", 2, "2 is above 1"),
    ],
)
def test_sd2_a_field_that_cannot_be_right_is_named_and_nothing_is_taken(
    field: str, value: object, words: str
) -> None:
    """SD2, BS1."""
    one = scheduler(4)
    good, bad = symbi.Task(1), symbi.Task(**{"id": 2, field: value})  # type: ignore[arg-type]
    if value is None:
        bad = symbi.Task(None)  # type: ignore[arg-type]
    with pytest.raises(symbi.ColumnError, match=field) as caught:
        one.submit_many([good, bad])
    assert words in str(caught.value)
    assert (caught.value.column, caught.value.row, caught.value.code) == (field, 1, "scheduler.column")
    assert isinstance(caught.value, ValueError)
    with pytest.raises(symbi.ColumnError):
        one.submit(bad)
    assert len(one) == 0


def test_what_is_no_task_is_refused() -> None:
    with pytest.raises(AttributeError):
        scheduler(4).submit_many([object()])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"headroom_percent": 91}, "`headroom_percent` must be 0 to 90, and is `91`"),
        ({"headroom_percent": 256}, "`headroom_percent` must be 0 to 255"),
        ({"ageing_ms": 0}, "`ageing_ms` must be 1"),
        ({"batch_turn": 1.5}, "`batch_turn` must be a whole number"),
        ({"realtime_percent": 101}, "`realtime_percent` must be 0 to 100"),
        ({"tasks_max": 0}, "`tasks_max` must be 1"),
        ({"quantum_ms": -1}, "`quantum_ms` must be 0"),
        ({"strategy": "worst_fit"}, "worst_fit"),
        ({"nodes": [symbi.Node(0, cpu_cores=-1)]}, "-1 is below 0"),
        ({"nodes": [symbi.Node(0, cpu_cores=math.nan)]}, "nan is no number"),
        ({"nodes": [symbi.Node(0, memory_mb=-1)]}, "`memory_mb of node 0` must be 0"),
        ({"nodes": [symbi.Node(0, memory_mb=2**40)]}, "`memory_mb of node 0` must be 0"),
        ({"nodes": [symbi.Node(0), symbi.Node(0)]}, "node `0` is there already"),
        ({"nodes": [-1]}, "`nodes` must be 0"),
        ({"nodes": ["a"]}, "`nodes` must be a whole number"),
        ({"tenants": {1: symbi.Tenant(weight=0)}}, "`weight` must be 1"),
        ({"tenants": {-1: symbi.Tenant()}}, "`tenant` must be 0"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(symbi.SymbiError, match=words.replace("(", r"\(")) as caught:
        symbi.Scheduler(**{"nodes": [1], **options})  # type: ignore[arg-type]
    assert caught.value.code in {"scheduler.option", "scheduler.duplicate_node", "input.invalid"}


def test_no_nodes_and_no_tasks_are_fine_and_nothing_starts() -> None:
    one = symbi.Scheduler([])
    assert one.next_many() == []
    assert one.submit_many([]) == 0
    assert one.submit_many(symbi.TaskBatch([])) == 0
    assert len(one.next_many()) == 0
    with pytest.raises(symbi.TaskRefusedError):
        one.submit(symbi.Task(1))
    with pytest.raises(symbi.SchedulerError) as caught:
        one.lose_node(1)
    assert caught.value.code == "scheduler.unknown_node"


def test_tb2_a_batch_means_what_its_tasks_mean() -> None:
    """TB2: every field, set to something that is not its default."""
    tasks = [
        symbi.Task(
            id=n,
            tier=("realtime", "interactive", "batch")[n % 3],
            priority=n,
            agent=n + 1,
            tenant=n,
            deadline_ms=n + 0.5,
            duration_ms=n + 0.25,
            cpu_cores=n / 8,
            memory_mb=n,
            disk_io_mbps=n + 2,
            network_io_mbps=n + 3,
            accelerators=n + 4,
            sandboxes=n + 5,
            preemptible=bool(n % 2),
        )
        for n in range(9)
    ]
    columns = {name: [getattr(task, name) for task in tasks] for name in _core.TASK_FIELDS}
    assert set(columns) == set(symbi.Task.__slots__)
    by_column, by_object = symbi.TaskBatch(**columns), symbi.TaskBatch.of(tasks)
    for name, given in columns.items():
        expected = (
            [["realtime", "interactive", "batch"].index(one) for one in given] if name == "tier" else given
        )
        assert getattr(by_column, name).tolist() == pytest.approx(expected), name
        assert np.array_equal(getattr(by_column, name), getattr(by_object, name)), name
    left_out, said_nothing = symbi.TaskBatch([7]), symbi.TaskBatch.of([symbi.Task(7)])
    for name in _core.TASK_FIELDS:
        assert getattr(left_out, name) == getattr(said_nothing, name), name


def test_short_names_are_the_same_columns_and_one_value_stands_for_all() -> None:
    short = symbi.TaskBatch(
        [1, 2], cpu=0.5, memory=64, deadline=9, duration=3.5, disk_io=1, network_io=2, tier="batch"
    )
    assert short.cpu_cores.tolist() == short.cpu.tolist() == [0.5, 0.5]
    assert short.memory_mb.tolist() == [64, 64]
    assert short.deadline_ms.tolist() == [9, 9]
    assert short.duration_ms.tolist() == [3.5, 3.5]
    assert (short.disk_io_mbps.tolist(), short.network_io_mbps.tolist()) == ([1, 1], [2, 2])
    assert short.tier.tolist() == [2, 2]
    with pytest.raises(AttributeError, match="a batch has no column `color`"):
        _ = short.color


@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", ">i4", "u4", "i8", ">u8", "?"])
def test_any_whole_type_and_any_stride_is_read(dtype: str) -> None:
    values = np.array([[1, 9], [0, 9], [1, 9]]).astype(dtype)[:, 0]
    assert not values.flags.c_contiguous
    values.flags.writeable = False
    batch = symbi.TaskBatch(np.arange(3)[::-1], priority=values, memory=values, agent=values)
    assert batch.id.tolist() == [2, 1, 0]
    assert batch.priority.tolist() == batch.memory_mb.tolist() == batch.agent.tolist() == [1, 0, 1]


@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f8", "i2", "u8"])
def test_cores_and_times_take_any_number(dtype: str) -> None:
    batch = symbi.TaskBatch(range(3), cpu=np.array([0, 1, 2], dtype), deadline=np.array([4, 5, 6], dtype))
    assert batch.cpu_cores.tolist() == [0, 1, 2]
    assert batch.deadline_ms.tolist() == [4, 5, 6]


@pytest.mark.parametrize(
    ("columns", "column", "row", "words"),
    [
        ({"id": [3, -4]}, "id", 1, "-4 is below 0"),
        ({"id": [1.0, 2.0]}, "id", None, "is float64: whole numbers are needed"),
        ({"id": ["a"]}, "id", None, "whole numbers are needed"),
        ({"id": [1, 2**64]}, "id", 1, "18446744073709551616 is above"),
        ({"id": [2**63, -1]}, "id", 1, "-1 is below 0"),
        ({"id": [1, 2**64, None]}, "id", None, "is object"),
        ({"id": 7}, "id", None, "has the shape ()"),
        ({"id": [[1, 2]]}, "id", None, "has the shape (1, 2)"),
        ({"id": [1, 2], "cpu": [1.0]}, "cpu_cores", None, "has 1 rows, and `id` has 2"),
        ({"id": [1, 2], "cpu": [1.0, math.nan]}, "cpu_cores", 1, "nan is no number"),
        ({"id": [1, 2], "cpu": math.inf}, "cpu_cores", 0, "inf is above"),
        ({"id": [1, 2], "cpu": ["1", "2"]}, "cpu_cores", None, "numbers are needed"),
        ({"id": [1, 2], "cpu": [1j, 1]}, "cpu_cores", None, "numbers are needed"),
        ({"id": [1, 2], "deadline": [1, -1]}, "deadline_ms", 1, "-1 is below 0"),
        ({"id": [1, 2], "memory": [-(2**63), 1]}, "memory_mb", 0, "is below 0"),
        ({"id": [1, 2], "memory": [1, 2**41]}, "memory_mb", 1, "is above"),
        ({"id": [1, 2], "priority": [1, 256]}, "priority", 1, "256 is above 255"),
        ({"id": [1, 2], "tenant": [1, 2**32]}, "tenant", 1, "is above"),
        ({"id": [1, 2], "tier": ["batch", "later"]}, "tier", 1, "`later` is no tier"),
        ({"id": [1, 2], "tier": [0, 3]}, "tier", 1, "3 is no tier"),
        ({"id": [1, 2], "agent": [1, None]}, "agent", None, "is object"),
        ({"id": [1, 2], "colour": [1, 2]}, "colour", None, "no column is called `colour`: there are id,"),
        ({"id": [1, 2], "cpu": 1, "cpu_cores": 1}, "cpu_cores", None, "given twice"),
    ],
)
def test_tb1_a_batch_that_cannot_be_right_does_not_come_to_be(
    columns: dict[str, object], column: str, row: int | None, words: str
) -> None:
    """TB1, BS1: the error names column and row."""
    with pytest.raises(symbi.ColumnError) as caught:
        symbi.TaskBatch(**columns)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert (caught.value.column, caught.value.row) == (column, row)


def test_tb3_a_share_above_nothing_never_becomes_nothing() -> None:
    """TB3, BS2: rounded to a thousandth of a core, and to a nanosecond; and no whole number is ever rounded."""
    batch = symbi.TaskBatch(
        [1, 2, 3, 2**64 - 1], cpu=[0.0, 1e-9, 0.1 + 0.2, 2.0004], deadline=[0, 1e-12, 1, 2]
    )
    assert batch.cpu_cores.tolist() == [0, 0.001, 0.3, 2.0]
    assert batch.deadline_ms.tolist() == [0, 1e-6, 1, 2]
    assert batch.id.tolist()[-1] == 2**64 - 1
    assert symbi.TaskBatch([1], agent=[2**64 - 1]).agent.tolist() == [2**64 - 1]


def test_tb1_what_becomes_of_the_arrays_afterwards_changes_nothing() -> None:
    """TB1, BS3."""
    ids = np.arange(4, dtype=np.uint64)
    batch = symbi.TaskBatch(ids)
    ids[:] = 0
    assert batch.id.tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="read-only"):
        batch.id[0] = 1
    assert batch.take([3, 1]).id.tolist() == [3, 1]
    with pytest.raises(symbi.InputError, match="row 4"):
        batch.take([0, 4])


def test_columns_in_give_columns_out_and_objects_give_objects() -> None:
    one = scheduler(1, 1)
    one.submit_many(symbi.TaskBatch([5, 6, 7]))
    answer = one.next_many(limit=1)
    assert isinstance(answer, symbi.Placements)
    assert (answer.id.tolist(), answer.node.tolist(), answer.kind.tolist()) == ([5], [0], [0])
    assert list(answer) == [("start", 5, 0)]
    assert one.next_many(columns=False) == [_of(6, 1)]
    one.complete_many(answer.id)
    one.submit_many([symbi.Task(8)])
    assert placed(one.next_many()) == [(7, 0)]
    assert len(one.next_many(columns=True)) == 0


def _of(id_: int, node: int) -> symbi.Placement:
    """A placement to compare with: they have no constructor of their own."""
    one = scheduler(*[1] * (node + 1))
    one.submit_many([symbi.Task(1_000 + n) for n in range(node)])
    one.submit(symbi.Task(id_))
    return one.next_many()[-1]


def test_ids_come_as_any_whole_numbers_in_any_shape_of_memory() -> None:
    one = scheduler(8)
    for ids in ([0, 1], (0, 1), np.array([0, 1], ">i4"), np.arange(4, dtype=np.int16)[::2] // 2, range(2)):
        one.submit_many(symbi.TaskBatch(np.arange(2)))
        one.next_many()
        assert one.complete_many(ids) == 2
    for ids, words in (
        (np.array([0.0]), "float64"),
        (np.array([-1]), "below 0"),
        (np.array([[1]]), "shape"),
        ([-1], "below 0"),
        (["a"], "no whole number"),
    ):
        with pytest.raises(symbi.ColumnError, match=words):
            one.complete_many(ids)  # type: ignore[arg-type]


def test_bs4_several_threads_use_one_scheduler_and_no_task_is_lost() -> None:
    """BS4."""
    one = symbi.Scheduler([64] * 4)
    names, done, failed = itertools.count(), [], []

    def work() -> None:
        try:
            for _ in range(30):
                first = next(names) * 200
                one.submit_many(symbi.TaskBatch(np.arange(first, first + 100)))
                one.submit_many([symbi.Task(n) for n in range(first + 100, first + 200)])
                decisions = one.next_many(columns=True)
                one.complete_many(decisions.id)
                done.append(decisions.id)
                if (single := one.next()) is not None:
                    one.complete(single.id)
                    done.append(np.array([single.id], np.uint64))
        except Exception as error:  # noqa: BLE001 - shown below
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    while len(decisions := one.next_many(columns=True)):
        one.complete_many(decisions.id)
        done.append(decisions.id)
    assert np.array_equal(np.sort(np.concatenate(done)), np.arange(4 * 30 * 200))


def test_bs4_a_long_batch_leaves_the_interpreter_to_others() -> None:
    """BS4: another thread goes on while a batch is submitted."""
    one = symbi.Scheduler([4])
    steps, over = 0, threading.Event()

    def count() -> None:
        nonlocal steps
        while not over.is_set():
            steps += 1

    batch = symbi.TaskBatch(np.arange(300_000))
    thread = threading.Thread(target=count)
    thread.start()
    try:
        before = steps
        one.submit_many(batch)
        during = steps - before
    finally:
        over.set()
        thread.join()
    assert during > 0


def test_importing_symbi_loads_neither_numpy_nor_the_scheduler() -> None:
    code = "import sys, symbi; print([n for n in ('numpy', 'symbi.tasks', 'symbi.scheduler') if n in sys.modules])"
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert got.stdout == "[]\n"


def test_what_it_says_of_itself() -> None:
    one = scheduler(symbi.Node(0, cpu_cores=2, memory_mb=100), 1)
    one.submit_many([symbi.Task(n, memory_mb=30) for n in range(5)])
    one.next_many()
    stats = one.stats()
    assert stats.running == {"realtime": 0, "interactive": 3, "batch": 0}
    assert stats.waiting["interactive"] == 2
    assert stats.capacity["cpu_cores"] == 3
    assert stats.capacity["memory_mb"] == math.inf, "one node does not count it"
    assert stats.allocated["memory_mb"] == 90
    assert repr(one) == "Scheduler(2 nodes, 5 tasks)"
    assert repr(symbi.TaskBatch([1])) == "TaskBatch(1 tasks)"
    assert repr(_of(3, 0)) == "Placement(kind='start', id=3, node=0)"
    assert one.why(0).text == "task 0 runs on node 0"
    waits = one.why(4)
    assert (waits.state, waits.position) == ("waiting", 1)
    assert waits.text.startswith("task 4 waits: ")
    assert waits.text.endswith("; 1 task stands before it")
    assert one.why(99) is None
