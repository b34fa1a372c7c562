"""A user's code that must type-check, strictly, against the public names alone. Checked by mypy, never run."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import numpy as np
import symbi
from numpy.typing import NDArray
from symbi.bench.frame import BenchContext, Row, Sample
from symbi.config import Origin


def configuration(folder: Path) -> str:
    """Every setting has its own type, down to the words it may be."""
    config = symbi.Config.load(folder / "symbi.toml", environ={}, overrides={"runtime.mode": "development"})
    assert_type(config.runtime.scheduler_threads, int)
    assert_type(config.security.enforce_policies, bool)
    assert_type(config.policy.paths, tuple[Path, ...])
    assert_type(config.audit.storage, Path | None)
    assert_type(config.origins["runtime.mode"], Origin)
    assert_type(config.with_overrides({"log.level": "info"}), symbi.Config)
    return config.security.default_sandbox_tier


def limits() -> dict[str, float]:
    """Only what was asked for."""
    return symbi.ResourceLimits(memory_mb=64, cpu_cores=0.5, execution_timeout_s=2).asked()


@symbi.agent(name="triage", capabilities=["tool:lookup"], limits=symbi.ResourceLimits(memory_mb=64))
async def triage(ctx: symbi.AgentContext, ticket: dict[str, str]) -> dict[str, str]:
    """An agent with a name."""
    await ctx.bus.send("archive", ticket["text"].encode())
    return ticket


@symbi.agent
async def plain(ctx: symbi.AgentContext) -> None:
    """An agent with nothing said."""
    assert_type(ctx, symbi.AgentContext)


@symbi.tool
def lookup(patient: str) -> dict[str, str]:
    """A tool."""
    return {"patient": patient}


def score(config: symbi.AgentConfig) -> bool:
    """A tier is a value that compares."""
    return symbi.assess_security_tier(config) >= symbi.SecurityTier.DOCKER


def refusals() -> tuple[str, str, int]:
    """Each error has what its handler needs."""
    try:
        symbi.Config.load()
    except symbi.PolicyDenied as denied:
        return denied.code, denied.decision_id, 0
    except symbi.ChainBrokenError as broken:
        return broken.code, "", broken.seq
    except symbi.SandboxLimitError as limited:
        return limited.code, limited.limit, 0
    except (symbi.SymbiTimeoutError, TimeoutError):
        return "timeout", "", 0
    except ValueError:  # what cannot be right is a ValueError too
        return "invalid", "", 0
    return "", "", 0


def rows(context: BenchContext) -> list[Row]:
    """A suite of one's own."""
    return [
        Row("own", "nothing", "s", "lower", measure=lambda _: Sample(float(context.scale(10))), target=1.0)
    ]


def schedule(names: NDArray[np.int64]) -> list[int]:
    """Columns in give columns out where one says so; objects are objects."""
    scheduler = symbi.Scheduler(
        [8, symbi.Node(1, memory_mb=64)], "best_fit", tenants={1: symbi.Tenant(weight=2)}
    )
    taken = scheduler.submit_many(symbi.TaskBatch(names, cpu=0.5, priority=[1, 2], tier="batch"))
    taken += scheduler.submit_many([symbi.Task(1, tier="realtime", deadline_ms=5, duration_ms=1.5)])
    columns = scheduler.next_many(limit=taken, columns=True)
    assert_type(columns, symbi.Placements)
    assert_type(columns.id, NDArray[np.uint64])
    placed = scheduler.next_many(columns=False)
    assert_type(placed, list[symbi.Placement])
    if (one := scheduler.next()) is not None:
        assert_type(one.node, int | None)
    try:
        scheduler.complete_many(columns.started)
    except symbi.TaskRefusedError as refused:
        return [refused.done, len(refused.refused["scheduler.unknown_task"])]
    why = scheduler.why(1)
    return [placed.id for placed in placed] if why is None else [why.id]
