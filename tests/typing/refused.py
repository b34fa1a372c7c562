"""A user's code that must NOT type-check. Each mistake carries an ignore for the one error that it must cause; mypy
runs strictly, and an ignore that nothing needs is an error, so a type that became too loose is found. Never run.
"""

from __future__ import annotations

import symbi
from symbi.bench.frame import Row, Sample


def settings(config: symbi.Config) -> None:
    """A setting without a part cannot be read; none can be written; a word that cannot be is seen."""
    config.context  # type: ignore[attr-defined]  # noqa: B018
    config.runtime.gc_interval  # type: ignore[attr-defined]  # noqa: B018
    config.security.enforce_policies = False  # type: ignore[misc]
    config.values["log.level"] = "info"  # type: ignore[index]
    if config.security.default_sandbox_tier == "gvisr":  # type: ignore[comparison-overlap]
        pass
    symbi.Config.load(3)  # type: ignore[arg-type]


def limits() -> None:
    """Limits have units in their names, and no positions."""
    symbi.ResourceLimits(64)  # type: ignore[call-arg]
    symbi.ResourceLimits(memory="64")  # type: ignore[call-arg]
    symbi.ResourceLimits(memory_mb="64")  # type: ignore[arg-type]


@symbi.agent  # type: ignore[arg-type]
def not_async(ctx: symbi.AgentContext) -> None:
    """An agent is a coroutine."""


@symbi.agent(isolation="none")  # type: ignore[call-overload, untyped-decorator]
async def outside(ctx: symbi.AgentContext) -> None:
    """There are two isolations."""


def errors() -> None:
    """A broken chain has a record; a limit has a name."""
    symbi.ChainBrokenError("broken")  # type: ignore[call-arg]
    symbi.SandboxLimitError("out of memory")  # type: ignore[call-arg]


def rows() -> None:
    """A row says which direction is good."""
    Row("own", "nothing", "s", "faster", measure=lambda _: Sample(1.0))  # type: ignore[arg-type]
    Row("own", "nothing", "s", "lower", measure=lambda: Sample(1.0))  # type: ignore[misc, arg-type]


def schedule(scheduler: symbi.Scheduler) -> None:
    """A strategy and a tier are words; a placement may have no node."""
    symbi.Scheduler([1], "worst_fit")  # type: ignore[arg-type]
    symbi.Scheduler(["a"])  # type: ignore[list-item]
    symbi.Task(1, tier="later")  # type: ignore[arg-type]
    symbi.Task(1, "batch")  # type: ignore[call-arg]
    scheduler.submit(1)  # type: ignore[arg-type]
    scheduler.next_many(columns=True).kind.append(1)  # type: ignore[attr-defined]
    placed = scheduler.next()
    placed.id  # type: ignore[union-attr]  # noqa: B018
