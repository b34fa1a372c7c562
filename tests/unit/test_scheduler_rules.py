"""The rules of the scheduler as a user sees them: order, placement, standing still, shares, nodes, time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import symbi
from symbi.tasks import KINDS, NO_NODE

SECOND = 1_000_000_000


def scheduler(*nodes: symbi.Node | int, **options: object) -> symbi.Scheduler:
    """One whose clock stands still unless a test moves it."""
    return symbi.Scheduler(nodes or (4,), **{"clock": lambda: 0, **options})  # type: ignore[arg-type]


def placed(decisions: list[symbi.Placement]) -> list[tuple[int, int | None]]:
    return [(one.id, one.node) for one in decisions if one.kind == "start"]


def test_the_most_urgent_starts_first_and_the_oldest_among_equals() -> None:
    one = scheduler(1)
    one.submit_many([symbi.Task(1, priority=5), symbi.Task(2, priority=9), symbi.Task(3, priority=9)])
    order = []
    while (decision := one.next()) is not None:
        order.append(decision.id)
        one.complete(decision.id)
    assert order == [2, 3, 1]


def test_realtime_goes_before_interactive_and_by_deadline() -> None:
    one = scheduler(1)
    one.submit_many(
        [
            symbi.Task(1, tier="batch", priority=255),
            symbi.Task(2, priority=255),
            symbi.Task(3, tier="realtime", deadline_ms=9_000, duration_ms=10),
            symbi.Task(4, tier="realtime", deadline_ms=8_000, duration_ms=10),
        ]
    )
    order = []
    while (decision := one.next()) is not None:
        order.append(decision.id)
        one.complete(decision.id)
    assert order == [4, 3, 2, 1]


def test_a_node_takes_what_fits_and_the_rest_waits_until_something_ends() -> None:
    one = scheduler(symbi.Node(7, cpu_cores=2, memory_mb=1_000))
    one.submit_many([symbi.Task(n, cpu_cores=0.5, memory_mb=400) for n in range(3)])
    assert placed(one.next_many()) == [(0, 7), (1, 7)]
    assert one.next() is None
    one.complete(0)
    assert placed(one.next_many()) == [(2, 7)]


def test_best_fit_takes_the_node_with_the_least_left_and_first_fit_the_first() -> None:
    nodes = (symbi.Node(0, memory_mb=1_000), symbi.Node(1, memory_mb=300))
    for strategy, node in (("first_fit", 0), ("best_fit", 1)):
        one = scheduler(*nodes, strategy=strategy)
        one.submit(symbi.Task(1, memory_mb=300))
        assert placed(one.next_many()) == [(1, node)], strategy


def test_with_strategy_priority_headroom_is_for_critical_tasks() -> None:
    one = scheduler(symbi.Node(0, cpu_cores=10), strategy="priority", headroom_percent=20)
    one.submit_many([symbi.Task(n) for n in range(10)])
    assert len(one.next_many()) == 8
    one.submit_many([symbi.Task(n, priority=224) for n in (100, 101)])
    assert placed(one.next_many()) == [(100, 0), (101, 0)]


def test_an_agent_does_one_task_at_a_time() -> None:
    one = scheduler(4)
    one.submit_many([symbi.Task(1, agent=9), symbi.Task(2, agent=9), symbi.Task(3, agent=10), symbi.Task(4)])
    assert [id_ for id_, _ in placed(one.next_many())] == [1, 3, 4]
    assert one.why(2).reason == "agent_busy"
    one.complete(1)
    assert placed(one.next_many()) == [(2, 0)]


def test_a_number_is_a_node_of_so_many_cores_that_counts_nothing_else() -> None:
    one = scheduler(2, 1)
    one.submit_many([symbi.Task(n, memory_mb=1 << 20) for n in range(4)])
    assert placed(one.next_many()) == [(0, 0), (1, 0), (2, 1)]
    assert one.free(0) == {
        "cpu_cores": 0.0,
        **dict.fromkeys(("memory_mb", "disk_io_mbps", "network_io_mbps", "sandboxes"), math.inf),
        "accelerators": 0,
    }
    assert one.free(5) is None


def test_every_resource_is_counted() -> None:
    for name in ("memory_mb", "disk_io_mbps", "network_io_mbps", "accelerators", "sandboxes", "cpu_cores"):
        one = scheduler(symbi.Node(0, **{name: 3}))
        fields = {"cpu_cores": 0, name: 2}
        one.submit_many([symbi.Task(1, **fields), symbi.Task(2, **fields)])
        assert placed(one.next_many()) == [(1, 0)], name
        why = one.why(2)
        assert why.reason == "lacks"
        assert why.lacks == ((name, 2, 1),)


def test_a_more_urgent_task_makes_another_stand_still_which_goes_on_afterwards() -> None:
    one = scheduler(1, quantum_ms=10)
    one.submit(symbi.Task(1, priority=10))
    assert one.next().kind == "start"
    one.submit(symbi.Task(2, priority=250), now_ns=SECOND)
    (suspend,) = one.next_many(now_ns=SECOND)
    assert (suspend.kind, suspend.id, suspend.node, suspend.urgent) == ("suspend", 1, None, 2)
    one.suspended(1, now_ns=SECOND)
    assert placed(one.next_many(now_ns=SECOND)) == [(2, 0)]
    assert "stands still on node 0" in one.why(1).text
    one.complete(2, now_ns=2 * SECOND)
    (resume,) = one.next_many(now_ns=2 * SECOND)
    assert (resume.kind, resume.id, resume.node) == ("resume", 1, 0)


def test_without_preemption_nobody_is_told_to_stand_still() -> None:
    one = scheduler(1, preemption=False)
    one.submit(symbi.Task(1, priority=10))
    one.next_many()
    one.submit(symbi.Task(2, priority=250), now_ns=SECOND)
    assert one.next_many(now_ns=SECOND) == []


def test_a_task_that_may_not_be_disturbed_is_not() -> None:
    one = scheduler(1)
    one.submit(symbi.Task(1, priority=10, preemptible=False))
    one.next_many()
    one.submit(symbi.Task(2, priority=250), now_ns=SECOND)
    assert one.next_many(now_ns=SECOND) == []


def test_a_held_task_gives_processor_back_and_goes_on_only_after_its_release() -> None:
    one = scheduler(symbi.Node(0, cpu_cores=1, memory_mb=100))
    one.submit_many([symbi.Task(1, memory_mb=60), symbi.Task(2, memory_mb=40)])
    assert placed(one.next_many()) == [(1, 0)]
    one.hold(1)
    assert one.free(0)["memory_mb"] == 40, "memory is kept"
    assert placed(one.next_many()) == [(2, 0)]
    one.complete(2)
    assert one.next_many() == []
    assert one.why(1).reason == "held"
    one.release(1)
    assert [(p.kind, p.id) for p in one.next_many()] == [("resume", 1)]
    one.complete(1)
    assert one.stats().allocated["memory_mb"] == 0


def test_urgency_is_inherited_and_taken_back() -> None:
    one = scheduler(1)
    one.submit_many([symbi.Task(1, priority=10), symbi.Task(2, priority=100), symbi.Task(3, priority=200)])
    assert placed(one.next_many(1)) == [(3, 0)]
    one.inherit(1, 3)
    one.complete(3)
    one.submit(symbi.Task(4, priority=250))
    one.inherit(1, 4)
    one.disinherit(1, 4)
    assert placed(one.next_many()) == [(4, 0)]
    one.inherit(1, 4)
    one.complete(4)
    assert placed(one.next_many()) == [(2, 0)], "what was inherited from a task ends with it"


def test_the_tasks_of_a_lost_node_wait_again_and_run_elsewhere() -> None:
    one = scheduler(1, 1)
    one.submit_many([symbi.Task(1), symbi.Task(2), symbi.Task(3)])
    assert placed(one.next_many()) == [(1, 0), (2, 1)]
    assert one.lose_node(0) == [1]
    assert one.free(0) is None
    one.complete(2)
    assert placed(one.next_many()) == [(1, 1)], "it keeps its place before task 3"
    one.add_node(symbi.Node(5, cpu_cores=1))
    assert placed(one.next_many()) == [(3, 5)]


def test_nothing_starts_on_a_drained_node() -> None:
    one = scheduler(2, 1)
    one.drain_node(0)
    one.submit_many([symbi.Task(1), symbi.Task(2)])
    assert placed(one.next_many()) == [(1, 1)]


def test_a_move_is_proposed_and_made() -> None:
    one = scheduler(4)
    one.submit_many([symbi.Task(n) for n in range(4)])
    one.next_many()
    one.add_node(symbi.Node(9, cpu_cores=4))
    for move in one.rebalance():
        assert (move.source, move.target) == (0, 9)
        one.moved(move.id, move.target)
    assert one.free(9)["cpu_cores"] == 2
    one.complete_many([0, 1, 2, 3])
    with pytest.raises(symbi.TaskRefusedError) as caught:
        one.moved(0, 9)
    assert caught.value.code == "scheduler.unknown_task"


def test_batch_tenants_share_by_weight() -> None:
    one = scheduler(1, tenants={1: symbi.Tenant(weight=3), 2: symbi.Tenant(weight=1)})
    tasks = [symbi.Task(n, tier="batch", tenant=1 + n % 2, duration_ms=100) for n in range(80)]
    one.submit_many(tasks)
    first = []
    for turn in range(40):
        decision = one.next(now_ns=turn * SECOND // 10)
        first.append(1 + decision.id % 2)
        one.complete(decision.id, now_ns=(turn + 1) * SECOND // 10)
    assert first.count(1) == 30


def test_a_tenant_has_a_quota_and_a_limit_of_waiting_tasks() -> None:
    one = scheduler(8, tenants={1: symbi.Tenant(cpu_cores=2, waiting_max=3)})
    with pytest.raises(symbi.TaskRefusedError) as caught:
        one.submit_many([symbi.Task(n, tenant=1) for n in range(5)])
    assert {code: rows.tolist() for code, rows in caught.value.refused.items()} == {
        "scheduler.tenant_full": [3, 4]
    }
    assert len(one.next_many()) == 2
    assert one.why(2).reason == "quota"
    assert "tenant 1 holds as much as it may" in one.why(2).text
    with pytest.raises(symbi.TaskRefusedError) as caught:
        one.submit(symbi.Task(9, tenant=1, cpu_cores=3))
    assert caught.value.code == "scheduler.over_quota"


def test_a_realtime_task_is_admitted_only_if_its_deadline_can_be_kept() -> None:
    one = scheduler(1, realtime_percent=100)
    with pytest.raises(symbi.TaskRefusedError) as caught:
        one.submit(symbi.Task(1, tier="realtime", duration_ms=10))
    assert caught.value.code == "scheduler.incomplete"
    one.submit(symbi.Task(2, tier="realtime", deadline_ms=100, duration_ms=80))
    with pytest.raises(symbi.TaskRefusedError) as caught:
        one.submit(symbi.Task(3, tier="realtime", deadline_ms=100, duration_ms=80))
    assert caught.value.code == "scheduler.deadline"


def test_a_column_of_decisions_names_who_shall_stand_still() -> None:
    one = scheduler(1)
    one.submit_many(symbi.TaskBatch([1], priority=1))
    one.next_many()
    one.submit_many(symbi.TaskBatch([2], priority=255), now_ns=SECOND)
    told = one.next_many(now_ns=SECOND)
    assert told.suspend.tolist() == [1]
    assert told.started.tolist() == []
    assert (told.node.tolist(), told.urgent.tolist()) == ([NO_NODE], [2])
    assert [KINDS[kind] for kind in told.kind] == ["suspend"]
    assert one.suspended_many(told.suspend, now_ns=SECOND) == 1
    assert one.next_many(now_ns=SECOND).started.tolist() == [2]


def test_the_same_calls_with_the_same_times_give_the_same_answers() -> None:
    """SD3."""

    def history() -> list[tuple[str, int, int]]:
        random = np.random.default_rng(7)
        one = symbi.Scheduler([3, 2, 2], "best_fit", quantum_ms=1)
        told: list[tuple[str, int, int]] = []
        for step in range(200):
            now = step * 1_000_000
            ids = np.arange(step * 5, step * 5 + 5)
            batch = symbi.TaskBatch(ids, priority=random.integers(0, 256, 5), tier=random.integers(1, 3, 5))
            one.submit_many(batch, now_ns=now)
            answer = one.next_many(columns=True, now_ns=now)
            one.suspended_many(answer.suspend, now_ns=now)
            told += list(answer)
            one.complete_many(answer.started[::2], now_ns=now)
        return told

    assert history() == history()


def test_a_time_that_goes_back_counts_as_the_last() -> None:
    one = scheduler(1, ageing_ms=1)
    one.submit(symbi.Task(1), now_ns=5 * SECOND)
    one.submit(symbi.Task(2), now_ns=SECOND)
    assert placed(one.next_many(now_ns=0)) == [(1, 0)]
    for wrong in (-1, 2**63, 1.5, "now"):
        with pytest.raises(symbi.InputError, match="`now_ns`"):
            one.next(now_ns=wrong)  # type: ignore[arg-type]


def test_who_waits_long_enough_passes_the_more_urgent_who_come_later() -> None:
    one = scheduler(1, ageing_ms=10)
    one.submit(symbi.Task(1, priority=100), now_ns=0)
    one.submit(symbi.Task(2, priority=109), now_ns=SECOND // 10)
    one.submit(symbi.Task(3, priority=111), now_ns=SECOND // 10)
    order = []
    while (decision := one.next(now_ns=SECOND)) is not None:
        order.append(decision.id)
        one.complete(decision.id, now_ns=SECOND)
    assert order == [3, 1, 2]


def test_nobody_needs_to_poll_it_says_when_time_changes_something() -> None:
    one = scheduler(1, quantum_ms=50)
    assert one.wake_at_ns() is None
    one.submit(symbi.Task(1, priority=1))
    one.next_many()
    one.submit(symbi.Task(2, priority=200))
    assert one.next_many() == [], "the quantum is not over"
    wake = one.wake_at_ns()
    assert wake == 50_000_000
    assert [p.kind for p in one.next_many(now_ns=wake)] == ["suspend"]
