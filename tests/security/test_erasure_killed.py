"""Threat: an erasure is stopped at the worst moment, and the person is half forgotten (ER5).

The process is killed before each change of a file that an erasure makes, one after the other: each write, sync, rename and
removal. `SYMBI_LONG=1` takes every one, otherwise some of them, others each time.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
from typing import TYPE_CHECKING

import interposed
import pytest
import symbi
from symbi.context import Passage

if TYPE_CHECKING:
    from pathlib import Path

LONG = os.environ.get("SYMBI_LONG", "") not in ("", "0")
MOMENTS = 5  # of a short run
STEPS_MAX = 400  # an erasure has about a quarter of them
WORD = "zyxquillfeather"

_ERASE = """
import asyncio, os, sys, symbi
async def main():
    async with symbi.Runtime.open(data=sys.argv[1]) as rt:
        try:
            os.unlink("/arm-now")
        except FileNotFoundError:
            pass
        await rt.persons.erase("jane", by=f"operator:{os.getuid()}")
        print("erased", flush=True)
        os._exit(0)  # the steps of closing are not those of erasing
asyncio.run(main())
"""


async def _quiet(note: str) -> str:
    return note


async def _plant(data: Path) -> str:
    async with symbi.Runtime.open(data=data) as rt:
        config = symbi.AgentConfig(
            name="a", function=_quiet, isolation="in_process", capabilities=["knowledge:write"]
        )
        agent = await rt.schedule_agent(config)
        content = await rt.context.ingest(agent, WORD, [Passage(f"the {WORD}", 0, 19)], subject="jane")
        await rt.context.store_document(agent, content, ["*"])
        await rt.run(agent, {"note": WORD}, subject="jane")
        return str(await rt.persons.pseudonym("jane"))


async def _look(data: Path, pseudonym: str, *, promised: bool, story: str) -> bool:
    """Opens what was left: she is known, whole, or forgotten, whole. Answers which."""
    async with symbi.Runtime.open(data=data) as rt:
        known = await rt.persons.pseudonym("jane") is not None
        trail = symbi.AuditLog.open(data / "trail")
        asked = trail.query(action="data.erase", resource=f'Subject::"{pseudonym}"')
        told = trail.query(event_type="subject.erased")
        keys = [path for path in (data / "keys").rglob("*") if path.name == pseudonym]
        (sealed,) = [
            event.details["projection"]
            for event in trail.query(action="data.write")
            if "projection" in event.details
        ]
        if known:
            assert not asked, f"{story}: its record is on disk, and it was not finished"
            assert not told, story
            assert keys, story
            assert WORD.encode() in rt.kernel.unseal(sealed), story
        else:
            assert asked, f"{story}: forgotten without a record"
            assert told, story
            assert not keys, story
            with pytest.raises(symbi.errors.ErasedError):
                rt.kernel.unseal(sealed)
        assert not (promised and known), f"{story}: promised"
    trail.verify()
    content = (data / "state.db").read_bytes()
    assert known or pseudonym.encode() not in content, story
    return known


def test_er5_killed_before_any_of_its_steps_an_erasure_is_whole_or_has_not_begun(tmp_path: Path) -> None:
    library = interposed.build(tmp_path)
    pseudonym = asyncio.run(_plant(tmp_path / "planted"))
    seed = int(os.environ.get("SYMBI_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
    dice = random.Random(seed)  # noqa: S311 - a test's choice, to be repeated
    known = forgotten = 0

    def kill(step: int) -> bool:
        """Whether it was killed."""
        nonlocal known, forgotten
        data = tmp_path / "data"
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(tmp_path / "planted", data)
        done = interposed.run(library, _ERASE, data, KILL_AT=step)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        story = f"seed {seed}, step {step}"
        if asyncio.run(_look(data, pseudonym, promised="erased" in done.stdout, story=story)):
            known += 1
        else:
            forgotten += 1
        return done.returncode != 0

    if LONG:
        steps = 1
        while kill(steps):
            steps += 1
            assert steps < STEPS_MAX
        print(f"{steps - 1} steps")
    else:
        assert kill(1), "before anything was written"
        for step in dice.sample(range(2, 40), MOMENTS):
            kill(step)
    assert known, "before its record nothing has happened"
    assert forgotten, "after its record it is finished"
