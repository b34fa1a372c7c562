"""What the host reads of a sandbox: both versions of control groups, and a process. The files here are the kernel's own
formats; `security/test_limits_held.py` reads real ones."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from symbi.sandbox.control_group import Freezer
from symbi.sandbox.usage import ControlGroupMeter, Meter, ProcessMeter, Usage
from symbi.sandbox.watch import Watch

FIRST = {
    "memory/docker/x/memory.usage_in_bytes": "62562304\n",
    "memory/docker/x/memory.max_usage_in_bytes": "66760704\n",
    "memory/docker/x/memory.stat": "cache 6754304\ninactive_file 1\ntotal_cache 6754304\ntotal_inactive_file 2562304\n",
    "cpuacct/docker/x/cpuacct.usage": "551521616\n",
    "cpu/docker/x/cpu.stat": "nr_periods 11\nnr_throttled 10\nthrottled_time 158146932\n",
    "blkio/docker/x/blkio.throttle.io_service_bytes_recursive": "8:0 Read 4096\n8:0 Write 8192\n8:16 Read 1\nTotal 12289\n",
    "pids/docker/x/pids.current": "3\n",
}
SECOND = {
    "docker/x/memory.current": "62562304\n",
    "docker/x/memory.peak": "66760704\n",
    "docker/x/memory.stat": "anon 5\nfile 6\ninactive_file 2562304\n",
    "docker/x/cpu.stat": "usage_usec 551521\nuser_usec 5\nnr_throttled 10\nthrottled_usec 158146\n",
    "docker/x/io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2\n8:16 rbytes=1 wbytes=0\n",
    "docker/x/pids.current": "3\n",
}
EXPECTED = Usage(
    memory_bytes=60_000_000,
    memory_peak_bytes=66_760_704,
    cpu_time_us=551_521,
    throttled_us=158_146,
    read_bytes=4_097,
    written_bytes=8_192,
    processes=3,
)


@dataclass
class Host:
    """A host's `/sys/fs/cgroup` and `/proc`, in a directory."""

    root: Path
    processes: Path
    files: dict[str, str] = field(default_factory=dict)

    def lay(self, membership: str, files: dict[str, str]) -> None:
        (self.processes / "7").mkdir(parents=True)
        (self.processes / "7" / "cgroup").write_text(membership)
        for name, text in files.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        place = self.root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "cgroup", tmp_path / "proc")


MEMBERSHIP = {
    1: "5:memory:/docker/x\n4:cpu:/docker/x\n3:cpuacct:/docker/x\n2:blkio:/docker/x\n1:pids:/docker/x\n0::/docker/x\n",
    2: "0::/docker/x\n",
}


@pytest.mark.parametrize(("version", "files"), [(1, FIRST), (2, SECOND)])
def test_both_versions_of_control_groups_say_the_same(
    host: Host, version: int, files: dict[str, str]
) -> None:
    host.lay(MEMBERSHIP[version], files)
    meter = ControlGroupMeter.of(7, host.root, host.processes)
    assert meter.read() == EXPECTED
    meter.close()


def test_us1_what_cannot_be_read_is_none_and_not_zero(host: Host) -> None:
    host.lay(MEMBERSHIP[2], {"docker/x/memory.current": "max\n", "docker/x/pids.current": ""})
    assert ControlGroupMeter.of(7, host.root, host.processes).read() == Usage(), "US1"
    assert ControlGroupMeter.of(8, host.root, host.processes).read() == Usage(), "US1: no such process"


def test_us1_a_group_that_a_namespace_hides_is_not_taken_for_the_machine(host: Host) -> None:
    host.lay("0::/\n", {"memory.current": "8000000000\n"})
    assert ControlGroupMeter.of(7, host.root, host.processes).read() == Usage(), "US1"


def test_us2_what_grows_never_goes_back_and_the_last_reading_stays(host: Host) -> None:
    host.lay(MEMBERSHIP[2], SECOND)
    meter = ControlGroupMeter.of(7, host.root, host.processes)
    meter.read()
    host.write("docker/x/cpu.stat", "usage_usec 1\nthrottled_usec 2\n")
    host.write("docker/x/memory.current", "10000000\n")
    again = meter.read()
    assert (again.cpu_time_us, again.throttled_us) == (551_521, 158_146), "US2"
    assert again.memory_bytes == 10_000_000 - 2_562_304, "memory is given back"
    meter.close()
    assert meter.read() == again, "US2"


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_us3_a_closed_meter_holds_no_descriptor(host: Host) -> None:
    host.lay(MEMBERSHIP[1], FIRST)
    before = descriptors()
    meters = [ControlGroupMeter.of(7, host.root, host.processes) for _ in range(20)]
    assert descriptors() == before + 20 * len(FIRST)
    for meter in meters:
        meter.close()
    assert descriptors() == before, "US3"


def test_a_process_is_read_too() -> None:
    """The kernel's own words about this very process."""
    meter = ProcessMeter.of(os.getpid())
    used = meter.read()
    meter.close()
    assert used.memory_bytes is not None
    assert used.memory_peak_bytes is not None
    assert used.processes is not None
    assert used.memory_peak_bytes >= used.memory_bytes > 1 << 20
    assert used.processes >= 1
    assert used.throttled_us is None, "US1: a process has no share to wait for"


class Scripted(Meter):
    """Memory as it is set."""

    def __init__(self) -> None:
        super().__init__({})
        self.memory_bytes = 0
        self.readings = 0

    def read(self) -> Usage:
        self.readings += 1
        return Usage(memory_bytes=self.memory_bytes)


@pytest.mark.asyncio
async def test_wt1_a_limit_that_comes_near_is_told_once() -> None:
    meter, told = Scripted(), []
    watch = Watch(meter.read, {"memory_mb": 1_000}, lambda *near: told.append(near))
    for used in (100, 899, 900, 950, 100, 990):
        meter.memory_bytes = used
        watch.look()
    assert told == [("memory_mb", 900, 1_000)], "WT1"
    watch.stop()


@pytest.mark.asyncio
async def test_wt2_a_stopped_watch_reads_and_tells_nothing() -> None:
    meter, told = Scripted(), []
    meter.memory_bytes = 1_000
    watch = Watch(meter.read, {"memory_mb": 1_000}, lambda *near: told.append(near))
    watch.stop()
    loop = asyncio.get_running_loop()
    assert meter.readings == 0
    assert not [timer for timer in loop._scheduled if not timer.cancelled()], "WT2"  # type: ignore[attr-defined]
    watch.look()
    assert told == [], "WT2"


@pytest.mark.asyncio
async def test_a_watch_reads_less_and_less_often_while_nothing_changes() -> None:
    meter = Scripted()
    watch = Watch(meter.read, {"memory_mb": 1_000}, lambda *_: None)
    pauses = []
    for used in (500, 500, 500, 500, 700, 700):
        meter.memory_bytes = used
        watch.look()
        pauses.append(round(watch._pause_s * 1000))
    assert pauses == [50, 100, 200, 400, 50, 100]
    watch.stop()


# A group frozen past its engine

CONTAINER = "0123456789abcdef" * 4
FROZEN_BY = {
    1: ("3:freezer:/docker/{id}\n", "freezer/docker/{id}/freezer.state", "FROZEN", "THAWED"),
    2: ("0::/system.slice/docker-{id}.scope\n", "system.slice/docker-{id}.scope/cgroup.freeze", "1", "0"),
}


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_is_frozen_and_thawed_by_its_group_alone(host: Host, version: int) -> None:
    membership, switch, frozen, thawed = (text.format(id=CONTAINER) for text in FROZEN_BY[version])
    events = f"{switch.rpartition('/')[0]}/cgroup.events"
    host.lay(membership, {switch: thawed, events: "populated 1\nfrozen 0\n"})
    freezer = Freezer.of(7, CONTAINER, host.root, host.processes)
    assert freezer is not None
    assert not freezer.frozen
    freezer.freeze()
    assert (host.root / switch).read_text() == frozen
    host.write(events, "populated 1\nfrozen 1\n")
    assert freezer.frozen
    freezer.thaw()
    assert (host.root / switch).read_text() == thawed


def test_cg1_no_group_is_frozen_that_is_not_the_containers_own(host: Host) -> None:
    membership, switch, _, thawed = (text.format(id=CONTAINER) for text in FROZEN_BY[2])
    host.lay(membership, {switch: thawed})
    assert Freezer.of(7, "f" * 64, host.root, host.processes) is None, "another container's"
    assert Freezer.of(7, "", host.root, host.processes) is None, "a name that fits everything"
    assert Freezer.of(8, CONTAINER, host.root, host.processes) is None, "nobody"
    (host.processes / "7" / "cgroup").write_text(f"0::/{CONTAINER}/inner\n")
    assert Freezer.of(7, CONTAINER, host.root, host.processes) is None, "below it"
    (host.processes / "7" / "cgroup").write_text("0::/\n")
    assert Freezer.of(7, CONTAINER, host.root, host.processes) is None, "everybody's"
