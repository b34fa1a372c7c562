"""A user's code that must type-check, strictly, against the public names alone. Checked by mypy, never run."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import symbi
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
