"""Rows of agents at work in the host's process: ten thousand of them, small tasks, a thousand a second.

Each program runs in an interpreter of its own. Processor time is that of the whole process, and, so that it can be
seen where it goes, that of its threads: the event loop's (Python, decisions, the scheduler), the signers of the trail,
and the one that brings it to the disk. What the scheduler alone takes is measured by itself, on the same tasks.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from functools import partial
from typing import Any

from symbi.bench.frame import BenchContext, NotMeasured, Peer, Row, Sample

_TIMEOUT_S = 60
_AGENTS = 10_000
_WATCHED_S = 10.0
_QUICK_S = 2.0  # with `--quick`
_RATE = 1_000  # tasks a second while processor time is watched
_SMALL_TASKS = 5_000  # of about 10 µs, to weigh what a run costs around them
_SMALL_TASK_US = 10
_SWITCHES = 100_000

# On `argv`: data directory, agents. The clock stops when the last result is there.
_ALL_RUN = """
import asyncio, sys, time, symbi
async def one(): return 1
async def main():
    count = int(sys.argv[2])
    async with symbi.Runtime.open(data=sys.argv[1], mode="development") as runtime:
        config = symbi.AgentConfig(name="one", function=one, isolation="in_process")
        begin = time.perf_counter()
        agents = await runtime.schedule_agents([config] * count)
        results = await runtime.run_many([(agent, {}) for agent in agents])
        took = time.perf_counter() - begin
        assert results == [1] * count
        print(took)
asyncio.run(main())
"""

# On `argv`: data directory, agents, seconds, tasks a second, `many` or `each`.
_AT_WORK = """
import asyncio, json, os, sys, time, symbi
def threads():
    spent = {}
    for thread in os.listdir("/proc/self/task"):
        try:
            ran = int(open(f"/proc/self/task/{thread}/schedstat").read().split()[0])
            name = open(f"/proc/self/task/{thread}/comm").read().strip()
        except OSError:
            continue
        name = "loop" if int(thread) == os.getpid() else name
        spent[name] = spent.get(name, 0) + ran / 1e9
    return spent
async def idle(): ...
async def main():
    count, watch, rate, many = int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "many"
    async with symbi.Runtime.open(data=sys.argv[1], mode="development") as runtime:
        config = symbi.AgentConfig(name="idle", function=idle, isolation="in_process")
        agents = await runtime.schedule_agents([config] * count)
        await asyncio.sleep(2)  # until the last records are on the disk
        before, spent, begin, ran = threads(), time.process_time(), time.perf_counter(), 0
        while (now := time.perf_counter() - begin) < watch:
            due = [agents[task % count] for task in range(ran, int(now * rate))]  # as many as came meanwhile
            if many:
                await runtime.run_many([(agent, None) for agent in due])
            else:
                await asyncio.gather(*(runtime.run(agent) for agent in due))
            ran += len(due)
            await asyncio.sleep(0.01)
        took = time.perf_counter() - begin
        whole, after = (time.process_time() - spent) / took, threads()
        assert ran >= 0.9 * rate * watch, f"{ran} tasks in {watch} s: this machine does not keep up with {rate}/s"
        share = lambda *names: sum(after[one] - before.get(one, 0) for one in after if one in names) / took * 100
        print(json.dumps({
            "whole": whole * 100,
            "loop": share("loop"),
            "signing": share("symbi-log-sign"),
            "disk": share("symbi-log-sync", "symbi-log-seal"),
        }))
asyncio.run(main())
"""

# The same tasks through the scheduler alone, one by one, as the runtime gives them to it.
_SCHEDULER = """
import sys, time, symbi
agents, rate, tasks = int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
scheduler = symbi.Scheduler(nodes=[symbi.Node(0, cpu_cores=2, memory_mb=4_096)])
made = [symbi.Task(task, agent=task % agents + 1, cpu_cores=0) for task in range(tasks)]
begin = time.process_time()
for task in made:
    scheduler.submit(task)
    for placed in scheduler.next_many(columns=False):
        scheduler.complete(placed.id)
spent = time.process_time() - begin
assert not len(scheduler)
print(spent / tasks * rate * 100)
"""

# Tasks that compute for about ten microseconds: as runs of an agent, or as bare coroutines.
_SMALL = """
import asyncio, sys, time, symbi
async def small():
    end = time.perf_counter_ns() + int(sys.argv[3]) * 1_000
    while time.perf_counter_ns() < end: pass
async def ours(count, many):
    async with symbi.Runtime.open(data=sys.argv[1], mode="development") as runtime:
        config = symbi.AgentConfig(name="small", function=small, isolation="in_process")
        agents = await runtime.schedule_agents([config] * 100)
        begin = time.perf_counter()
        for first in range(0, count, len(agents)):
            if many:
                await runtime.run_many([(agent, None) for agent in agents])
            else:
                await asyncio.gather(*(runtime.run(agent) for agent in agents))
        return time.perf_counter() - begin
async def bare(count):
    begin = time.perf_counter()
    for first in range(0, count, 100):
        await asyncio.gather(*(asyncio.create_task(small()) for _ in range(100)))
    return time.perf_counter() - begin
count, whose = int(sys.argv[2]), sys.argv[4]
print(asyncio.run(bare(count) if whose == "bare" else ours(count, whose == "many")) / count * 1e6)
"""

# Two agents that do nothing but give way to each other, and two threads that do.
_SWITCH = """
import asyncio, sys, threading, time, symbi
async def gives_way(times: int):
    for _ in range(times):
        await asyncio.sleep(0)
async def ours(count):
    async with symbi.Runtime.open(data=sys.argv[1], mode="development") as runtime:
        config = symbi.AgentConfig(name="switch", function=gives_way, isolation="in_process")
        agents = await runtime.schedule_agents([config] * 2)
        begin = time.perf_counter()
        await runtime.run_many([(agent, {"times": count // 2}) for agent in agents])
        return time.perf_counter() - begin
def threads(count):
    turns = [threading.Semaphore(1), threading.Semaphore(0)]
    def gives_way(mine, other):
        for _ in range(count // 2):
            mine.acquire()
            other.release()
    both = [threading.Thread(target=gives_way, args=turns), threading.Thread(target=gives_way, args=turns[::-1])]
    begin = time.perf_counter()
    for one in both: one.start()
    for one in both: one.join()
    return time.perf_counter() - begin
count = int(sys.argv[2])
print((asyncio.run(ours(count)) if sys.argv[3] == "ours" else threads(count)) / count * 1e6)
"""

_THOUSAND = f"processor time of {_RATE:,} tasks a second among {_AGENTS:,} agents"
_PARTS = (
    ("loop", "of which the event loop's thread: Python, decisions, records written, the scheduler"),
    ("signing", "of which signing: two records a task"),
    ("disk", "of which bringing them to the disk"),
)


def rows(suite: str) -> list[Row]:
    """The rows, under the name of the suite that shows them."""
    bare = Peer("asyncio", partial(_small, whose="bare"), f"Python {platform.python_version()}")
    threads = Peer("threads", partial(_switch, whose="threads"), f"Python {platform.python_version()}")
    awaited: dict[str, Any] = {"durability": "group commit, results awaited", "provider": "aws-lc"}

    def share(name: str, measure: Any, target: float | None = None, **more: Any) -> Row:
        return Row(suite, name, "%", "lower", measure=measure, target=target, **more)

    return [
        Row(
            suite,
            f"{_AGENTS:,} agents in the host's process scheduled, one task each",
            "s",
            "lower",
            measure=_all_run,
            target=1.0,
            **awaited,
        ),
        share(_THOUSAND, partial(_at_work, part="whole"), 2.0, **awaited),
        *(share(f"{_THOUSAND}, {said}", partial(_at_work, part=part), **awaited) for part, said in _PARTS),
        share(f"{_THOUSAND}, the scheduler alone", _scheduler, 2.0),
        share(
            f"{_THOUSAND}, a call of `run` for each", partial(_at_work, part="whole", how="each"), **awaited
        ),
        Row(
            suite,
            f"a task that computes for {_SMALL_TASK_US} µs, run by an agent",
            "µs",
            "lower",
            measure=partial(_small, whose="many"),
            peers=[bare],
            **awaited,
        ),
        Row(
            suite,
            f"a task that computes for {_SMALL_TASK_US} µs, run by an agent, a call of `run` for each",
            "µs",
            "lower",
            measure=partial(_small, whose="each"),
            peers=[bare],
            **awaited,
        ),
        Row(
            suite,
            "a switch from one agent to another in the host's process",
            "µs",
            "lower",
            measure=partial(_switch, whose="ours"),
            peers=[threads],
        ),
    ]


def _all_run(context: BenchContext) -> Sample:
    return Sample(float(program(_ALL_RUN, str(context.fresh()), str(_AGENTS))))  # as many as the row says


def _at_work(context: BenchContext, part: str, how: str = "many") -> Sample:
    """One part of one run; the rows of all parts read the same runs, each the next one that it has not read."""
    runs: list[dict[str, float]] = context.once(f"running:{how}", list)
    read: list[None] = context.once(f"running:{how}:{part}", list)
    if len(read) == len(runs):
        seconds = _QUICK_S if context.quick else _WATCHED_S
        numbers = (_AGENTS, seconds, _RATE)
        runs.append(json.loads(program(_AT_WORK, str(context.fresh()), *map(str, numbers), how)))
    read.append(None)
    return Sample(runs[len(read) - 1][part])


def _scheduler(context: BenchContext) -> Sample:
    numbers = (_AGENTS, _RATE, context.scale(50_000))
    return Sample(float(program(_SCHEDULER, str(context.fresh()), *map(str, numbers))))


def _small(context: BenchContext, whose: str) -> Sample:
    numbers = (context.scale(_SMALL_TASKS), _SMALL_TASK_US)
    return Sample(float(program(_SMALL, str(context.fresh()), *map(str, numbers), whose)))


def _switch(context: BenchContext, whose: str) -> Sample:
    count = context.scale(_SWITCHES)
    return Sample(float(program(_SWITCH, str(context.fresh()), str(count), whose)))


def program(text: str, *arguments: str) -> str:
    """Runs `text` in an interpreter of its own; its stdout.

    Raises:
        NotMeasured: this build has no runtime.
        RuntimeError: the program broke; the last line of what it said.
    """
    command = [sys.executable, "-c", text, *arguments]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_TIMEOUT_S)
    if ran.returncode == 0:
        return ran.stdout
    last = (ran.stderr.strip().splitlines() or ["no word"])[-1]
    if last.startswith(("ImportError", "ModuleNotFoundError")):
        raise NotMeasured(f"this build has no runtime: {last}")
    raise RuntimeError(last)
