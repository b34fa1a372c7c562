"""The host's end of a worker's pipe.

Why: the pipe is the agent's identity: whatever comes out of this sandbox acts for this agent and no other. Lines are
not trusted; one that is not ours ends the worker.
Not here: starting the sandbox (`symbi.sandbox`), deciding (`dispatch`, the kernel).

Invariants
- SE1 each call is answered once, in any order; at most `CALLS_MAX` of one agent are under way.
- SE2 a run ends once: by its result, its failure, its worker's end, or its cancellation.
- SE3 a worker whose run was ended from outside serves no other: its memory holds what nobody else may get.
- SE5 what it asks for, and what it yields, waits at the gate of its run while that is held.
- SE4 an agent that was read from its file (`entry`) declares, when it is imported, what was read; or it does not start.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from symbi.agents.channel import CHANNEL_VERSION, decode, encode
from symbi.errors import AgentError, PolicyDenied, SandboxError, SandboxLimitError, SymbiError
from symbi.runtime.holding import GATE

if TYPE_CHECKING:
    from symbi.agents.dispatch import Dispatcher
    from symbi.runtime.holding import Gate
    from symbi.sandbox.base import Sandbox

__all__ = ["Session", "error_shape"]

CALLS_MAX = 256
"""Calls of one worker under way; past it the pipe is not read, which is the back-pressure."""

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
        self._calls: set[asyncio.Task[None]] = set()
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
            await self._room.acquire()
            task = asyncio.create_task(self._answer(message))
            self._calls.add(task)
            task.add_done_callback(self._answered)
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
                if kind == "result":
                    future.set_result(message.get("value"))
                else:
                    future.set_exception(_failure(message))
        else:
            raise ValueError("a line without a known type")

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
        self._calls.discard(task)
        self._room.release()

    def _broken(self, message: dict[str, Any]) -> None:
        if not self._ready.done():
            kind = str(message.get("kind", ""))[:128]
            text = f"the agent's file does not import: {kind}: {message.get('message')}"
            self._ready.set_exception(_with_notes(AgentError(text, kind=kind), kind, message))

    async def _answer(self, message: dict[str, Any]) -> None:
        number = message.get("id")
        GATE.set(self._gate)  # SE5: the dispatcher stands still there
        try:
            value = await self._dispatcher.call(
                self._agent, str(message.get("operation")), message.get("arguments") or {}
            )
            reply = {"type": "reply", "id": number, "value": value}
            line = encode(reply)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever went wrong is the answer
            line = encode({"type": "reply", "id": number, "error": error_shape(error)})
        with contextlib.suppress(SymbiError):
            await self._send(line)


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
