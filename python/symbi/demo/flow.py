"""The demo, from a directory to a report: four agents, one monitor, real sandboxes.

scout ─▶ librarian ─▶ knowledge base ─▶ analyst ─▶ courier ─▶ policy ─▶ outbox

Why one file: it is the story, in its order. Each step is a few lines that a user's own program could hold.
Not here: how it is told (`screen`, `page`), what may leave (the policies), what agents do (`agents`).

Invariants
- DF1 nothing reaches the outbox except through `outbox.send`, decided part by part.
- DF2 every agent runs in a sandbox of the one tier that was chosen.
- DF3 whatever was not read is said.
"""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symbi.agents import AgentConfig, AgentHandle
from symbi.demo import agents as python_agents
from symbi.demo import tiers, trail
from symbi.demo.intake import Intake, Reading
from symbi.demo.left_out import FILE_BYTES_MAX, FILES_MAX, counted, not_read
from symbi.demo.outbox import Outbox
from symbi.demo.outbox import send as outbox_send
from symbi.demo.policies import write_policies
from symbi.demo.questions import CLINIC_QUESTIONS
from symbi.demo.result import AgentReport, Result, SandboxReport
from symbi.errors import InputError, SandboxLimitError
from symbi.limits import ResourceLimits
from symbi.runtime import Runtime
from symbi.sandbox.base import GUEST_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from symbi.agents import AgentDefinition
    from symbi.config import Config
    from symbi.sandbox.base import SandboxFacts, SecurityTier

__all__ = ["CLINIC", "run_demo"]

CLINIC = Path(__file__).parent / "clinic"
"""The bundled files; `examples/clinic` in the repository is the same directory."""

SCOUT_TIMEOUT_S = 120.0
"""Seconds of reading. 2,000 files of a megabyte take longer; what was read by then is used, and said."""

BATCH = 200
"""Contents of one run of the librarian: a line of some 13 KiB, far below the megabyte of the pipe."""


class _Stages:
    """How long each stage took."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._say = say

    @contextmanager
    def stage(self, name: str, text: str) -> Iterator[None]:
        self._say(text)
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begun


def input_directory(path: Path | None) -> Path:
    """The directory to read: absolute, existing, and with a name that can be told to a sandbox.

    Raises:
        InputError: not a directory, or its name is not UTF-8.
        OSError: it is not there, or may not be looked at.
    """
    real = (path or CLINIC).resolve(strict=True)
    if not real.is_dir():
        raise InputError(f"`{path}` is not a directory: `--input` takes one, and reads what is in it")
    try:
        str(real).encode()
    except UnicodeEncodeError:
        raise InputError(
            "the path of the input directory is not UTF-8, and cannot be told to a sandbox"
        ) from None
    return real


async def run_demo(
    *, source: Path | None, data: Path, tier: str | None, config: Config, say: Callable[[str], None]
) -> Result:
    """Run the demo once.

    Args:
        source: The directory to read; None for the bundled clinic.
        data: The data directory: trail, knowledge, policies, outbox, report.
        tier: `gvisor`, `docker`, `degraded`; None for the strongest that works.
        config: Settings, of mode `development`.
        say: Takes a line of progress.

    Raises:
        SymbiError: what failed, in one line.
    """
    directory = input_directory(source)
    stages = _Stages(say)
    with stages.stage("tier", "trying the sandboxes of this machine"):
        chosen, why, loud = await tiers.choose(tier)
    for text in loud:
        say(f"WARNING: {text}")
    result = Result(str(directory), source is None, 0, str(chosen), why, Reading(), loud=loud)
    result.stages_s = stages.seconds
    outbox, policies = _prepare(result, data)
    with stages.stage("open", "opening the runtime"):
        runtime = Runtime.open(config, data=data, mode="development", policy=policies)
        await runtime.__aenter__()
    try:
        story = _Story(runtime, chosen, directory, stages, result)
        await story.tell()
    finally:
        with stages.stage("close", "ending the sandboxes"):
            await runtime.close()
    with stages.stage("verify", "verifying the trail"):
        _conclude(result, runtime, story, outbox)
    return result


class _Story:
    """One run, while the runtime is open."""

    def __init__(
        self, rt: Runtime, tier: SecurityTier, directory: Path, stages: _Stages, result: Result
    ) -> None:
        self.rt, self.tier, self.directory, self.stages, self.result = rt, tier, directory, stages, result
        self.first = int(rt.opened["records"])
        self.names: dict[str, str] = {}
        self.questions: tuple[str, ...] = ()
        self.told: dict[str, Any] = {}
        self.outcomes: list[dict[str, str]] = []
        self._facts: dict[str, SandboxFacts] = {}

    async def tell(self) -> None:
        rt = self.rt
        rt.tools.register(outbox_send)
        workers = [python_agents.librarian, python_agents.analyst, python_agents.courier]
        with self.stages.stage(
            "read", f"scout reads `{self.directory}` in a {self.tier} sandbox; workers start"
        ):
            started = asyncio.gather(*(self._schedule(worker) for worker in workers))
            try:
                scout, intake = await self._read()
                librarian, analyst, courier = await started
            except BaseException:
                started.cancel()
                await asyncio.gather(started, return_exceptions=True)
                raise
        reading = self.result.reading
        with self.stages.stage(
            "store",
            f"librarian stores {counted(reading.passages, 'passages')} of {counted(reading.files, 'files')}",
        ):
            documents, notices = await self._store(librarian, reading)
        self.questions = CLINIC_QUESTIONS if self.result.bundled else intake.questions.make()
        with self.stages.stage("answer", f"analyst answers {counted(len(self.questions), 'questions')}"):
            asked = {"questions": list(self.questions), "documents": documents, "notices": notices}
            self.told = await rt.run(analyst, asked)
        with self.stages.stage("send", "courier tries to send the report, part by part"):
            self.outcomes = await rt.run(courier, {"messages": int(self.told["messages"])})
        self._report(scout, librarian, analyst, courier, documents)

    async def _schedule(self, worker: AgentDefinition) -> AgentHandle:
        from dataclasses import replace

        handle = await self.rt.schedule_agent(replace(worker.config, tier=str(self.tier)))  # DF2
        self._met(handle)
        return handle

    def _met(self, handle: AgentHandle) -> None:
        self.names[handle.id] = handle.name
        facts = self.rt.sandbox_facts(handle)
        if facts is not None:
            self._facts[handle.name] = facts

    async def _read(self) -> tuple[AgentHandle, Intake]:
        rt, result = self.rt, self.result
        program = (GUEST_PATH, "scout", "--root", str(self.directory))
        limits = ("--files-max", str(FILES_MAX), "--file-bytes-max", str(FILE_BYTES_MAX))
        config = AgentConfig(
            name="scout",
            program=program + limits,
            capabilities=("knowledge:write",),
            mounts=(str(self.directory),),
            tier=str(self.tier),
            source="builtin",
            limits=ResourceLimits(memory_mb=256, cpu_cores=1, execution_timeout_s=SCOUT_TIMEOUT_S),
        )
        scout = await rt.schedule_agent(config)
        intake = Intake(rt, scout)
        try:
            async with aclosing(rt.stream(scout)) as lines:
                async for line in lines:
                    if scout.name not in self._facts:
                        self._met(scout)
                    await intake.hear(line)
        except SandboxLimitError as error:  # what was read by then is used, and what was not is said (DF3)
            intake.reading.cut = f"scout was ended by its limit `{error.limit}`: the rest was not read"
        result.reading = await intake.finish()
        for text in not_read(result.reading):
            self.stages._say(text)
        return scout, intake

    async def _store(self, librarian: AgentHandle, reading: Reading) -> tuple[list[str], int]:
        documents: list[str] = []
        for start in range(0, len(reading.contents), BATCH):
            asked = {"contents": reading.contents[start : start + BATCH], "places": []}
            told = await self.rt.run(librarian, asked)
            documents += [str(one) for one in told["documents"]]
        if not reading.places:
            return documents, 0
        places = [str(place) for place in reading.places]
        if reading.places_left:
            places.append(f"{reading.places_left} more places of secrets, withheld")
        # What this run is told is about secrets, and so is whatever the librarian says afterwards.
        await self.rt.run(librarian, {"contents": [], "places": places}, labels=["secret"])
        return documents, 1

    def _report(
        self,
        scout: AgentHandle,
        librarian: AgentHandle,
        analyst: AgentHandle,
        courier: AgentHandle,
        documents: list[str],
    ) -> None:
        reading = self.result.reading
        sent = sum(one["outcome"] == "sent" for one in self.outcomes)
        quoted = sum(len(one) for one in self.told["answers"])
        rows: list[tuple[AgentHandle, str, dict[str, int]]] = [
            (
                scout,
                "read the files, labelled what they hold",
                {"files": reading.files, "passages": reading.passages, "withheld": reading.withheld},
            ),
            (librarian, "made documents of them", {"documents": len(documents)}),
            (
                analyst,
                "answered questions with quotations",
                {
                    "questions": len(self.questions),
                    "quotations": quoted,
                    "messages": int(self.told["messages"]),
                },
            ),
            (courier, "tried to send the report", {"sent": sent, "refused": len(self.outcomes) - sent}),
        ]
        for handle, does, counts in rows:
            facts = self._facts[handle.name]
            self.result.agents.append(AgentReport(handle.name, handle.id, does, counts, _sandbox(facts)))


def _sandbox(facts: SandboxFacts) -> SandboxReport:
    probe = facts.probe
    interfaces = probe.get("interfaces")
    network = (
        "none" if interfaces is not None and set(interfaces) <= {"lo"} else "closed by the sandbox's filter"
    )
    return SandboxReport(
        tier=str(facts.tier),
        kernel=facts.kernel,
        runtime=facts.runtime,
        user=probe.get("uid"),
        limits=dict(facts.limits),
        network=network,
        mounts=facts.mounts,
        unenforced=facts.unenforced,
        start_ms=facts.start_ms,
    )


def _conclude(result: Result, rt: Runtime, story: _Story, outbox: Outbox) -> None:
    path = Path(str(rt.opened["trail"])).resolve()
    result.trail, result.log_id = path, str(rt.opened["log_id"])
    result.fingerprint = str(rt.opened["fingerprint"])
    found = trail.verify(path, result.fingerprint)
    result.verified, result.level = found.records, found.level
    result.decisions = trail.read_decisions(path, story.first, story.names)
    places = [str(place) for place in result.reading.places]
    result.sections = trail.sections_of(
        story.questions, story.told["answers"], story.outcomes, outbox.sent, result.decisions, places
    )
    result.loud += _classes(result)


def _classes(result: Result) -> list[str]:
    """What the files do not hold, and so could not be shown."""
    labels, shown = result.reading.labels, {one.decision for one in result.exits}
    if not result.reading.files:
        return ["no file could be read, so there is nothing to report on"]
    lacking = [
        name for label, name in (("personal", "personal data"), ("secret", "secrets")) if not labels[label]
    ]
    lines = []
    if lacking:
        names = " and no ".join(lacking)
        lines.append(
            f"no {names} found in these files, so no decision on such is shown; plain `symbi demo` shows each"
        )
    if labels["personal"] and not shown & {"redact"} and "deny" not in shown:
        lines.append(
            "personal data was found, but in no sentence that answers a question, so none met the exit"
        )
    return lines


def _prepare(result: Result, data: Path) -> tuple[Outbox, Path]:
    """The directories and files of this run, in the data directory."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    result.data = data.resolve()
    result.policies = policies = write_policies(result.data)
    result.number = _number(result.data)
    outbox = Outbox(_made(result.data / "outbox") / f"report-{result.number}.md")
    outbox.open()
    result.outbox = outbox.path
    return outbox, policies


def _made(path: Path) -> Path:
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def _number(data: Path) -> int:
    """One more than the highest report there is."""
    reports = _made(data / "reports")
    found = (re.fullmatch(r"demo-(\d{1,9})\.html", path.name) for path in reports.iterdir())
    return 1 + max((int(one[1]) for one in found if one), default=0)
