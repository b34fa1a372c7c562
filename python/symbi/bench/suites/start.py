"""What a user waits for before anything happens, and what agents cost that do nothing or little.

Why whole processes: what a user feels is the interpreter's start and ours, warm disk, cold everything else.
The bare interpreter runs beside each start, so that its own cost and the machine's mood fall out.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from functools import partial

from symbi.bench import collecting, monitor
from symbi.bench.frame import BenchContext, NotMeasured, Peer, Row, Sample, percentile

NAME, SUMMARY = "start", "import, help, the first decision, agents idle and at work"

_STARTS = 20  # processes a run: one alone is noise
_TIMEOUT_S = 60
_AGENTS = 10_000
_SETTLE_S = 2.0  # until the last records are on the disk and `head` is named
_WATCHED_S = 10.0  # watched for processor time: a tick of one a second would show
_QUICK_S = 2.0  # with `--quick`
_RATE = 1_000  # tasks a second while processor time is watched
_SMALL_TASKS = 5_000  # of about 10 µs, to weigh what a run costs around them
_SMALL_TASK_US = 10
_SWITCHES = 100_000

_BARE = "pass"
_IMPORT = "import symbi"
_CONFIG = "import symbi; symbi.Config.load(environ={})"
_HELP = "from symbi.cli.main import main; raise SystemExit(main(['--help']))"

# The whole way of a newcomer's first script: the interpreter, the import, the trail made, one decision on
# disk.
_FIRST = """
import asyncio, sys, symbi
async def idle(): ...
async def main():
    async with symbi.Runtime.open(data=sys.argv[1], mode="development") as runtime:
        await runtime.schedule_agent(symbi.AgentConfig(name="first", function=idle, isolation="in_process"))
asyncio.run(main())
"""

# What is measured, on `argv`: data directory, agents, seconds to settle, seconds to watch, tasks a second.
_IDLE = """
import asyncio, json, os, sys, time, symbi
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
async def idle(): ...
async def main():
    count, settle, watch, rate = int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
    async with symbi.Runtime.open(data=sys.argv[1], mode="development") as runtime:
        config = symbi.AgentConfig(name="idle", function=idle, isolation="in_process")
        warm = count // 10  # pools and caches; the rest is what one more agent costs
        first = [await runtime.schedule_agent(config) for _ in range(warm)]
        before = resident()
        agents = [await runtime.schedule_agent(config) for _ in range(count - warm)]
        after = resident()
        await asyncio.sleep(settle)
        spent, begin, ran = time.process_time(), time.perf_counter(), 0
        while (now := time.perf_counter() - begin) < watch:
            due = range(ran, int(now * rate))  # as many as came meanwhile, side by side
            await asyncio.gather(*(runtime.run(agents[task % len(agents)], {}) for task in due))
            ran += len(due)
            await asyncio.sleep(0.01 if rate else watch - now)
        share = (time.process_time() - spent) / (time.perf_counter() - begin)
        assert ran >= 0.9 * rate * watch, f"{ran} tasks in {watch} s: this machine does not keep up with {rate}/s"
        print(json.dumps({"kib": (after - before) / len(agents) / 1024, "percent": share * 100}))
asyncio.run(main())
"""

# Agents are scheduled and each runs one task; the clock stops when the last result is there.
_ALL_RUN = """
import asyncio, sys, time, symbi
async def one(): return 1
async def main():
    count = int(sys.argv[2])
    async with symbi.Runtime.open(data=sys.argv[1], mode="development") as runtime:
        config = symbi.AgentConfig(name="one", function=one, isolation="in_process")
        begin = time.perf_counter()
        agents = [await runtime.schedule_agent(config) for _ in range(count)]
        results = await asyncio.gather(*(runtime.run(agent, {}) for agent in agents))
        took = time.perf_counter() - begin
        assert results == [1] * count
        print(took)
asyncio.run(main())
"""

# Tasks that compute for about ten microseconds: as runs of an agent, or as bare coroutines.
_SMALL = """
import asyncio, sys, time, symbi
async def small():
    end = time.perf_counter_ns() + int(sys.argv[3]) * 1_000
    while time.perf_counter_ns() < end: pass
async def ours(count):
    async with symbi.Runtime.open(data=sys.argv[1], mode="development") as runtime:
        config = symbi.AgentConfig(name="small", function=small, isolation="in_process")
        agents = [await runtime.schedule_agent(config) for _ in range(100)]
        begin = time.perf_counter()
        for first in range(0, count, len(agents)):
            await asyncio.gather(*(runtime.run(agent, {}) for agent in agents))
        return time.perf_counter() - begin
async def bare(count):
    begin = time.perf_counter()
    for first in range(0, count, 100):
        await asyncio.gather(*(asyncio.create_task(small()) for _ in range(100)))
    return time.perf_counter() - begin
count = int(sys.argv[2])
print(asyncio.run((ours if sys.argv[4] == "ours" else bare)(count)) / count * 1e6)
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
        agents = [await runtime.schedule_agent(config) for _ in range(2)]
        begin = time.perf_counter()
        await asyncio.gather(*(runtime.run(agent, {"times": count // 2}) for agent in agents))
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


def rows(context: BenchContext) -> list[Row]:  # noqa: ARG001
    """The rows of this suite."""
    return [
        Row(NAME, "import symbi, over the bare interpreter", "ms", "lower", measure=_import, target=80.0),
        Row(NAME, "symbi --help", "ms", "lower", measure=_help, target=150.0),
        Row(NAME, "defaults and environment into a Config, over the import", "ms", "lower", measure=_config),
        Row(
            NAME,
            "first decision through Runtime.open, the whole process",
            "ms",
            "lower",
            measure=_first,
            target=250.0,
            durability="group commit",
            provider="aws-lc",
        ),
        Row(
            NAME, "an idle agent among 10,000", "KiB", "lower", measure=_memory, target=8.0, provider="aws-lc"
        ),
        Row(NAME, "processor time of 10,000 idle agents", "%", "lower", measure=_processor, target=0.1),
        Row(
            NAME,
            "processor time of 1,000 tasks a second among 10,000 agents",
            "%",
            "lower",
            measure=partial(_processor, rate=_RATE),
            target=2.0,
            durability="group commit, not awaited",
            provider="aws-lc",
        ),
        Row(
            NAME,
            "10,000 agents in the host's process scheduled, one task each",
            "s",
            "lower",
            measure=_all_run,
            target=1.0,
            durability="group commit, results awaited",
            provider="aws-lc",
        ),
        Row(
            NAME,
            f"a task that computes for {_SMALL_TASK_US} µs, run by an agent",
            "µs",
            "lower",
            measure=partial(_small, whose="ours"),
            peers=[Peer("asyncio", partial(_small, whose="bare"), f"Python {platform.python_version()}")],
            durability="group commit, results awaited",
            provider="aws-lc",
        ),
        Row(
            NAME,
            "a switch from one agent to another in the host's process",
            "µs",
            "lower",
            measure=partial(_switch, whose="ours"),
            peers=[Peer("threads", partial(_switch, whose="threads"), f"Python {platform.python_version()}")],
        ),
        *collecting.rows(NAME),
        *monitor.rows(NAME),
    ]


def _import(context: BenchContext) -> Sample:
    return _over(_IMPORT, _BARE, context)


def _config(context: BenchContext) -> Sample:
    return _over(_CONFIG, _IMPORT, context)


def _help(context: BenchContext) -> Sample:
    times = sorted(_start_ms(_HELP) for _ in range(context.scale(_STARTS, floor=5)))
    return Sample(percentile(times, 0.5), percentile(times, 0.5), percentile(times, 0.99))


def _first(context: BenchContext) -> Sample:
    times = []
    for _ in range(context.scale(_STARTS, floor=5)):
        begin = time.perf_counter()
        _program(_FIRST, str(context.fresh()))
        times.append((time.perf_counter() - begin) * 1e3)
    times.sort()
    return Sample(percentile(times, 0.5), percentile(times, 0.5), percentile(times, 0.99))


def _memory(context: BenchContext) -> Sample:
    return Sample(_idle(context, 0.0, 0.1, 0)["kib"])


def _processor(context: BenchContext, rate: int = 0) -> Sample:
    watched = _QUICK_S if context.quick else _WATCHED_S
    return Sample(_idle(context, _SETTLE_S, watched, rate)["percent"])


def _idle(context: BenchContext, settle_s: float, watched_s: float, rate: int) -> dict[str, float]:
    numbers = (context.scale(_AGENTS), settle_s, watched_s, rate)
    measured: dict[str, float] = json.loads(_program(_IDLE, str(context.fresh()), *map(str, numbers)))
    return measured


def _all_run(context: BenchContext) -> Sample:
    return Sample(float(_program(_ALL_RUN, str(context.fresh()), str(context.scale(_AGENTS)))))


def _small(context: BenchContext, whose: str) -> Sample:
    numbers = (context.scale(_SMALL_TASKS), _SMALL_TASK_US)
    return Sample(float(_program(_SMALL, str(context.fresh()), *map(str, numbers), whose)))


def _switch(context: BenchContext, whose: str) -> Sample:
    count = context.scale(_SWITCHES)
    return Sample(float(_program(_SWITCH, str(context.fresh()), str(count), whose)))


def _program(text: str, *arguments: str) -> str:
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


def _over(program: str, base: str, context: BenchContext) -> Sample:
    """What `program` takes more than `base`: medians of starts side by side, in ms."""
    pairs = [(_start_ms(base), _start_ms(program)) for _ in range(context.scale(_STARTS, floor=5))]
    bare, ours = (sorted(times) for times in zip(*pairs, strict=True))
    floor = percentile(bare, 0.5)
    return Sample(
        percentile(ours, 0.5) - floor, percentile(ours, 0.5) - floor, percentile(ours, 0.99) - floor
    )


def _start_ms(program: str) -> float:
    """One whole process, in ms."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=_TIMEOUT_S)
    return (time.perf_counter() - begin) * 1e3
