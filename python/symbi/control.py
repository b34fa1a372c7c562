"""The control socket: how a person's commands reach a running runtime.

Why: `symbi agents list` in another terminal must act on this very process, and nobody else must be able to. The
socket is 0600 in a 0700 directory, the peer's user must be ours (or root), and a peer that descends from this process
is refused: a sandbox or a tool of ours that somehow reached the socket must not steer its own runtime.
Not here: what the commands mean (`Runtime`), operators' tokens (`symbi.operators`), the command line.

One JSON line in, one JSON line out: {"command", …} → {"value"} or {"error": {"class", "code", "message"}}.

Invariants
- CS1 a peer of another user, this process itself, and every descendant of it are refused before a byte is read.
- CS3 a request is one line of at most `LINE_BYTES_MAX`, answered or refused within `ANSWER_S`.
- CS4 closing waits for the answers that are being made: an emergency stop that ends the program is answered too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from symbi.errors import ConfigError, InputError, PolicyDenied, RuntimeClosedError, SymbiError
from symbi.operators import make_token
from symbi.runtime.deciding import APPROVAL_COMMANDS
from symbi.runtime.mailing import KEY_COMMANDS, LETTER_COMMANDS
from symbi.runtime.operating import AGENT_COMMANDS, error_shape
from symbi.runtime.persons import PERSON_COMMANDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from symbi.runtime import Runtime

__all__ = ["ControlServer", "act", "ask", "socket_path"]

LINE_BYTES_MAX: Final = 1 << 20  # of a request
ANSWER_BYTES_MAX: Final = 256 << 20  # a hundred thousand agents, with everything about each
ANSWER_S: Final = 30.0
LAST_ANSWER_S: Final = 5.0  # of a runtime that closes
_PEER = struct.Struct("3i")  # pid, uid, gid: SO_PEERCRED of socket(7)


def socket_path(data: Path) -> Path:
    """Where a runtime on this data directory listens."""
    return data / "control.sock"


@contextlib.contextmanager
def _short(path: Path) -> Any:
    """The path by a descriptor of its directory: socket paths end at 107 bytes, directories do not."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _descends(pid: int, ancestor: int) -> bool:
    """Whether `pid` is `ancestor` or one of its descendants; unreadable means yes (CS1 refuses)."""
    if pid <= 0:
        return True  # of another process namespace: nobody can say whose it is
    for _ in range(4096):
        if pid == ancestor:
            return True
        if pid <= 1:
            return False
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return True
        pid = int(stat.rpartition(")")[2].split()[1])
    return True


class ControlServer:
    """The listening end, in the runtime's loop."""

    def __init__(self, runtime: Runtime, server: asyncio.Server, path: Path) -> None:
        self._runtime = runtime
        self._server = server
        self._path = path
        self._talks: set[asyncio.Task[None]] = set()
        self._answering: set[asyncio.Task[None]] = set()

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        """Listen. The data directory's lock is held, so that a socket left by a killed runtime is ours to replace."""
        path = socket_path(runtime.data)
        token = await asyncio.to_thread(make_token, runtime.data)
        if token is not None and runtime.opened.get("created"):
            opened = runtime.opened
            print(
                f"symbi: keep these elsewhere. trail {opened['log_id']}, key {opened['fingerprint']}, "
                f"operator token {token}",
                file=sys.stderr,
            )
        path.unlink(missing_ok=True)
        listener = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        # What `bind` makes has this mode. A umask would be the whole process's, and other threads make files meanwhile.
        os.fchmod(listener.fileno(), 0o600)
        try:
            with _short(path) as short:
                listener.bind(short)
        except OSError as error:
            listener.close()
            raise ConfigError(f"no control socket in `{path.parent}`: {error.strerror}") from None
        made = cls.__new__(cls)
        server = await asyncio.start_unix_server(made._greet, sock=listener, limit=LINE_BYTES_MAX)
        made.__init__(runtime, server, path)  # type: ignore[misc]  # the callback needs the object before the server
        return made

    async def close(self) -> None:
        """Stop listening, end the talks, remove the socket. Who asked is answered first (CS4)."""
        self._server.close()
        if self._answering:
            await asyncio.wait(self._answering, timeout=LAST_ANSWER_S)
        for talk in list(self._talks):
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._talks.add(task)
            task.add_done_callback(self._talks.discard)
            task.add_done_callback(self._answering.discard)
        with contextlib.suppress(asyncio.CancelledError):  # by `close`; the loop would log it
            await self._talk(reader, writer, task)

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, task: asyncio.Task[None] | None
    ) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                uid = self._peer(writer)
                line = await reader.readline()
                if task is not None:
                    self._answering.add(task)
                answer = await self._answer(uid, line)
        except PolicyDenied as denied:
            answer = {"error": error_shape(denied)}
        except (TimeoutError, ValueError) as error:
            answer = {
                "error": {"class": "InputError", "code": "input.invalid", "message": str(error) or "too slow"}
            }
        with contextlib.suppress(ConnectionError):
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
            writer.close()

    def _peer(self, writer: asyncio.StreamWriter) -> int:
        connection = writer.get_extra_info("socket")
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        pid, uid, _ = _PEER.unpack(raw)
        if uid not in (0, os.getuid()) or _descends(pid, os.getpid()):
            raise PolicyDenied("the control socket is not for this process")  # CS1
        return int(uid)

    async def _answer(self, uid: int, line: bytes) -> dict[str, Any]:
        try:
            return {"value": await act(self._runtime, f"operator:{uid}", _request(line))}
        except SymbiError as error:
            return {"error": error_shape(error)}


def _request(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError("a request is one line of JSON") from None
    if not isinstance(request, dict):
        raise InputError("a request is a JSON object")
    return request


async def act(runtime: Runtime, by: str, request: dict[str, Any]) -> Any:
    """Do what one request asks, for this operator. Also for commands that opened the runtime themselves.

    Raises:
        SymbiError: refused, or not a command.
    """
    command = request.get("command")
    handler = _COMMANDS.get(command) if isinstance(command, str) else None
    if handler is None:
        raise InputError(f"`{command}` is not a command of the control socket")
    return await handler(runtime, by, request)


async def _status(runtime: Runtime, _by: str, _request: dict[str, Any]) -> Any:
    return asdict(await runtime.get_system_status())


async def _health(runtime: Runtime, _by: str, _request: dict[str, Any]) -> Any:
    return asdict(await runtime.health_check())


async def _checkpoint(runtime: Runtime, _by: str, _request: dict[str, Any]) -> Any:
    # Reading back what no checkpoint covered yet may take a second: the loop must not wait for it.
    return await asyncio.to_thread(runtime.kernel.checkpoint)


async def _rotate(runtime: Runtime, by: str, _request: dict[str, Any]) -> Any:
    from symbi.audit.keys import finish_rotation, next_seed

    def change() -> tuple[int, str]:
        trail = runtime.data / "trail"  # its keys lie beside it, wherever the trail itself is
        rotated = runtime.kernel.rotate_trail_key(by, next_seed(trail))
        finish_rotation(trail)
        return rotated

    seq, key = await asyncio.to_thread(change)
    return {"seq": seq, "key": key}


async def _compromised(runtime: Runtime, by: str, request: dict[str, Any]) -> Any:
    key, begin, reason = request.get("key"), request.get("from"), request.get("reason")
    if not isinstance(key, str) or not isinstance(reason, str) or type(begin) is not int or begin < 0:
        raise InputError("`key` and `reason` are texts, `from` is the number of a record")
    return await asyncio.to_thread(runtime.kernel.mark_key_compromised, by, key, begin, reason)


async def _hold(runtime: Runtime, by: str, request: dict[str, Any]) -> Any:
    on, reason = request.get("on"), request.get("reason")
    if type(on) is not bool or not isinstance(reason, str):
        raise InputError("`on` is true or false, `reason` a text")
    return await asyncio.to_thread(runtime.kernel.hold_trail, by, on, reason)


async def _prune(runtime: Runtime, by: str, request: dict[str, Any]) -> Any:
    before_us = request.get("before_us")
    if type(before_us) is not int or before_us < 0:
        raise InputError("`before_us` is a time, microseconds since the Unix epoch")
    found = await asyncio.to_thread(runtime.kernel.prune_trail, by, before_us)
    names = ("first", "end", "bytes", "seq")
    return {"pruned": None if found is None else dict(zip(names, found, strict=True))}


async def _load_policies(runtime: Runtime, by: str, request: dict[str, Any]) -> Any:
    paths = request.get("paths")
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise InputError("`paths` is a list of texts")
    await runtime.load_policies(paths, by=by)
    return {"policy": runtime.kernel.policy_digest()}


_COMMANDS: Final[dict[str, Callable[[Runtime, str, dict[str, Any]], Awaitable[Any]]]] = {
    "status": _status,
    "health": _health,
    "audit.checkpoint": _checkpoint,
    "audit.compromised": _compromised,
    "audit.hold": _hold,
    "audit.prune": _prune,
    "audit.rotate": _rotate,
    **AGENT_COMMANDS,
    **APPROVAL_COMMANDS,
    **PERSON_COMMANDS,
    **KEY_COMMANDS,
    **LETTER_COMMANDS,
    "policy.load": _load_policies,
}


def ask(data: Path, request: dict[str, Any]) -> Any:
    """Ask the runtime on this data directory, from another process. Blocks; for the command line.

    Raises:
        RuntimeClosedError: none is running there.
        SymbiError: what it answered, with its class and code.
    """
    from symbi import errors

    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    connection.settimeout(ANSWER_S)
    with connection:
        try:
            with _short(socket_path(data)) as short:
                connection.connect(short)
        except OSError:
            raise RuntimeClosedError(f"no runtime is running on `{data}`") from None
        # Who is refused is answered before it has asked (CS1), and what it then sends meets a closed socket.
        with contextlib.suppress(ConnectionError):
            connection.sendall(json.dumps(request).encode() + b"\n")
        line = b""
        with contextlib.suppress(ConnectionError), connection.makefile("rb") as lines:
            line = lines.readline(ANSWER_BYTES_MAX)
    if not line:
        raise RuntimeClosedError(f"the runtime on `{data}` ended before it answered")
    answer = json.loads(line)
    if "value" in answer:
        return answer["value"]
    error = answer.get("error", {})
    message = str(error.get("message", "the runtime gave no answer"))
    if error.get("class") == "PolicyDenied":
        raise PolicyDenied(message, code=str(error["code"]), decision_id=str(error.get("decision_id", "")))
    kind = getattr(errors, str(error.get("class")), SymbiError)
    try:
        raised = kind(message)
    except TypeError:
        raised = SymbiError(message)
    raise raised
