"""The host's end of a worker's pipe.

Why: the pipe is the agent's identity: whatever comes out of this sandbox acts for this agent and no other. Lines are
not trusted; one that is not ours ends the worker.
Not here: starting the sandbox (`symbi.sandbox`), deciding (`dispatch`, the kernel).

Invariants
- SE1 each call is answered once, in any order, however long its answer is; at most `CALLS_MAX` of one agent are under
  way.
- SE2 a run ends once: by its result, its failure, its worker's end, or its cancellation.
- SE3 a worker whose run was ended from outside serves no other: its memory holds what nobody else may get.
- SE5 what it asks for, and what it yields, waits at the gate of its run while that is held.
- SE6 a call that its worker took back, or whose run is over, is cancelled as one of an agent in this process is, and
  answered as an error; what it had yielded by then is its answer all the same. Outside of a run nothing is done.
- SE4 an agent that was read from its file (`entry`) declares, when it is imported, what was read; or it does not start.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from symbi.agents.channel import CALLS_MAX, CHANNEL_VERSION, decode, encode
from symbi.errors import AgentError, LifecycleError, PolicyDenied, SandboxError, SandboxLimitError, SymbiError
from symbi.runtime.holding import GATE
from symbi.sandbox.base import LINE_BYTES_MAX

if TYPE_CHECKING:
    from symbi.agents.dispatch import Dispatcher
    from symbi.runtime.holding import Gate
    from symbi.sandbox.base import Sandbox

__all__ = ["Session", "error_shape"]

PIECE_BYTES: Final = LINE_BYTES_MAX // 4 * 3 - 1_024
"""Of an answer that is longer than a line: what fits into one as base64, with its frame."""

READY_S = 20.0
"""Seconds from the first process to the worker's `ready`: a cold interpreter with numpy under gVisor takes two."""

TRACEBACK_LINES_MAX: Final = 24
"""Lines of an agent's traceback that are shown: the last ones name its own file."""


def error_shape(error: Exception) -> dict[str, Any]:
    """An error as a worker may see it: our own as they are, anything else without its text."""
    if isinstance(error, PolicyDenied):
        return {
            "class": "PolicyDenied",
            "message": str(error),
            "code": error.code,
            "decision_id": error.decision_id,
        }
    if isinstance(error, SymbiError):
        return {"class": type(error).__name__, "message": str(error), "code": error.code}
    return {"class": "SymbiError", "message": "the runtime could not do this; see its trail", "code": "symbi"}


class _Call:
    """One call under way."""

    __slots__ = ("at_work", "number", "task", "unwanted")

    def __init__(self, number: int) -> None:
        self.number = number
        self.task: asyncio.Task[None] | None = None
        self.unwanted = False
        self.at_work = False

    def cancel(self) -> None:
        """SE6: nobody waits for it any more."""
        if not self.unwanted and self.at_work and self.task is not None:
            self.task.cancel()
        self.unwanted = True


class Session:
    """One agent in one sandbox."""

    def __init__(
        self,
        sandbox: Sandbox,
        agent: str,
        name: str,
        dispatcher: Dispatcher,
        declares: dict[str, Any] | None = None,
    ) -> None:
        self.sandbox = sandbox
        self._agent = agent
        self._name = name
        self._declares = declares
        self._dispatcher = dispatcher
        self._runs: dict[str, asyncio.Future[Any]] = {}
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._calls: dict[asyncio.Task[None], _Call] = {}
        self._room = asyncio.Semaphore(CALLS_MAX)
        self._sending = asyncio.Lock()  # a sandbox has one user for `send` at a time
        self._gate: Gate | None = None
        self._end: BaseException | None = None
        self._pump = asyncio.create_task(self._read())

    async def ready(self) -> None:
        """Wait for the worker's first line.

        Raises:
            AgentError: the agent's file does not import, or the worker is of another version.
            SandboxError: it ended before.
        """
        try:
            async with asyncio.timeout(READY_S):
                await asyncio.shield(self._ready)
        except TimeoutError:
            await self.close(force=True)
            raise SandboxError(f"the worker said nothing within {READY_S:.0f} s") from None

    @property
    def alive(self) -> bool:
        """Whether a run can be sent."""
        return self._end is None and not self._pump.done()

    async def run(self, run: str, task: str, arguments: dict[str, Any], gate: Gate) -> Any:
        """Run one attempt of a task to its result.

        Cancelling this leaves the worker as it is, for the caller to give up (SE3).

        Raises:
            AgentError: the agent's code failed. SandboxLimitError: a limit ended it. SandboxError: it ended.
        """
        if self._end is not None:
            raise SandboxError("the worker has ended")
        future = asyncio.get_running_loop().create_future()
        self._runs[run] = future
        self._gate = gate
        message: dict[str, Any] = {"type": "run", "run": run, "task": task, "input": arguments}
        message |= {"agent": self._agent, "name": self._name}
        try:
            await self._send(encode(message))
            return await future
        finally:
            self._gate = None
            self._runs.pop(run, None)
            self._over()

    def _over(self) -> None:
        """A run has ended: what it asked for and did not wait for ends, too (SE6)."""
        for call in [*self._calls.values()]:
            call.cancel()

    async def close(self, *, force: bool = False) -> None:
        """End the worker and its sandbox."""
        if not force and self._end is None:
            with contextlib.suppress(SymbiError):
                await self._send(encode({"type": "end"}))
        await self.sandbox.stop(force=force)
        for call in list(self._calls):
            call.cancel()
        await asyncio.gather(self._pump, *self._calls, return_exceptions=True)

    async def _send(self, line: bytes) -> None:
        async with self._sending:
            await self.sandbox.send(line)

    async def _read(self) -> None:
        end: BaseException = SandboxError("the worker ended")
        try:
            while (line := await self.sandbox.receive()) is not None:
                await self._hear(line)
            exit_ = await self.sandbox.wait()
            if exit_.limit is not None:
                end = SandboxLimitError(
                    f"the sandbox was ended by its limit `{exit_.limit}`", limit=exit_.limit
                )
            else:
                end = SandboxError(f"the worker ended with code {exit_.code}")
            _add_printed(end, self.sandbox.stderr_tail())
        except SymbiError as error:
            end = error
        except ValueError as error:
            end = AgentError(f"the worker sent a line that is none of ours: {error}", kind="protocol")
            await self.sandbox.stop(force=True)
        self._end = end
        for waiting in [self._ready, *self._runs.values()]:
            if not waiting.done():
                waiting.set_exception(end)
        if self._ready.done() and not self._ready.cancelled():
            self._ready.exception()  # somebody may have given up on it

    async def _hear(self, line: bytes) -> None:
        message = decode(line)
        kind = message.get("type")
        if kind == "call":
            await self._take_up(message)
        elif kind == "cancel":
            self._take_back(_number(message))
        elif kind == "ready":
            if message.get("version") != CHANNEL_VERSION:
                raise ValueError("the worker speaks another version")
            if not self._ready.done():
                self._settle_ready(message)
        elif kind == "broken":
            self._broken(message)
        elif kind in ("result", "failed"):
            future = self._runs.get(str(message.get("run")))
            if future is not None and not future.done():
                self._over()
                if kind == "result":
                    future.set_result(message.get("value"))
                else:
                    future.set_exception(_failure(message))
        else:
            raise ValueError("a line without a known type")

    async def _take_up(self, message: dict[str, Any]) -> None:
        call = _Call(_number(message))
        await self._room.acquire()
        if all(run.done() for run in self._runs.values()):
            call.cancel()
        call.task = task = asyncio.create_task(self._answer(call, message))
        self._calls[task] = call
        task.add_done_callback(self._answered)

    def _take_back(self, number: int) -> None:
        for call in [*self._calls.values()]:
            if call.number == number:
                call.cancel()

    def _settle_ready(self, message: dict[str, Any]) -> None:
        """SE4: a mistake is found here, not malice: the worker is not trusted, and the host's word holds anyway."""
        found = message.get("declares")
        if self._declares is None or found == self._declares:
            self._ready.set_result(None)
            return
        found = found if isinstance(found, dict) else {}
        names = [name for name, value in self._declares.items() if found.get(name) != value]
        shown = ", ".join(f"`{name}`" for name in names)
        text = f"the file declares {shown} otherwise when it runs than as it is written"
        self._ready.set_exception(AgentError(text, kind="declaration"))

    def _answered(self, task: asyncio.Task[None]) -> None:
        del self._calls[task]
        self._room.release()

    def _broken(self, message: dict[str, Any]) -> None:
        if not self._ready.done():
            kind = str(message.get("kind", ""))[:128]
            text = f"the agent's file does not import: {kind}: {message.get('message')}"
            self._ready.set_exception(_with_notes(AgentError(text, kind=kind), kind, message))

    async def _answer(self, call: _Call, message: dict[str, Any]) -> None:
        GATE.set(self._gate)  # SE5: the dispatcher stands still there
        line = await self._outcome(call, message)
        with contextlib.suppress(SymbiError):
            await self._reply(call.number, line)

    async def _outcome(self, call: _Call, message: dict[str, Any]) -> bytes:
        reply: dict[str, Any] = {"type": "reply", "id": call.number}
        if call.unwanted:
            return encode({**reply, "error": error_shape(_no_longer())})
        call.at_work = True
        try:
            value = await self._dispatcher.call(
                self._agent, str(message.get("operation")), message.get("arguments") or {}
            )
            return encode({**reply, "value": value})
        except asyncio.CancelledError:
            if not call.unwanted:  # the worker is gone
                raise
            return encode({**reply, "error": error_shape(_no_longer())})
        except Exception as error:  # noqa: BLE001 - whatever went wrong is the answer
            return encode({**reply, "error": error_shape(error)})
        finally:
            call.at_work = False

    async def _reply(self, number: int, line: bytes) -> None:
        if len(line) <= LINE_BYTES_MAX:
            await self._send(line)
            return
        for at in range(0, len(line), PIECE_BYTES):
            data, last = line[at : at + PIECE_BYTES], len(line) <= at + PIECE_BYTES
            await self._send(encode({"type": "piece", "id": number, "data": data, "last": last}))


def _no_longer() -> LifecycleError:
    return LifecycleError("it was cancelled, or the run that asked for it is over")


def _number(message: dict[str, Any]) -> int:
    number = message.get("id")
    if type(number) is not int:
        raise ValueError("a call without a number")
    return number


def _failure(message: dict[str, Any]) -> SymbiError:
    denied = message.get("denied")
    if isinstance(denied, dict):
        return PolicyDenied(
            str(message.get("message", "")),
            code=str(denied.get("code", "denied")),
            decision_id=str(denied.get("decision_id", "")),
        )
    kind = str(message.get("kind", "Exception"))[:128]
    return _with_notes(AgentError(f"{kind}: {message.get('message', '')}", kind=kind), kind, message)


_MENDS: Final = {
    "ModuleNotFoundError": "a sandboxed agent imports installed packages; to show it the modules of this "
    'directory too: `@symbi.agent(project=".")`',
    "FileNotFoundError": "a sandboxed agent sees its own file alone; to show it a directory, read-only: "
    '`@symbi.agent(mounts=["DIR"])`',
    "URLError": "a sandboxed agent has no network: let a tool (`@symbi.tool`) reach it, and call the tool",
    "gaierror": "a sandboxed agent has no network: let a tool (`@symbi.tool`) reach it, and call the tool",
}
"""What mends the mistakes that a first agent makes, by the exception's class."""


def _add_printed(error: BaseException, tail: bytes) -> None:
    """What a worker that ended said last: its own last words are all there is."""
    lines = tail.decode("utf-8", "replace").splitlines()[-TRACEBACK_LINES_MAX:]
    if lines:
        error.add_note("it printed last:")
    for line in lines:
        error.add_note(_printable(line))


def _printable(line: str) -> str:
    """Without what a terminal would obey."""
    return "".join(char if char.isprintable() else "?" for char in line)


def _with_notes(error: AgentError, kind: str, message: dict[str, Any]) -> AgentError:
    """The agent's own traceback, and what mends it."""
    lines = str(message.get("text", "")).splitlines()[-TRACEBACK_LINES_MAX:]
    if lines:
        error.add_note("in the agent:")
    for line in lines:
        error.add_note(_printable(line))
    if kind in _MENDS:
        error.add_note(_MENDS[kind])
    return error
