"""Docker and gVisor, for real: what starts is verified, what is said arrives, what ends is gone."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from symbi.errors import (
    InputError,
    PermitError,
    SandboxError,
    SandboxEscapeError,
    SandboxUnavailableError,
)
from symbi.limits import ResourceLimits
from symbi.sandbox import verify
from symbi.sandbox.base import LINE_BYTES_MAX, Mount, SecurityTier, spec_to_bytes
from symbi.sandbox.docker import DockerBackend
from symbi.sandbox.engine import Engine
from symbi.sandbox.image import GuestImage, guest_image
from symbi.sandbox.orchestrator import Orchestrator, check_tiers
from symbi.sandbox.reaper import AGENT_LABEL, INSTANCE_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from symbi.sandbox.base import SandboxSpec
    from symbi.sandbox.reaper import Owner

    SpecMaker = Callable[..., SandboxSpec]

ECHO = "import sys\nfor line in sys.stdin.buffer: sys.stdout.buffer.write(line); sys.stdout.buffer.flush()"
FROZEN_S = 60.0
"""What a frozen sandbox may take to answer, once it is thawed on a busy machine."""


async def containers(engine: Engine, owner: Owner) -> list[str]:
    """The names of this owner's containers, in whatever state."""
    label = f"{INSTANCE_LABEL}={owner.instance}"
    found = await engine.call("list", lambda client: client.containers(all=True, filters={"label": label}))
    return [item["Names"][0] for item in found]


@pytest.mark.docker
@pytest.mark.gvisor
@pytest.mark.asyncio
async def test_the_tiers_run_on_different_kernels(backend: DockerBackend, python_spec: SpecMaker) -> None:
    """X4, V2: Tier 1 answers with the host's kernel, Tier 2 with gVisor's."""
    kernels = {}
    for tier in (SecurityTier.DOCKER, SecurityTier.GVISOR):
        sandbox = await backend.start(python_spec(tier, "import os; print(os.uname().release)"))
        assert (await sandbox.receive() or b"").decode() in sandbox.facts.kernel
        kernels[tier] = sandbox.facts.kernel
    assert kernels[SecurityTier.DOCKER] == f"Linux {os.uname().release}"
    assert kernels[SecurityTier.GVISOR].startswith("gVisor ")


@pytest.mark.asyncio
async def test_a_sandbox_is_handed_out_with_what_the_host_found(
    backend: DockerBackend, python_spec: SpecMaker, tier: SecurityTier, owner: Owner
) -> None:
    """X4: the facts are the host's: runtime, limits from the control group, mounts, labels, the layer digest."""
    limits = ResourceLimits(memory_mb=96, cpu_cores=0.5)
    sandbox = await backend.start(python_spec(tier, ECHO, limits=limits))
    facts = sandbox.facts
    assert facts.runtime == {SecurityTier.DOCKER: "runc", SecurityTier.GVISOR: "runsc"}[tier]
    assert facts.image == guest_image().layer_digest
    assert (facts.limits["memory_bytes"], facts.limits["cpu_millicores"]) == (96 << 20, 500)
    assert facts.limits["control_group.memory_bytes"] == 96 << 20
    assert all(mount.endswith(":ro") for mount in facts.mounts)
    found = await backend._engine.call("inspect", lambda client: client.inspect_container(facts.container))
    assert found["Config"]["Labels"][AGENT_LABEL] == "agent-of-a-test"
    assert found["Config"]["Labels"][INSTANCE_LABEL] == owner.instance


@pytest.mark.asyncio
async def test_lines_pass_both_ways_up_to_the_longest(
    backend: DockerBackend, python_spec: SpecMaker, tier: SecurityTier
) -> None:
    """X3: the longest line passes whole, in order with short ones; a longer one is refused before it is sent."""
    sandbox = await backend.start(python_spec(tier, ECHO))
    longest = os.urandom(LINE_BYTES_MAX // 2).hex().encode()
    for line in (b"", b"short", longest, b"after"):
        await sandbox.send(line)
        assert await sandbox.receive() == line
    with pytest.raises(InputError):
        await sandbox.send(longest + b"x")
    with pytest.raises(InputError):
        await sandbox.send(b"two\nlines")


@pytest.mark.asyncio
async def test_what_was_said_before_an_exit_arrives(
    backend: DockerBackend, python_spec: SpecMaker, tier: SecurityTier
) -> None:
    """W1: a guest that ends while it writes loses no whole line; an unfinished one is not passed off as whole."""
    code = "import os\nfor n in range(20000): print(n)\nprint('cut', end='', flush=True)\nos._exit(3)"
    sandbox = await backend.start(python_spec(tier, code))
    lines = []
    while (line := await sandbox.receive()) is not None:
        lines.append(int(line))
    assert lines == list(range(20000))
    assert (await sandbox.wait()).code == 3
    with pytest.raises(SandboxError):
        await sandbox.send(b"too late")


@pytest.mark.asyncio
async def test_a_stop_lets_a_program_end_by_itself_and_removes_it(
    backend: DockerBackend, python_spec: SpecMaker, tier: SecurityTier, owner: Owner
) -> None:
    """D3: stdin closes, the program says goodbye, its own code is told; nothing is left, and stop may be repeated."""
    sandbox = await backend.start(python_spec(tier, ECHO + "\nprint('bye', flush=True)\nraise SystemExit(7)"))
    end = await sandbox.stop()
    assert (end.code, end.limit) == (7, None)
    assert await sandbox.receive() == b"bye"
    assert await sandbox.receive() is None
    assert await sandbox.stop(force=True) == end
    assert await containers(backend._engine, owner) == []


@pytest.mark.asyncio
async def test_a_line_sent_while_it_is_frozen_is_answered_afterwards(
    backend: DockerBackend, python_spec: SpecMaker, tier: SecurityTier
) -> None:
    """A frozen sandbox says nothing, its deadline stands still, and it goes on where it was."""
    sandbox = await backend.start(python_spec(tier, ECHO))
    await sandbox.send(b"one")
    assert await sandbox.receive() == b"one"
    sandbox.arm(FROZEN_S)
    await sandbox.pause()
    assert sandbox._deadline is not None
    assert sandbox._deadline._handle is None, "armed before: its time stands"
    sandbox.arm(0.1)  # now only, for an engine may take longer than that to freeze it
    await sandbox.send(b"two")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(sandbox.receive(), 0.3)  # longer than the deadline
    sandbox.arm(None)
    await sandbox.unpause()
    assert await asyncio.wait_for(sandbox.receive(), FROZEN_S) == b"two"


@pytest.mark.asyncio
async def test_a_frozen_sandbox_can_be_stopped(
    backend: DockerBackend, python_spec: SpecMaker, tier: SecurityTier, owner: Owner
) -> None:
    """The brakes work in every state."""
    sandbox = await backend.start(python_spec(tier, ECHO))
    await sandbox.pause()
    await asyncio.wait_for(sandbox.stop(force=True), 8)
    assert await containers(backend._engine, owner) == []


@pytest.mark.asyncio
async def test_a_halted_sandbox_computes_no_more_and_can_be_stopped(
    backend: DockerBackend, python_spec: SpecMaker, tier: SecurityTier, owner: Owner
) -> None:
    """Its processor time stands, whatever it was doing; and what halted it does not keep it from being killed."""
    sandbox = await backend.start(python_spec(tier, "print('here', flush=True)\nwhile True: pass"))
    assert await sandbox.receive() == b"here"
    await sandbox.halt()
    stood = sandbox.usage().cpu_time_us
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", "sum(range(10_000_000))"], check=True)
    assert sandbox.usage().cpu_time_us == stood
    await asyncio.wait_for(sandbox.stop(force=True), 8)
    assert await containers(backend._engine, owner) == []


@pytest.mark.asyncio
async def test_a_start_whose_caller_goes_away_leaves_nothing(
    backend: DockerBackend, python_spec: SpecMaker, tier: SecurityTier, owner: Owner
) -> None:
    """D1: cancelled at several moments of the start, no container remains."""
    await backend.open()
    for delay in (0.0, 0.02, 0.06, 0.12):
        starting = asyncio.ensure_future(backend.start(python_spec(tier, ECHO)))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(starting, delay)
    await backend.close()
    assert await containers(Engine(), owner) == []


@pytest.mark.asyncio
async def test_a_program_that_does_not_exist_is_an_exit_not_a_hang(
    backend: DockerBackend, python_spec: SpecMaker, tier: SecurityTier
) -> None:
    """Our first process says what failed, in one line, with the code that shells use."""
    spec = python_spec(tier, "")
    sandbox = await backend.start(type(spec)(**_fields(spec, argv=("/no/such/program",))))
    said = json.loads(await sandbox.receive() or b"{}")
    assert (said["type"], said["code"]) == ("failed", "exec.not_found")
    assert (await sandbox.wait()).code == 127


@pytest.mark.asyncio
async def test_every_difference_ends_the_start_before_the_program_began(
    backend: DockerBackend,
    python_spec: SpecMaker,
    tier: SecurityTier,
    owner: Owner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """V1, V2, D1: a Tier 1 kernel where Tier 2 was asked for (and the other way round) is refused and removed."""
    from symbi.sandbox import docker, request

    swapped = {SecurityTier.DOCKER: "runsc", SecurityTier.GVISOR: "runc"}
    need_both = {SecurityTier.DOCKER: "gvisor", SecurityTier.GVISOR: "docker"}[tier]
    await _need(need_both)
    monkeypatch.setattr(request, "RUNTIMES", swapped)
    code = "print('began', flush=True)\n" + ECHO
    with pytest.raises(SandboxEscapeError, match="kernel"):
        await backend.start(python_spec(tier, code))
    assert await containers(backend._engine, owner) == []
    assert docker.RUNTIMES is not swapped


async def _need(part: str) -> None:
    from conftest import need

    need(part)


@pytest.mark.docker
@pytest.mark.asyncio
async def test_a_daemon_that_applies_something_else_is_refused(
    backend: DockerBackend, python_spec: SpecMaker, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V1: the inspection is compared key by key; one limit that is not what was asked for is enough."""
    real = verify.check_inspection

    def compare(request: dict[str, object], found: dict[str, object]) -> list[str]:
        found = json.loads(json.dumps(found))
        found["HostConfig"]["Memory"] += 1  # type: ignore[index]
        return real(request, found)

    monkeypatch.setattr(verify, "check_inspection", compare)
    with pytest.raises(SandboxEscapeError, match="`Memory` is"):
        await backend.start(python_spec(SecurityTier.DOCKER, ECHO))
    assert await containers(backend._engine, owner) == []


@pytest.mark.docker
@pytest.mark.asyncio
async def test_an_image_with_another_layer_is_replaced_or_refused(
    owner: Owner, python_spec: SpecMaker
) -> None:
    """I2: a tag that names a foreign layer is imported anew; a daemon that insists is not believed."""
    engine = Engine()
    image = guest_image()
    fake = GuestImage(image.archive, "sha256:" + "0" * 64, image.tag)
    with pytest.raises(SandboxError, match="layers"):
        await engine.image_id(fake)
    engine.close()


@pytest.mark.docker
@pytest.mark.asyncio
async def test_a_runtime_that_is_not_registered_is_unavailable_with_its_remedy(
    backend: DockerBackend, python_spec: SpecMaker, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K2, O2: asked for Tier 2 and it is not here: refused, never weaker."""
    from symbi.sandbox import request

    monkeypatch.setattr(request, "RUNTIMES", {SecurityTier.GVISOR: "no-such-runtime"})
    with pytest.raises(SandboxUnavailableError, match="symbi doctor --fix"):
        await backend.start(python_spec(SecurityTier.GVISOR, ECHO))
    assert await containers(backend._engine, owner) == []


@pytest.mark.asyncio
async def test_no_daemon_is_unavailable_with_its_remedy(
    tmp_path: Path, owner: Owner, python_spec: SpecMaker
) -> None:
    """K2: the text names the socket and the command."""
    backend = DockerBackend(owner, engine=Engine(str(tmp_path / "none.sock")))
    with pytest.raises(SandboxUnavailableError, match=r"none\.sock.*doctor --fix"):
        await backend.start(python_spec(SecurityTier.DOCKER, ECHO))
    await backend.close()


def test_a_daemon_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """K3: mounts, limits and kernels are checked on this machine, so the daemon must be on it."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
    with pytest.raises(SandboxUnavailableError, match="DOCKER_HOST"):
        Engine()
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/another.sock")
    engine = Engine()
    assert engine.path == "/run/another.sock"
    engine.close()


@pytest.mark.asyncio
async def test_a_daemon_that_never_answers_does_not_hold_the_caller(tmp_path: Path) -> None:
    """K1: a socket that accepts and stays silent costs the deadline, not the loop."""
    path = str(tmp_path / "silent.sock")
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    engine = Engine(path)
    with pytest.raises((SandboxError, SandboxUnavailableError)):
        await asyncio.wait_for(engine.call("ping", lambda client: client.ping(), deadline_s=1), 4)
    engine.close()
    server.close()


@pytest.mark.docker
def test_it_works_the_same_on_uvloop(owner: Owner, python_spec: SpecMaker) -> None:
    """The pipe makes no use of what only asyncio's own loop has."""
    uvloop = pytest.importorskip("uvloop")

    async def talk() -> tuple[bytes | None, int]:
        backend = DockerBackend(owner)
        sandbox = await backend.start(python_spec(SecurityTier.DOCKER, ECHO))
        await sandbox.send(b"x" * LINE_BYTES_MAX)
        said = await sandbox.receive()
        end = await sandbox.stop()
        await backend.close()
        return said, end.code

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(talk()) == (b"x" * LINE_BYTES_MAX, 0)


class Once:
    """A permit of the shape the kernel gives: bytes, once."""

    def __init__(self, data: bytes) -> None:
        self.data: bytes | None = data

    def take(self) -> bytes:
        if self.data is None:
            raise PermitError("the permit was used")
        data, self.data = self.data, None
        return data


@pytest.mark.docker
@pytest.mark.asyncio
async def test_only_what_the_permit_says_is_started(owner: Owner, python_spec: SpecMaker) -> None:
    """O1: another spec, a second use: refused, and nothing starts."""
    orchestrator = Orchestrator(owner)
    spec = python_spec(SecurityTier.DOCKER, ECHO)
    other = python_spec(SecurityTier.DOCKER, "print('other')")
    permit = Once(spec_to_bytes(spec))
    sandbox = await orchestrator.start(permit, spec)
    assert sandbox.spec == spec
    with pytest.raises(PermitError):
        await orchestrator.start(permit, spec)
    with pytest.raises(PermitError, match="another"):
        await orchestrator.start(Once(spec_to_bytes(other)), spec)
    await orchestrator.close()
    assert await containers(Engine(), owner) == []


@pytest.mark.asyncio
async def test_the_degraded_tier_is_refused_in_production(owner: Owner, python_spec: SpecMaker) -> None:
    """O3."""
    spec = python_spec(SecurityTier.DEGRADED, ECHO)
    with pytest.raises(SandboxUnavailableError, match="development"):
        await Orchestrator(owner).start(Once(spec_to_bytes(spec)), spec)


@pytest.mark.docker
@pytest.mark.gvisor
@pytest.mark.asyncio
async def test_the_check_of_the_tiers_tries_them() -> None:
    """What `doctor` prints: a started, verified, ended sandbox a tier, or what mends it."""
    for found in await check_tiers([SecurityTier.DOCKER, SecurityTier.GVISOR]):
        assert found.works, found.detail
        assert found.kernel in found.detail


@pytest.mark.asyncio
async def test_what_cannot_be_applied_is_refused_by_name(owner: Owner, python_spec: SpecMaker) -> None:
    """R2: before anything is made."""
    from symbi.sandbox.request import create_request

    for name in ("network_io_mbps", "connections"):
        spec = python_spec(SecurityTier.DOCKER, ECHO, limits=ResourceLimits(**{name: 5}))
        with pytest.raises(SandboxError, match=name):
            create_request(spec, "sha256:0", owner)
    spec = python_spec(
        SecurityTier.DOCKER,
        ECHO,
        mounts=(Mount("/proc/self", "/inside"),),
        limits=ResourceLimits(disk_io_mbps=5),
    )
    with pytest.raises(SandboxError, match=r"disk_io_mbps.*not on a disk"):
        create_request(spec, "sha256:0", owner)


def _fields(spec: SandboxSpec, **changed: object) -> dict[str, object]:
    from dataclasses import fields

    return {field.name: getattr(spec, field.name) for field in fields(spec)} | changed


@pytest.mark.docker
@pytest.mark.asyncio
async def test_an_image_that_was_pruned_is_imported_again(
    backend: DockerBackend, python_spec: SpecMaker
) -> None:
    """A housekeeper on a shared daemon is no outage."""
    await backend.open()
    reference = guest_image().reference
    await backend._engine.call("remove image", lambda client: client.remove_image(reference, force=True))
    sandbox = await backend.start(python_spec(SecurityTier.DOCKER, ECHO))
    assert sandbox.facts.image == guest_image().layer_digest
