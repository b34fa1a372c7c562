"""The trail under other policies: `symbi policy whatif` and `learn`, on what a runtime really recorded."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi.cli.main import main
from symbi.policy import check_policies
from symbi.policy.history import learn, what_if

if TYPE_CHECKING:
    from pathlib import Path

POLICY = """
@id("calls")
permit (principal is Agent, action == Action::"tool.call", resource)
when { principal.capabilities.contains("h:call") };

@id("not-that-patient")
forbid (principal, action == Action::"tool.call", resource)
when { context has call && context.call.hasTag("patient") && context.call.getTag("patient") == "p2" };
"""
OTHER = (
    POLICY
    + """
@id("only-p1")
forbid (principal, action == Action::"tool.call", resource == Tool::"h.patient")
unless { context has call && context.call.hasTag("patient") && context.call.getTag("patient") == "p1" };
"""
)


@symbi.tool(name="h.patient", attributes=["patient"], effects="read", risk="low")
async def patient_tool(patient: str) -> str:
    return patient


@symbi.tool(name="h.plain", effects="external")
async def plain_tool(text: str) -> str:
    return text


@symbi.agent(name="history-worker", isolation="in_process", capabilities=["h:call"])
async def worker(ctx: symbi.AgentContext) -> int:
    refused = 0
    for patient in ("p1", "p2", "p3"):
        try:
            await ctx.tools.call("h.patient", {"patient": patient})
        except symbi.PolicyDenied:
            refused += 1
    await ctx.tools.call("h.plain", {"text": "x"})
    return refused


@symbi.agent(name="history-idler", isolation="in_process")
async def idler(ctx: symbi.AgentContext) -> int:
    try:
        await ctx.tools.call("h.plain", {"text": "x"})
    except symbi.PolicyDenied:
        return 1
    return 0


async def lived(data: Path, policy: list[Any], **options: Any) -> None:
    async with symbi.Runtime.open(data=data, policy=policy, **options) as rt:
        await rt.run(worker)
        await rt.run(idler)


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a runtime leaves behind that ran two agents."""
    place = tmp_path_factory.mktemp("history")
    (place / "calls.cedar").write_text(POLICY)
    asyncio.run(lived(place / "data", [place / "calls.cedar", "secure-default"]))
    return place


def test_under_the_same_policies_nothing_falls_differently(life: Path) -> None:
    """WI4, K110: what is read back from the trail decides as it did."""
    found = what_if(life / "data", [life / "calls.cedar", "secure-default"])
    assert (found.flips, found.undecidable) == ((), {})
    assert found.decided >= 8, "runs, resources, calls"


def test_a_stricter_set_is_named_with_each_operation_that_it_would_have_refused(
    life: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CP1."""
    other = tmp_path / "other.cedar"
    other.write_text(OTHER)
    found = what_if(life / "data", [other, "secure-default"])
    (flip,) = found.flips
    assert (flip.was, flip.now, flip.cause, flip.rule) == ("allow", "deny", "rule", "only-p1")
    assert (flip.principal, flip.resource) == ('Agent::"history-worker"', 'Tool::"h.patient"')
    arguments = ["policy", "whatif", str(other), "secure-default", "--data", str(life / "data")]
    assert main(arguments) == 1
    said = capsys.readouterr().out
    assert "1 fall differently" in said
    assert "allow → deny, 1 times by `only-p1`: NOT EXPECTED" in said
    assert main([*arguments, "--expect", "only-p1"]) == 0
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["unexpected"], told["flips"][0]["expected"]) == (1, False)


def test_a_milder_set_shows_the_refusal_that_it_would_have_let_pass(life: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.cedar"
    other.write_text('@id("all") permit (principal, action, resource);')
    found = what_if(life / "data", [other])
    assert {(flip.was, flip.now, flip.rule) for flip in found.flips} == {("deny", "allow", "all")}
    assert {flip.principal for flip in found.flips} == {'Agent::"history-worker"', 'Agent::"history-idler"'}


@symbi.agent(name="history-lost", isolation="in_process")
async def lost(ctx: symbi.AgentContext) -> str:
    try:
        await ctx.tools.call("h.absent", {})
    except symbi.PolicyDenied as denied:
        return denied.code
    return "called"


def test_a_refusal_that_no_policy_made_is_not_decided_again(tmp_path: Path) -> None:
    """WI3: a tool that does not exist is refused whatever the policies say."""
    everything = tmp_path / "everything.cedar"
    everything.write_text("permit (principal, action, resource);")

    async def run() -> str:
        async with symbi.Runtime.open(data=tmp_path / "data", policy=[everything]) as rt:
            return str(await rt.run(lost))

    assert asyncio.run(run()) == "denied"
    found = what_if(tmp_path / "data", [everything])
    assert (found.flips, found.undecidable) == ((), {})


@symbi.agent(name="history-alike", isolation="in_process", capabilities=["h:call"])
async def alike(ctx: symbi.AgentContext) -> None:
    for text in ("a", "a", "a" * 100, "a", "a" * 100, "ask ann@example.org", "a"):
        await ctx.tools.call("h.plain", {"text": text})


@pytest.mark.parametrize(
    ("condition", "flips"),
    [
        ("context.bytes > 60", 4),
        ('context.labels.contains("personal")', 4),  # and the next one: it was answered with what is personal
        ('principal.name == "history-alike-2"', 7),
        ('resource == Tool::"h.plain"', 14),
        ("context.bytes > 600", 0),
    ],
)
def test_wi5_what_differs_in_one_thing_is_not_decided_from_memory(
    tmp_path: Path, condition: str, flips: int
) -> None:
    second = symbi.AgentConfig(
        name="history-alike-2", function=alike.function, isolation="in_process", capabilities=("h:call",)
    )

    async def run() -> None:
        async with symbi.Runtime.open(data=tmp_path / "data", policy=[tmp_path / "calls.cedar"]) as rt:
            for agent in (alike, second):
                await rt.run(agent)

    rest = "permit (principal is Host, action, resource);"
    (tmp_path / "calls.cedar").write_text(POLICY + rest)
    asyncio.run(run())
    other = tmp_path / "other.cedar"
    other.write_text(
        f'{POLICY}{rest} @id("no") forbid (principal is Agent, action == Action::"tool.call", resource) when {{ {condition} }};'
    )
    for _ in range(2):
        found = what_if(tmp_path / "data", [other])
        assert (found.flipped, found.undecidable) == (flips, {})
        assert found.decided >= 14


def test_what_no_rule_permits_any_more_has_that_as_its_cause(life: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.cedar"
    other.write_text("permit (principal is Host, action, resource);")
    found = what_if(life / "data", [other])
    assert {flip.cause for flip in found.flips} == {"no_permit"}


def test_a_trail_that_was_changed_gives_no_answer(life: Path, tmp_path: Path) -> None:
    """PH1, WI1."""
    data = tmp_path / "data"
    shutil.copytree(life / "data", data, ignore=shutil.ignore_patterns("*.sock"))
    segment = next((data / "trail").glob("*.jsonl"))
    text = segment.read_bytes()
    segment.write_bytes(text.replace(b'"h.plain\\"', b'"h.plane\\"', 1))
    assert segment.read_bytes() != text
    with pytest.raises(symbi.errors.ChainBrokenError):
        what_if(data, [life / "calls.cedar", "secure-default"])
    with pytest.raises(symbi.errors.ChainBrokenError):
        learn(data)


def test_what_a_checkpoint_covers_is_taken_from_its_root(
    life: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "checkpoint", "--data", str(life / "data")]) == 0
    kept = tmp_path / "kept.checkpoint"
    kept.write_text(capsys.readouterr().out)
    new = [str(life / "calls.cedar"), "secure-default"]
    arguments = ["policy", "whatif", *new, "--checkpoint", str(kept), "--data"]
    assert main([*arguments, str(life / "data")]) == 0
    everything = what_if(life / "data", new)
    assert what_if(life / "data", new, checkpoint=kept.read_text()).decided == everything.decided
    data = tmp_path / "data"
    shutil.copytree(life / "data", data, ignore=shutil.ignore_patterns("*.sock"))
    segment = next((data / "trail").glob("*.jsonl"))
    segment.write_bytes(segment.read_bytes().replace(b"h.plain", b"h.plane"))
    assert main([*arguments, str(data)]) == 1
    kept.write_text("nothing")
    assert main([*arguments, str(data)]) == 2


def test_without_its_keys_what_is_sealed_is_undecidable_and_said_to_be(life: Path, tmp_path: Path) -> None:
    """WI2, K111."""
    data = tmp_path / "data"
    shutil.copytree(life / "data", data, ignore=shutil.ignore_patterns("*.sock"))
    shutil.rmtree(data / "keys")
    found = what_if(data, [life / "calls.cedar", "secure-default"])
    assert found.undecidable == {"erased": 3}, "three calls with declared attributes"
    assert found.flips == ()


def test_a_counter_that_was_not_kept_then_is_undecidable(life: Path, tmp_path: Path) -> None:
    """WI2."""
    (tmp_path / "n.cedar").write_text(
        POLICY
        + 'forbid (principal, action == Action::"tool.call", resource) when { context.counters.n > 1 };'
    )
    (tmp_path / "n.counters.toml").write_text(
        '[counters.n]\naction = "tool.call"\nper = "principal"\nwindow_s = 60\nkind = "count"\n'
    )
    found = what_if(life / "data", [tmp_path, "secure-default"])
    assert found.undecidable == {"counter_not_kept": 5}, "every call"


def test_a_time_can_be_said_as_how_long_ago(life: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["policy", "whatif", "secure-default", "--data", str(life / "data"), "--json"]
    decided = {}
    for since in ("1000d", "2h", "0m"):
        main([*arguments, "--since", since])
        decided[since] = json.loads(capsys.readouterr().out)["decided"]
    assert decided["1000d"] == decided["2h"] > decided["0m"] == 0
    for wrong in ("yesterday", "2w", "h", "-1h", "99999999d"):
        assert main([*arguments, f"--since={wrong}"]) == 2
        assert "how long ago: 30m, 2h, 7d" in capsys.readouterr().err


def test_times_bound_what_is_decided_again(life: Path) -> None:
    everything = what_if(life / "data", ["secure-default"])
    last = symbi.AuditLog.open(life / "data" / "trail").last(1)[0].timestamp
    assert what_if(life / "data", ["secure-default"], until=last).decided <= everything.decided
    assert what_if(life / "data", ["secure-default"], since=last).decided <= 1
    with pytest.raises(symbi.InputError, match="time zone"):
        what_if(life / "data", ["secure-default"], since=last.replace(tzinfo=None))


def test_what_was_let_through_unenforced_is_learnt_and_the_proposal_allows_all_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """LN1, LN2, CP2: the proposal passes `symbi check`, and every recorded operation passes the proposal."""
    config = tmp_path / "symbi.toml"
    config.write_text('[runtime]\nmode = "development"\n[security]\nenforce_policies = false\n')
    data = tmp_path / "data"
    asyncio.run(lived(data, ["secure-default"], config=config))
    assert main(["policy", "learn", "--data", str(data)]) == 0
    proposal = tmp_path / "learned.cedar"
    proposal.write_text(capsys.readouterr().out)
    assert main(["check", str(proposal)]) == 0
    assert check_policies([("cedar", "p", proposal.read_text())]) == [], "not even a warning"
    found = what_if(data, [proposal])
    assert found.undecidable == {}
    assert {flip.now for flip in found.flips} == {"allow"}, "what was denied and let through is permitted now"
    assert found.flipped >= 5
    assert 'Tool::"h.patient"' in proposal.read_text()
    assert "h.other" not in proposal.read_text()
    engine = symbi.PolicyEngine("symbi")
    engine.register_policy(proposal.read_text(), "learned")
    context = {"labels": [], "bytes": 1, "counters": {}}
    for agent, tool in (
        ("history-idler", "h.patient"),
        ("somebody", "h.plain"),
        ("history-worker", "h.other"),
    ):
        decision = engine.evaluate_policy(("Agent", agent), "tool.call", ("Tool", tool), context)
        assert not decision.allowed, "nothing that was not seen"
