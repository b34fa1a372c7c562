"""The host's end of a worker's pipe: each call is answered once, and one that nobody waits for is cancelled."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import symbi
from symbi.agents.channel import CHANNEL_VERSION, decode, encode
from symbi.agents.session import Session
from symbi.runtime.holding import Gate
from symbi.sandbox.base import LINE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BOUND_S = 20.0


class _Exit:
    limit = None
    code = 0


class Pipe:
    """A sandbox whose lines the test writes and reads."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def say(self, **message: Any) -> None:
        self.lines.put_nowait(encode(message))

    def ask(self, number: Any, operation: str = "waits") -> None:
        self.say(type="call", id=number, operation=operation, arguments={})

    async def heard(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.sent.get(), BOUND_S)

    async def receive(self) -> bytes | None:
        return await self.lines.get()

    async def send(self, line: bytes) -> None:
        assert len(line) <= LINE_BYTES_MAX
        self.sent.put_nowait(decode(line))

    async def stop(self, *, force: bool = False) -> None:  # noqa: ARG002 - as a sandbox
        self.lines.put_nowait(None)

    async def wait(self) -> _Exit:
        return _Exit()

    def stderr_tail(self) -> bytes:
        return b""


class Operations:
    """A dispatcher whose operations wait, fail, or yield something at once."""

    def __init__(self) -> None:
        self.told: Counter[str] = Counter()
        self.begun = asyncio.Event()

    async def call(self, _agent: str, operation: str, _arguments: dict[str, Any]) -> Any:
        self.told[operation] += 1
        self.begun.set()
        if operation == "waits":
            try:
                await asyncio.Event().wait()
            finally:
                self.told["cancelled"] += 1
        if operation == "large":
            return "x" * (LINE_BYTES_MAX * 2)
        return operation


class Host:
    """A session with a run under way."""

    def __init__(self) -> None:
        self.pipe = Pipe()
        self.operations = Operations()
        self.session = Session(self.pipe, "agent", "name", self.operations)  # type: ignore[arg-type]

    async def run(self) -> asyncio.Task[Any]:
        task = asyncio.create_task(self.session.run("run", "task", {}, Gate(lambda: None)))
        assert (await self.pipe.heard())["type"] == "run"
        return task


@pytest_asyncio.fixture
async def host() -> AsyncIterator[Host]:
    made = Host()
    made.pipe.say(type="ready", version=CHANNEL_VERSION, declares=None)
    await made.session.ready()
    yield made
    await made.session.close(force=True)


@pytest.mark.asyncio
async def test_se6_a_call_that_its_worker_takes_back_is_cancelled_and_answered_once(host: Host) -> None:
    run = await host.run()
    host.pipe.ask(1)
    async with asyncio.timeout(BOUND_S):
        await host.operations.begun.wait()
    for _ in range(3):
        host.pipe.say(type="cancel", id=1)
    host.pipe.say(type="cancel", id=99)
    told = await host.pipe.heard()
    assert (told["id"], told["error"]["class"]) == (1, "LifecycleError")
    assert host.operations.told == {"waits": 1, "cancelled": 1}
    host.pipe.ask(2, "labels")
    assert await host.pipe.heard() == {"type": "reply", "id": 2, "value": "labels"}
    host.pipe.say(type="result", run="run", value="done")
    assert await run == "done"
    assert host.pipe.sent.empty()


@pytest.mark.asyncio
async def test_se6_what_is_taken_back_before_it_began_is_not_done(host: Host) -> None:
    await host.run()
    host.pipe.ask(1)
    host.pipe.say(type="cancel", id=1)
    assert "error" in await host.pipe.heard()
    assert not host.operations.told["waits"] - host.operations.told["cancelled"]


@pytest.mark.asyncio
async def test_se6_what_was_yielded_before_the_cancellation_is_the_answer(host: Host) -> None:
    await host.run()
    host.pipe.ask(1, "labels")
    assert (await host.pipe.heard())["value"] == "labels"
    host.pipe.say(type="cancel", id=1)
    host.pipe.ask(2, "labels")
    assert (await host.pipe.heard())["id"] == 2


@pytest.mark.asyncio
async def test_se6_a_run_that_ends_ends_its_calls_and_outside_of_a_run_nothing_is_done(host: Host) -> None:
    run = await host.run()
    host.pipe.ask(1)
    async with asyncio.timeout(BOUND_S):
        await host.operations.begun.wait()
    host.pipe.say(type="result", run="run", value="done")
    host.pipe.ask(2, "labels")
    assert await run == "done"
    told = [await host.pipe.heard(), await host.pipe.heard()]
    assert [(one["id"], one["error"]["class"]) for one in told] == [
        (1, "LifecycleError"),
        (2, "LifecycleError"),
    ]
    assert host.operations.told == {"waits": 1, "cancelled": 1}


@pytest.mark.asyncio
async def test_se1_an_answer_longer_than_a_line_comes_in_pieces(host: Host) -> None:
    await host.run()
    host.pipe.ask(1, "large")
    whole = b""
    while True:
        piece = await host.pipe.heard()
        assert (piece["type"], piece["id"]) == ("piece", 1)
        whole += piece["data"]
        if piece["last"]:
            break
    assert decode(whole) == {"type": "reply", "id": 1, "value": "x" * (LINE_BYTES_MAX * 2)}


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [None, "1", True, [1], {"a": 1}])
@pytest.mark.parametrize("kind", ["call", "cancel"])
async def test_a_call_without_a_number_ends_its_worker(host: Host, kind: str, number: Any) -> None:
    run = await host.run()
    host.pipe.say(type=kind, id=number, operation="labels", arguments={})
    with pytest.raises(symbi.AgentError) as caught:
        await asyncio.wait_for(run, BOUND_S)
    assert caught.value.kind == "protocol"
