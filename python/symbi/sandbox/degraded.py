"""The degraded tier: a process that confined itself before it became the program. For development only.

Why: work must go on where no container engine is, and nobody may take it for more than it is: what it
cannot hold
is refused when it is asked for, and listed in the facts.
Not here: the confinement (`symbi-guest confine`, docs/formats/guest.md), and who may use this tier
(`orchestrator`).

It shows files at their own paths only. `/work`, `/tmp` and other memory directories of a spec become
directories of a
private scratch directory; variables that name them are changed to name those.

Invariants
- X4 What is handed out was verified by the host, from outside, before the program began: it waits for
  our `go`.
- DG1 A limit that cannot be held is refused by its name; none is ignored.
- DG2 Every end removes the scratch directory, and the process dies with this one.
- DG3 The first reason for an end is the one that is told.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from symbi.deadline import Deadline
from symbi.errors import (
    InputError,
    SandboxError,
    SandboxEscapeError,
    SandboxLimitError,
    SandboxUnavailableError,
)
from symbi.sandbox.base import GUEST_PATH, LINE_BYTES_MAX, SandboxExit, SandboxFacts, SecurityTier
from symbi.sandbox.confine import NOBODY, differences_of, request_of, status_of, stopped, user_of
from symbi.sandbox.request import refuse_exposed
from symbi.sandbox.usage import ProcessMeter, Usage

if TYPE_CHECKING:
    from symbi.sandbox.base import Limit, SandboxSpec
    from symbi.sandbox.usage import Meter

__all__ = ["DegradedBackend", "DegradedSandbox"]

REPORT_S: Final = 10.0
"""Seconds for the confiner to report; it takes 2 to 10 ms, and longer where a large project is searched
for masks."""

STOP_S: Final = 2.0
"""Seconds a program has to end by itself after its stdin was closed."""

PAUSE_S: Final = 1.0
"""Seconds for a stopped process to be seen as one; it takes less than a millisecond on an idle machine."""

STDERR_TAIL_BYTES: Final = 16 << 10

_GO: Final = b"go"
_SCRATCH_PREFIX: Final = "symbi-scratch-"
_SEALS: Final = 0x1 | 0x2 | 0x4 | 0x8  # F_SEAL_SEAL, _SHRINK, _GROW, _WRITE (fcntl(2))
_ADD_SEALS: Final = 1033  # F_ADD_SEALS

_UNENFORCED: Final = (
    "the kernel is the host's own",
    "memory is bounded as address space, not as resident memory",
    "disk and network bandwidth, and the size of scratch directories",
    "the number of threads",
    "names and metadata of files outside the view can be seen, their contents cannot be opened",
)

_log = logging.getLogger("symbi.sandbox")


class DegradedBackend:
    """Serves the degraded tier.

    Args:
        protected: Paths no mount may show, and sockets that the probe inside must fail to reach: the
            data directory
            and its control socket. Docker's socket is always among them.
    """

    tiers = frozenset({SecurityTier.DEGRADED})

    def __init__(self, *, protected: tuple[str, ...] = ()) -> None:
        self._protected = (*protected, "/var/run/docker.sock", "/run/containerd/containerd.sock")
        self._guest: tuple[str, int] | None = None
        self._live: set[DegradedSandbox] = set()
        self._closed = False

    async def start(self, spec: SandboxSpec) -> DegradedSandbox:
        """Start `spec`, verify it (X4), hand it out. Takes 5 to 20 ms and the program's own start.

        Raises:
            SandboxUnavailableError: the kernel has no Landlock or no seccomp.
            SandboxEscapeError: what runs is not what was asked for. It was killed before the program began.
            SandboxError: a limit or mount cannot be applied (named), or the start failed.
        """
        if self._closed:
            raise SandboxError("the sandbox backend is closed")
        if spec.tier is not SecurityTier.DEGRADED:
            raise InputError(f"tier `{spec.tier}` is not the degraded one")
        refuse_exposed(spec, self._protected)
        if self._guest is None:
            _sweep()
            self._guest = await asyncio.to_thread(_load_guest)
        sandbox = DegradedSandbox(spec, self._live)
        try:
            await sandbox._begin(self._guest[0], self._protected)
        except BaseException:
            await asyncio.shield(sandbox._finish(None))
            raise
        return sandbox

    async def close(self) -> None:
        """End every sandbox of this backend."""
        self._closed = True
        await asyncio.gather(*(sandbox.stop(force=True) for sandbox in tuple(self._live)))
        if self._guest is not None:
            os.close(self._guest[1])
            self._guest = None


class DegradedSandbox:
    """One confined process. Made by `DegradedBackend.start` alone."""

    def __init__(self, spec: SandboxSpec, live: set[DegradedSandbox]) -> None:
        self._spec = spec
        self._live = live
        self._process: asyncio.subprocess.Process | None = None
        self._scratch = ""
        self._facts: SandboxFacts | None = None
        self._limit: Limit | None = None
        self._ending: asyncio.Task[SandboxExit] | None = None
        self._errors: asyncio.Task[None] | None = None
        self._stderr = bytearray()
        self._output_bytes = 0
        self._deadline: Deadline | None = None
        self._meter: Meter | None = None
        self._paused = False
        self._sender = asyncio.Lock()

    @property
    def spec(self) -> SandboxSpec:
        """What it was made from."""
        return self._spec

    @property
    def facts(self) -> SandboxFacts:
        """What was verified at its start."""
        if self._facts is None:
            raise SandboxError("the sandbox has not begun")
        return self._facts

    async def send(self, line: bytes) -> None:
        """See `Sandbox.send`."""
        if len(line) > LINE_BYTES_MAX or b"\n" in line:
            raise InputError(f"a line is at most {LINE_BYTES_MAX} bytes and holds no newline")
        stdin = self._running().stdin
        async with self._sender:
            if stdin is None or stdin.is_closing():
                raise SandboxError("the sandbox has ended")
            try:
                stdin.write(line + b"\n")
                await stdin.drain()
            except (BrokenPipeError, ConnectionResetError) as error:
                raise SandboxError("the sandbox has ended") from error

    async def receive(self) -> bytes | None:
        """See `Sandbox.receive`."""
        line = await self._line()
        if line is None:
            end = await self.wait()
            if end.limit is not None:
                raise SandboxLimitError(
                    f"the sandbox hit its limit `{end.limit}` and was killed", limit=end.limit
                )
        return line

    def arm(self, timeout_s: float | None) -> None:
        """See `Sandbox.arm`."""
        self._disarm()
        if timeout_s is not None and self._ending is None:
            self._deadline = Deadline(timeout_s, partial(self._finish, "execution_timeout_ms"))
            if not self._paused:
                self._deadline.go_on()

    def usage(self) -> Usage:
        """See `Sandbox.usage`."""
        used = Usage() if self._meter is None else self._meter.read()
        return replace(used, output_bytes=self._output_bytes)

    async def pause(self) -> None:
        """See `Sandbox.pause`: it is stopped by a signal that it cannot refuse."""
        if self._paused or self._ending is not None:
            return
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        self._paused = True
        if self._deadline is not None:
            self._deadline.hold()
        with suppress(TimeoutError):
            async with asyncio.timeout(PAUSE_S):
                while process.returncode is None and not stopped(process.pid):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)  # the signal is sent; each thread stops when it next runs

    async def unpause(self) -> None:
        """See `Sandbox.unpause`."""
        if not self._paused or self._ending is not None:
            return
        self._running().send_signal(signal.SIGCONT)
        self._paused = False
        if self._deadline is not None:
            self._deadline.go_on()

    async def halt(self) -> None:
        """See `Sandbox.halt`."""
        await self.pause()

    async def stop(self, *, force: bool = False) -> SandboxExit:
        """See `Sandbox.stop`."""
        process = self._process
        if not force and self._ending is None and not self._paused and process is not None:
            if process.stdin is not None:
                process.stdin.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await process.wait()
        return await asyncio.shield(self._finish(None))

    async def wait(self) -> SandboxExit:
        """See `Sandbox.wait`."""
        if self._ending is None:
            await self._running().wait()
        return await asyncio.shield(self._finish(None))

    def stderr_tail(self) -> bytes:
        """See `Sandbox.stderr_tail`."""
        return bytes(self._stderr[-STDERR_TAIL_BYTES:])

    # -- its beginning

    async def _begin(self, guest: str, protected: tuple[str, ...]) -> None:
        begun = time.monotonic()
        self._scratch = tempfile.mkdtemp(prefix=f"{_SCRATCH_PREFIX}{os.getpid()}-")
        user, why_root = user_of(self._spec)
        request = request_of(self._spec, self._scratch, user, protected)
        _make(self._scratch, request["scratch"], user)
        text = json.dumps(request["spec"], separators=(",", ":"))
        argv = (
            "symbi-guest" if self._spec.argv[0] == GUEST_PATH else self._spec.argv[0],
            *self._spec.argv[1:],
        )
        try:
            self._process = await asyncio.create_subprocess_exec(
                guest,
                "confine",
                "--spec",
                text,
                "--",
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=LINE_BYTES_MAX + 1,
                env={},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise SandboxError(f"the confiner did not start: {error}") from error
        self._live.add(self)
        self._errors = asyncio.create_task(self._drain_errors())
        line = await self._report()
        held = status_of(self._process.pid)
        differences = differences_of(line, held, request["spec"])
        if differences:
            raise SandboxEscapeError("the sandbox is not what was asked for: " + "; ".join(differences))
        probe: dict[str, Any] = line["probe"]
        unenforced = _UNENFORCED if not why_root else (*_UNENFORCED, why_root)
        self._facts = SandboxFacts(
            tier=SecurityTier.DEGRADED,
            container=str(self._process.pid),
            kernel=f"Linux {probe['kernel']['release']}",
            image="",
            runtime="degraded",
            limits={name: value for name, value in line["limits"].items() if value is not None},
            mounts=tuple(
                f"{mount['path']}:{mount['path']}:{'rw' if mount.get('writable') else 'ro'}"
                for mount in request["spec"]["mounts"]
            ),
            probe={**probe, "landlock_abi": line["landlock_abi"], "masked": line["masked"]},
            unenforced=unenforced,
            start_ms=(time.monotonic() - begun) * 1000,
        )
        self._meter = ProcessMeter.of(self._process.pid)
        await self.send(_GO)
        self.arm(self._spec.limits.execution_timeout_s)

    async def _report(self) -> dict[str, Any]:
        """The confiner's first line, if it is the one that says it is confined."""
        try:
            async with asyncio.timeout(REPORT_S):
                line = await self._line()
        except TimeoutError as error:
            raise SandboxError(f"the confiner did not report within {REPORT_S:g} s") from error
        try:
            report = json.loads(line or b"")
        except ValueError:
            said = self.stderr_tail().decode("utf-8", "replace").strip()[-300:]
            raise SandboxError(f"the confiner ended before it reported: `{said}`") from None
        if report.get("type") == "confined":
            return dict(report)
        message = str(report.get("message"))
        if report.get("code") in ("landlock.absent", "seccomp.absent"):
            raise SandboxUnavailableError(f"the degraded tier does not work here: {message}")
        raise SandboxError(f"the degraded tier refused: {message}")

    # -- its lines

    async def _line(self) -> bytes | None:
        stdout = self._running().stdout
        if stdout is None:
            return None
        try:
            line = await stdout.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            self._finish("output_bytes")
            return None
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return None
        self._count(len(line))
        return line[:-1]

    async def _drain_errors(self) -> None:
        """Keep the tail of stderr, always reading: a full pipe would hold the program."""
        stderr = self._running().stderr
        while stderr is not None and (data := await stderr.read(1 << 16)):
            self._stderr += data
            if len(self._stderr) > 4 * STDERR_TAIL_BYTES:
                del self._stderr[:-STDERR_TAIL_BYTES]
            self._count(len(data))

    def _count(self, size: int) -> None:
        self._output_bytes += size
        if self._output_bytes > self._spec.output_bytes_max:
            self._finish("output_bytes")

    # -- its end

    def _finish(self, limit: Limit | None) -> asyncio.Task[SandboxExit]:
        """Begin the end, once (DG3)."""
        if self._ending is None:
            self._limit = limit
            self._disarm()
            self._ending = asyncio.get_running_loop().create_task(self._end())
        return self._ending

    async def _end(self) -> SandboxExit:
        process, code = self._process, -1
        if self._meter is not None:
            self._meter.read()
            self._meter.close()  # US3
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            code = await process.wait()
            if process.stdin is not None:
                process.stdin.close()
            if self._errors is not None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(STOP_S):
                        await self._errors
        if self._scratch:
            await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)  # DG2
        self._live.discard(self)
        return SandboxExit(128 - code if code < 0 else code, limit=self._limit)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.hold()
            self._deadline = None

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise SandboxError("the sandbox has not begun")
        return self._process


def _load_guest() -> tuple[str, int]:
    """The confiner in sealed memory: a path by which it can be started, and the descriptor that holds it.

    Nothing on the disk, so nothing that another process of this user could change.
    """
    from symbi._core import guest_binary

    try:
        file = os.memfd_create("symbi-guest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        raise SandboxUnavailableError(f"no memory file for the confiner: {error}") from error
    with os.fdopen(os.dup(file), "wb") as writer:
        writer.write(guest_binary())
    os.fchmod(file, 0o555)
    fcntl.fcntl(file, _ADD_SEALS, _SEALS)
    return f"/proc/{os.getpid()}/fd/{file}", file


def _make(scratch: str, places: list[str], user: int | None) -> None:
    """Make what stands for the spec's memory directories, for the user who will write there."""
    for place in places:
        os.makedirs(place, mode=0o700, exist_ok=True)  # noqa: PTH103 - parents get the same mode
    if user is not None:
        os.chown(scratch, user, user)
        for directory, _, _ in os.walk(scratch):
            os.chown(directory, user, user)


def _sweep() -> None:
    """Remove the scratch directories of processes that were killed (DG2)."""
    for path in Path(tempfile.gettempdir()).glob(f"{_SCRATCH_PREFIX}*"):
        number = path.name.removeprefix(_SCRATCH_PREFIX).split("-", 1)[0]
        if not number.isdigit() or Path("/proc", number).exists():
            continue
        with suppress(OSError):
            if path.lstat().st_uid in (os.getuid(), NOBODY):
                shutil.rmtree(path, ignore_errors=True)
