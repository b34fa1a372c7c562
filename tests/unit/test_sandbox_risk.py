"""The risk score (spec X3): its border, its monotony, and who beats whom."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from symbi.sandbox.base import SecurityTier
from symbi.sandbox.risk import TIER_2_FROM, WEIGHTS, assess_risk, assess_security_tier, choose_tier

DEGRADED, DOCKER, GVISOR = SecurityTier


@dataclass(frozen=True)
class Profile:
    """The five inputs of the score."""

    inputs: tuple[str, ...] = ()
    source: str = "builtin"
    requires_network: bool = False
    requires_filesystem: bool = False
    external_apis: tuple[str, ...] = ()


profiles = st.builds(
    Profile,
    inputs=st.lists(st.sampled_from(["public", "internal", "personal", "secret", "odd"]), max_size=3).map(
        tuple
    ),
    source=st.sampled_from(["builtin", "project", "third_party", "unknown", "something else"]),
    requires_network=st.booleans(),
    requires_filesystem=st.booleans(),
    external_apis=st.lists(st.sampled_from("abcd"), max_size=4).map(tuple),
)


@pytest.mark.parametrize(
    ("profile", "tier"),
    [
        (Profile(), DOCKER),
        (Profile(source="project"), DOCKER),
        (Profile(source="project", requires_filesystem=True), DOCKER),
        (Profile(source="project", requires_network=True, requires_filesystem=True), GVISOR),
        (Profile(source="third_party"), GVISOR),
        (Profile(source="unknown"), GVISOR),
        (Profile(source="never heard of"), GVISOR),
        (Profile(inputs=("secret",)), GVISOR),
        (Profile(inputs=("public", "phi")), GVISOR),
        (Profile(inputs=("personal",)), DOCKER),
        (Profile(inputs=("personal",), source="project"), GVISOR),
        (Profile(external_apis=("a", "b", "c"), requires_network=True), GVISOR),
    ],
)
def test_the_tier_follows_from_the_score(profile: Profile, tier: SecurityTier) -> None:
    """X3, and the judgement behind the weights: untrusted code or secret data alone is Tier 2."""
    assert assess_security_tier(profile) is tier


@given(profile=profiles)
def test_the_score_is_in_range_and_explained(profile: Profile) -> None:
    """Y1: from the factors shown, the score can be computed again by hand."""
    found = assess_risk(profile)
    harmless = 1.0
    for factor in found.factors:
        assert 0 <= factor.value <= 1
        assert factor.weight == WEIGHTS[factor.name]
        assert factor.reason
        harmless *= 1 - factor.weight * factor.value
    assert found.score == round(1 - harmless, 6)
    assert 0 <= found.score <= 1
    assert found.tier is (DOCKER if found.score < TIER_2_FROM else GVISOR)


@given(profile=profiles)
def test_no_factor_lowers_the_score(profile: Profile) -> None:
    """Y1: more of anything is never less risk."""
    score = assess_risk(profile).score
    for more in (
        replace(profile, inputs=(*profile.inputs, "secret")),
        replace(profile, source="unknown"),
        replace(profile, requires_network=True),
        replace(profile, requires_filesystem=True),
        replace(profile, external_apis=(*profile.external_apis, "another")),
    ):
        assert assess_risk(more).score >= score


@given(
    profile=profiles,
    explicit=st.none() | st.sampled_from(SecurityTier),
    minimum=st.none() | st.sampled_from(SecurityTier),
    default=st.sampled_from([DOCKER, GVISOR]),
)
def test_who_beats_whom(
    profile: Profile, explicit: SecurityTier | None, minimum: SecurityTier | None, default: SecurityTier
) -> None:
    """Y2: explicit beats the score; the score raises the default only; the minimum raises all, and lowers nothing."""
    score = assess_security_tier(profile)
    choice = choose_tier(profile, explicit=explicit, minimum=minimum, default=default)
    wanted = explicit if explicit is not None else max(score, default)
    assert choice.tier is (wanted if minimum is None else max(wanted, minimum))
    assert choice.below_assessment is (choice.tier < score)
    assert choice.reason
