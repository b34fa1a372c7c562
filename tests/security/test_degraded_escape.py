"""A hostile Python in the degraded tier: what it tries must fail, and what honest code needs must work.

Each attempt runs in its own sandbox with its own line back, so that one that got through cannot hide another.
The ids are those of the confiner's invariants (`rust/symbi-guest/src/confine`).
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from symbi.errors import SandboxError, SandboxLimitError
from symbi.limits import ResourceLimits
from symbi.sandbox.base import GUEST_PATH, Mount, SandboxSpec, SecurityTier
from symbi.sandbox.degraded import DegradedBackend
from symbi.sandbox.interpreter import interpreter_mounts, project_masks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from symbi.sandbox.degraded import DegradedSandbox

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Landlock is Linux")

PRELUDE = """
import ctypes, errno, json, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    got = libc.syscall(number, *arguments)
    if got < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return got
def attempt():
{body}
try:
    answer = ["done", attempt()]
except OSError as error:
    answer = ["refused", errno.errorcode.get(error.errno, str(error.errno))]
except BaseException as error:
    answer = ["broke", type(error).__name__ + ": " + str(error)]
print(json.dumps(answer), flush=True)
"""

X86 = platform.machine() == "x86_64"
NUMBERS = {  # system calls without a Python function: x86-64, aarch64
    "io_uring_setup": 425,
    "clone3": 435,
    "ptrace": 101 if X86 else 117,
    "memfd_create": 319 if X86 else 279,
    "process_vm_readv": 310 if X86 else 270,
    "pidfd_open": 434,
    "unshare": 272 if X86 else 97,
    "mount": 165 if X86 else 40,
    "keyctl": 250 if X86 else 219,
    "bpf": 321 if X86 else 280,
    "userfaultfd": 323 if X86 else 282,
    "perf_event_open": 298 if X86 else 241,
    "shmget": 29 if X86 else 194,
    "prlimit64": 302 if X86 else 261,
    "execveat": 322 if X86 else 281,
}


def mounts() -> tuple[Mount, ...]:
    """The host's interpreter."""
    return tuple(Mount(str(path.resolve()), str(path)) for path in interpreter_mounts())


def spec(body: str, **changes: Any) -> SandboxSpec:
    """A Python that runs `body`, a function's body, and prints what came of it."""
    lines = "\n".join("    " + line for line in body.strip().splitlines())
    argv = (sys.executable, "-I", "-c", PRELUDE.format(body=lines))
    defaults: dict[str, Any] = {
        "tier": SecurityTier.DEGRADED,
        "argv": argv,
        "agent": "hostile",
        "instance": "test",
        "mounts": (*mounts(), *changes.pop("more_mounts", ())),
        "environment": (("TMPDIR", "/tmp"), ("HOME", "/work")),
    }
    return SandboxSpec(**{**defaults, **changes})


@pytest_asyncio.fixture
async def backend() -> AsyncIterator[DegradedBackend]:
    """A backend whose sandboxes all end with the test."""
    made = DegradedBackend()
    yield made
    await made.close()


@asynccontextmanager
async def running(backend: DegradedBackend, asked: SandboxSpec) -> AsyncIterator[DegradedSandbox]:
    """A sandbox that ends with the block."""
    sandbox = await backend.start(asked)
    try:
        yield sandbox
    finally:
        await sandbox.stop(force=True)


# ruff: noqa: ASYNC240 - tests may look at files


async def outcome(backend: DegradedBackend, body: str, **changes: Any) -> list[Any]:
    """What came of `body` inside."""
    async with running(backend, spec(body, **changes)) as sandbox, asyncio.timeout(20):
        line = await sandbox.receive()
        assert line is not None, sandbox.stderr_tail().decode()
        answer = json.loads(line)
        assert isinstance(answer, list)
        return answer


async def drained(sandbox: DegradedSandbox) -> None:
    """Receive until the end."""
    while await sandbox.receive() is not None:
        pass


def number(name: str) -> int:
    """The system call's number here."""
    return NUMBERS[name]


REFUSED = {
    # N4 sockets
    "n4_unix_socket": "import socket; socket.socket(socket.AF_UNIX).connect('/var/run/docker.sock')",
    "n4_inet_socket": "import socket; socket.socket(socket.AF_INET)",
    "n4_netlink_socket": "import socket; socket.socket(16, 3)",
    "n4_vsock": "import socket; socket.socket(40, 1)",
    "n4_socketpair": "import socket; socket.socketpair()",
    "n4_io_uring": f"return call({number('io_uring_setup')}, 8, ctypes.create_string_buffer(256))",
    # N2 other programs
    "n2_fork": "return os.fork()",
    "n2_subprocess": "import subprocess; return subprocess.run([sys.executable, '-c', '0']).returncode",
    "n2_posix_spawn": "return os.posix_spawn(sys.executable, [sys.executable, '-c', '0'], {})",
    "n2_exec_again": "os.execv(sys.executable, [sys.executable, '-c', 'print(1)'])",
    "n2_exec_by_descriptor": f"""
fd = os.open(os.path.realpath(sys.executable), os.O_RDONLY)
arguments = (ctypes.c_char_p * 2)(b'python', None)
return call({number("execveat")}, fd, b'', arguments, arguments, 0x1000)""",
    "n2_exec_at_the_old_descriptor": f"""
fd = os.open(os.path.realpath(sys.executable), os.O_RDONLY)
os.dup2(fd, 1023)
return call({number("execveat")}, 1023, b'', (ctypes.c_char_p * 1)(None), None, 0x1000)""",
    "n2_memfd_and_exec": f"""
fd = call({number("memfd_create")}, b'x', 0)
os.write(fd, open(os.path.realpath(sys.executable), 'rb').read())
os.execve(fd, ['x'], {{}})""",
    # N4 other processes
    "n4_kill_parent": "os.kill(os.getppid(), signal.SIGKILL)",
    "n4_kill_everything": "os.kill(-1, signal.SIGTERM)",
    "n4_signal_by_descriptor_owner": """
import fcntl
r, w = os.pipe()
fcntl.fcntl(r, fcntl.F_SETOWN, os.getppid())""",
    "n4_ptrace_parent": f"return call({number('ptrace')}, 16, os.getppid(), 0, 0)",
    "n4_read_parent_memory": f"return call({number('process_vm_readv')}, os.getppid(), 0, 0, 0, 0, 0)",
    "n4_pidfd": f"return call({number('pidfd_open')}, os.getppid(), 0)",
    "n4_prlimit_parent": "import resource; return resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
    "n4_prlimit_self": f"return call({number('prlimit64')}, 0, 9, ctypes.create_string_buffer(16), None)",
    "n4_renice_parent": "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
    "n4_affinity": "os.sched_setaffinity(0, range(os.cpu_count()))",
    "n4_death_signal": "libc.prctl.restype = int\nif libc.prctl(1, 0) < 0: raise OSError(ctypes.get_errno(), '')",
    # N3 files
    "n3_shadow": "return open('/etc/shadow').read()",
    "n3_passwd": "return open('/etc/passwd').read()",
    "n3_home": f"return os.listdir({str(Path.home())!r})",
    "n3_environment_of_parent": "return open(f'/proc/{os.getppid()}/environ').read()",
    "n3_chmod_outside": "os.chmod('/etc', 0o777)",
    "n3_chmod_inside": "open(os.environ['TMPDIR'] + '/x', 'w'); os.chmod(os.environ['TMPDIR'] + '/x', 0o4755)",
    "n3_utime_outside": "os.utime('/etc')",
    "n3_truncate_outside": "os.truncate('/etc/hosts', 0)",
    "n3_truncate_by_open": "os.open(os.path.realpath(sys.executable), os.O_RDONLY | os.O_TRUNC)",
    "n3_write_outside": "open('/var/tmp/symbi-escaped', 'w')",
    "n3_write_interpreter": "open(os.__file__, 'a')",
    "n3_link_out_of_the_view": "os.symlink('/etc/hosts', 's'); return open('s').read()",
    "n3_rename_out": "open('x', 'w').close(); os.rename('x', '/var/tmp/symbi-escaped')",
    "n3_device": "os.mknod('d', 0o20666, os.makedev(1, 1))",
    # the kernel's other doors
    "n4_unshare": f"return call({number('unshare')}, 0x10000000)",
    "n4_mount": f"return call({number('mount')}, b'none', b'/tmp', b'tmpfs', 0, None)",
    "n4_bpf": f"return call({number('bpf')}, 0, None, 0)",
    "n4_keyring": f"return call({number('keyctl')}, 0, -3, 0)",
    "n4_userfaultfd": f"return call({number('userfaultfd')}, 0)",
    "n4_perf": f"return call({number('perf_event_open')}, None, 0, -1, -1, 0)",
    "n4_shared_memory": f"return call({number('shmget')}, 0, 4096, 0o1600)",
    "n4_terminal_injection": "import fcntl; fcntl.ioctl(0, 0x5412, b'x')",
}


@pytest.mark.asyncio
@pytest.mark.parametrize("name", REFUSED)
async def test_what_would_break_out_is_refused(backend: DegradedBackend, name: str) -> None:
    """Guards against a call that the filter or the view forgot; `done` would be an escape."""
    answer = await outcome(backend, REFUSED[name])
    assert answer[0] == "refused", answer
    assert answer[1] in ("EPERM", "EACCES", "EBADF", "EXDEV", "EROFS"), answer
    assert not Path("/var/tmp/symbi-escaped").exists()


@pytest.mark.asyncio
async def test_clone3_does_not_exist_so_that_threads_fall_back(backend: DegradedBackend) -> None:
    """N2: its flags lie in memory, where a filter cannot look."""
    assert await outcome(backend, f"return call({number('clone3')}, None, 0)") == ["refused", "ENOSYS"]


@pytest.mark.asyncio
@pytest.mark.skipif(not X86, reason="x32 is a second set of numbers of x86-64 only")
async def test_x32_numbers_do_not_exist(backend: DegradedBackend) -> None:
    """N2: fork by its x32 number would pass a filter that knows only one set."""
    assert await outcome(backend, "return call(0x40000000 + 57)") == ["refused", "ENOSYS"]


@pytest.mark.asyncio
async def test_a_stand_in_of_the_control_socket_cannot_be_reached(
    backend: DegradedBackend, tmp_path: Path
) -> None:
    """N4: even inside a mounted directory, and even when it listens."""
    path = tmp_path / "control.sock"
    listener = socket.socket(socket.AF_UNIX)
    with listener:
        listener.bind(str(path))
        listener.listen()
        body = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r})"
        shown = Mount(str(tmp_path), str(tmp_path))
        assert (await outcome(backend, body, more_mounts=(shown,)))[0] == "refused"


WORKS = {
    "json": "return json.loads('[1]')",
    "sqlite3": """
import sqlite3
base = sqlite3.connect(os.environ['TMPDIR'] + '/a.db')
base.execute('pragma journal_mode=wal')
base.execute('create table t (x)')
base.execute('insert into t values (1)')
base.commit()
return base.execute('select count(*) from t').fetchall()""",
    "ssl": "import ssl; return 0 < len(ssl.create_default_context().get_ca_certs())",
    "hashlib": "import hashlib, secrets; return len(hashlib.sha256(secrets.token_bytes(9)).hexdigest())",
    "threads": """
import threading
found = []
threads = [threading.Thread(target=found.append, args=(n,)) for n in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
return sorted(found)""",
    "tempfile": "import tempfile; f = tempfile.TemporaryFile(); f.write(b'x' * 70000); return f.tell()",
    "files": "os.makedirs('a/b'); open('a/b/c', 'w').write('x'); os.rename('a/b/c', 'a/d'); return os.listdir('a')",
    "zoneinfo": "import zoneinfo; return str(zoneinfo.ZoneInfo('Europe/Berlin'))",
    "own_signal": "signal.signal(signal.SIGUSR1, lambda *_: None); os.kill(os.getpid(), signal.SIGUSR1)",
    "working_directory": "return os.getcwd() == os.environ['HOME']",
}


@pytest.mark.asyncio
@pytest.mark.parametrize("name", WORKS)
async def test_what_honest_code_needs_works(backend: DegradedBackend, name: str) -> None:
    """Guards against a filter so tight that nobody would use it."""
    answer = await outcome(backend, WORKS[name])
    assert answer[0] == "done", answer
    assert answer[1] is not False


@pytest.mark.asyncio
async def test_numpy_works_within_the_default_memory(backend: DegradedBackend) -> None:
    """Its native modules and their threads need no more than the view and 256 MiB of address space."""
    pytest.importorskip("numpy")
    answer = await outcome(
        backend, "import numpy; return float(numpy.ones((50, 50)).dot(numpy.ones(50)).sum())"
    )
    assert answer == ["done", 2500.0]


@pytest.mark.asyncio
async def test_the_pipe_loop_runs_asyncio_where_there_are_no_sockets(backend: DegradedBackend) -> None:
    """Threads wake the loop; timers and subtasks run. Guards against the hang of a loop without its self-pipe."""
    body = """
import asyncio
from symbi.agents.worker_loop import new_event_loop
async def main():
    loop = asyncio.get_running_loop()
    answer = await asyncio.gather(asyncio.to_thread(lambda: 1), asyncio.sleep(0.001, 2))
    loop.call_soon_threadsafe(lambda: None)
    return answer
with asyncio.Runner(loop_factory=new_event_loop) as runner:
    return runner.run(main())"""
    assert await outcome(backend, body) == ["done", [1, 2]]


@pytest.mark.asyncio
async def test_memory_is_bounded(backend: DegradedBackend) -> None:
    """The limit is the address space, so that it cannot be passed by any mapping."""
    limits = ResourceLimits(memory_mb=128)
    assert (await outcome(backend, "return len(bytearray(200 << 20))", limits=limits))[1].startswith(
        "MemoryError"
    )
    shared = "import mmap; return len(mmap.mmap(-1, 200 << 20))"
    assert await outcome(backend, shared, limits=limits) == ["refused", "ENOMEM"]


@pytest.mark.asyncio
async def test_open_files_are_bounded_below_the_descriptor_of_the_program(backend: DegradedBackend) -> None:
    """N2: the number through which the program was started can never be had again."""
    body = """
held = []
try:
    while True: held.append(os.dup(0))
except OSError:
    return max(held)"""
    answer = await outcome(backend, body, nofile_max=64)
    assert answer[0] == "done"
    assert answer[1] < 64


@pytest.mark.asyncio
async def test_only_the_three_pipes_are_open(backend: DegradedBackend) -> None:
    """N1: a descriptor that leaked in would be a way around every rule on paths."""
    body = """
def is_open(fd):
    try: os.fstat(fd)
    except OSError: return False
    return True
return [fd for fd in range(2048) if is_open(fd)]"""
    keep = os.open("/", os.O_RDONLY)
    try:
        os.set_inheritable(keep, True)
        assert await outcome(backend, body) == ["done", [0, 1, 2]]
    finally:
        os.close(keep)


@pytest.mark.asyncio
async def test_the_environment_is_only_what_was_asked_for(
    backend: DegradedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys of the host stand in its variables."""
    monkeypatch.setenv("SYMBI_TEST_SECRET", "x")
    answer = await outcome(backend, "return sorted(set(os.environ) - {'LC_CTYPE'})")
    assert answer == ["done", ["HOME", "MALLOC_ARENA_MAX", "TMPDIR"]]


@pytest.mark.asyncio
async def test_masked_names_of_a_project_stay_closed(backend: DegradedBackend, tmp_path: Path) -> None:
    """N3: `.symbi`, `.git` and `.env*` at any depth, while everything beside them can be read."""
    project = tmp_path / "project"
    for name in ("a.py", ".git/config", "sub/.env.local", "sub/b.py", ".symbi/key"):
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret")
    shown = (Mount(str(project), str(project)), *project_masks(project))
    body = f"""
answer = {{}}
for name in ("a.py", ".git/config", "sub/.env.local", "sub/b.py", ".symbi/key"):
    try: answer[name] = open({str(project)!r} + "/" + name).read()
    except OSError as error: answer[name] = error.errno
return answer"""
    answer = await outcome(backend, body, more_mounts=shown)
    closed = 13
    assert answer[1] == {
        "a.py": "secret",
        ".git/config": closed,
        "sub/.env.local": closed,
        "sub/b.py": "secret",
        ".symbi/key": closed,
    }


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (ResourceLimits(disk_io_mbps=10), "disk_io_mbps"),
        (ResourceLimits(network_io_mbps=1), "network_io_mbps"),
        (ResourceLimits(connections=1), "connections"),
        (ResourceLimits(cpu_cores=0.5), "cpu_cores"),
    ],
)
async def test_a_limit_that_cannot_be_held_is_refused_by_its_name(
    backend: DegradedBackend, limits: ResourceLimits, name: str
) -> None:
    """DG1: never ignored."""
    with pytest.raises(SandboxError, match=f"`{name}`"):
        await backend.start(spec("return 1", limits=limits))


@pytest.mark.asyncio
async def test_a_mount_at_another_path_is_refused(backend: DegradedBackend, tmp_path: Path) -> None:
    """DG1: this tier cannot show a file where it is not."""
    with pytest.raises(SandboxError, match="own path"):
        await backend.start(spec("return 1", more_mounts=(Mount(str(tmp_path), "/data"),)))


@pytest.mark.asyncio
async def test_a_protected_path_is_never_shown(tmp_path: Path) -> None:
    """The data directory holds the trail, its key and the control socket. That `/tmp` is a memory directory inside does not
    cover what is shown below it: once it was taken to."""
    backend = DegradedBackend(protected=(str(tmp_path / ".symbi"),))
    try:
        with pytest.raises(SandboxError, match="would show"):
            await backend.start(spec("return 1", more_mounts=(Mount(str(tmp_path), str(tmp_path)),)))
    finally:
        await backend.close()


@pytest.mark.asyncio
async def test_an_endless_program_is_killed_at_its_time(backend: DegradedBackend) -> None:
    """And says which limit it was."""
    asked = spec("while True: pass", limits=ResourceLimits(execution_timeout_s=0.3))
    async with running(backend, asked) as sandbox, asyncio.timeout(20):
        with pytest.raises(SandboxLimitError) as caught:
            await sandbox.receive()
    assert caught.value.limit == "execution_timeout_ms"


@pytest.mark.asyncio
@pytest.mark.parametrize("body", ["while True: print('x' * 1000)", "sys.stdout.write('x' * (3 << 20))"])
async def test_a_flood_is_ended(backend: DegradedBackend, body: str) -> None:
    """By the whole or by one line that is too long."""
    async with running(backend, spec(body, output_bytes_max=2 << 20)) as sandbox, asyncio.timeout(20):
        with pytest.raises(SandboxLimitError) as caught:
            await drained(sandbox)
    assert caught.value.limit == "output_bytes"


@pytest.mark.asyncio
async def test_a_stopped_sandbox_leaves_no_process_and_no_directory(backend: DegradedBackend) -> None:
    """DG2."""
    asked = spec("import time; open('x', 'w'); print(os.getcwd(), flush=True); time.sleep(60)")
    sandbox = await backend.start(asked)
    async with asyncio.timeout(20):
        place = await sandbox.receive()
    assert place is not None
    pid = int(sandbox.facts.container)
    await sandbox.stop(force=True)
    assert not Path(place.decode()).exists()
    assert not Path(f"/proc/{pid}").exists()
    assert (await sandbox.stop()).code == 128 + 9


@pytest.mark.asyncio
async def test_a_paused_program_does_not_run_and_goes_on_afterwards(backend: DegradedBackend) -> None:
    """A line sent meanwhile is read afterwards."""
    body = "print(json.dumps(1), flush=True)\nreturn sys.stdin.readline()"
    async with running(backend, spec(body)) as sandbox, asyncio.timeout(20):
        assert await sandbox.receive() == b"1"
        await sandbox.pause()
        await sandbox.send(b"hello")
        status = Path(f"/proc/{sandbox.facts.container}/stat").read_text().rsplit(")", 1)[1].split()
        assert status[0] == "T"
        await sandbox.unpause()
        assert json.loads(await sandbox.receive() or b"") == ["done", "hello\n"]


@pytest.mark.asyncio
async def test_facts_say_what_was_verified_and_what_is_not_held(backend: DegradedBackend) -> None:
    """X4: from the host's own reading; our probe inside reached no socket."""
    asked = SandboxSpec(
        tier=SecurityTier.DEGRADED, argv=(GUEST_PATH, "probe"), agent="probe", instance="test"
    )
    async with running(backend, asked) as sandbox, asyncio.timeout(20):
        facts = sandbox.facts
        assert json.loads(await sandbox.receive() or b"")["type"] == "probe"
    assert (facts.tier, facts.runtime) == (SecurityTier.DEGRADED, "degraded")
    assert facts.limits["memory_bytes"] == 256 << 20
    assert facts.probe["landlock_abi"] >= 1
    assert facts.probe["seccomp_mode"] in (2, None)
    assert not any(place["reachable"] for place in facts.probe["connects"])
    assert any("kernel" in text for text in facts.unenforced)


@pytest.mark.asyncio
@pytest.mark.skipif(os.geteuid() != 0, reason="only a root can become nobody")
async def test_a_root_becomes_nobody_where_the_program_stays_open(backend: DegradedBackend) -> None:
    """Our own program needs no file, so nothing keeps it root."""
    asked = SandboxSpec(
        tier=SecurityTier.DEGRADED, argv=(GUEST_PATH, "probe"), agent="probe", instance="test"
    )
    async with running(backend, asked) as sandbox, asyncio.timeout(20):
        assert json.loads(await sandbox.receive() or b"")["uid"] == 65534
        assert "root without" not in " ".join(sandbox.facts.unenforced)


@pytest.mark.asyncio
@pytest.mark.skipif(os.geteuid() != 0, reason="only a root can stay one")
async def test_a_root_that_must_stay_has_no_capability_and_it_is_said(
    backend: DegradedBackend, tmp_path: Path
) -> None:
    """A Python under a closed home can be run by its owner alone."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    shown = Mount(str(closed), str(closed))
    body = "return [os.getuid(), open('/proc/self/status').read()]"
    async with running(backend, spec(body, more_mounts=(shown,))) as sandbox:
        status = Path(f"/proc/{sandbox.facts.container}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        assert "CapBnd:\t0000000000000000" in status
        assert any("root without capabilities" in text for text in sandbox.facts.unenforced)
