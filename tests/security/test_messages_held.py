"""Messages under attack and under load: what is said stands nowhere in plain (M6), and nothing is lost, grows without
bound or stalls others when there is ten times too much of it (M5)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import symbi

BOUND_S = 60.0
CANARY = "canary-7c1f-the-words-of-nobody"

TALKS = """
import asyncio, os, sys, symbi

CANARY = "-".join(["canary", "7c1f", "the", "words", "of", "nobody"])

@symbi.agent(name="quiet", isolation="in_process")
async def quiet(): ...

async def main():
    async with symbi.Runtime.open(data="data") as rt:
        config = lambda name: symbi.AgentConfig(name=name, function=quiet.function, isolation="in_process")
        alice, bob = await rt.schedule_agent(config("alice")), await rt.schedule_agent(config("bob"))
        words = CANARY.encode()
        await rt.bus.send(alice, bob, words)
        await rt.bus.send_many(alice, [(bob, words)] * 3)
        await rt.bus.send(alice, bob, words, guarantee="at_least_once")
        await rt.bus.send(alice, bob, words, durable=True)
        heard = await rt.bus.subscribe(bob, "t.*")
        await rt.bus.publish(alice, "t.x", words, guarantee="at_least_once")
        await rt.bus.send(alice, bob, [symbi.Part(CANARY, frozenset({"phi"}))])
        messages = await rt.bus.receive_many(bob) + await heard.receive()
        assert len(messages) == 8, len(messages)
        await rt.bus.nack(bob, messages[4])
        print(rt.bus.dead_letters(), file=sys.stderr)
        os.abort()  # as a fault in native code would end it
asyncio.run(main())
"""


def test_m6_what_is_said_stands_in_no_file_no_log_and_no_crash_dump(tmp_path: Path) -> None:
    def dumps_allowed() -> None:
        _, most = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (most, most))

    ended = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", TALKS],
        cwd=tmp_path,
        capture_output=True,
        timeout=BOUND_S,
        check=False,
        preexec_fn=dumps_allowed,
        env={**os.environ, "SYMBI_LOG_LEVEL": "debug"},
    )
    assert ended.returncode == -6, ended.stderr.decode()
    assert CANARY.encode() not in ended.stdout + ended.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".jsonl" for path in files)
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []
    assert [path for path in files if path.name.startswith("core")] == []


@symbi.agent(name="quiet", isolation="in_process")
async def quiet() -> None: ...


def _resident_mb() -> float:
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * resource.getpagesize() / (1 << 20)


@pytest.mark.asyncio
async def test_m5_ten_times_too_much_is_slowed_down_and_nothing_is_lost_or_grows(tmp_path: Path) -> None:
    """Ten senders, each as fast as the one reader; a second reader that never reads; 10,000 messages of 1 KiB, ten times
    what all mailboxes hold."""
    async with symbi.Runtime.open(data=tmp_path / "data", mode="development") as rt:

        async def made(name: str) -> symbi.AgentHandle:
            config = symbi.AgentConfig(name=name, function=quiet.function, isolation="in_process")
            return await rt.schedule_agent(config)

        senders = [await made(f"sender{at}") for at in range(10)]
        reader, sloth = await made("reader"), await made("sloth")
        asleep = await rt.bus.subscribe(sloth, "news")
        each = 1_000

        async def send(sender: symbi.AgentHandle) -> None:
            for number in range(each):
                payload = f"{sender.id} {number} ".encode().ljust(1_024, b".")
                await rt.bus.send(sender, reader, payload, guarantee="at_least_once")
                await rt.bus.publish(sender, "news", payload)

        sending = [asyncio.create_task(send(sender)) for sender in senders]
        last: dict[str, int] = {}
        finished, highest, lowest = 0, 0.0, float("inf")
        async with asyncio.timeout(BOUND_S):
            while finished < each * len(senders):
                messages = await rt.bus.receive_many(reader, limit=64, timeout_s=BOUND_S)
                for message in messages:
                    sender, number, _ = bytes(message.payload).decode().split(" ")  # type: ignore[arg-type]
                    assert (message.sender, message.attempt) == (sender, 1)
                    assert int(number) == last.get(sender, -1) + 1, "lost, or out of order"
                    last[sender] = int(number)
                await rt.bus.ack(reader, *messages)
                finished += len(messages)
                if finished > each:  # pools are warm
                    highest, lowest = max(highest, _resident_mb()), min(lowest, _resident_mb())
            await asyncio.gather(*sending)
        assert highest - lowest < 48, "two mailboxes of 1 MiB, and what the trail has not written yet"
        kept = len(await asleep.receive(limit=5_000))
        assert kept + await asleep.missed() == each * len(senders), "missed in silence"
        assert rt.kernel.live()["messages"] == 0


@pytest.mark.asyncio
async def test_m5_ten_times_what_is_read_for_a_while_stays_within_its_memory_and_loses_nothing(
    tmp_path: Path,
) -> None:
    """Ten senders offer more than ten times what the one reader takes, forty times; `SYMBI_LONG=1`: for a minute.

    Everything that was taken is handed out and finished; everything else was refused by name; the memory of the process
    stays within a tenth of what it was once it was warm.
    """
    is_long = bool(os.environ.get("SYMBI_LONG"))
    async with symbi.Runtime.open(data=tmp_path / "data", mode="development") as rt:

        async def made(name: str) -> symbi.AgentHandle:
            config = symbi.AgentConfig(name=name, function=quiet.function, isolation="in_process")
            return await rt.schedule_agent(config)

        senders, reader = [await made(f"sender{at}") for at in range(10)], await made("reader")
        loop = asyncio.get_running_loop()
        began, is_over = loop.time(), False
        offered, taken, finished, resident = 0, 0, 0, []

        async def offer(sender: symbi.AgentHandle, count: int) -> None:
            nonlocal offered, taken
            for _ in range(count):
                offered += 1
                with contextlib.suppress(symbi.MailboxFullError):
                    await rt.bus.send(sender, reader, b"." * 1_024, guarantee="at_least_once", timeout_s=0)
                    taken += 1

        async def flood(sender: symbi.AgentHandle) -> None:
            while not is_over:
                await offer(sender, 96)
                await asyncio.sleep(0)  # the others' turn

        async def read() -> None:
            nonlocal finished
            messages = await rt.bus.receive_many(reader, limit=64)
            assert all(message.attempt == 1 for message in messages)
            await rt.bus.ack(reader, *messages)
            finished += len(messages)

        await offer(senders[0], 1_100)
        assert taken < offered, "the mailbox is full"
        flooding = [asyncio.create_task(flood(sender)) for sender in senders]
        async with asyncio.timeout(BOUND_S * 4):
            before, rounds = (offered, taken), 0
            while (loop.time() < began + 60.0) if is_long else (rounds < 40):
                await read()
                rounds += 1
                if not is_long or began + 10.0 < loop.time():
                    resident.append(_resident_mb())
            is_over = True
            await asyncio.gather(*flooding)
            more, of_them = offered - before[0], taken - before[1]
            while finished < taken:
                await read()
        assert more >= 10 * of_them, f"{more} offered, {of_them} taken: no overload"
        assert max(resident) <= 1.1 * min(resident), f"from {min(resident):.0f} to {max(resident):.0f} MB"
        assert (rt.kernel.live()["messages"], rt.bus.dead_letters()) == (0, [])
        if is_long:
            print(f"{more} offered, {of_them} taken, {min(resident):.0f} to {max(resident):.0f} MB")
