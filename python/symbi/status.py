"""What a runtime says about itself (spec S9, O7). Plain values, so that every adapter can print them.

Invariants
- ST1 a part that weakens what the runtime promises is red, whoever asked for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from symbi._core import Kernel
    from symbi.config import Config
    from symbi.sandbox.usage import Usage

__all__ = [
    "ComponentHealth",
    "ErrorSummary",
    "HealthStatus",
    "SystemStatus",
    "health_status",
    "system_status",
]

_ERRORS_SHOWN = 32

Level = Literal["green", "yellow", "red"]


@dataclass(frozen=True, slots=True)
class SystemStatus:
    """A moment of the runtime.

    Attributes:
        agents: Agents that are not terminated. `agents_by_state`: by lifecycle state.
        runs_running, runs_waiting: Tasks that run, and that wait for resources or their agent.
        operations_in_flight: External operations between intent and outcome.
        operations_unknown: Operations of which nobody knows whether they happened.
        records: Records on disk. `log_id`, `fingerprint`: the trail's identity.
        policy: Digest of the policies in force.
        mode: `production` or `development`.
        tasks_failed: Runs that failed, of this opening. `errors_by_class`, `errors_by_type`: the same by class of
            error, and by its code or the name of its exception.
        tasks_dead: Tasks of supervised agents that failed for good and are kept; `tasks_dead_dropped`: and are not.
        breakers: Tools and tiers that have failed lately: `open`, `half_open` or `closed`, the worst for any agent.
        sandboxes: Sandboxes that serve an agent now. `memory_bytes`, `cpu_time_us`: what they use together, read by
            the host; None where no sandbox tells.
    """

    agents: int
    agents_by_state: dict[str, int]
    runs_running: int
    runs_waiting: int
    operations_in_flight: int
    operations_unknown: int
    records: int
    log_id: str
    fingerprint: str
    policy: str
    mode: str
    sandboxes: int = 0
    memory_bytes: int | None = None
    cpu_time_us: int | None = None
    tasks_failed: int = 0
    errors_by_class: dict[str, int] = field(default_factory=dict)
    errors_by_type: dict[str, int] = field(default_factory=dict)
    tasks_dead: int = 0
    tasks_dead_dropped: int = 0
    breakers: dict[str, str] = field(default_factory=dict)
    runs_suspended: int = 0
    preemptions: int = 0
    deadlines_missed: int = 0


@dataclass(frozen=True, slots=True)
class ComponentHealth:
    """One part. `text` says what is wrong and what to do; empty when green."""

    level: Level
    text: str = ""


@dataclass(frozen=True, slots=True)
class ErrorSummary:
    """One kind of error of this opening: how often, and when last (microseconds since the epoch)."""

    component: str
    code: str
    count: int
    last_us: int


@dataclass(frozen=True, slots=True)
class HealthStatus:
    """The worst of all parts, each part, resources in use, and recent errors (spec O7)."""

    overall_status: Level
    component_health: dict[str, ComponentHealth]
    resource_utilization: dict[str, float] = field(default_factory=dict)
    recent_errors: list[ErrorSummary] = field(default_factory=list)


_GREEN = ComponentHealth("green")


def system_status(
    kernel: Kernel, config: Config, *, waiting: int, usages: Sequence[Usage] = ()
) -> SystemStatus:
    """A moment of the runtime: `waiting` runs were not handed out, `usages` are of the sandboxes there are."""
    states: dict[str, int] = {}
    for row in kernel.list_agents():
        states[row["state"]] = states.get(row["state"], 0) + 1
    opened = kernel.opened
    failures = kernel.failures()
    runs = kernel.count_runs()
    dead, dropped = kernel.dead_tasks()
    known = [(usage.memory_bytes, usage.cpu_time_us) for usage in usages]
    return SystemStatus(
        agents=kernel.count_agents(),
        agents_by_state=states,
        runs_running=states.get("running", 0),
        runs_waiting=waiting,
        operations_in_flight=kernel.operations_in_flight(),
        operations_unknown=len(kernel.unknown_operations()),
        records=kernel.durable(),
        log_id=str(opened["log_id"]),
        fingerprint=str(opened["fingerprint"]),
        policy=kernel.policy_digest(),
        mode=config.runtime.mode,
        sandboxes=len(known),
        memory_bytes=_total(memory for memory, _ in known),
        cpu_time_us=_total(cpu_time for _, cpu_time in known),
        tasks_failed=sum(count for error_class, _, count in failures if error_class != "cancelled"),
        errors_by_class=_counted((error_class, count) for error_class, _, count in failures),
        errors_by_type=_counted((code, count) for _, code, count in failures),
        tasks_dead=len(dead),
        tasks_dead_dropped=dropped,
        breakers={dependency: state for dependency, state, *_ in kernel.breakers()},
        runs_suspended=sum(runs["suspended"].values()),
        preemptions=runs["preemptions"],
        deadlines_missed=runs["deadlines_missed"],
    )


def _counted(rows: Iterable[tuple[str, int]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, count in rows:
        counts[name] = counts.get(name, 0) + count
    return counts


def _total(figures: Iterable[int | None]) -> int | None:
    told = [figure for figure in figures if figure is not None]
    return sum(told) if told else None


def health_status(
    kernel: Kernel,
    config: Config,
    errors: Mapping[tuple[str, str], tuple[int, int]],
    seen: Mapping[str, ComponentHealth] = MappingProxyType({}),
) -> HealthStatus:
    """Every part, the worst of them, and recent errors: by (component, code) their number and the last time.

    `seen`: parts that are judged by what was seen of them while they worked.
    """
    parts = {
        **dict.fromkeys(("scheduler", "lifecycle", "resources", "bus", "knowledge", "crypto"), _GREEN),
        "audit": _audit(kernel, config),
        "policy": _policy(kernel, config),
        "monitor": _monitor(kernel),
        "sandboxes": _sandboxes(config),
        "error_handler": _error_handler(kernel),
        **seen,
    }
    levels = {part.level for part in parts.values()}
    overall: Level = "red" if "red" in levels else "yellow" if "yellow" in levels else "green"
    lately = sorted(errors.items(), key=lambda one: -one[1][1])[:_ERRORS_SHOWN]
    use = {
        "agents": kernel.count_agents() / config.runtime.max_concurrent_agents,
        "operations_in_flight": float(kernel.operations_in_flight()),
    }
    summaries = [ErrorSummary(component, code, count, last) for (component, code), (count, last) in lately]
    return HealthStatus(overall, parts, use, summaries)


def _audit(kernel: Kernel, config: Config) -> ComponentHealth:
    problem = kernel.log_problem()
    if problem is not None:
        return ComponentHealth("red", f"the trail cannot be written: {problem}; reopen the runtime")
    if not config.security.audit_enabled:
        return ComponentHealth("red", "the trail is thrown away: `security.audit_enabled` is false")  # ST1
    return _GREEN


def _policy(kernel: Kernel, config: Config) -> ComponentHealth:
    if not config.security.enforce_policies:
        return ComponentHealth("red", "denials stop nothing: `security.enforce_policies` is false")  # ST1
    if problems := kernel.policy_problems():
        return ComponentHealth("red", problems)
    if problem := kernel.policy_problem():
        return ComponentHealth("red", f"the policies that were to be put in force are not: {problem}")
    if erring := kernel.erring_rules():
        return ComponentHealth(
            "yellow", f"rules could not be evaluated {erring} times: `symbi check` your policies"
        )
    return _GREEN


def _monitor(kernel: Kernel) -> ComponentHealth:
    unknown = len(kernel.unknown_operations())
    if unknown:
        return ComponentHealth("yellow", f"{unknown} operations are unknown: `symbi approvals list`")
    return _GREEN


def _error_handler(kernel: Kernel) -> ComponentHealth:
    shut = [
        f"`{dependency}` for {callers} of its callers, {max(1, round(wait_ms / 1000))} s until the next try"
        for dependency, state, callers, _, wait_ms in kernel.breakers()
        if state != "closed"
    ]
    return ComponentHealth("yellow", f"left alone after failures: {'; '.join(shut)}") if shut else _GREEN


def _sandboxes(config: Config) -> ComponentHealth:
    if config.security.default_sandbox_tier == "degraded":
        return ComponentHealth("red", "agents run in the degraded tier: development only")  # ST1
    return _GREEN
