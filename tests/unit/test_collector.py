"""The collector's timer: armed while there is garbage, never without; and what leaks is seen."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi._core import Kernel
from symbi.runtime.bridge import Bridge
from symbi.runtime.collector import Collector
from symbi.runtime.leaks import GROWTH_MIN, SAMPLE_S, SAMPLES, LeakMonitor
from symbi.runtime.leaving import CODES_MAX, Faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BOUND_S = 30.0
INTERVAL_MS = 20

SHAPE: dict[str, Any] = {
    "kind": "python",
    "in_process": True,
    "tier": "degraded",
    "capabilities": [],
    "labels": [],
    "memory_mb": None,
    "cpu_millicores": None,
    "disk_io_mbps": None,
    "network_io_mbps": None,
    "connections": None,
    "execution_timeout_ms": None,
}


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    opened = Kernel.open(tmp_path / "data")
    yield opened
    opened.close()


class House:
    """A kernel, its bridge and its collector, as a runtime joins them."""

    def __init__(self, kernel: Kernel) -> None:
        loop = asyncio.get_running_loop()
        self.kernel = kernel
        self.stepped = asyncio.Event()
        self.collector = Collector(kernel, loop, INTERVAL_MS, self.stepped.set)
        self.bridge = Bridge(kernel, loop, self.collector.bell)

    def agent(self, name: str) -> str:
        return self.kernel.create_agents("host", name=name, **SHAPE)[0][0]

    async def settled(self) -> None:
        """Until there is no garbage and no timer."""
        async with asyncio.timeout(BOUND_S):
            while self.collector.armed or self.kernel.collect_in_ns() is not None:
                self.stepped.clear()
                await self.stepped.wait()

    def close(self) -> None:
        self.collector.close()
        self.bridge.close()


@pytest.mark.asyncio
async def test_co2_a_runtime_with_idle_agents_has_no_timer(kernel: Kernel) -> None:
    house = House(kernel)
    for number in range(100):
        house.agent(f"agent-{number}")
    await asyncio.sleep(0)
    house.collector.bell()
    assert not house.collector.armed, "CO2"
    house.close()


@pytest.mark.asyncio
async def test_co2_after_work_the_garbage_goes_and_then_the_timer(kernel: Kernel) -> None:
    house = House(kernel)
    agents = [house.agent(f"agent-{number}") for number in range(50)]
    for agent in agents:
        kernel.send(agent, agents[0], b"hello")
    kernel.receive_many(agents[0], 100)
    for agent in agents:
        kernel.stop_agent("host", agent, True)
    await house.settled()
    assert not any(kernel.live().values()), kernel.live()
    assert house.collector.steps >= 1
    house.close()
    assert not house.collector.armed, "CO2"


@pytest.mark.asyncio
async def test_co1_between_two_steps_lies_the_interval(kernel: Kernel) -> None:
    """By the loop's clock as the collector reads it: the steps ask for the next one no earlier."""
    loop = asyncio.get_running_loop()
    wanted: list[float] = []

    class Always:
        """A kernel with garbage without end."""

        def collect_in_ns(self) -> int:
            return 0

        def collect(self, _units: int) -> None:
            wanted.append(loop.time())

    done = asyncio.Event()

    def after() -> None:
        if len(wanted) == 5:
            done.set()

    collector = Collector(Always(), loop, INTERVAL_MS, after)  # type: ignore[arg-type]
    collector.bell()
    collector.bell()
    await asyncio.wait_for(done.wait(), BOUND_S)
    collector.close()
    pauses_ms = [(later - earlier) * 1000 for earlier, later in pairwise(wanted)]
    assert all(pause_ms >= INTERVAL_MS - 1 for pause_ms in pauses_ms), f"CO1: {pauses_ms}"


@pytest.mark.asyncio
async def test_a_request_whose_asker_was_cancelled_waits_for_nobody(tmp_path: Path) -> None:
    async def idle() -> None: ...

    async with symbi.Runtime.open(data=tmp_path / "data") as rt:
        config = symbi.AgentConfig(name="asks", function=idle, isolation="in_process")
        one, two = await rt.schedule_agent(config), await rt.schedule_agent(config)
        asked = {"recipient": two.id, "payload": b"?", "timeout_s": 30}
        asking = asyncio.create_task(rt.dispatcher.call(one.id, "bus.request", asked))
        async with asyncio.timeout(BOUND_S):
            while rt.kernel.live()["requests"] == 0:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert rt.kernel.live()["requests"] == 0
        assert rt.bridge.waiting == 0


def test_names_that_an_agent_makes_up_for_its_errors_do_not_fill_the_memory() -> None:
    faults = Faults()
    for number in range(10 * CODES_MAX):
        faults.note("agents", f"made.up.{number}", "agent-1")
    assert len(faults.counts) == len(faults.by_agent["agent-1"]) == CODES_MAX + 1
    assert sum(count for count, _ in faults.counts.values()) == 10 * CODES_MAX, "all are counted"


class Minutes:
    """A leak monitor whose minutes pass when they are told to."""

    def __init__(self, number: Callable[[int], int]) -> None:
        self.minute = 0
        self.monitor = LeakMonitor(
            lambda: {"sessions": number(self.minute)}, lambda: 1 + self.minute * SAMPLE_S
        )

    def pass_(self, minutes: int) -> None:
        for _ in range(minutes):
            self.monitor.look()
            self.monitor.look()  # twice in a minute is once
            self.minute += 1


def test_lk1_what_grows_every_minute_is_reported_with_its_numbers() -> None:
    minutes = Minutes(lambda minute: 10 + 20 * minute)
    minutes.pass_(SAMPLES - 1)
    assert minutes.monitor.growing() == {}, "LK1"
    minutes.pass_(1)
    assert minutes.monitor.growing() == {"sessions": (10, 170)}, "LK1"


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(lambda _: 10_000, id="many, and no more"),
        pytest.param(lambda minute: min(minute, 1) * 10_000, id="a start of ten thousand"),
        pytest.param(lambda minute: minute * 100 if minute % 5 else 0, id="a sawtooth"),
        pytest.param(lambda minute: minute * (GROWTH_MIN - 1) // SAMPLES, id="a cache that fills"),
    ],
)
def test_lk1_what_does_not_only_grow_is_not_reported(number: Callable[[int], int]) -> None:
    minutes = Minutes(number)
    for _ in range(60):
        minutes.pass_(1)
        assert minutes.monitor.growing() == {}, "LK1"


def test_lk1_an_idle_hour_ends_a_growth() -> None:
    minutes = Minutes(lambda minute: 20 * minute)
    minutes.pass_(SAMPLES - 1)
    minutes.minute += 60
    minutes.pass_(1)
    assert minutes.monitor.growing() == {}, "LK1"


def test_lk2_the_highest_number_of_each_kind_is_kept() -> None:
    minutes = Minutes(lambda minute: [3, 9, 4][minute % 3])
    minutes.pass_(30)
    assert minutes.monitor.highest == {"sessions": 9}
    assert all(len(numbers) <= SAMPLES for numbers in minutes.monitor._samples.values()), "LK2"
