"""Opening and closing a runtime: loops, forks, data directories, the policies it opens with and is given later."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import symbi

if TYPE_CHECKING:
    from pathlib import Path

BOUND_S = 20.0


@symbi.agent(isolation="in_process")
async def echo(ctx: symbi.AgentContext, value: Any = None) -> Any:
    return value


@pytest.mark.asyncio
async def test_two_runtimes_live_in_one_loop(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path / "a") as one, symbi.Runtime.open(data=tmp_path / "b") as two:
        assert await asyncio.gather(one.run(echo, {"value": 1}), two.run(echo, {"value": 2})) == [1, 2]
        assert one.opened["log_id"] != two.opened["log_id"]


def test_br3_a_runtime_of_another_loop_is_refused_instead_of_hanging(tmp_path: Path) -> None:
    rt = symbi.Runtime.open(data=tmp_path)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(rt.__aenter__())

    async def other() -> None:
        with pytest.raises(symbi.RuntimeClosedError, match="another event loop"):
            await asyncio.wait_for(rt.run(echo), BOUND_S)

    asyncio.run(other())
    loop.run_until_complete(rt.close())
    loop.close()


def test_a_runtime_can_be_closed_after_its_loop_was(tmp_path: Path) -> None:
    rt = symbi.Runtime.open(data=tmp_path)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(rt.__aenter__())
    loop.close()
    asyncio.run(asyncio.wait_for(rt.close(), BOUND_S))
    assert symbi.AuditLog.open(tmp_path / "trail").verify().records >= 2


_FORKING = """
import asyncio, gc, os, sys, symbi
@symbi.agent(isolation="in_process")
async def echo(value): return value
rt = symbi.Runtime.open(data=sys.argv[1])
loop = asyncio.new_event_loop()
loop.run_until_complete(rt.__aenter__())
agent = loop.run_until_complete(rt.schedule_agent(echo))
loop.run_until_complete(rt.run(agent, {"value": 1}))
before = rt.kernel.durable()
child = os.fork()
if child == 0:
    code = 7
    for ask in (
        lambda: rt.kernel,
        lambda: rt.bus._kernel.send(agent.id, agent.id, b""),
        lambda: rt._dispatcher._kernel.note(agent.id, "from the child"),
        lambda: asyncio.run(rt.run(agent, {"value": 2})),
        lambda: asyncio.run(rt.tools.call(agent, "any")),
        lambda: asyncio.run(rt.bus.send(agent, agent, b"x")),
    ):
        try:
            ask()
            code = 9
        except symbi.RuntimeClosedError:
            pass
    asyncio.run(rt.close())
    del rt
    gc.collect()
    os._exit(code)  # an event loop of the parent's is not for unwinding: asyncio shares its epoll over a fork
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 7, status
assert rt.kernel.durable() == before
assert os.path.exists(os.path.join(sys.argv[1], "control.sock"))
assert loop.run_until_complete(asyncio.wait_for(rt.run(agent, {"value": 5}), 10)) == 5
loop.run_until_complete(rt.close())
loop.close()
"""


def test_fk1_fk2_a_forked_child_is_left_nothing_and_the_parent_goes_on(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _FORKING, str(tmp_path / "d")],
        capture_output=True,
        timeout=BOUND_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    assert b"panicked" not in ended.stderr
    assert symbi.AuditLog.open(tmp_path / "d" / "trail").verify().records > 2


@pytest.mark.asyncio
async def test_a_data_directory_has_one_runtime(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:
        with pytest.raises(symbi.LogLockedError):
            await symbi.Runtime.open(data=tmp_path).__aenter__()
        assert await rt.run(echo, {"value": 1}) == 1
        assert (tmp_path / "control.sock").exists()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("permit (", "broken.cedar:1"),
        ('permit (principal, action == Action::"no.such", resource);', "broken.cedar:1"),
        ('permit (principal, action, resource) when { principal.nothing == "x" };', "broken.cedar:1"),
    ],
)
async def test_a_broken_policy_does_not_open_and_names_the_place(
    tmp_path: Path, text: str, match: str
) -> None:
    policy = tmp_path / "broken.cedar"
    policy.write_text(text)
    with pytest.raises(symbi.PolicyError, match=match):
        await symbi.Runtime.open(data=tmp_path / "d", policy=policy).__aenter__()


@pytest.mark.asyncio
async def test_an_empty_policy_directory_does_not_open(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    with pytest.raises(symbi.PolicyError, match="holds no"):
        await symbi.Runtime.open(data=tmp_path / "d", policy=tmp_path / "policies").__aenter__()
    with pytest.raises(symbi.PolicyError, match="there is no policy"):
        await symbi.Runtime.open(data=tmp_path / "d", policy=tmp_path / "absent").__aenter__()


@pytest.mark.asyncio
async def test_a_set_that_permits_nothing_refuses_every_agent(tmp_path: Path) -> None:
    policy = tmp_path / "none.cedar"
    policy.write_text("forbid (principal, action, resource);")
    async with symbi.Runtime.open(data=tmp_path / "d", policy=policy) as rt:
        with pytest.raises(symbi.PolicyDenied) as caught:
            await rt.schedule_agent(echo)
        assert caught.value.code == "denied"
        (denied,) = symbi.AuditLog.open(rt.opened["trail"]).query(event_type="operation.denied")
        assert denied.details["decision_id"] == caught.value.decision_id
        assert await rt.stop_all() == 0


@pytest.mark.parametrize(
    "text", ["[runtime\n", "[runtime]\nno_such_key = 1\n", "[runtime]\nmax_concurrent_agents = 'many'\n"]
)
def test_a_malformed_configuration_names_the_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "symbi.toml"
    file.write_text(text)
    with pytest.raises(symbi.ConfigError, match=r"symbi\.toml"):
        symbi.Runtime.open(file, data=tmp_path / "d")


@pytest.mark.asyncio
async def test_policies_change_at_once_and_a_broken_set_changes_nothing(tmp_path: Path) -> None:
    closed, broken = tmp_path / "closed.cedar", tmp_path / "broken.cedar"
    closed.write_text("forbid (principal, action, resource);")
    broken.write_text("permit (")
    async with symbi.Runtime.open(data=tmp_path / "d") as rt:
        assert await rt.run(echo, {"value": 1}) == 1
        with pytest.raises(symbi.PolicyDenied):
            await rt.load_policies([closed])  # the host may not; operators may
        with pytest.raises(symbi.PolicyError):
            await rt.load_policies([broken], by=f"operator:{os.getuid()}")
        assert await rt.run(echo, {"value": 1}) == 1
        await rt.load_policies([closed], by=f"operator:{os.getuid()}")
        with pytest.raises(symbi.PolicyDenied):
            await rt.run(echo)


@pytest.mark.asyncio
async def test_the_data_directory_is_for_its_owner_alone_and_hides_from_git(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path / "d"):
        assert (tmp_path / "d").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "d" / ".gitignore").read_text() == "*\n"
        assert (tmp_path / "d" / "control.sock").stat().st_mode & 0o777 == 0o600


@pytest.mark.asyncio
async def test_a_damaged_knowledge_file_is_named_with_what_can_be_done(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:
        await rt.run(echo, {"value": 1})
    for name in ("state.db", "state.db-wal", "state.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "state.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(symbi.KnowledgeError, match=r"`state\.db`.*move the knowledge file away") as caught:
        await symbi.Runtime.open(data=tmp_path).__aenter__()
    assert "must be added again" in str(caught.value), "what is lost is said"
    (tmp_path / "state.db").unlink()
    async with symbi.Runtime.open(data=tmp_path) as rt:
        assert await rt.run(echo, {"value": 2}) == 2


@pytest.mark.asyncio
async def test_a_data_directory_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(symbi.ConfigError, match="name one that can be made and written"):
        await symbi.Runtime.open(data=tmp_path / "file").__aenter__()
