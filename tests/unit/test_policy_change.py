"""Policies that change while a runtime works: registered, loaded, watched, and refused without a gap."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi.operators import make_token

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OPEN = "permit (principal, action, resource);\n"
CLOSED = 'permit (principal is Host, action, resource) unless { action == Action::"tool.call" };\n'
ME = f"operator:{os.getuid()}"


@symbi.tool(name="change.look", effects="read")
def look() -> str:
    return "seen"


@symbi.agent(name="looker", isolation="in_process")
async def looker(ctx: symbi.AgentContext) -> str:
    return str(await ctx.tools.call("change.look"))


def types(rt: symbi.Runtime, event_type: str) -> list[symbi.AuditEvent]:
    return list(symbi.AuditLog.open(rt.opened["trail"]).query(event_type=event_type))


@pytest.mark.asyncio
async def test_po1_po2_a_registered_policy_holds_until_it_is_taken_out(tmp_path: Path) -> None:
    (tmp_path / "p.cedar").write_text(OPEN)
    async with symbi.Runtime.open(data=tmp_path / "d", policy=tmp_path / "p.cedar") as rt:
        before = rt.kernel.policy_digest()
        name = await rt.register_policy(
            '@id("no") forbid (principal, action == Action::"tool.call", resource);', "no"
        )
        with pytest.raises(symbi.PolicyDenied):
            await rt.run(looker)
        with pytest.raises(symbi.InputError, match="already"):
            await rt.register_policy(OPEN, "no")
        with pytest.raises(symbi.PolicyError):
            await rt.register_policy("permit (", "broken")
        await rt.unregister_policy(name)
        assert rt.kernel.policy_digest() == before
        assert await rt.run(looker) == "seen"
        with pytest.raises(symbi.InputError, match="registered"):
            await rt.unregister_policy(name)


@pytest.mark.asyncio
async def test_to_register_is_an_operation_under_policy(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path / "d") as rt:
        with pytest.raises(symbi.PolicyDenied):
            await rt.register_policy(OPEN, "open")  # the built-in set lets operators alone change policy
        await rt.register_policy(OPEN, "open", by=ME)
        assert await rt.run(looker) == "seen"


@pytest.mark.asyncio
async def test_the_canary_tells_what_falls_otherwise_and_may_bound_it(tmp_path: Path) -> None:
    for name, text in (("open", OPEN), ("closed", CLOSED)):
        (tmp_path / f"{name}.cedar").write_text(text)
    async with symbi.Runtime.open(data=tmp_path / "d", policy=tmp_path / "open.cedar") as rt:
        agent = await rt.schedule_agent(looker)
        for _ in range(40):
            await rt.run(agent)
        before = rt.kernel.policy_digest()
        with pytest.raises(symbi.PolicyError, match="fall otherwise"):
            await rt.load_policies([tmp_path / "closed.cedar"], by=ME, flips_max=0)
        assert rt.kernel.policy_digest() == before
        assert await rt.run(agent) == "seen"
        changed = await rt.load_policies([tmp_path / "closed.cedar"], by=ME)
        assert changed.sampled
        assert all((flip["before"], flip["after"]) == ("allow", "deny") for flip in changed.flips)
        assert changed.digest == rt.kernel.policy_digest()


@pytest.mark.asyncio
async def test_pw1_pw2_a_saved_file_is_in_force_and_a_broken_one_is_loud_and_changes_nothing(
    tmp_path: Path,
) -> None:
    policies = tmp_path / "policies"
    policies.mkdir()
    file = policies / "p.cedar"
    file.write_text(OPEN)
    config = tmp_path / "c.toml"
    config.write_text(f'[policy]\npaths = ["{policies}"]\nwatch = true\n')

    async def until(seen: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not seen():  # noqa: ASYNC110 - the file system has no event for us here
                await asyncio.sleep(0)

    async with symbi.Runtime.open(config, data=tmp_path / "d") as rt:
        assert await rt.run(looker) == "seen"
        opened = rt.kernel.policy_digest()
        fresh = policies / ".new"
        fresh.write_text(OPEN + CLOSED.replace("permit", "forbid"))
        fresh.rename(file)  # as editors do
        await until(lambda: rt.kernel.policy_digest() != opened)
        second = rt.kernel.policy_digest()
        assert second != opened
        assert (await rt.health_check()).component_health["policy"].level == "green"
        file.write_text("permit (")
        await until(lambda: rt.kernel.policy_problem() is not None)
        assert rt.kernel.policy_digest() == second
        health = (await rt.health_check()).component_health["policy"]
        assert health.level == "red"
        assert "p.cedar" in health.text
        await until(lambda: len(types(rt, "policy.rejected")) > 0)  # when it is on disk
        assert len(types(rt, "policy.rejected")) == 1
        file.write_text(OPEN)
        await until(lambda: rt.kernel.policy_digest() == opened)
        assert await rt.run(looker) == "seen"
        assert (await rt.health_check()).component_health["policy"].level == "green"


@pytest.mark.asyncio
async def test_pw3_a_saved_file_that_persons_must_agree_to_is_in_force_once_they_have(tmp_path: Path) -> None:
    data, file, config = tmp_path / "d", tmp_path / "p.cedar", tmp_path / "c.toml"
    asks = (
        '@id("eyes") @obligation("approval") permit (principal, action == Action::"policy.change", resource);'
    )
    file.write_text(OPEN + asks)
    config.write_text(f'[policy]\npaths = ["{file}"]\nwatch = true\n')
    data.joinpath("keys").mkdir(parents=True, mode=0o700)
    token = str(make_token(data))

    async with symbi.Runtime.open(config, data=data) as rt:

        async def asked(count: int) -> Any:
            async with asyncio.timeout(20):
                while len(found := rt.approvals.list()) < count:  # noqa: ASYNC110 - nobody rings here
                    await asyncio.sleep(0)
            return found[-1]

        opened = rt.kernel.policy_digest()
        file.write_text(OPEN + asks + " // one")
        await asked(1)
        assert rt.kernel.policy_digest() == opened
        file.write_text(OPEN + asks + " // two")
        second = await asked(2)
        health = (await rt.health_check()).component_health["policy"]
        assert (health.level, "approve" in health.text) == ("red", True)
        await rt.approvals.approve(second.id, token=token, by="operator:4242")
        async with asyncio.timeout(20):
            while rt.kernel.policy_digest() == opened:  # noqa: ASYNC110 - nobody rings here
                await asyncio.sleep(0)
        assert (await rt.health_check()).component_health["policy"].level == "green"


@pytest.mark.asyncio
async def test_p3_under_load_every_decision_is_by_one_whole_set(tmp_path: Path) -> None:
    # Each set permits with its first rule and would forbid without its second: a half of either shows at once.
    for name in ("one", "two"):
        rules = (
            f'@id("{name}-a") permit (principal, action, resource);\n'
            f'@id("{name}-b") forbid (principal, action == Action::"key.change", resource);\n'
        )
        (tmp_path / f"{name}.cedar").write_text(rules)
    async with symbi.Runtime.open(data=tmp_path / "d", policy=tmp_path / "one.cedar") as rt:
        agent = await rt.schedule_agent(looker)
        stop = asyncio.Event()

        async def works() -> None:
            while not stop.is_set():
                assert await rt.run(agent) == "seen"

        load = [asyncio.create_task(works()) for _ in range(3)]
        for number in range(12):
            await rt.load_policies([tmp_path / f"{('one', 'two')[number % 2]}.cedar"], by=ME)
        stop.set()
        await asyncio.gather(*load)
        digests: dict[str, set[str]] = {}
        for record in types(rt, "operation.intent"):
            digests.setdefault(str(record.policy), set()).update(record.details["rules"])
    assert len(digests) == 2
    assert sorted(map(sorted, digests.values())) == [["one-a"], ["two-a"]]
