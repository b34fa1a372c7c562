"""One timer for all waits: LT1, LT2; and who is woken without the descriptor: BR5."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi.runtime.late import KEPT_MAX, Late

if TYPE_CHECKING:
    from pathlib import Path

BOUND_S = 20.0


class _Timer:
    def __init__(self, at_s: float, call: Any, *given: Any) -> None:
        self._at_s, self.call, self.given, self.cancelled = at_s, call, given, False

    def when(self) -> float:
        return self._at_s

    def cancel(self) -> None:
        self.cancelled = True


class _Clock(asyncio.SelectorEventLoop):
    """A loop whose time is told."""

    now_s = 100.0

    def __init__(self) -> None:
        super().__init__()
        self.timers: list[_Timer] = []

    def time(self) -> float:
        return self.now_s

    def call_at(self, when: float, callback: Any, *args: Any, **_: Any) -> Any:
        self.timers.append(_Timer(when, callback, *args))
        return self.timers[-1]

    def go_to(self, now_s: float) -> None:
        self.now_s = now_s
        for timer in [one for one in self.timers if not one.cancelled and one.when() <= now_s]:
            self.timers.remove(timer)
            timer.call(*timer.given)


def test_lt1_each_fails_at_its_time_and_one_timer_serves_all() -> None:
    loop = _Clock()
    late = Late(loop)
    futures = [loop.create_future() for _ in range(6)]
    for at_s, future in zip((105.0, 103.0, 109.0, 103.0, 104.0, 120.0), futures, strict=True):
        late.add(at_s, future)
        assert sum(not timer.cancelled for timer in loop.timers) == 1, "LT1: one timer"
    futures[4].set_result("in time")
    for now_s, done in ((102.9, {4}), (103.0, {1, 3, 4}), (106.0, {0, 1, 3, 4}), (119.0, {0, 1, 2, 3, 4})):
        loop.go_to(now_s)
        assert {at for at, future in enumerate(futures) if future.done()} == done, "LT1"
    assert isinstance(futures[0].exception(), TimeoutError)
    assert futures[4].result() == "in time"
    late.close()
    loop.go_to(200.0)
    assert not futures[5].done()
    assert not len(late)
    for future in futures[1:4]:
        assert future.exception() is not None
    loop.close()


def test_lt2_what_is_done_is_let_go() -> None:
    loop = _Clock()
    late = Late(loop)
    waits = [loop.create_future() for _ in range(100)]
    for future in waits:
        late.add(1_000.0, future)
    for _ in range(10 * KEPT_MAX):
        future = loop.create_future()
        late.add(500.0, future)
        future.set_result(None)
        assert len(late) <= KEPT_MAX + 2 * (len(waits) + 1), "LT2"  # and the one that was added
    loop.close()


@symbi.agent(name="ear", isolation="in_process")
async def ear() -> None: ...


@pytest.mark.asyncio
async def test_br5_who_waits_on_this_loop_goes_on_without_the_descriptor(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with symbi.Runtime.open(data=tmp_path, mode="development") as rt:
        one, other = await rt.schedule_agent(ear), await rt.schedule_agent(ear)
        waiting = asyncio.create_task(rt.bus.receive_many(other, timeout_s=BOUND_S))
        await asyncio.sleep(0)
        loop.remove_reader(rt.kernel.fileno())  # deaf
        await rt.bus.send(one, other, b"first")
        assert (await asyncio.wait_for(waiting, BOUND_S)).payloads == [b"first"], "BR5"
        waiting = asyncio.create_task(rt.bus.receive_many(other, timeout_s=BOUND_S))
        await asyncio.sleep(0)
        await rt.bus.send_many(one, [(other, b"second"), (other.id, b"third")])
        assert (await asyncio.wait_for(waiting, BOUND_S)).payloads == [b"second", b"third"], "BR5"
        loop.add_reader(rt.kernel.fileno(), rt.bridge._drain)


@pytest.mark.asyncio
async def test_br5_a_call_from_another_loop_wakes_who_waits_on_this_one(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path, mode="development") as rt:
        one, other = await rt.schedule_agent(ear), await rt.schedule_agent(ear)
        waiting = asyncio.create_task(rt.bus.receive_many(other, timeout_s=BOUND_S))
        await asyncio.sleep(0)
        await asyncio.to_thread(asyncio.run, rt.bus.send(one, other, b"from afar"))
        assert (await asyncio.wait_for(waiting, BOUND_S)).payloads == [b"from afar"], "BR5"
