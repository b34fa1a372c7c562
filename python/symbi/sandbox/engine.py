"""Every call to Docker: in a worker thread, with a deadline, its failures named.

Why: the Docker client is synchronous, and a daemon can stop answering (a guest may even cause it). Neither
may stop the event loop or hold a caller for ever.
Not here: what to ask for (`request`), what to believe (`verify`).

Invariants
- K1 Every call has a deadline; after it the caller goes on, and the thread ends with the socket's own
  timeout.
- K2 A missing daemon, a missing runtime and a missing binary are `SandboxUnavailableError` with the command
  that mends it; every other failure is a `SandboxError`.
- K3 Only a daemon on this machine, over a Unix socket: mounts, limits and kernels are checked here.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from symbi.errors import SandboxError, SandboxUnavailableError
from symbi.sandbox.control_group import Freezer

if TYPE_CHECKING:
    from collections.abc import Callable

    from docker import APIClient

    from symbi.sandbox.image import GuestImage

__all__ = ["CALL_S", "START_S", "Engine", "remove", "socket_path", "thaw"]

CALL_S: Final = 10.0
"""Seconds for a call that answers in milliseconds (inspect, kill, remove): a loaded machine needs some."""

START_S: Final = 30.0
"""Seconds for create, start and import: cold ones take 0.2 to 2.7 s."""

_THREADS: Final = 16  # calls at once; each is a wait on a socket
_MEND: Final = "`make sandbox` in a checkout, or `symbi doctor --fix`"

T = TypeVar("T")


def socket_path() -> str:
    """The daemon's socket: `DOCKER_HOST` where it names a Unix socket, else the usual place.

    Raises:
        SandboxUnavailableError: `DOCKER_HOST` names a daemon elsewhere (K3).
    """
    host = os.environ.get("DOCKER_HOST", "")
    if not host:
        return "/var/run/docker.sock"
    if not host.startswith("unix://"):
        raise SandboxUnavailableError(
            "`DOCKER_HOST` names a daemon that is not a Unix socket here: unset it, or use `unix:///path`"
        )
    return host.removeprefix("unix://")


class Engine:
    """The daemon of this machine. One instance serves one event loop."""

    def __init__(self, path: str | None = None) -> None:
        self.path = path or socket_path()
        self._version = ""  # negotiated once
        self._local = threading.local()  # a client a thread: its HTTP session is not made for sharing
        self._clients: list[APIClient] = []
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="symbi-docker")

    async def call(self, what: str, work: Callable[[Any], T], *, deadline_s: float = CALL_S) -> T:
        """Run `work` with a client in a thread (K1, K2).

        Args:
            what: Names the call in an error.
            work: Gets the client; runs off the loop.
            deadline_s: Seconds, over all.

        Raises:
            SandboxUnavailableError, SandboxError: see K2.
        """
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(self._pool, self._run, what, work, deadline_s)
        try:
            return await asyncio.wait_for(asyncio.shield(job), deadline_s + 1.0)
        except TimeoutError as error:
            job.add_done_callback(_forget)
            raise SandboxError(f"docker did not answer `{what}` within {deadline_s:g} s") from error

    async def attach(self, container: str) -> socket.socket:
        """The container's stdin, stdout and stderr as one socket, before its start: nothing is missed."""
        return await self.call("attach", lambda client: _attach(client, container))

    async def image_id(self, image: GuestImage) -> str:
        """The id of our image here; imported when it is missing or is not what it should be.

        Raises:
            SandboxError: the daemon reports another layer digest than the one computed here (I2).
        """

        def ensure(client: Any) -> tuple[str, Any]:
            from docker.errors import ImageNotFound

            with suppress(ImageNotFound):
                found = client.inspect_image(image.reference)
                if found["RootFS"].get("Layers") == [image.layer_digest]:
                    return str(found["Id"]), found["RootFS"]["Layers"]
            name, tag = image.reference.split(":")
            client.import_image_from_data(image.archive, repository=name, tag=tag)
            found = client.inspect_image(image.reference)
            return str(found["Id"]), found["RootFS"].get("Layers")

        found, layers = await self.call("import image", ensure, deadline_s=START_S)
        if layers != [image.layer_digest]:
            raise SandboxError(
                f"image `{image.reference}` has layers `{layers}`, and ours is `{image.layer_digest}`"
            )
        return found

    def close(self) -> None:
        """Take no more calls. Does not wait."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for client in self._clients:
            client.close()

    def _run(self, what: str, work: Callable[[Any], T], deadline_s: float) -> T:
        from docker.errors import APIError, DockerException
        from requests.exceptions import ConnectionError as NoConnection
        from requests.exceptions import RequestException, Timeout

        try:
            client = self._client(deadline_s)
            return work(client)
        except APIError as error:
            raise _named(what, str(error.explanation or error)) from error
        except Timeout as error:
            raise SandboxError(f"docker did not answer `{what}` within {deadline_s:g} s") from error
        except (NoConnection, DockerException) as error:
            self._local.client = None
            raise SandboxUnavailableError(self._absent()) from error
        except (RequestException, OSError) as error:
            self._local.client = None
            raise SandboxError(f"docker broke off during `{what}`: {type(error).__name__}") from error

    def _client(self, deadline_s: float) -> APIClient:
        from docker import APIClient

        client: APIClient | None = getattr(self._local, "client", None)
        if client is None:
            self._knock(deadline_s)
            client = APIClient(
                base_url=f"unix://{self.path}",
                version=self._version or "auto",
                timeout=ceil(deadline_s),
            )
            # It would keep a connection for each of the last 25 addresses, and no address of a container comes again.
            client.headers["Connection"] = "close"
            self._version = client.api_version
            self._local.client = client
            self._clients.append(client)
        client.timeout = ceil(deadline_s)
        return client

    def _knock(self, deadline_s: float) -> None:
        """Whether somebody listens. The client would say so too, and leave a socket open."""
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(deadline_s)
            try:
                door.connect(self.path)
            except OSError as error:
                raise SandboxUnavailableError(self._absent()) from error

    def _absent(self) -> str:
        try:
            exists = Path(self.path).is_socket()
        except OSError:
            exists = False
        if not exists:
            return f"no Docker daemon here (`{self.path}` is not a socket): install Docker, then {_MEND}"
        if not os.access(self.path, os.R_OK | os.W_OK):
            return (
                f"this user may not use Docker (`{self.path}`): `sudo usermod -aG docker $USER`, log in anew"
            )
        return f"the Docker daemon does not answer on `{self.path}`: start it, then {_MEND}"


def _named(what: str, text: str) -> SandboxError:
    """What Docker's text means. The texts are those of Engine 20 to 28 (K2)."""
    low = text.lower()
    if "unknown runtime" in low or "unknown or invalid runtime" in low or "invalid runtime name" in low:
        return SandboxUnavailableError(f"gVisor's `runsc` is not registered with Docker: {_MEND}")
    if (
        "executable file not found" in low
        or "unable to find user" in low
        or (
            "no such file or directory" in low
            and ("runsc" in low or "fork/exec" in low or "oci runtime" in low)
        )
    ):
        return SandboxUnavailableError(
            f"the container runtime's own program is missing: {_MEND} ({text[:200]})"
        )
    return SandboxError(f"docker refused `{what}`: {' '.join(text.split())[:500]}")


def remove(client: APIClient, container: str) -> None:
    """Kill and remove a container, paused or not; one that is gone already is no error."""
    from docker.errors import APIError, NotFound

    thaw(client, container)
    try:
        client.remove_container(container, force=True, v=True)
    except NotFound:
        return
    except APIError as error:
        if error.status_code != 409 or "already in progress" not in str(error.explanation):
            raise


def thaw(client: APIClient, container: str) -> None:
    """Let a frozen container run on, so that it can be killed: `runsc kill` hangs on a frozen one."""
    from docker.errors import APIError

    with suppress(APIError):  # it is gone: that is what we want
        try:
            client.unpause(container)
        except APIError:  # the daemon did not pause it; perhaps its group was frozen past the daemon
            found = client.inspect_container(container)
            freezer = Freezer.of(int(found["State"].get("Pid") or 0), str(found["Id"]))
            if freezer is not None:
                freezer.thaw()


def _attach(client: Any, container: str) -> socket.socket:
    params: Any = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1, "logs": 0}
    holder: Any = client.attach_socket(container, params=params)
    raw = getattr(holder, "_sock", holder)  # a file object over the socket; the descriptor is what we need
    ours = socket.socket(fileno=os.dup(raw.fileno()))
    response = getattr(holder, "_response", None)  # the client pins it there, so that it outlives the file
    if response is not None:
        response.close()
    holder.close()
    return ours


def _forget(job: asyncio.Future[Any]) -> None:
    """Take a late result's exception, or the loop would log it."""
    if not job.cancelled():
        job.exception()
