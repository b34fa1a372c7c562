"""Threat: what a person said survives an erasure in what was packed, copied under another key, or waits for a word (ER1, ER5)."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import interposed
import pytest
import symbi
from symbi.errors import ErasedError, PolicyDenied
from symbi.operators import make_token
from test_erasure import OPERATOR, POLICY, SUBJECT, TOOLS, WORD, _agent, _config, _plant, _traces

if TYPE_CHECKING:
    from pathlib import Path

_LATER = """
import asyncio, os, sys, symbi
from symbi.control import act
async def quiet(note): return note
async def main():
    config = symbi.Config.load(None, overrides={"policy.paths": [sys.argv[2]]})
    async with symbi.Runtime.open(config, data=sys.argv[1]) as rt:
        me = f"operator:{os.getuid()}"
        for _ in range(2):
            print((await act(rt, me, {"command": "audit.rotate"}))["key"])
asyncio.run(main())
"""


@pytest.mark.asyncio
async def test_er1_nothing_is_found_in_packed_segments_and_under_rotated_keys_either(tmp_path: Path) -> None:
    library, data, clock = interposed.build(tmp_path), tmp_path / "d", tmp_path / "clock"
    policy = tmp_path / "p.cedar"
    policy.write_text(POLICY + "permit (principal is Operator, action, resource);")
    async with symbi.Runtime.open(_config(policy), data=data) as rt:
        for tool in TOOLS:
            rt.tools.register(tool)
        await _plant(rt)
        pseudonym = await rt.persons.pseudonym(SUBJECT)
    clock.write_text("+300000")  # three days later: the segment is old, is closed and packed
    done = await asyncio.to_thread(interposed.run, library, _LATER, data, policy, CLOCK=clock)
    assert done.returncode == 0, done.stderr
    assert len(set(done.stdout.split())) == 2, "two new keys"
    assert list((data / "trail").glob("*.zst")), "packed"
    async with symbi.Runtime.open(_config(policy), data=data) as rt:
        trail = symbi.AuditLog.open(data / "trail")
        sealed = [event for event in trail.query(subject=str(pseudonym)) if "sealed" in event.details]
        assert sealed, "there was something to forget"
        assert WORD.encode() in b"".join(rt.kernel.unseal(event.details["sealed"]) for event in sealed)
        await rt.persons.erase(SUBJECT, by=OPERATOR)
        for event in sealed:
            with pytest.raises(ErasedError):
                rt.kernel.unseal(event.details["sealed"])
    for text in (WORD, SUBJECT):
        assert _traces(data, text) == []
    assert len(symbi.AuditLog.open(data / "trail").verify().keys) == 3


@pytest.mark.asyncio
async def test_an_erasure_that_waited_for_a_person_is_carried_out_when_it_is_asked_for_again(
    tmp_path: Path,
) -> None:
    rule = 'permit (principal is Operator, action == Action::"data.erase", resource);'
    policy, data = tmp_path / "p.cedar", tmp_path / "d"
    policy.write_text(POLICY.replace(rule, f'@obligation("approval") {rule}'))
    (data / "keys").mkdir(parents=True, mode=0o700)
    token = str(make_token(data))
    asker = f"operator:{os.getuid() + 1}"  # who agrees must be another
    async with symbi.Runtime.open(_config(policy), data=data) as rt:
        await rt.run(await _agent(rt, "asked"), {"note": WORD}, subject=SUBJECT)
        pseudonym = str(await rt.persons.pseudonym(SUBJECT))
        with pytest.raises(PolicyDenied, match="a person must approve") as denied:
            await rt.persons.erase(SUBJECT, by=asker)
    async with symbi.Runtime.open(_config(policy), data=data) as rt:  # it waits over an opening
        assert await rt.persons.pseudonym(SUBJECT) == pseudonym
        (one,) = rt.approvals.list()
        assert one.id == denied.value.approval
        assert SUBJECT not in str(one), "who agrees is shown a pseudonym"
        await rt.approvals.approve(one.id, token=token)
        assert await rt.persons.pseudonym(SUBJECT) == pseudonym, "agreed to, and not yet asked for again"
        (done,) = await rt.persons.erase(SUBJECT, by=asker)
        assert done.subject == pseudonym
        assert await rt.persons.pseudonym(SUBJECT) is None
        await rt.run(await _agent(rt, "another"), {"note": "x"}, subject=SUBJECT)
        with pytest.raises(PolicyDenied, match="a person must approve"):
            await rt.persons.erase(SUBJECT, by=asker)  # the word was for that one
    assert _traces(data, WORD) == []
    trail = symbi.AuditLog.open(data / "trail")
    trail.verify()
    assert [event.subjects for event in trail.query(event_type="subject.erased")] == [(pseudonym,)]
