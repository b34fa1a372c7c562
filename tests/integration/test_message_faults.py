"""Messages when the ground moves: loops that close, several loops, forks, copies of a data directory."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import symbi

if TYPE_CHECKING:
    from pathlib import Path

BOUND_S = 60.0


@symbi.agent(name="quiet", isolation="in_process")
async def quiet() -> None: ...


async def _agents(rt: symbi.Runtime, *names: str) -> list[symbi.AgentHandle]:
    config = [symbi.AgentConfig(name=name, function=quiet.function, isolation="in_process") for name in names]
    return [await rt.schedule_agent(one) for one in config]


@pytest.mark.asyncio
async def test_whoever_waits_for_a_message_or_for_room_is_told_when_the_runtime_closes(
    tmp_path: Path,
) -> None:
    rt = symbi.Runtime.open(data=tmp_path, mode="development")
    async with rt:
        alice, bob, carol = await _agents(rt, "alice", "bob", "carol")
        heard = await rt.bus.subscribe(bob, "t.*")
        await rt.bus.send_many(alice, [(bob, b"." * 1_000)] * 500)
        with contextlib.suppress(symbi.MailboxFullError):
            for _ in range(2_000):
                await rt.bus.send(alice, bob, b"." * 1_000, timeout_s=0)
        waiting = [
            asyncio.create_task(heard.receive(timeout_s=BOUND_S)),
            asyncio.create_task(rt.bus.receive_many(alice, timeout_s=BOUND_S)),
            asyncio.create_task(rt.bus.request(bob, carol, b"?", timeout_s=BOUND_S)),
            asyncio.create_task(rt.bus.send(alice, bob, b"." * 1_000)),
        ]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
    ended = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), BOUND_S)
    assert all(isinstance(one, symbi.SymbiError) for one in ended), ended
    with pytest.raises(symbi.SymbiError):
        await rt.bus.send(alice, bob, b"late")


def test_a_loop_that_is_closed_under_a_runtime_ends_its_waiters_and_frees_the_directory(
    tmp_path: Path,
) -> None:
    script = """
import asyncio, sys, symbi
@symbi.agent(name="quiet", isolation="in_process")
async def quiet(): ...
rt = symbi.Runtime.open(data=sys.argv[1], mode="development")
loop = asyncio.new_event_loop()
loop.run_until_complete(rt.__aenter__())
agent = loop.run_until_complete(rt.schedule_agent(quiet))
waiting = loop.create_task(rt.bus.receive_many(agent, timeout_s=60))
loop.run_until_complete(asyncio.sleep(0))
waiting.cancel()
loop.run_until_complete(asyncio.wait([waiting]))
loop.close()
async def elsewhere():
    try:
        await asyncio.wait_for(rt.bus.receive_many(agent, timeout_s=60), 20)
    except symbi.RuntimeClosedError as error:
        assert "event loop" in str(error), error
        return "refused"
assert asyncio.run(elsewhere()) == "refused"
asyncio.run(rt.close())
async def again():
    async with symbi.Runtime.open(data=sys.argv[1], mode="development") as rt:
        agent = await rt.schedule_agent(quiet)
        await rt.bus.send(agent, agent, b"x")
        assert [one.payload for one in await rt.bus.receive_many(agent)] == [b"x"]
asyncio.run(again())
"""
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "d")], capture_output=True, timeout=BOUND_S, check=False
    )
    assert ended.returncode == 0, ended.stderr.decode()


def test_two_threads_each_with_its_loop_and_runtime_do_not_disturb_each_other(tmp_path: Path) -> None:
    said: dict[int, list[bytes]] = {}
    both = threading.Barrier(2)

    async def talk(number: int) -> list[bytes]:
        async with symbi.Runtime.open(data=tmp_path / str(number), mode="development") as rt:
            alice, bob = await _agents(rt, "alice", "bob")
            both.wait(BOUND_S)
            for count in range(200):
                await rt.bus.send(alice, bob, f"{number}.{count}".encode())
            both.wait(BOUND_S)
            return [bytes(one.payload) for one in await rt.bus.receive_many(bob)]  # type: ignore[arg-type]

    def run(number: int) -> None:
        said[number] = asyncio.run(talk(number))

    threads = [threading.Thread(target=run, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND_S)
    assert said == {number: [f"{number}.{count}".encode() for count in range(200)] for number in (0, 1)}


@pytest.mark.asyncio
async def test_br3_a_second_loop_beside_the_runtimes_own_is_refused_where_it_would_wait(
    tmp_path: Path,
) -> None:
    async with symbi.Runtime.open(data=tmp_path, mode="development") as rt:
        alice, bob = await _agents(rt, "alice", "bob")

        async def from_elsewhere() -> list[str]:
            refused = []
            for ask in (
                rt.bus.receive_many(bob, timeout_s=BOUND_S),
                rt.bus.request(alice, bob, b"?", timeout_s=BOUND_S),
                rt.bus.send(alice, bob, b"kept", durable=True),
            ):
                try:
                    await asyncio.wait_for(ask, BOUND_S)
                except symbi.RuntimeClosedError as error:
                    refused.append(str(error))
            return refused

        refused = await asyncio.to_thread(lambda: asyncio.run(from_elsewhere()))
        assert len(refused) == 3
        assert all("event loop" in text for text in refused)
        await rt.bus.send(alice, bob, b"the first loop goes on")
        payloads = [one.payload for one in await rt.bus.receive_many(bob, timeout_s=BOUND_S)]
        assert payloads[-1] == b"the first loop goes on"


FORKS = """
import asyncio, multiprocessing, os, sys, symbi

@symbi.agent(name="quiet", isolation="in_process")
async def quiet(): ...

rt = symbi.Runtime.open(data=sys.argv[1], mode="development")
loop = asyncio.new_event_loop()
loop.run_until_complete(rt.__aenter__())
config = lambda name: symbi.AgentConfig(name=name, function=quiet.function, isolation="in_process")
alice, bob = (loop.run_until_complete(rt.schedule_agent(config(name))) for name in ("alice", "bob"))
heard = loop.run_until_complete(rt.bus.subscribe(bob, "t.*"))
loop.run_until_complete(rt.bus.send(alice, bob, b"before"))
kernel, options = rt.kernel, (None, False, False, None, None)  # as somebody might keep it

def child():
    asks = [
        lambda: asyncio.run(rt.bus.send(alice, bob, b"x")),
        lambda: asyncio.run(rt.bus.send(alice, bob, b"x", durable=True)),
        lambda: asyncio.run(rt.bus.send_many(alice, [(bob, b"x")])),
        lambda: asyncio.run(rt.bus.publish(alice, "t.x", b"x")),
        lambda: asyncio.run(rt.bus.receive_many(bob)),
        lambda: asyncio.run(rt.bus.request(alice, bob, b"x", timeout_s=1)),
        lambda: asyncio.run(heard.receive()),
        lambda: rt.keys.list(),
        lambda: kernel.send(alice.id, bob.id, b"x"),
        lambda: kernel.send_many(alice.id, [(bob, b"x")], lambda payload: payload, False),
        lambda: kernel.publish(alice.id, "t.x", b"x", options),
        lambda: kernel.begin_durable(alice.id, bob.id, b"x", options),
        lambda: kernel.begin_durable_publish(alice.id, "t.x", b"x", options),
    ]
    for number, ask in enumerate(asks):
        try:
            ask()
        except symbi.RuntimeClosedError as error:
            assert "fork" in str(error), error
        else:
            os._exit(20 + number)
    os._exit(7)

if sys.argv[2] == "fork":
    pid = os.fork()
    if pid == 0:
        child()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
else:
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    code = process.exitcode
assert code == 7, code
loop.run_until_complete(rt.bus.send(alice, bob, b"after"))
read = loop.run_until_complete(rt.bus.receive_many(bob))
assert [one.payload for one in read] == [b"before", b"after"], read
loop.run_until_complete(rt.close())
loop.close()
"""


@pytest.mark.parametrize("how", ["fork", "multiprocessing"])
def test_m3_fk3_a_forked_child_seals_nothing_and_hears_why(tmp_path: Path, how: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS, str(tmp_path / "d"), how],
        capture_output=True,
        timeout=BOUND_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    assert b"panicked" not in ended.stderr


KEEPS = """
import asyncio, sys, symbi

@symbi.agent(name="quiet", isolation="in_process")
async def quiet(): ...

async def main():
    async with symbi.Runtime.open(data=sys.argv[1], mode="development") as rt:
        config = lambda name: symbi.AgentConfig(name=name, function=quiet.function, isolation="in_process")
        alice, bob = [await rt.schedule_agent(config(name)) for name in ("alice", "bob")]
        for _ in range(50):
            await rt.bus.send(alice, bob, b"x", durable=True, lifetime_s=1)
asyncio.run(main())
"""


def _records(data: Path) -> list[dict[str, Any]]:
    segments = sorted((data / "trail").glob("*.jsonl"))
    return [json.loads(line) for segment in segments for line in segment.read_bytes().splitlines()]


def test_m3_two_copies_of_a_data_directory_share_no_key_and_nonce(tmp_path: Path) -> None:
    """What is sealed into a trail shows its salt and its nonce, and each certificate a fresh key."""
    first, second = tmp_path / "first", tmp_path / "second"

    def start(data: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", KEEPS, str(data)], stderr=subprocess.PIPE)

    def end(process: subprocess.Popen[bytes]) -> None:
        _, told = process.communicate(timeout=BOUND_S)
        assert process.returncode == 0, told.decode()

    end(start(first))
    shutil.copytree(first, second, ignore=shutil.ignore_patterns("control.sock"))
    for _ in range(2):  # both at once, twice each
        for process in [start(first), start(second)]:
            end(process)
    seen: dict[bytes, str] = {}
    keys: set[str] = set()
    for record in _records(first) + _records(second):
        identity = f"{record['boot']} {record['seq']}"
        if letter := record["details"].get("letter"):
            salt_and_nonce = base64.b64decode(letter)[:28]
            assert seen.setdefault(salt_and_nonce, identity) == identity, "a pair met twice"
        if record["event_type"] == "key.certified":
            keys.add(f"{record['boot']} {record['details']['key']}")
    boots = {identity.split()[0] for identity in seen.values()}
    assert (len(seen), len(boots)) == (250, 5)
    assert len({salt_and_nonce[:16] for salt_and_nonce in seen}) == 5, "each start has a salt of its own"
    assert len({key.split()[1] for key in keys}) == len(keys) >= 5, "and its agents other keys"
