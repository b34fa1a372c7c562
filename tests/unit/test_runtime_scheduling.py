"""Every setting of the scheduler reaches the scheduler of a runtime, and tenants that cannot be are refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi import _core
from symbi.config import SETTINGS, TenantSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BOUND_S = 20.0

FILE = """
[scheduler]
strategy = "priority"
headroom_percent = 25
critical_priority = 200
ageing_ms = "2s"
batch_turn = 4
quantum_ms = 7
realtime_percent = 60
preemption = false
tasks_max = 1000
cpu_cores = 3
memory_mb = 512
disk_io_mbps = 90
network_io_mbps = 80
sandboxes = 5

[[scheduler.tenants]]
name = "research"
weight = 3
waiting_max = 9
cpu_cores = 1.5
memory_mb = 256

[[scheduler.tenants]]
name = "ward"
"""


class Opened:
    """Stands before the native kernel and keeps what it was opened with."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = {}

    def open(self, data: Path, **said: Any) -> _core.Kernel:
        self.said = said
        return real(data, **said)


real = _core.Kernel.open


async def opened_with(config: symbi.Config, data: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    opened = Opened()
    monkeypatch.setattr(_core, "Kernel", opened)
    async with symbi.Runtime.open(config, data=data):
        return opened.said


def test_each_key_of_the_scheduler_reaches_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "symbi.toml"
    file.write_text(FILE, encoding="utf-8")
    config = symbi.Config.load(file, environ={})
    named = {setting.key for setting in SETTINGS if setting.key.startswith("scheduler.")}
    assert {key for key, origin in config.origins.items() if origin.kind == "file"} == named, "all are tried"
    said = asyncio.run(opened_with(config, tmp_path / "data", monkeypatch))
    assert said["scheduling"] == {
        "strategy": "priority",
        "headroom_percent": 25,
        "critical_priority": 200,
        "ageing_ms": 2_000,
        "batch_turn": 4,
        "quantum_ms": 7,
        "realtime_percent": 60,
        "preemption": False,
        "tasks_max": 1_000,
    }
    lent = ("cpu_millicores", "memory_mb", "disk_io_mbps", "network_io_mbps", "sandboxes")
    assert [said[name] for name in lent] == [3_000, 512, 90, 80, 5]
    uncounted = 2**32
    quota = [256, 1_500, uncounted, uncounted, uncounted, uncounted]
    assert said["tenants"] == [("research", 3, quota, 9), ("ward", 1, None, None)]


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - a few turns of the loop
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_tenants_have_the_quota_and_the_limit_of_the_configuration(tmp_path: Path) -> None:
    may_end = asyncio.Event()

    async def waits() -> None:
        await may_end.wait()

    overrides = {
        "scheduler.cpu_cores": 4,
        "scheduler.tenants": [{"name": "ward", "cpu_cores": 1, "waiting_max": 1}],
        "runtime.mode": "development",
    }
    config = symbi.Config.load(environ={}, overrides=overrides)
    core = symbi.ResourceLimits(cpu_cores=1)
    async with asyncio.timeout(BOUND_S), symbi.Runtime.open(config, data=tmp_path) as rt:

        async def agent(name: str, tenant: str) -> symbi.AgentHandle:
            return await rt.schedule_agent(
                symbi.AgentConfig(
                    name=name, function=waits, isolation="in_process", tenant=tenant, reserve=core
                )
            )

        first, second, third = [await agent(name, "ward") for name in ("first", "second", "third")]
        other = await agent("other", "else")
        runs = [asyncio.create_task(rt.run(one)) for one in (first, second, other)]
        await until(lambda: rt.kernel.agent_state(other.id) == "running")
        assert rt.kernel.agent_state(second.id) == "ready", (
            "of four cores three are free, and none for its tenant"
        )
        assert "tenant" in rt.why(second)["text"]
        with pytest.raises(symbi.SymbiError, match="as many as it may"):
            await rt.run(third)
        may_end.set()
        await asyncio.gather(*runs)


def test_a_tenant_says_what_it_may_have() -> None:
    assert str(TenantSettings("ward")) == "ward weight=1"
    assert TenantSettings("ward").quota() is None
    assert TenantSettings("ward", sandboxes=0).quota() == [2**32] * 5 + [0]


TENANT_REFUSALS = {
    "[scheduler]\ntenants = 3": "must be tables",
    "[scheduler]\ntenants = [3]": "must be tables",
    "[[scheduler.tenants]]\nweight = 1": "without a `name`",
    "[[scheduler.tenants]]\nname = 'a b'": "without a `name`",
    "[[scheduler.tenants]]\nname = 'a'\n[[scheduler.tenants]]\nname = 'a'": 'names "a" twice',
    "[[scheduler.tenants]]\nname = 'a'\nwieght = 1": "a `wieght`; accepted are `name`, `weight`",
    "[[scheduler.tenants]]\nname = 'a'\nweight = 0": "`weight` that is not a number from 1 to 1000000",
    "[[scheduler.tenants]]\nname = 'a'\nweight = true": "`weight` that is not",
    "[[scheduler.tenants]]\nname = 'a'\nmemory_mb = 1.5": "`memory_mb` that is not",
    "[[scheduler.tenants]]\nname = 'a'\ncpu_cores = -1": "`cpu_cores` that is not",
    "[[scheduler.tenants]]\nname = 'a'\ncpu_cores = nan": "`cpu_cores` that is not",
    "[[scheduler.tenants]]\nname = 'a'\naccelerators = 1": "a `accelerators`",
}


@pytest.mark.parametrize("text", TENANT_REFUSALS)
def test_ct1_a_tenant_that_cannot_be_is_refused_with_what_is_wrong(tmp_path: Path, text: str) -> None:
    file = tmp_path / "symbi.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(symbi.ConfigError) as caught:
        symbi.Config.load(file, environ={})
    assert TENANT_REFUSALS[text] in str(caught.value)


def test_ct1_more_tenants_than_one_opening_knows_are_refused() -> None:
    many = [{"name": f"t{number}"} for number in range(10_000)]
    with pytest.raises(symbi.ConfigError, match="may have 9999"):
        symbi.Config.load(environ={}, overrides={"scheduler.tenants": many})
    fits = symbi.Config.load(environ={}, overrides={"scheduler.tenants": many[1:]})
    assert len(fits.scheduler.tenants) == 9_999
