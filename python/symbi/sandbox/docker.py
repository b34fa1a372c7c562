"""Tier 1 and Tier 2 through Docker: start, verify, talk, freeze, end.

Why: a container is handed out only when three witnesses agree (the daemon's inspection, the control group,
our own first process inside), and it can always be ended, whatever it does. Not here: what is asked for
(`request`), what is believed (`verify`), the lines (`pipe`), which tier (`orchestrator`).

Invariants
- X4 What is handed out was verified; our first process waits for our `go`, so nothing untrusted ran before.
- D1 A start that fails at any step, or whose caller goes away, leaves no container.
- D2 The stream is closed before a kill: a guest with a full, unread stream blocks its own.
- D3 Every end is recorded once: the first reason (a limit, a stop, its own exit) is the one that is told.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from symbi.deadline import Deadline
from symbi.errors import InputError, SandboxError, SandboxEscapeError, SandboxLimitError
from symbi.sandbox import verify
from symbi.sandbox.base import SandboxExit, SandboxFacts
from symbi.sandbox.control_group import Freezer
from symbi.sandbox.engine import START_S, Engine, remove, thaw
from symbi.sandbox.image import GuestImage, guest_image
from symbi.sandbox.pipe import Pipe
from symbi.sandbox.reaper import reap
from symbi.sandbox.request import RUNTIMES, create_request, refuse_exposed
from symbi.sandbox.usage import ControlGroupMeter, Usage

if TYPE_CHECKING:
    from symbi.sandbox.base import Limit, SandboxSpec
    from symbi.sandbox.reaper import Owner
    from symbi.sandbox.usage import Meter

__all__ = ["DockerBackend", "DockerSandbox"]

STARTS_AT_ONCE: Final = 4
"""Cold starts at a time. Eight at once on two cores take as long in all, each of them three times longer."""

PROBE_S: Final = 15.0
"""Seconds for the first process to report; it takes 20 to 200 ms after the start."""

STOP_S: Final = 2
"""Seconds a program has to end by itself after its stdin was closed."""

KILL_S: Final = 3
"""Seconds for a kill, which takes 0.1 s; a fork bomb thrashing at its memory limit was seen to need 14."""

END_S: Final = 8
"""Seconds for such a one to die after it was given memory and processor to die with."""

_DYING_BYTES: Final = 128 << 20
_HALT_S: Final = 0.05  # a group is frozen in microseconds, unless a process of it stands in the kernel
_HALT_LOOKS: Final = 50

_GO: Final = b"go"
_log = logging.getLogger("symbi.sandbox")


class DockerBackend:
    """Serves tiers 1 and 2 with the Docker daemon of this machine. One instance serves one event loop.

    Args:
        owner: Whose sandboxes these are; `Owner.current(data_directory)`.
        image: The guest image; that of this installation when not given.
        protected: Paths no mount may show (the data directory with trail and control socket). Docker's own
            socket is always among them.
        engine: The daemon; found from the environment when not given.
    """

    tiers = frozenset(RUNTIMES)

    def __init__(
        self,
        owner: Owner,
        *,
        image: GuestImage | None = None,
        protected: tuple[str, ...] = (),
        engine: Engine | None = None,
    ) -> None:
        self._owner = owner
        self._engine = engine or Engine()
        self._image = image
        self._open = False
        self._protected = (*protected, self._engine.path, "/var/run/docker.sock", "/run/containerd")
        self._opening = asyncio.Lock()
        self._slots = asyncio.Semaphore(STARTS_AT_ONCE)
        self._live: set[DockerSandbox] = set()
        self._starting: set[asyncio.Task[DockerSandbox]] = set()
        self._closed = False

    async def open(self) -> tuple[str, ...]:
        """Import the image when it is missing and reap what killed runtimes left. `start` does it when
        needed.

        Returns:
            The ids of the containers that were reaped.

        Raises:
            SandboxUnavailableError: no daemon.
        """
        async with self._opening:
            if self._open:
                return ()
            reaped = await reap(self._engine, self._owner)
            self._image = self._image or guest_image()
            await self._engine.image_id(self._image)
            self._open = True
            return reaped

    async def start(self, spec: SandboxSpec) -> DockerSandbox:
        """Start `spec`, verify it (X4), hand it out. Cold: 0.3 s in tier 1, 0.5 s in tier 2.

        Raises:
            SandboxUnavailableError: daemon, runtime or image is not here; the text says how to mend it.
            SandboxEscapeError: what runs is not what was asked for. It was killed before the program began.
            SandboxError: a limit or a mount cannot be applied (named), or the start failed.
        """
        if self._closed:
            raise SandboxError("the sandbox backend is closed")
        if spec.tier not in self.tiers:
            raise InputError(f"tier `{spec.tier}` is not served by Docker")
        if spec.instance != self._owner.instance:
            raise InputError("the spec is of another runtime instance")
        refuse_exposed(spec, self._protected)
        task = asyncio.ensure_future(self._start(spec))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_unwanted)  # D1: the start goes on, its result is ended
            raise

    async def close(self) -> None:
        """End and remove every sandbox of this backend, those being started included."""
        self._closed = True
        await asyncio.gather(*self._starting, return_exceptions=True)
        await asyncio.gather(
            *(sandbox.stop(force=True) for sandbox in tuple(self._live)), return_exceptions=True
        )
        self._engine.close()

    async def _start(self, spec: SandboxSpec) -> DockerSandbox:
        begun = time.monotonic()
        await self.open()
        if self._image is None:
            raise SandboxError("the sandbox backend is not open")
        async with self._slots:
            image_id = await self._engine.image_id(self._image)  # each time: a prune or a swap is seen
            request = create_request(spec, image_id, self._owner)
            name = f"symbi-{self._owner.instance[:8]}-{secrets.token_hex(6)}"
            sandbox = DockerSandbox(self._engine, spec, name, self._live)
            try:
                await sandbox._begin(request, self._image.layer_digest, begun)
            except BaseException:
                await sandbox._abandon()  # D1
                raise
            return sandbox


class DockerSandbox:
    """One container. Made by `DockerBackend.start` alone."""

    def __init__(self, engine: Engine, spec: SandboxSpec, name: str, live: set[DockerSandbox]) -> None:
        self._engine = engine
        self._spec = spec
        self._name = name
        self._live = live
        self._pipe: Pipe | None = None
        self._facts: SandboxFacts | None = None
        self._limit: Limit | None = None
        self._ending: asyncio.Task[SandboxExit] | None = None
        self._over = asyncio.Event()  # its stream ended
        self._deadline: Deadline | None = None
        self._meter: Meter | None = None
        self._paused = False
        self._freezer: Freezer | None = None
        self._control = asyncio.Lock()  # one of pause, unpause, end at a time

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
        await self._stream().send(line)

    async def receive(self) -> bytes | None:
        """See `Sandbox.receive`."""
        line = await self._stream().receive()
        if line is None:
            end = await self.wait()
            if end.limit is not None:
                raise SandboxLimitError(_LIMIT_TEXT[end.limit], limit=end.limit)
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
        return replace(used, output_bytes=None if self._pipe is None else self._pipe.output_bytes)

    async def pause(self) -> None:
        """See `Sandbox.pause`. Takes 10 to 40 ms."""
        async with self._control:
            if self._paused or self._ending is not None:
                return
            await self._engine.call("pause", lambda client: client.pause(self._name))
            self._paused = True
            if self._deadline is not None:
                self._deadline.hold()

    async def unpause(self) -> None:
        """See `Sandbox.unpause`. Takes 10 to 30 ms."""
        async with self._control:
            if not self._paused or self._ending is not None:
                return
            await self._engine.call("unpause", lambda client: client.unpause(self._name))
            self._paused = False
            if self._deadline is not None:
                self._deadline.go_on()

    async def halt(self) -> None:
        """See `Sandbox.halt`. Under a millisecond where its control group may be written to, else as `pause`.

        The daemon is not told, and would take its time: it is asked to kill next, and whatever kills thaws first.
        """
        freezer = self._freezer
        if freezer is not None and not self._paused and self._ending is None and not self._control.locked():
            with suppress(OSError):
                freezer.freeze()
                for _ in range(_HALT_LOOKS):
                    if freezer.frozen:
                        self._disarm()
                        return
                    await asyncio.sleep(_HALT_S / _HALT_LOOKS)
            freezer.thaw()
        await self.pause()

    async def stop(self, *, force: bool = False) -> SandboxExit:
        """See `Sandbox.stop`."""
        if not force and self._ending is None and not self._paused and self._pipe is not None:
            self._pipe.close_input()
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await self._over.wait()
        return await asyncio.shield(self._finish(None))

    async def wait(self) -> SandboxExit:
        """See `Sandbox.wait`. An end is seen once what came before it was received: someone must receive."""
        await self._over.wait()
        return await asyncio.shield(self._finish(None))

    def stderr_tail(self) -> bytes:
        """See `Sandbox.stderr_tail`."""
        return self._pipe.stderr_tail() if self._pipe is not None else b""

    # -- its beginning

    async def _begin(self, request: dict[str, Any], layer_digest: str, begun: float) -> None:
        def create(client: Any) -> None:
            client.create_container_from_config(request, self._name)

        await self._engine.call("create", create, deadline_s=START_S)
        self._live.add(self)
        stream = await self._engine.attach(self._name)
        self._pipe = await Pipe.over(stream, self._spec.output_bytes_max, self._stream_ended)
        await self._engine.call("start", lambda client: client.start(self._name), deadline_s=START_S)
        probe = await self._report()
        found = await self._inspect()
        pid = int(found["State"].get("Pid") or 0)
        group = verify.read_control_group(pid)
        differences = [
            *verify.check_inspection(request, found),
            *verify.check_control_group(self._spec, group),
            *verify.check_probe(self._spec, probe),
        ]
        if differences:
            raise SandboxEscapeError("the sandbox is not what was asked for: " + "; ".join(differences[:8]))
        self._meter = ControlGroupMeter.of(pid)
        self._freezer = Freezer.of(pid, str(found["Id"]))
        host = found["HostConfig"]
        self._facts = SandboxFacts(
            tier=self._spec.tier,
            container=str(found["Id"]),
            kernel=verify.kernel_name(probe),
            image=layer_digest,
            runtime=str(host["Runtime"]),
            limits={
                "memory_bytes": int(host["Memory"]),
                "cpu_millicores": int(host["NanoCpus"]) // 1_000_000,
                "pids": int(host["PidsLimit"]),
                **{f"control_group.{name}": value for name, value in group.items()},
            },
            mounts=tuple(
                f"{mount['Source']}:{mount['Destination']}:{'rw' if mount['RW'] else 'ro'}"
                for mount in found.get("Mounts") or []
            ),
            probe=probe,
            start_ms=(time.monotonic() - begun) * 1000,
        )
        await self._stream().send(_GO)
        self.arm(self._spec.limits.execution_timeout_s)

    async def _report(self) -> dict[str, Any]:
        """The probe line of our first process."""
        try:
            async with asyncio.timeout(PROBE_S):
                line = await self._stream().receive()
        except TimeoutError as error:
            raise SandboxError(f"the sandbox did not report within {PROBE_S:g} s") from error
        if line is None:
            said = " ".join(self.stderr_tail().decode("utf-8", "replace").split())[-300:]
            raise SandboxError(f"the sandbox ended before it reported: `{said}`")
        try:
            probe = json.loads(line)
        except ValueError:
            probe = None
        if not isinstance(probe, dict):
            raise SandboxEscapeError("the sandbox's first line is not a report")
        return probe

    async def _abandon(self) -> None:
        """End a start that failed (D1)."""
        if self._pipe is not None:
            self._pipe.close()  # D2
        self._disarm()
        self._last_reading()
        self._live.discard(self)
        try:
            await asyncio.shield(self._engine.call("remove", lambda client: remove(client, self._name)))
        except SandboxError as error:
            _log.warning("container %s of a failed start is left for the reaper: %s", self._name, error)

    # -- its end

    def _stream_ended(self, overflow: bool) -> None:
        self._over.set()
        if self._facts is not None:
            self._finish("output_bytes" if overflow else None)

    def _finish(self, limit: Limit | None) -> asyncio.Task[SandboxExit]:
        """Begin the end, once (D3)."""
        if self._ending is None:
            self._limit = limit
            self._disarm()
            self._ending = asyncio.get_running_loop().create_task(
                self._end(by_itself=self._over.is_set() and not limit)
            )
        return self._ending

    async def _end(self, *, by_itself: bool) -> SandboxExit:
        if self._pipe is not None:
            self._pipe.close()  # D2
        self._over.set()
        self._last_reading()
        async with self._control:
            exit_ = SandboxExit(-1, limit=self._limit)
            try:
                exit_ = await self._settle(by_itself=by_itself)
            except SandboxError as error:
                _log.warning("container %s: %s", self._name, error)
            try:
                await self._engine.call("remove", lambda client: remove(client, self._name))
            except SandboxError as error:
                _log.warning("container %s is left for the reaper: %s", self._name, error)
        self._live.discard(self)
        return exit_

    async def _settle(self, *, by_itself: bool) -> SandboxExit:
        """Make sure it is dead, and find out how it died."""

        memory = int(self._spec.limits.memory_mb or 0) << 20

        def ended(client: Any) -> dict[str, Any]:
            from docker.errors import APIError
            from requests.exceptions import RequestException

            if (
                by_itself
            ):  # its stream ended: its exit follows within milliseconds, or it hides behind closed streams
                with suppress(RequestException):
                    client.wait(self._name, timeout=STOP_S)
                    return dict(client.inspect_container(self._name)["State"])
            thaw(client, self._name)
            client.timeout = KILL_S
            with suppress(APIError, RequestException):  # "is not running": then there is nothing to kill
                client.kill(self._name)
            try:
                client.wait(self._name, timeout=1)
            except RequestException:
                with suppress(APIError, RequestException):
                    client.update_container(
                        self._name,
                        cpu_shares=262_144,
                        mem_limit=memory + _DYING_BYTES,
                        memswap_limit=memory + _DYING_BYTES,
                    )
                client.wait(self._name, timeout=END_S)
            return dict(client.inspect_container(self._name)["State"])

        state = await self._engine.call("kill", ended, deadline_s=STOP_S + KILL_S + 1 + END_S)
        oom = bool(state.get("OOMKilled"))
        limit = self._limit
        if limit is None and oom:
            limit = "memory_mb"
        return SandboxExit(int(state.get("ExitCode", -1)), oom, limit)

    async def _inspect(self) -> dict[str, Any]:
        return dict(await self._engine.call("inspect", lambda client: client.inspect_container(self._name)))

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.hold()
            self._deadline = None

    def _last_reading(self) -> None:
        """Read once more while its group is there, and let go of the files (US3)."""
        if self._meter is not None:
            self._meter.read()
            self._meter.close()

    def _stream(self) -> Pipe:
        if self._pipe is None:
            raise SandboxError("the sandbox has not begun")
        return self._pipe


_LIMIT_TEXT: Final[dict[Limit, str]] = {
    "memory_mb": "the sandbox ran out of memory and was killed",
    "execution_timeout_ms": "the sandbox ran out of time and was killed",
    "pids": "the sandbox made too many processes and ended",
    "output_bytes": "the sandbox wrote a line, or more in all, than it may, and was killed",
}


def _unwanted(task: asyncio.Task[DockerSandbox]) -> None:
    """End what was started for a caller that went away (D1)."""
    if not task.cancelled() and task.exception() is None:
        task.result()._finish(None)
