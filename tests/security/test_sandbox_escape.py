"""Attempts to get out, in both tiers with one body and a table of what each must answer.

Each probe runs in its own forked child: one that "succeeds" inside (a chroot in gVisor's own kernel) must not change
what the next one sees. Where gVisor answers `ok`, it does so inside its own kernel and the host is not reached: the
table says so, and `test_the_hosts_kernel_was_not_touched` looks from outside.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from symbi.errors import SandboxError
from symbi.sandbox.base import NOBODY, Mount, SecurityTier, Tmpfs
from symbi.sandbox.request import refuse_exposed

if TYPE_CHECKING:
    from collections.abc import Callable

    from symbi.sandbox.base import SandboxSpec
    from symbi.sandbox.docker import DockerBackend

    SpecMaker = Callable[..., SandboxSpec]

DOCKER, GVISOR = SecurityTier.DOCKER, SecurityTier.GVISOR

# Runs each probe of `PROBES` (name -> expression that raises when refused) in a child; prints {name: answer}.
BATTERY = r"""
import ctypes, errno, json, os, signal, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
machine = os.uname().machine
NUMBERS = {
  'x86_64': dict(mount=165, umount2=166, pivot_root=155, chroot=161, setns=308, unshare=272, bpf=321, perf_event_open=298,
    userfaultfd=323, init_module=175, kexec_load=246, reboot=169, swapon=167, settimeofday=164, sethostname=170,
    open_by_handle_at=304, acct=163, ptrace=101, process_vm_readv=310, keyctl=250, add_key=248, io_uring_setup=425,
    mknod=133, quotactl=179, iopl=172, fsopen=430, move_mount=429, syslog=103, personality=135, kcmp=312),
  'aarch64': dict(mount=40, umount2=39, pivot_root=41, chroot=51, setns=268, unshare=97, bpf=280, perf_event_open=241,
    userfaultfd=282, init_module=105, kexec_load=104, reboot=142, swapon=224, settimeofday=170, sethostname=161,
    open_by_handle_at=265, acct=89, ptrace=117, process_vm_readv=270, keyctl=219, add_key=217, io_uring_setup=425,
    quotactl=60, fsopen=430, move_mount=429, syslog=116, personality=92, kcmp=272),
}[machine]
def call(name, *arguments):
    number = NUMBERS.get(name)
    if number is None: raise OSError(errno.ENOSYS, 'not here')
    if libc.syscall(number, *arguments) == -1: raise OSError(ctypes.get_errno(), name)
def opened(path, mode='rb'):
    with open(path, mode) as f: return f.read(1) if 'r' in mode else f.write(b'1')
def connected(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(2); s.connect(address)
def made(*kind): socket.socket(*kind).close()
def child(probe):
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(r)
        signal.alarm(5)
        try:
            eval(probe); answer = 'ok'
        except OSError as e: answer = errno.errorcode.get(e.errno or 0, type(e).__name__)
        except BaseException as e: answer = type(e).__name__
        os.write(w, answer.encode()); os._exit(0)
    os.close(w)
    answer = os.read(r, 100).decode() or 'died'
    os.close(r); os.waitpid(pid, 0)
    return answer
print(json.dumps({name: child(probe) for name, probe in json.loads(sys.argv[1]).items()}))
"""

NO = "refused"  # any error but `ok`
OK = "ok"
SAME = {DOCKER: NO, GVISOR: NO}
INSIDE = {DOCKER: NO, GVISOR: OK}  # gVisor allows it within its own kernel

PROBES: dict[str, tuple[str, dict[SecurityTier, str]]] = {
    "mount": ("call('mount', b'none', b'/work', b'tmpfs', 0, 0)", SAME),
    "umount": ("call('umount2', b'/proc', 0)", SAME),
    "pivot_root": ("call('pivot_root', b'/work', b'/work')", SAME),
    "chroot": ("call('chroot', b'/work')", SAME),
    "setns": ("call('setns', os.open('/proc/1/ns/net', 0), 0)", SAME),
    "unshare user": ("call('unshare', 0x10000000)", INSIDE),
    "unshare mount": ("call('unshare', 0x20000)", SAME),
    "bpf": ("call('bpf', 5, ctypes.create_string_buffer(128), 128)", SAME),
    "perf": ("call('perf_event_open', ctypes.create_string_buffer(128), 0, -1, -1, 0)", SAME),
    "userfaultfd": ("call('userfaultfd', 0)", SAME),
    "init_module": ("call('init_module', b'', 0, b'')", SAME),
    "kexec": ("call('kexec_load', 0, 0, 0, 0)", SAME),
    "reboot": ("call('reboot', 0xfee1dead, 672274793, 0x89abcdef, 0)", SAME),
    "swapon": ("call('swapon', b'/work/x', 0)", SAME),
    "settimeofday": ("call('settimeofday', ctypes.create_string_buffer(16), None)", SAME),
    "sethostname": ("call('sethostname', b'x', 1)", SAME),
    "open_by_handle": ("call('open_by_handle_at', 0, ctypes.create_string_buffer(64), 0)", SAME),
    "acct": ("call('acct', b'/work/x')", SAME),
    "keyctl": ("call('keyctl', 0, -3, 0)", INSIDE),
    "add_key": ("call('add_key', b'user', b'x', b'y', 1, -3)", SAME),
    "io_uring": ("call('io_uring_setup', 8, ctypes.create_string_buffer(120))", SAME),
    "quotactl": ("call('quotactl', 0x80000100, b'/dev/vda', 0, 0)", SAME),
    "fsopen": ("call('fsopen', b'tmpfs', 0)", SAME),
    "kcmp": ("call('kcmp', 1, os.getpid(), 0, 0, 0)", SAME),
    "ptrace the first process": ("call('ptrace', 16, 1, 0, 0)", SAME),
    "become root": ("os.setuid(0)", SAME),
    "device node": ("os.mknod('/work/dev', 0o20666, os.makedev(1, 1))", INSIDE),
    "core_pattern": ("opened('/proc/sys/kernel/core_pattern', 'wb')", SAME),
    "sysrq": ("opened('/proc/sysrq-trigger', 'wb')", SAME),
    "kcore": ("opened('/proc/kcore')[0]", SAME),
    "memory device": ("opened('/dev/mem')", SAME),
    "kernel log device": ("opened('/dev/kmsg')", SAME),
    "control groups": ("opened('/sys/fs/cgroup/memory/memory.limit_in_bytes', 'wb')", SAME),
    "write to the root": ("opened('/written', 'wb')", SAME),
    "write to the interpreter": ("opened(os.__file__, 'ab')", SAME),
    "write to our first process": ("opened('/symbi-guest', 'ab')", SAME),
    "the host's users": ("opened('/etc/shadow')", SAME),
    "the host's environment": ("opened('/proc/1/environ')[0] if len(os.environ) > 8 else 1/0", SAME),
    "AF_VSOCK": ("made(40, 1, 0)", SAME),
    "AF_PACKET": ("made(17, 3, 0)", SAME),
    "AF_ALG": ("made(38, 5, 0)", SAME),
    "AF_XDP": ("made(44, 3, 0)", SAME),
    "raw socket": ("made(2, 3, 1)", SAME),
    "a host by address": ("connected(socket.AF_INET, ('1.1.1.1', 443))", SAME),
    "the bridge's gateway": ("connected(socket.AF_INET, ('172.17.0.1', 22))", SAME),
    "the metadata service": ("connected(socket.AF_INET, ('169.254.169.254', 80))", SAME),
    "a host by name": ("socket.getaddrinfo('localhost.localdomain.example', 80)", SAME),
    "docker's socket": ("connected(socket.AF_UNIX, '/var/run/docker.sock')", SAME),
    "docker's socket in /run": ("connected(socket.AF_UNIX, '/run/docker.sock')", SAME),
    "the control socket": ("connected(socket.AF_UNIX, sys.argv[2])", SAME),
    "an abstract socket": ("connected(socket.AF_UNIX, '\\0' + sys.argv[3])", SAME),
    "a port of the host": ("connected(socket.AF_INET, ('127.0.0.1', int(sys.argv[4])))", SAME),
}

AS_ROOT = {  # what the number alone opens: itself, and in Tier 2 the control groups of gVisor's own kernel
    "become root": {DOCKER: OK, GVISOR: OK},
    "control groups": INSIDE,
}


@pytest.mark.parametrize("user", [NOBODY, 0], ids=["nobody", "root"])
@pytest.mark.asyncio
async def test_no_way_out(
    backend: DockerBackend, python_spec: SpecMaker, tier: SecurityTier, data_directory: Path, user: int
) -> None:
    """Every probe answers what the table says for this tier; sockets of the host that really listen included.

    As root inside too: without a capability, the number 0 must open nothing.
    """
    control = str(data_directory / "control.sock")
    name = f"symbi-test-{os.getpid()}"
    listeners = [socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX), socket.socket()]
    for listener, address in zip(listeners, (control, f"\0{name}", ("127.0.0.1", 0)), strict=True):
        listener.bind(address)
        listener.listen()
    port = listeners[2].getsockname()[1]
    probes = json.dumps({name: code for name, (code, _) in PROBES.items()})
    sandbox = await backend.start(python_spec(tier, BATTERY, probes, control, name, str(port), user=user))
    async with asyncio.timeout(60):
        answers = json.loads(await sandbox.receive() or b"{}")
    for listener in listeners:
        listener.close()
    expected = {name: wanted[tier] for name, (_, wanted) in PROBES.items()}
    if user == 0:
        expected |= {name: wanted[tier] for name, wanted in AS_ROOT.items()}
    found = {name: (OK if answer == "ok" else NO) for name, answer in answers.items()}
    wrong = {name: answers.get(name) for name in expected if found.get(name) != expected[name]}
    assert wrong == {}


@pytest.mark.docker
def test_the_probes_would_succeed_outside(tmp_path: Path) -> None:
    """The battery is not a row of broken probes: where nothing holds it, its sockets connect and its files open."""
    import subprocess
    import sys

    path = str(tmp_path / "control.sock")
    listeners = [socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX), socket.socket()]
    for listener, address in zip(listeners, (path, "\0symbi-outside", ("127.0.0.1", 0)), strict=True):
        listener.bind(address)
        listener.listen()
    names = ("docker's socket", "the control socket", "an abstract socket", "a port of the host")
    probes = json.dumps({name: PROBES[name][0] for name in names})
    port = str(listeners[2].getsockname()[1])
    done = subprocess.run(
        [sys.executable, "-I", "-c", BATTERY, probes, path, "symbi-outside", port],
        capture_output=True,
        check=True,
        timeout=30,
    )
    for listener in listeners:
        listener.close()
    assert set(json.loads(done.stdout).values()) == {"ok"}


@pytest.mark.asyncio
async def test_a_sandbox_sees_only_what_was_mounted(
    backend: DockerBackend, python_spec: SpecMaker, tier: SecurityTier, tmp_path: Path
) -> None:
    """A read-only view is readable and not writable; a masked part of it is empty."""
    project = tmp_path / "project"
    (project / ".symbi").mkdir(parents=True)
    (project / ".symbi" / "secret").write_text("key")
    (project / "notes.txt").write_text("seen")
    project.chmod(0o755)
    code = (
        "import json, os\n"
        "def writable():\n"
        "    try: open('/data/new', 'w').close(); return True\n"
        "    except OSError: return False\n"
        "print(json.dumps([open('/data/notes.txt').read(), os.listdir('/data/.symbi') if os.access('/data/.symbi', 4)"
        " else [], writable(), sorted(os.listdir('/'))]))"
    )
    spec = python_spec(
        tier,
        code,
        mounts=(Mount(str(project), "/data"),),
        tmpfs=(Tmpfs("/work", 1), Tmpfs("/data/.symbi", 1)),
    )
    sandbox = await backend.start(spec)
    seen, masked, writable, root = json.loads(await sandbox.receive() or b"null")
    assert (seen, masked, writable) == ("seen", [], False)
    assert not {"home", "var", "boot", "mnt", "opt", "symbi", "data2"} & set(root)
    assert not (project / "new").exists()


def test_a_mount_that_would_show_a_protected_path_is_refused(
    python_spec: SpecMaker, data_directory: Path
) -> None:
    """Docker's socket and the data directory: by themselves, from above, from below, through a link; masked is fine."""
    control = data_directory / "control.sock"
    control.touch()
    link = data_directory.parent / "link"
    link.symlink_to(data_directory)
    protected = (str(data_directory), "/var/run/docker.sock")
    for source in (
        data_directory,
        data_directory.parent,
        control,
        link,
        Path("/var/run"),
        Path("/run"),
        Path("/"),
    ):
        spec = python_spec(DOCKER, "", mounts=(Mount(str(source), "/data"),))
        with pytest.raises(SandboxError, match="would show"):
            refuse_exposed(spec, protected)
    masked = python_spec(
        DOCKER, "", mounts=(Mount(str(data_directory.parent), "/data"),), tmpfs=(Tmpfs("/data/.symbi", 1),)
    )
    refuse_exposed(masked, protected)
