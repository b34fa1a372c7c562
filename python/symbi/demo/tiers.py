"""Which tier the demo runs in: the strongest that works here, tried and not looked up.

Invariants
- DR1 a tier that was named is used or the demo ends; nothing weaker takes its place.
- DR2 a weaker tier than gVisor is said loudly, with what would mend it.
"""

from __future__ import annotations

from symbi.errors import SandboxUnavailableError
from symbi.sandbox.base import SecurityTier
from symbi.sandbox.orchestrator import check_tiers

__all__ = ["choose"]

_STRONGEST_FIRST = (SecurityTier.GVISOR, SecurityTier.DOCKER, SecurityTier.DEGRADED)

_LOUD = {
    SecurityTier.DOCKER: "gVisor is not here, so the agents share this machine's kernel (tier 1, Docker)",
    SecurityTier.DEGRADED: (
        "DEGRADED TIER: neither gVisor nor Docker works here. Agents run as confined processes on this "
        "machine's own kernel; some limits cannot be held. For trying out only, never for code you do not trust"
    ),
}


async def choose(asked: str | None) -> tuple[SecurityTier, str, list[str]]:
    """The tier, why, and what must be said loudly.

    Args:
        asked: `gvisor`, `docker` or `degraded`; None for the strongest that works.

    Raises:
        SandboxUnavailableError: the tier that was asked for does not work here (DR1), or none does.

    Cost: a cold start of our own probe for each tier that is tried, 0.2 to 0.7 s.
    """
    wanted = _STRONGEST_FIRST if asked is None else (SecurityTier.parse(asked),)
    mends: list[str] = []
    for tier in wanted:
        (found,) = await check_tiers([tier])
        if not found.works:
            mends.append(f"`{tier}` does not work here: {found.detail}. To mend it: {found.mend}")
            continue
        if asked is not None:
            loud = (
                [_LOUD[tier].replace("neither gVisor nor Docker works here", "asked for")]
                if tier == 0
                else []
            )
            return tier, "asked for with --tier", loud
        loud = [f"{_LOUD[tier]}. {' '.join(mends)}"] if tier in _LOUD else []  # DR2
        return tier, "the strongest that works here", loud
    raise SandboxUnavailableError("; ".join(mends))
