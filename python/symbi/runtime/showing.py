"""What a runtime says about one agent: everything, in values that print and in one sentence that explains.

Why: an operator asks "what is it doing, and why not more?"; the kernel knows whose turn it is, this process knows
whether a coroutine has come to a standstill yet.
Not here: the whole runtime (`symbi.status`), tables (`symbi.cli`).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from symbi.errors import InputError, LifecycleError

if TYPE_CHECKING:
    from symbi.runtime import Runtime
    from symbi.runtime.active import Active

__all__ = ["describe", "why"]

_NOT_YET = (
    "asked to stand still, and has not yet: a coroutine in the host's process does when it next awaits `ctx`, or "
    "at `ctx.checkpoint()`"
)


def why(runtime: Runtime, identity: str) -> dict[str, Any]:
    """As `Runtime.why`."""
    try:
        found = dict(runtime.kernel.why(identity))
    except (LifecycleError, ValueError) as error:
        raise InputError(f"there is no agent or run `{identity}`") from error
    known = runtime.runs.active.get(identity)
    actives = [known] if known is not None else runtime.runs.of_agent(identity)
    for active in actives:
        gate = active.gate
        if gate.asked and not gate.standing and active.started:
            trouble = f"freezing its sandbox failed: {gate.trouble}" if gate.trouble else _NOT_YET
            found = {**found, "asked": True, "text": f"{found['text']}; {trouble}"}
    if runtime.brakes.is_stopping(identity):
        found = {**found, "stopping": True, "text": f"{found['text']}; it is stopped when its task ends"}
    return found


def describe(runtime: Runtime, identity: str, row: dict[str, Any] | None = None) -> dict[str, Any]:
    """As `Runtime.describe`; `row` is what the kernel lists of it, where that is at hand."""
    if row is None:
        row = next((row for row in runtime.kernel.list_agents() if row["id"] == identity), None)
    handle = runtime.handle(identity)
    if row is None:
        raise InputError(f"there is no agent `{identity}`")
    errors = runtime.faults.by_agent.get(identity, {})
    found: dict[str, Any] = {
        **row,
        "stopping": runtime.brakes.is_stopping(identity),
        "runs": [_run(active) for active in runtime.runs.of_agent(identity)],
        "errors": [
            {"code": code, "count": count, "last_us": last_us} for code, (count, last_us) in errors.items()
        ],
        "why": why(runtime, identity),
    }
    if handle is not None and handle.config.supervision is not None:
        own, whole = runtime.kernel.retries_left(handle.name)
        found["supervision"] = asdict(handle.config.supervision)
        found["retries_left"] = {"agent": own, "runtime": whole}
        found["dead_tasks"] = [asdict(one) for one in runtime.dead_tasks() if one.agent == identity]
    if handle is not None:
        choice = runtime.workers.choice(handle.config)
        found["capabilities"] = list(handle.config.capabilities)
        found["limits"] = handle.config.limits.asked()
        found["below_assessment"] = choice is not None and choice.below_assessment
        if choice is not None:
            found["assessed_tier"] = str(choice.assessment.tier)
            found["risk_score"] = round(choice.assessment.score, 3)
    facts = runtime.workers.facts(identity)
    if facts is not None:
        found["sandbox"] = {
            "container": facts.container,
            "kernel": facts.kernel,
            "runtime": facts.runtime,
            "limits": dict(facts.limits),
            "mounts": list(facts.mounts),
            "unenforced": list(facts.unenforced),
        }
    usage = runtime.workers.usage(identity)
    if usage is not None:
        found["usage"] = asdict(usage)
    return found


def _run(active: Active) -> dict[str, Any]:
    request, gate = active.request, active.gate
    state = "waiting" if not active.started else "suspended" if gate.standing else "running"
    return {
        "run": active.run,
        "state": state,
        "tier": request.tier,
        "priority": request.priority,
        "timeout_s": request.timeout_s,
        "deadline_s": request.deadline_s,
        "labels": request.labels,
        "begun_us": active.begun_us,
        "asked_to_stand": gate.asked and not gate.standing,
    }
