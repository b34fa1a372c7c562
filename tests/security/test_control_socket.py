"""Threat: somebody who is not the operator steers a runtime by its control socket, or reaches Docker's.

Each tier's agent tries both sockets from inside; a descendant of the runtime and another user try from the host.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi.control import LINE_BYTES_MAX, socket_path

if TYPE_CHECKING:
    from pathlib import Path

    from symbi.sandbox.base import SecurityTier

BOUND_S = 60.0

_REACHING = """
import os, socket, symbi

@symbi.agent(name="reaching")
async def reaching(ctx, paths: list) -> dict:
    found = {}
    for path in paths:
        for family in (socket.AF_UNIX,):
            try:
                connection = socket.socket(family, socket.SOCK_STREAM)
                connection.connect(path)
                connection.sendall(b'{"command": "stop.all"}\\\\n')
                found[path] = "reached: " + repr(connection.recv(100))
            except OSError as error:
                found[path] = type(error).__name__
        found["seen " + path] = os.path.exists(path)
    sockets = []
    for root, _, names in os.walk("/"):
        if not root.startswith(("/proc", "/sys")):
            sockets += [os.path.join(root, name) for name in names if name.endswith(".sock")]
    found["sockets"] = sockets
    return found
"""


async def _try_from_inside(tmp_path: Path, tier: str, mode: Any) -> None:
    file, data = tmp_path / "reaching.py", tmp_path / "d"
    file.write_text(_REACHING)
    # The whole directory is shown to the agent, so that only the runtime's own care keeps the socket away.
    agent = symbi.AgentConfig(
        name="reaching", entry=(str(file), "reaching"), tier=tier, project=str(tmp_path)
    )
    async with symbi.Runtime.open(data=data, mode=mode) as rt:
        paths = [
            str(socket_path(data)),
            "/var/run/docker.sock",
            "/run/docker.sock",
            "/run/containerd/containerd.sock",
        ]
        found = await asyncio.wait_for(rt.run(agent, {"paths": paths}), BOUND_S)
        assert (data / "control.sock").exists()  # there was something to reach
        assert not any(str(value).startswith("reached") for value in found.values()), found
        if (
            tier != "degraded"
        ):  # there the file system is the host's: names can be seen, and nothing connected to
            assert not any(found[f"seen {path}"] for path in paths), found
            assert found["sockets"] == []
        assert (await rt.get_system_status()).agents == 0


@pytest.mark.asyncio
async def test_an_agent_in_a_container_reaches_neither_socket(tmp_path: Path, tier: SecurityTier) -> None:
    await _try_from_inside(tmp_path, str(tier), "production")


@pytest.mark.asyncio
async def test_an_agent_in_the_degraded_tier_reaches_neither_socket(tmp_path: Path) -> None:
    try:
        await _try_from_inside(tmp_path, "degraded", "development")
    except symbi.SandboxUnavailableError as error:
        pytest.skip(f"the degraded tier does not work here: {error}")


def _talk(path: Path, line: bytes) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(BOUND_S)
        connection.connect(str(path))
        with contextlib.suppress(BrokenPipeError):  # refused before a byte was read
            connection.sendall(line)
        answer: dict[str, Any] = json.loads(connection.makefile("rb").readline())
        return answer


async def _child(code: str, *arguments: str) -> str:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(child.communicate(), BOUND_S)
    return out.decode()


_ASK = """
import socket, sys
connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
connection.connect(sys.argv[1])
try:
    connection.sendall(b'{"command": "stop.all"}\\n')
except BrokenPipeError:
    pass
print(connection.makefile("rb").readline().decode())
"""


@symbi.agent(isolation="in_process")
async def idle() -> None: ...


@pytest.mark.asyncio
async def test_cs1_a_child_of_the_runtime_and_the_runtime_itself_are_refused(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:
        await rt.schedule_agent(idle)
        answer = json.loads(await _child(_ASK, str(socket_path(tmp_path))))
        assert answer["error"]["class"] == "PolicyDenied"
        own = await asyncio.to_thread(_talk, socket_path(tmp_path), b'{"command": "stop.all"}\n')
        assert own["error"]["class"] == "PolicyDenied"
        assert (await rt.get_system_status()).agents == 1


_AS_ANOTHER = """
import os, socket, time
parent = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == parent:
    time.sleep(0.001)
os.setgid(65534); os.setuid(65534)
"""


@pytest.mark.asyncio
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user: run the tests as root")
async def test_cs1_another_user_is_refused_by_the_directory_and_again_by_the_socket(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path / "d") as rt:
        await rt.schedule_agent(idle)
        path = socket_path(tmp_path / "d")
        assert "PermissionError" in await _child(_AS_ANOTHER + _ASK, str(path))
        opened = path.parent
        for directory in (
            path,
            opened,
            tmp_path,
            *tmp_path.parents[:-1],
        ):  # as if somebody had opened every door
            _widen(directory)
        answer = json.loads(await _child(_AS_ANOTHER + _ASK, str(path)))
        assert answer["error"]["class"] == "PolicyDenied"
        assert (await rt.get_system_status()).agents == 1


def _widen(path: Path) -> None:
    if str(path).startswith("/tmp/") and path.owner() == "root":  # only what this test made
        path.chmod(0o777 if path.is_dir() else 0o666)


_HOSTILE = """
import json, os, socket, sys, time
parent = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == parent:
    time.sleep(0.001)
for line in (b"\\n", b"no json\\n", b"[]\\n", b"[" * 100000 + b"\\n", b'{"command": 1e999}\\n', b"\\xff\\n",
             b"x" * (int(sys.argv[2]) + 100) + b"\\n", b'{"command": "agents.list"'):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(sys.argv[1])
    try:
        connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        answer = json.loads(connection.makefile("rb").readline())
    except OSError as error:
        answer = {"error": {"code": "closed"}}
    print(answer["error"]["code"])
"""


@pytest.mark.asyncio
async def test_cs3_garbage_is_answered_by_one_error_and_the_runtime_goes_on(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:
        codes = (await _child(_HOSTILE, str(socket_path(tmp_path)), str(LINE_BYTES_MAX))).split()
        assert len(codes) == 8
        assert set(codes) <= {"input.invalid", "closed"}, codes
        assert (await rt.health_check()).overall_status == "green"
