"""Messages through the public interface: topics, room, acknowledgement, durability. Handlers: `test_messages_handled`."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import os
import signal
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import symbi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

BOUND_S = 20.0  # nothing here takes a second; what hangs ends


@symbi.agent(name="quiet", isolation="in_process")
async def quiet() -> None: ...


@pytest_asyncio.fixture
async def rt(tmp_path: Path) -> AsyncIterator[symbi.Runtime]:
    async with symbi.Runtime.open(data=tmp_path / "data", mode="development") as runtime:
        yield runtime


async def _agents(rt: symbi.Runtime, *names: str) -> list[symbi.AgentHandle]:
    config = [symbi.AgentConfig(name=name, function=quiet.function, isolation="in_process") for name in names]
    return [await rt.schedule_agent(one) for one in config]


async def _filled(rt: symbi.Runtime, sender: symbi.AgentHandle, recipient: symbi.AgentHandle) -> int:
    """Sends until there is no room; how many had some."""
    for sent in range(5_000):
        try:
            await rt.bus.send(sender, recipient, f"{sent}".encode() + b"." * 1_000, timeout_s=0)
        except symbi.MailboxFullError as full:
            return sent if full.mailbox == recipient.id else -1
    raise AssertionError("the mailbox has no bound")


def _number(message: Any) -> int:
    return int(bytes(message.payload).split(b".")[0])


@pytest.mark.asyncio
async def test_rm1_senders_wait_for_room_and_nothing_is_lost_or_reordered(rt: symbi.Runtime) -> None:
    alice, bob = await _agents(rt, "alice", "bob")
    sent = await _filled(rt, alice, bob)
    more = [
        asyncio.create_task(rt.bus.send(alice, bob, f"{number}".encode() + b"." * 1_000))
        for number in range(sent, sent + 50)
    ]
    await asyncio.sleep(0)
    assert not any(task.done() for task in more)
    received: list[int] = []
    async with asyncio.timeout(BOUND_S):
        while len(received) < sent + 50:
            messages = await rt.bus.receive_many(bob, limit=7, timeout_s=BOUND_S)
            received += [_number(message) for message in messages]
        await asyncio.gather(*more)
    assert received == list(range(sent + 50))


@pytest.mark.asyncio
async def test_rm2_a_sender_that_gives_up_leaves_the_line(rt: symbi.Runtime) -> None:
    alice, bob = await _agents(rt, "alice", "bob")
    sent = await _filled(rt, alice, bob)
    waiting = asyncio.create_task(rt.bus.send(alice, bob, b"never" * 400))
    with pytest.raises(symbi.MailboxFullError):
        await rt.bus.send(alice, bob, b"late" * 500, timeout_s=0.01)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert rt.dispatcher.messaging.rooms.waiting == 0
    assert len(await rt.bus.receive_many(bob, limit=5_000)) == sent
    await rt.bus.send(alice, bob, b"again")
    assert [message.payload for message in await rt.bus.receive_many(bob)] == [b"again"]


@pytest.mark.asyncio
async def test_whoever_waits_for_room_learns_that_the_recipient_is_gone(rt: symbi.Runtime) -> None:
    alice, bob = await _agents(rt, "alice", "bob")
    await _filled(rt, alice, bob)
    waiting = asyncio.create_task(rt.bus.send(alice, bob, b"x" * 1_000))
    await asyncio.sleep(0)
    await rt.stop_agent(bob, force=True)
    async with asyncio.timeout(BOUND_S):
        with pytest.raises(symbi.PolicyDenied):
            await waiting


@pytest.mark.asyncio
async def test_a_batch_larger_than_the_mailbox_arrives_whole_and_in_order(rt: symbi.Runtime) -> None:
    alice, bob = await _agents(rt, "alice", "bob")
    for signing in ("batch", "each"):
        batch = [(bob, f"{number}".encode() + b"." * 1_000) for number in range(2_000)]
        sending = asyncio.create_task(rt.bus.send_many(alice, batch, signing=signing))  # type: ignore[arg-type]
        received: list[int] = []
        async with asyncio.timeout(BOUND_S):
            while len(received) < 2_000:
                messages = await rt.bus.receive_many(bob, limit=300, timeout_s=BOUND_S)
                received += [_number(message) for message in messages]
            identities = await sending
        assert received == list(range(2_000))
        assert len(set(identities)) == 2_000


@pytest.mark.asyncio
async def test_topics_reach_those_whose_pattern_takes_them(rt: symbi.Runtime) -> None:
    alice, bob = await _agents(rt, "alice", "bob")
    async with (
        await rt.bus.subscribe(bob, "orders.*") as one,
        await rt.bus.subscribe(bob, "orders.>") as rest,
    ):
        for topic in ("orders", "orders.new", "orders.eu.new", "invoices.new"):
            await rt.bus.publish(alice, topic, topic.encode())
        assert [message.payload for message in await one.receive()] == [b"orders.new"]
        heard = await rest.receive()
        assert [message.topic for message in heard] == ["orders.new", "orders.eu.new"]
        assert {message.sender for message in heard} == {alice.id}
    for wrong in ("", "a..b", "a.*", "a b"):
        with pytest.raises(symbi.InputError, match="topic"):
            await rt.bus.publish(alice, wrong, b"x")
    with pytest.raises(symbi.InputError, match="last one"):
        await rt.bus.subscribe(bob, "a.>.b")


@pytest.mark.asyncio
async def test_a_slow_subscriber_stalls_nobody_and_is_told_what_it_missed(rt: symbi.Runtime) -> None:
    alice, slow, quick = await _agents(rt, "alice", "slow", "quick")
    sloth, hare = await rt.bus.subscribe(slow, "t"), await rt.bus.subscribe(quick, "t")
    heard = 0
    for number in range(2_000):
        await rt.bus.publish(alice, "t", f"{number}".encode() + b"." * 1_000)
        heard += len(await hare.receive())
    assert heard == 2_000
    kept = len(await sloth.receive(limit=5_000))
    assert kept + await sloth.missed() == 2_000
    assert 0 < kept < 2_000
    assert await hare.missed() == 0


@pytest.mark.asyncio
async def test_a_publisher_that_must_be_heard_waits_for_the_slow_after_everybody_else_has_heard(
    rt: symbi.Runtime,
) -> None:
    alice, slow, quick = await _agents(rt, "alice", "slow", "quick")
    sloth, hare = await rt.bus.subscribe(slow, "t"), await rt.bus.subscribe(quick, "t")
    heard: list[Any] = []

    async def publish() -> None:
        for number in range(1_500):
            await rt.bus.publish(alice, "t", f"{number}".encode() + b"." * 1_000, guarantee="at_least_once")

    async with asyncio.timeout(BOUND_S):
        publishing = asyncio.create_task(publish())
        slowly: list[Any] = []
        while len(heard) < 1_500 or len(slowly) < 1_500:
            for subscription, kept in ((hare, heard), (sloth, slowly)):
                messages = await subscription.receive(limit=64, timeout_s=0.001)
                await subscription.ack(*messages)
                kept += [_number(message) for message in messages]
        await publishing
    assert heard == slowly == list(range(1_500))


@pytest.mark.asyncio
async def test_a_message_known_by_its_id_is_handed_out_once(rt: symbi.Runtime) -> None:
    alice, bob = await _agents(rt, "alice", "bob")
    identity = str(uuid.uuid4())
    for _ in range(3):
        assert await rt.bus.send(alice, bob, b"x", guarantee="at_least_once", id=identity) == identity
    (message,) = await rt.bus.receive_many(bob)
    assert (message.id, message.attempt) == (identity, 1)
    await rt.bus.ack(bob, message)
    await rt.bus.ack(bob, message)
    await rt.bus.send(alice, bob, b"x", guarantee="at_least_once", id=identity)
    assert await rt.bus.receive_many(bob) == []
    with pytest.raises(symbi.InputError, match="acknowledged"):
        await rt.bus.ack(alice, message)  # it was never in her mailbox
    with pytest.raises(symbi.InputError):
        await rt.bus.send(alice, bob, b"x", id="not an id")


@pytest.mark.asyncio
async def test_what_nobody_can_deal_with_is_a_dead_letter_and_can_be_revived(rt: symbi.Runtime) -> None:
    alice, bob = await _agents(rt, "alice", "bob")
    await rt.bus.send(alice, bob, b"poison", guarantee="at_least_once")
    async with asyncio.timeout(BOUND_S):
        for attempt in range(1, 6):
            (message,) = await rt.bus.receive_many(bob, timeout_s=BOUND_S)
            assert message.attempt == attempt
            await rt.bus.nack(bob, message)
        # Its time passes on the loop: nothing is handed out any more, and it is laid aside.
        assert await rt.bus.receive_many(bob, timeout_s=0.3) == []
    letters = rt.bus.dead_letters()
    (letter,) = letters
    assert (letter.reason, letter.attempts, letter.sender_name) == ("attempts", 5, "alice")
    await rt.bus.revive(letter)
    (message,) = await rt.bus.receive_many(bob, timeout_s=BOUND_S)
    assert (message.payload, message.attempt) == (b"poison", 1)
    assert rt.bus.dead_letters() == []


@pytest.mark.asyncio
async def test_nobody_reads_the_mailbox_of_another(rt: symbi.Runtime) -> None:
    alice, bob, eve = await _agents(rt, "alice", "bob", "eve")
    theirs = await rt.bus.subscribe(bob, "t")
    await rt.bus.publish(alice, "t", b"for bob")
    await rt.bus.send(alice, bob, b"for bob")
    for operation, arguments in [
        ("bus.receive", {"mailbox": bob.id}),
        ("bus.receive", {"mailbox": theirs.id}),
        ("bus.unsubscribe", {"mailbox": theirs.id}),
        ("bus.missed", {"mailbox": theirs.id}),
        ("bus.ack", {"mailbox": theirs.id, "messages": []}),
        ("bus.give_back", {"mailbox": bob.id, "message": str(uuid.uuid4())}),
    ]:
        with pytest.raises(symbi.InputError):
            await rt.dispatcher.call(eve.id, operation, arguments)
    assert len(await theirs.receive()) == 1


RATED = """
[runtime]
message_rate_per_s = 1
message_burst = 10
"""


@pytest.mark.asyncio
async def test_each_agent_has_its_own_rate_of_messages(tmp_path: Path) -> None:
    settings = tmp_path / "symbi.toml"
    settings.write_text(RATED)
    async with symbi.Runtime.open(settings, data=tmp_path / "data", mode="development") as rt:
        alice, bob = await _agents(rt, "alice", "bob")
        codes: set[str] = set()
        for agent in (alice, bob):
            taken = 0
            for _ in range(30):
                try:
                    await rt.bus.send(agent, bob, b"x")
                    taken += 1
                except symbi.PolicyDenied as denied:
                    codes.add(denied.code)
            assert 10 <= taken <= 12  # and what a second or two brings
        assert codes == {"rate_limited"}


WRITER = """
import asyncio, sys, symbi

@symbi.agent(name="quiet", isolation="in_process")
async def quiet(): ...

async def main():
    async with symbi.Runtime.open(data=sys.argv[1], mode="development") as rt:
        config = lambda name: symbi.AgentConfig(name=name, function=quiet.function, isolation="in_process")
        alice, bob = await rt.schedule_agent(config("alice")), await rt.schedule_agent(config("bob"))
        async def read():
            while True:
                for message in await rt.bus.receive_many(bob, limit=3, timeout_s=5):
                    if int(message.payload) % 2:
                        await rt.bus.ack(bob, message)
                        print("acked", int(message.payload), flush=True)
        async def write(first):
            for number in range(first, 10_000, 4):
                await rt.bus.send(alice, bob, str(number).encode(), durable=True)
                print("sent", number, flush=True)
        await asyncio.gather(read(), *(write(first) for first in range(4)))
asyncio.run(main())
"""


def _killed_at(data: Path, lines: int) -> tuple[set[int], set[int]]:
    """What a process was told before it was killed: numbers sent, numbers acknowledged."""
    told: dict[str, set[int]] = {"sent": set(), "acked": set()}
    command = [sys.executable, "-c", WRITER, str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout is not None
        for _ in range(lines):
            word, number = process.stdout.readline().split()
            told[word].add(int(number))
        process.send_signal(signal.SIGKILL)
        for line in process.stdout:  # what was told before it died counts
            if len(parts := line.split()) == 2 and line.endswith("\n"):
                told[parts[0]].add(int(parts[1]))
    return told["sent"], told["acked"]


@pytest.mark.asyncio
@pytest.mark.parametrize("lines", [1, 17, 120])
async def test_mg1_mg2_what_was_taken_survives_kill_9_and_what_was_acknowledged_does_not_come_again(
    tmp_path: Path, lines: int
) -> None:
    data = tmp_path / "data"
    sent, acked = await asyncio.to_thread(_killed_at, data, lines)
    async with symbi.Runtime.open(data=data, mode="development") as rt:
        assert rt.kernel.unknown_operations() == []
        (bob,) = await _agents(rt, "bob")
        handed: list[int] = []
        while messages := await rt.bus.receive_many(bob, timeout_s=0.2):
            handed += [int(bytes(message.payload)) for message in messages]
            await rt.bus.ack(bob, *messages)
    assert len(handed) == len(set(handed))
    gone = sent - set(handed)
    assert all(number % 2 for number in gone), "lost: nobody ever acknowledged it"
    assert len(gone - acked) <= 3, "lost: of those, one batch can have been acknowledged without a word"
    assert not acked & set(handed), "handed out again"
    async with symbi.Runtime.open(data=data, mode="development") as rt:
        (bob,) = await _agents(rt, "bob")
        assert await rt.bus.receive_many(bob) == []


@pytest.mark.asyncio
async def test_rm3_whoever_waits_when_the_runtime_closes_or_an_agent_ends_is_told(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path / "data", mode="development") as rt:
        alice, bob, carol = await _agents(rt, "alice", "bob", "carol")
        await _filled(rt, alice, bob)
        sending = asyncio.create_task(rt.bus.send(alice, bob, b"x" * 1_000))
        handled: list[Any] = []

        async def handler(message: Any) -> None:
            handled.append(message)

        ends_with_its_agent = await rt.bus.subscribe(carol, "t", handler)
        for _ in range(3):
            await asyncio.sleep(0)
        await rt.stop_agent(carol, force=True)
        async with asyncio.timeout(BOUND_S):
            assert ends_with_its_agent._task is not None
            await ends_with_its_agent._task
    async with asyncio.timeout(BOUND_S):
        with pytest.raises((symbi.RuntimeClosedError, symbi.PolicyDenied, symbi.InputError)):
            await sending
    assert handled == []


def test_runtimes_on_several_loops_do_not_hear_each_other(tmp_path: Path) -> None:
    async def talk(number: int) -> list[bytes]:
        async with symbi.Runtime.open(data=tmp_path / f"data{number}", mode="development") as rt:
            alice, bob = await _agents(rt, "alice", "bob")
            heard = await rt.bus.subscribe(bob, "t.*")
            said = []
            for at in range(200):
                await rt.bus.publish(alice, "t.x", f"{number} {at}".encode())
                (message,) = await heard.receive(timeout_s=BOUND_S)
                said.append(bytes(message.payload))  # type: ignore[arg-type]
            return said

    with ThreadPoolExecutor(3) as threads:
        for number, said in enumerate(threads.map(lambda number: asyncio.run(talk(number)), range(3))):
            assert said == [f"{number} {at}".encode() for at in range(200)]


SANDBOXED = """
import symbi

@symbi.agent(name="hears", tier="degraded")
async def hears(ctx: symbi.AgentContext) -> list:
    heard = []
    async with await ctx.bus.subscribe("news.*") as news:
        await ctx.bus.publish("news.today", b"one", guarantee="at_least_once")
        async for message in news:
            heard.append([message.topic, message.payload.decode(), message.attempt])
            await news.ack(message)
            if len(heard) == 1:
                await ctx.bus.publish("news.late", b"two")
            else:
                break
    return heard
"""


@pytest.mark.asyncio
async def test_an_agent_in_a_sandbox_has_the_same_bus(tmp_path: Path) -> None:
    file = tmp_path / "hears.py"
    file.write_text(SANDBOXED)
    from symbi.agents.entry import find, read

    agent = read(find(f"{file}:hears"))
    async with symbi.Runtime.open(data=tmp_path / "data", mode="development") as rt:
        heard = await rt.run(agent, timeout_s=BOUND_S)
    assert heard == [["news.today", "one", 1], ["news.late", "two", 0]]


def test_the_trail_of_messages_verifies_and_names_each(tmp_path: Path) -> None:
    async def talk() -> list[str]:
        async with symbi.Runtime.open(data=tmp_path / "data", mode="development") as rt:
            alice, bob = await _agents(rt, "alice", "bob")
            identities = [await rt.bus.send(alice, bob, b"x") for _ in range(300)]
            identities += await rt.bus.send_many(alice, [(bob, b"y")] * 300)
            await rt.bus.receive_many(bob, limit=1_000)
            return identities

    identities = asyncio.run(talk())
    log = symbi.AuditLog.open(tmp_path / "data" / "trail")
    log.verify()
    named: list[str] = []
    for event in log.query(event_type="operation"):
        details = json.loads(event.details) if isinstance(event.details, str) else event.details
        entries = base64.b64decode(details.get("messages", ""))
        assert len(entries) == 48 * details.get("count", 0)
        named += [str(uuid.UUID(bytes=entries[at : at + 16])) for at in range(0, len(entries), 48)]
    assert named == identities
    from symbi.audit.message_proof import prove_message

    for place in (0, 1, 255, 256, 299, 300, 450, 599):
        proof = prove_message(log, identities[place])
        proof.check()
        moved = dataclasses.replace(proof, index=(proof.index + 1) % proof.count)
        other = dataclasses.replace(proof, leaf="00" * 32)
        for wrong in (moved, other):
            with pytest.raises(symbi.CryptoError, match="not under the root"):  # MP1
                wrong.check()
    shown = subprocess.run(
        [
            sys.executable,
            "-m",
            "symbi.cli.main",
            "audit",
            "prove",
            "--message",
            identities[7],
            "--data",
            tmp_path / "data",
        ],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=True,
    )
    told = json.loads(shown.stdout)
    assert (told["message"], told["index"], told["count"]) == (identities[7], 7, 256)
    assert told["proof"].startswith("c2sp.org/tlog-proof")
    with pytest.raises(symbi.InputError, match="names no message"):
        prove_message(log, str(uuid.uuid4()))
