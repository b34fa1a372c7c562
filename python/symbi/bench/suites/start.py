"""What a user waits for before anything happens, and what agents cost that do nothing or little.

Why whole processes: what a user feels is the interpreter's start and ours, warm disk, cold everything else.
The bare interpreter runs beside each start, so that its own cost and the machine's mood fall out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

from symbi.bench import collecting, monitor, running
from symbi.bench.frame import BenchContext, Row, Sample, percentile
from symbi.bench.running import program

NAME, SUMMARY = "start", "import, help, the first decision, the demo, agents idle and at work"

_STARTS = 20  # processes a run: one alone is noise
_TIMEOUT_S = 60
_AGENTS = 10_000
_SETTLE_S = 2.0  # until the last records are on the disk and `head` is named
_WATCHED_S = 10.0  # watched for processor time: a tick of one a second would show
_QUICK_S = 2.0  # with `--quick`

_BARE = "pass"
_IMPORT = "import symbi"
_CONFIG = "import symbi; symbi.Config.load(environ={})"
_HELP = "from symbi.cli.main import main; raise SystemExit(main(['--help']))"
_DEMO = "import sys; from symbi.cli.main import main; raise SystemExit(main(['demo', '--data', sys.argv[1]]))"

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

# What is measured, on `argv`: data directory, agents, seconds to settle, seconds to watch.
_IDLE = """
import asyncio, json, os, sys, time, symbi
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
async def idle(): ...
async def main():
    count, settle, watch = int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
    async with symbi.Runtime.open(data=sys.argv[1], mode="development") as runtime:
        config = symbi.AgentConfig(name="idle", function=idle, isolation="in_process")
        warm = count // 10  # pools and caches; the rest is what one more agent costs
        first = await runtime.schedule_agents([config] * warm)
        before = resident()
        agents = await runtime.schedule_agents([config] * (count - warm))
        after = resident()
        await asyncio.sleep(settle)
        spent, begin = time.process_time(), time.perf_counter()
        await asyncio.sleep(watch)
        share = (time.process_time() - spent) / (time.perf_counter() - begin)
        print(json.dumps({"kib": (after - before) / len(agents) / 1024, "percent": share * 100}))
asyncio.run(main())
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
            NAME,
            f"an idle agent among {_AGENTS:,}",
            "KiB",
            "lower",
            measure=_memory,
            target=8.0,
            provider="aws-lc",
        ),
        Row(NAME, f"processor time of {_AGENTS:,} idle agents", "%", "lower", measure=_processor, target=0.1),
        Row(
            NAME,
            "symbi demo on the bundled files, in the strongest tier that works here",
            "s",
            "lower",
            measure=_demo,
            target=20.0,
            durability="group commit",
            provider="aws-lc",
        ),
        *running.rows(NAME),
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
        program(_FIRST, str(context.fresh()))
        times.append((time.perf_counter() - begin) * 1e3)
    times.sort()
    return Sample(percentile(times, 0.5), percentile(times, 0.5), percentile(times, 0.99))


def _demo(context: BenchContext) -> Sample:
    begin = time.perf_counter()
    program(_DEMO, str(context.fresh()))
    return Sample(time.perf_counter() - begin)


def _memory(context: BenchContext) -> Sample:
    return Sample(_idle(context, 0.0, 0.1)["kib"])


def _processor(context: BenchContext) -> Sample:
    return Sample(_idle(context, _SETTLE_S, _QUICK_S if context.quick else _WATCHED_S)["percent"])


def _idle(context: BenchContext, settle_s: float, watched_s: float) -> dict[str, float]:
    numbers = (_AGENTS, settle_s, watched_s)  # as many as the row says, `--quick` or not
    measured: dict[str, float] = json.loads(program(_IDLE, str(context.fresh()), *map(str, numbers)))
    return measured


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
