"""What operators do to the trail of a running runtime, over its control socket: rotate, hold, prune, mark a key."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi.audit import verify_trail
from symbi.control import act
from symbi.errors import InputError, PolicyDenied

if TYPE_CHECKING:
    from pathlib import Path

ME = f"operator:{os.getuid()}"


async def _quiet(note: str) -> str:
    return note


async def _ask(rt: symbi.Runtime, command: str, **arguments: Any) -> Any:
    return await act(rt, ME, {"command": command, **arguments})


async def _work(rt: symbi.Runtime) -> None:
    await rt.run(symbi.AgentConfig(name="a", function=_quiet, isolation="in_process"), {"note": "x"})


@pytest.mark.asyncio
async def test_a_running_runtime_goes_on_under_a_new_key_and_the_old_one_can_be_taken_back(
    tmp_path: Path,
) -> None:
    async with symbi.Runtime.open(data=tmp_path / "d") as rt:
        trail = symbi.AuditLog.open(rt.opened["trail"])
        kept = await _ask(rt, "audit.checkpoint")
        await _work(rt)
        old = trail.last(1)[0].key
        told = await _ask(rt, "audit.rotate")
        await _work(rt)
        assert trail.record(told["seq"]).event_type == "key.rotated"
        assert {event.key for event in trail.tail(told["seq"] + 1)} == {told["key"]}
        seq = await _ask(rt, "audit.compromised", key=old, **{"from": 3}, reason="stolen laptop")
        record = trail.record(seq)
        assert (record.event_type, record.details["key"], record.details["by"]) == (
            "log.key_compromised",
            old,
            ME,
        )
        with pytest.raises(InputError, match="rotate"):
            await _ask(rt, "audit.compromised", key=told["key"], **{"from": 3}, reason="x")
        for wrong in (
            {"key": old},
            {"key": old, "from": -1, "reason": ""},
            {"key": 7, "from": 1, "reason": ""},
        ):
            with pytest.raises(InputError):
                await _ask(rt, "audit.compromised", **wrong)
        await _work(rt)
    async with symbi.Runtime.open(data=tmp_path / "d") as rt:  # the new key is the one that is kept
        await _work(rt)
        trail = symbi.AuditLog.open(rt.opened["trail"])
        found = trail.verify(key=trail.fingerprint, checkpoint=kept)
        assert found.keys == (old, told["key"])
    assert verify_trail.verify(tmp_path / "d" / "trail")["records"] == found.records + len(
        list(trail.tail(found.records))
    )


@pytest.mark.asyncio
async def test_a_hold_refuses_to_prune_beside_a_running_runtime_and_each_is_a_record(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path / "d") as rt:
        await _work(rt)
        trail = symbi.AuditLog.open(rt.opened["trail"])
        held = await _ask(rt, "audit.hold", on=True, reason="case 7")
        hold = trail.held
        assert hold is not None
        assert (hold.seq, hold.reason, hold.by) == (held, "case 7", ME)
        with pytest.raises(InputError, match="in force"):
            await _ask(rt, "audit.hold", on=True, reason="case 8")
        released = await _ask(rt, "audit.hold", on=False, reason="closed")
        assert trail.record(released).event_type == "log.released"
        assert trail.held is None
        with pytest.raises(InputError):
            await _ask(rt, "audit.hold", on=False, reason="again")
        assert await _ask(rt, "audit.prune", before_us=2**53) == {"pruned": None}, "nothing is old enough"
        for wrong in ({}, {"before_us": -1}, {"before_us": "now"}, {"before_us": True}):
            with pytest.raises(InputError):
                await _ask(rt, "audit.prune", **wrong)
        for wrong in ({}, {"on": 1, "reason": "x"}, {"on": True}):
            with pytest.raises(InputError):
                await _ask(rt, "audit.hold", **wrong)
        await _work(rt)
    symbi.AuditLog.open(tmp_path / "d" / "trail").verify()


@pytest.mark.asyncio
async def test_each_of_them_is_under_policy_and_the_refusal_is_a_record(tmp_path: Path) -> None:
    policy = tmp_path / "p.cedar"
    policy.write_text(
        'permit (principal, action, resource) unless { action in [Action::"key.change", Action::"data.erase"] };'
    )
    async with symbi.Runtime.open(data=tmp_path / "d", policy=policy) as rt:
        trail = symbi.AuditLog.open(rt.opened["trail"])
        key = trail.last(1)[0].key
        for request in (
            {"command": "audit.rotate"},
            {"command": "audit.hold", "on": True, "reason": "case 7"},
            {"command": "audit.compromised", "key": key, "from": 1, "reason": "x"},
        ):
            with pytest.raises(PolicyDenied):
                await act(rt, "host", request)
    trail = symbi.AuditLog.open(trail.directory)  # closed: all is on disk
    assert len(list(trail.query(decision="deny"))) == 3
    assert list(trail.query(event_type="key.rotated")) == []
    assert trail.held is None


_STRANGER = """
import sys
from pathlib import Path
from symbi.control import ask
print(ask(Path(sys.argv[1]), {"command": "audit.rotate"}))
"""


@pytest.mark.asyncio
async def test_cs1_a_child_of_the_runtime_changes_nothing_of_its_trail(tmp_path: Path) -> None:
    import asyncio

    async with symbi.Runtime.open(data=tmp_path / "d") as rt:
        trail = symbi.AuditLog.open(rt.opened["trail"])
        before = trail.last(1)[0]
        command = [sys.executable, "-c", _STRANGER, str(tmp_path / "d")]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 1
        assert "PolicyDenied" in done.stderr
        assert trail.last(1)[0].key == before.key
        assert trail.query(event_type="key.rotated") == []
