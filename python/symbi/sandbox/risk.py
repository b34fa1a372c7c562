"""How risky is it to run this, and which tier follows: the score of spec X3, as a pure function.

Why: the tier is chosen where nobody thinks about it, so the reason must be readable: five factors, each a
number from 0 to 1 with its weight, and one formula. Not here: what policy says (it may demand a minimum),
and whether the tier exists on this machine.

`score = 1 - product(1 - weight * value)`: each factor is a way in which it can go wrong, taken as independent
of the others. So one grave factor suffices for Tier 2 (unknown code; secret data), and several small ones add
up. The weights are a judgement, recorded with its alternatives in docs/adr/0042.

Invariants
- Y1 The score is in 0..1 and grows, or stays, with every factor.
- Y2 An explicit tier beats the score; the score raises the default and never lowers it; a minimum raises all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from symbi.sandbox.base import SecurityTier

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "TIER_2_FROM",
    "WEIGHTS",
    "RiskAssessment",
    "RiskFactor",
    "RiskProfile",
    "TierChoice",
    "assess_risk",
    "assess_security_tier",
    "choose_tier",
]

TIER_2_FROM: Final = 0.5
"""Scores below it are Tier 1 (spec X3)."""

WEIGHTS: Final[Mapping[str, float]] = {
    "data_sensitivity": 0.5,
    "code_trust": 0.6,
    "network": 0.3,
    "filesystem": 0.2,
    "external_integrations": 0.3,
}
"""How much a factor at its worst contributes alone. The first two reach Tier 2 by themselves."""

_SENSITIVITY: Final[Mapping[str, float]] = {
    "public": 0.0,
    "internal": 0.4,
    "confidential": 0.8,
    "personal": 0.8,
    "pii": 0.8,
    "financial": 1.0,
    "phi": 1.0,
    "secret": 1.0,
}
_SENSITIVITY_OTHER: Final = 0.6  # a label we do not know: somebody found the data worth marking

_DISTRUST: Final[Mapping[str, float]] = {"builtin": 0.0, "project": 0.3, "third_party": 0.9, "unknown": 1.0}

_INTEGRATIONS_FULL: Final = 3  # so many external services count as the worst


class RiskProfile(Protocol):
    """What the score reads; `AgentConfig` has it, any object with these attributes will do."""

    @property
    def inputs(self) -> Iterable[str]:
        """Labels of the data it gets."""
        ...

    @property
    def source(self) -> str:
        """Where its code is from: `builtin`, `project`, `third_party` or `unknown`; any other is unknown."""
        ...

    @property
    def requires_network(self) -> bool:
        """Whether it reaches the network (through the runtime)."""
        ...

    @property
    def requires_filesystem(self) -> bool:
        """Whether it sees files of the host."""
        ...

    @property
    def external_apis(self) -> Iterable[str]:
        """External services it uses."""
        ...


@dataclass(frozen=True, slots=True)
class RiskFactor:
    """One line of the breakdown: `value` and `weight` from 0 to 1, and what gave the value."""

    name: str
    value: float
    weight: float
    reason: str


@dataclass(frozen=True, slots=True)
class RiskAssessment:
    """The score from 0 (harmless) to 1, its factors, and the tier that follows from it."""

    score: float
    factors: tuple[RiskFactor, ...]

    @property
    def tier(self) -> SecurityTier:
        """Tier 1 below `TIER_2_FROM`, otherwise Tier 2."""
        return SecurityTier.DOCKER if self.score < TIER_2_FROM else SecurityTier.GVISOR


@dataclass(frozen=True, slots=True)
class TierChoice:
    """The tier to run in, why, and the assessment behind it.

    Attributes:
        below_assessment: Somebody explicitly chose less than the score asks for; to be recorded and shown.
    """

    tier: SecurityTier
    reason: str
    assessment: RiskAssessment

    @property
    def below_assessment(self) -> bool:
        """Whether the choice is weaker than what the score asks for."""
        return self.tier < self.assessment.tier


def assess_risk(config: RiskProfile) -> RiskAssessment:
    """Score an agent (Y1).

    Args:
        config: Not modified; read once.

    Cost: proportional to the number of labels and services.
    """
    factors = (
        _data_sensitivity(config.inputs),
        _code_trust(config.source),
        _flag("network", config.requires_network, "reaches the network", "no network"),
        _flag("filesystem", config.requires_filesystem, "sees files of the host", "no files of the host"),
        _integrations(config.external_apis),
    )
    harmless = 1.0
    for factor in factors:
        harmless *= 1.0 - factor.weight * factor.value
    # Rounded so that a score on the border is not decided by the last bit of a product.
    return RiskAssessment(round(1.0 - harmless, 6), factors)


def assess_security_tier(config: RiskProfile) -> SecurityTier:
    """The tier the score asks for (spec X3): below 0.5 Tier 1, otherwise Tier 2."""
    return assess_risk(config).tier


def choose_tier(
    config: RiskProfile,
    *,
    explicit: SecurityTier | None = None,
    minimum: SecurityTier | None = None,
    default: SecurityTier = SecurityTier.GVISOR,
) -> TierChoice:
    """The tier an agent is to run in (Y2).

    Args:
        config: The agent.
        explicit: What its author or the command line asked for. Beats the score, also downwards: then
            `below_assessment` says so.
        minimum: What policy or configuration demands. Raises everything, lowers nothing.
        default: What holds when nobody said anything. The score may raise it.
    """
    assessment = assess_risk(config)
    if explicit is not None:
        tier, reason = explicit, "asked for explicitly"
    elif assessment.tier > default:
        tier, reason = assessment.tier, f"risk score {assessment.score:.2f} raises the default"
    else:
        tier, reason = default, f"the default; risk score {assessment.score:.2f} does not raise it"
    if minimum is not None and minimum > tier:
        tier, reason = minimum, "the demanded minimum"
    return TierChoice(tier, reason, assessment)


def _factor(name: str, value: float, reason: str) -> RiskFactor:
    return RiskFactor(name, value, WEIGHTS[name], reason)


def _data_sensitivity(labels: Iterable[str]) -> RiskFactor:
    values = {str(label): _SENSITIVITY.get(str(label), _SENSITIVITY_OTHER) for label in labels}
    if not values:
        return _factor("data_sensitivity", 0.0, "no labelled inputs")
    worst = max(sorted(values), key=lambda label: values[label])
    return _factor("data_sensitivity", values[worst], f"inputs labelled `{worst}`")


def _code_trust(source: str) -> RiskFactor:
    known = source if source in _DISTRUST else "unknown"
    return _factor("code_trust", _DISTRUST[known], f"code is `{known}`")


def _flag(name: str, value: object, yes: str, no: str) -> RiskFactor:
    return _factor(name, 1.0 if value else 0.0, yes if value else no)


def _integrations(services: Iterable[str]) -> RiskFactor:
    count = len(set(services))
    value = min(1.0, count / _INTEGRATIONS_FULL)
    return _factor("external_integrations", value, f"{count} external service{'' if count == 1 else 's'}")
