"""What a demo has to tell, as plain values: the flow fills them in; screen, HTML page and `--json` print them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from symbi.demo.intake import Reading

__all__ = ["AgentReport", "Decision", "PartReport", "Result", "SandboxReport", "Section"]


@dataclass(frozen=True, slots=True)
class SandboxReport:
    """What was verified about a sandbox, by the host and by our probe inside."""

    tier: str
    kernel: str
    runtime: str
    user: int | None
    limits: Mapping[str, int]
    network: str
    mounts: tuple[str, ...]
    unenforced: tuple[str, ...]
    start_ms: float


@dataclass(frozen=True, slots=True)
class AgentReport:
    """One agent: what it did, in one line and in counts, and where it ran."""

    name: str
    id: str
    does: str
    counts: Mapping[str, int]
    sandbox: SandboxReport


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision of the monitor, as the trail has it.

    Attributes:
        id: What `symbi explain` takes.
        seq: Its record.
        agent: The principal's name, or `host`.
        decision: `allow`, `redact` or `deny`.
        rule: The rules that determined it; `-` where no rule permitted it.
        count: How often: identical refusals are one record with a count.
    """

    id: str
    seq: int
    agent: str
    action: str
    resource: str
    decision: str
    rule: str
    labels: tuple[str, ...] = ()
    message: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True)
class PartReport:
    """One part at the exit: what was decided, and what would have been sent; no `text` where nothing was."""

    outcome: str
    text: str
    decision: Decision | None
    title: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """The parts of one message to the courier."""

    heading: str
    parts: tuple[PartReport, ...]


@dataclass
class Result:
    """Everything.

    Attributes:
        source: What was read, for people. `bundled`: our own files.
        loud: What must be said before anything else: a weaker tier, files not read.
        verified: Records that verify. `level`: how far that word goes.
        stages_s: Seconds by stage.
    """

    source: str
    bundled: bool
    number: int
    tier: str
    tier_why: str
    reading: Reading
    agents: list[AgentReport] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    loud: list[str] = field(default_factory=list)
    trail: Path | None = None
    report: Path | None = None
    outbox: Path | None = None
    data: Path | None = None
    policies: Path | None = None
    log_id: str = ""
    fingerprint: str = ""
    verified: int = 0
    level: str = ""
    paste: list[tuple[str, str]] = field(default_factory=list)
    stages_s: dict[str, float] = field(default_factory=dict)

    @property
    def exits(self) -> list[Decision]:
        """The decisions at the way out, in their order."""
        return [one for one in self.decisions if one.action == "tool.call"]

    def to_json(self) -> dict[str, Any]:
        """For programs. Keys may be added, never lost."""
        reading = self.reading
        return {
            "agents": [
                {
                    "name": agent.name,
                    "id": agent.id,
                    "does": agent.does,
                    "counts": dict(agent.counts),
                    "sandbox": {
                        "tier": agent.sandbox.tier,
                        "kernel": agent.sandbox.kernel,
                        "runtime": agent.sandbox.runtime,
                        "limits": dict(agent.sandbox.limits),
                        "mounts": list(agent.sandbox.mounts),
                        "start_ms": round(agent.sandbox.start_ms),
                    },
                }
                for agent in self.agents
            ],
            "decisions": [
                {
                    "id": one.id,
                    "seq": one.seq,
                    "agent": one.agent,
                    "action": one.action,
                    "resource": one.resource,
                    "decision": one.decision,
                    "rule": one.rule,
                    "labels": list(one.labels),
                    "message": one.message,
                    "count": one.count,
                }
                for one in self.decisions
            ],
            "sandbox": {
                "tier": self.tier,
                "why": self.tier_why,
                "kernel": self.agents[0].sandbox.kernel if self.agents else "",
                "runtime": self.agents[0].sandbox.runtime if self.agents else "",
            },
            "trail": str(self.trail),
            "report": str(self.report),
            "outbox": str(self.outbox),
            "policies": str(self.policies),
            "verified": self.verified,
            "level": self.level,
            "log_id": self.log_id,
            "fingerprint": self.fingerprint,
            "input": {
                "source": self.source,
                "files": reading.files,
                "bytes": reading.bytes,
                "passages": reading.passages,
                "withheld": reading.withheld,
                "labels": dict(reading.labels),
                "skipped": dict(reading.skipped),
                "left_out": reading.left_out,
                "copies": reading.copies,
                "entries": reading.entries,
                "complete": reading.complete,
                "cut": reading.cut,
            },
            "loud": self.loud,
            "paste": [command for _, command in self.paste],
            "stages_s": {name: round(value, 3) for name, value in self.stages_s.items()},
        }
