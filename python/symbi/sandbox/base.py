"""What every sandbox is, whatever holds it: tiers, what is asked for, what was found, the talk over the pipe.

Why: callers (the runtime, `symbi run`, the demo) name a tier and never a technology, so that a further tier
can be added without changing them. Cheap to import: nothing here loads Docker, the native core or asyncio.
Not here: which tier fits (`risk`), which backend serves it (`orchestrator`), how Docker is driven (`docker`).

Invariants
- X1 A spec is complete and immutable: every limit has a number before it is decided on.
- X2 A spec and its bytes are one thing: canonical JSON, and `spec_from_bytes(spec_to_bytes(spec)) == spec`.
- X3 A line is at most `LINE_BYTES_MAX` bytes, both ways. A guest that sends a longer one is killed.
- X4 A `Sandbox` that a backend hands out was verified: the host's inspection and our probe inside agree with
  the spec.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, runtime_checkable

from symbi.errors import InputError
from symbi.limits import ResourceLimits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from symbi.sandbox.usage import Usage

__all__ = [
    "GUEST_PATH",
    "LINE_BYTES_MAX",
    "NOBODY",
    "Backend",
    "Limit",
    "Mount",
    "Sandbox",
    "SandboxExit",
    "SandboxFacts",
    "SandboxSpec",
    "SecurityTier",
    "Tmpfs",
    "fill_limits",
    "spec_digest",
    "spec_from_bytes",
    "spec_to_bytes",
]

LINE_BYTES_MAX: Final = 1 << 20
"""Bytes of one line, without its newline. One JSON message of an agent; a larger thing travels in parts."""

OUTPUT_BYTES_MAX_DEFAULT: Final = 256 << 20
"""Bytes a sandbox may write in all. What says more than 256 MiB in its life is flooding, not talking."""

SPEC_BYTES_MAX: Final = 256 << 10
"""Bytes of a spec as JSON. A real one has 2 to 6 KiB; 256 KiB leaves room for a long command line."""

MOUNTS_MAX: Final = 128
"""Mounts of one sandbox. The host's interpreter needs 4 to 50."""

PIDS_MAX: Final = 256
"""Processes and threads. The count includes gVisor's own host threads: 64 makes it die at random."""

NOFILE_MAX: Final = 256
"""Open files of one process. Python with numpy holds 20; without a limit a guest took 20,000."""

NOBODY: Final = 65534
"""User and group inside: nobody. Owns nothing, neither there nor here."""

GUEST_PATH: Final = "/symbi-guest"
"""Where the one file of our image stands: the first process of every container."""

Limit = Literal["memory_mb", "execution_timeout_ms", "pids", "output_bytes"]
"""The limits a sandbox can die of."""


def _check_path(name: str, path: str) -> None:
    """Absolute and already normal: `..` and `//` would make two spellings of one place."""
    if not path.startswith("/") or "\0" in path or posixpath.normpath(path) != path:
        raise InputError(f"{name} must be an absolute, normal path, and is `{path[:200]}`")


class SecurityTier(IntEnum):
    """How strongly an agent is contained. Ordered: a higher tier is stronger.

    The number is what policies compare, the name (`str(tier)`) what configuration and log say.
    """

    DEGRADED = 0  # Landlock, seccomp, rlimits. Development only.
    DOCKER = 1  # Tier 1: a container that shares the host's kernel.
    GVISOR = 2  # Tier 2: a container with a kernel of its own.

    def __str__(self) -> str:
        return self.name.lower()

    @classmethod
    def parse(cls, text: str | SecurityTier) -> SecurityTier:
        """The tier a text names.

        Args:
            text: `degraded`, `docker` (or `tier1`), `gvisor` (or `tier2`), in any case; or a tier.

        Raises:
            InputError: the text names no tier.
        """
        if isinstance(text, SecurityTier):
            return text
        names = {"degraded": 0, "docker": 1, "tier1": 1, "gvisor": 2, "tier2": 2}
        number = names.get(text.lower()) if isinstance(text, str) else None
        if number is None:
            raise InputError(
                f"`{str(text)[:64]}` is not a tier: accepted are `degraded`, `docker` (or `tier1`), "
                "`gvisor` (or `tier2`)"
            )
        return cls(number)


def fill_limits(asked: ResourceLimits | None = None) -> ResourceLimits:
    """The limits a sandbox really gets: what was asked for, and the default where nothing was.

    Defaults: 256 MiB (Python with numpy holds 60), one core, no network, no connections, 300 s.
    `disk_io_mbps` stays `None` (no limit) unless asked for: not every host can apply it.
    """
    asked = asked or ResourceLimits()
    return ResourceLimits(
        memory_mb=256 if asked.memory_mb is None else asked.memory_mb,
        cpu_cores=1.0 if asked.cpu_cores is None else float(asked.cpu_cores),
        disk_io_mbps=asked.disk_io_mbps,
        network_io_mbps=0 if asked.network_io_mbps is None else asked.network_io_mbps,
        connections=0 if asked.connections is None else asked.connections,
        execution_timeout_s=300.0 if asked.execution_timeout_s is None else float(asked.execution_timeout_s),
    )


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or directory of the host, seen inside. Read-only unless said otherwise.

    Args:
        source: Absolute path on the host, as the daemon sees it.
        target: Absolute path inside.
        read_only: `False` makes the sandbox an external effect: what it writes outlives it.
    """

    source: str
    target: str
    read_only: bool = True

    def __post_init__(self) -> None:
        for name, path in (("source", self.source), ("target", self.target)):
            _check_path(f"mount {name}", path)
        if self.target in ("/", GUEST_PATH, "/proc", "/sys", "/dev"):
            raise InputError(f"nothing may be mounted on `{self.target}`")


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """Memory that looks like a directory; it counts against `memory_mb`. `noexec`, `nosuid`, `nodev`.

    Args:
        target: Absolute path inside.
        size_mb: MiB, 1 to 65536. `None` in no case: an unbounded one takes half of the host's memory.
    """

    target: str
    size_mb: int = 16

    def __post_init__(self) -> None:
        _check_path("tmpfs target", self.target)
        if not isinstance(self.size_mb, int) or not 1 <= self.size_mb <= 65_536:
            raise InputError(
                f"`size_mb` of tmpfs `{self.target}` must be 1 to 65536, and is {self.size_mb!r}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """Everything that decides what runs. The monitor decides on its bytes, and those bytes are what is run.

    Args:
        tier: Never lowered by anybody on the way.
        argv: The program inside and its arguments. Our first process runs it after it has confined itself and
            reported; see `docs/formats/guest.md`.
        agent: The agent's id; a label on the container.
        instance: The runtime's instance, `Owner.instance`; what is labelled with another is not ours.
        mounts: What is seen of the host. At most `MOUNTS_MAX`.
        limits: Filled by `fill_limits` when it is not complete.
        environment: Name and value, sorted by name. Nothing of the host's environment is added.
        tmpfs: Writable memory directories.
        working_directory: Where the program starts.
        output_bytes_max: Bytes it may write in its life, stdout and stderr together.
        pids_max: Processes and threads, `PIDS_MAX` at most and 96 at least (gVisor's own threads count).
        nofile_max: Open files of a process.
        user: The user inside, without any capability. Another than nobody only to read what its owner has closed
            to everybody else.
    """

    tier: SecurityTier
    argv: tuple[str, ...]
    agent: str
    instance: str
    mounts: tuple[Mount, ...] = ()
    limits: ResourceLimits = field(default_factory=fill_limits)
    environment: tuple[tuple[str, str], ...] = ()
    tmpfs: tuple[Tmpfs, ...] = (Tmpfs("/work", 16), Tmpfs("/tmp", 8))  # noqa: S108 - inside, not on the host
    working_directory: str = "/work"
    output_bytes_max: int = OUTPUT_BYTES_MAX_DEFAULT
    pids_max: int = PIDS_MAX
    nofile_max: int = NOFILE_MAX
    user: int = NOBODY

    def __post_init__(self) -> None:
        if not self.argv or not all(isinstance(word, str) and "\0" not in word for word in self.argv):
            raise InputError("`argv` needs a program, and no NUL characters")
        for name, text in (("agent", self.agent), ("instance", self.instance)):
            if not text or len(text) > 128 or not text.isprintable():
                raise InputError(f"`{name}` must be 1 to 128 printable characters")
        if len(self.mounts) > MOUNTS_MAX:
            raise InputError(f"at most {MOUNTS_MAX} mounts, and there are {len(self.mounts)}")
        targets = [mount.target for mount in self.mounts] + [place.target for place in self.tmpfs]
        if len(set(targets)) != len(targets):
            raise InputError("two mounts have the same target")
        _check_path("working_directory", self.working_directory)
        names = [name for name, _ in self.environment]
        if len(set(names)) != len(names) or not all(name and "=" not in name for name in names):
            raise InputError("`environment` needs distinct names without `=`")
        if any("\0" in text for pair in self.environment for text in pair):
            raise InputError("`environment` must hold no NUL characters")
        for name, value, low, high in (
            ("output_bytes_max", self.output_bytes_max, 1 << 10, 1 << 40),
            ("pids_max", self.pids_max, 96, PIDS_MAX),
            ("nofile_max", self.nofile_max, 32, 65_536),
            ("user", self.user, 0, 0xFFFF_FFFE),
        ):
            if not low <= value <= high:
                raise InputError(f"`{name}` must be {low} to {high}, and is {value!r}")
        object.__setattr__(self, "environment", tuple(sorted(self.environment)))
        object.__setattr__(self, "limits", fill_limits(self.limits))  # X1

    @property
    def writable(self) -> bool:
        """Whether anything it writes outlives it: then it is an external effect."""
        return any(not mount.read_only for mount in self.mounts)


def spec_to_bytes(spec: SandboxSpec) -> bytes:
    """The spec as canonical JSON: sorted keys, no spaces, UTF-8 (X2). What the monitor decides on."""
    shape = asdict(spec)
    shape["tier"] = str(spec.tier)
    shape["environment"] = dict(spec.environment)
    return json.dumps(shape, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def spec_digest(spec: SandboxSpec) -> str:
    """SHA-256 of the spec's bytes, in hex."""
    return hashlib.sha256(spec_to_bytes(spec)).hexdigest()


def spec_from_bytes(data: bytes) -> SandboxSpec:
    """The spec that these bytes are.

    Raises:
        InputError: not the canonical bytes of a spec; nothing is guessed or filled in.
    """
    if len(data) > SPEC_BYTES_MAX:
        raise InputError(f"a spec has at most {SPEC_BYTES_MAX} bytes, and this one {len(data)}")
    try:
        shape: dict[str, Any] = json.loads(data)
        shape["tier"] = SecurityTier.parse(shape["tier"])
        shape["argv"] = tuple(shape["argv"])
        shape["mounts"] = tuple(Mount(**mount) for mount in shape["mounts"])
        shape["tmpfs"] = tuple(Tmpfs(**place) for place in shape["tmpfs"])
        shape["limits"] = ResourceLimits(**shape["limits"])
        shape["environment"] = tuple(shape["environment"].items())
        spec = SandboxSpec(**shape)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"not a sandbox spec: {error}") from error
    if spec_to_bytes(spec) != data:
        raise InputError("not a sandbox spec: the bytes are not canonical")
    return spec


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxFacts:
    """What really runs: found by the host and by our own probe inside, never told by the program.

    Attributes:
        tier: The tier that was verified.
        container: The container's id, or the process id in the degraded tier.
        kernel: The kernel that answers inside, as our probe read it (`Linux 6.1.0-…`, `gVisor 4.4.0`).
        image: The verified layer digest, empty in the degraded tier.
        runtime: `runc`, `runsc`, or `degraded`.
        limits: What the host applied and read back, by name (`memory_bytes`, `cpu_millicores`, `pids`, …).
        mounts: `source:target:ro|rw`, as the host inspected them.
        probe: The probe's whole report.
        unenforced: What this tier cannot hold, in words; empty in tiers 1 and 2.
        start_ms: From the call to the verified sandbox, milliseconds.
    """

    tier: SecurityTier
    container: str
    kernel: str
    image: str
    runtime: str
    limits: Mapping[str, int]
    mounts: tuple[str, ...]
    probe: Mapping[str, Any]
    unenforced: tuple[str, ...] = ()
    start_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class SandboxExit:
    """How it ended.

    Attributes:
        code: The exit code; 128 + signal when a signal ended it; -1 when nobody can tell.
        oom_killed: The host's word that memory ran out. The code does not tell (gVisor exits with 1 or 137).
        limit: The limit it died of, or `None`.
    """

    code: int
    oom_killed: bool = False
    limit: Limit | None = None


@runtime_checkable
class Sandbox(Protocol):
    """A verified, running sandbox (X4). One user at a time for `send`, one for `receive`."""

    @property
    def spec(self) -> SandboxSpec:
        """What it was made from."""
        ...

    @property
    def facts(self) -> SandboxFacts:
        """What was verified at its start."""
        ...

    async def send(self, line: bytes) -> None:
        """Send one line; the newline is added here. Waits while the guest does not read.

        Raises:
            InputError: longer than `LINE_BYTES_MAX`, or holds a newline.
            SandboxError: the sandbox has ended.
        """
        ...

    async def receive(self) -> bytes | None:
        """The next line, without its newline; `None` once it has ended and all it said was handed over.

        A last line without a newline is not handed over: it was cut.

        Raises:
            SandboxLimitError: it was killed at a limit (`output_bytes`, `execution_timeout_ms`, `memory_mb`,
                `pids`).
        """
        ...

    def arm(self, timeout_s: float | None) -> None:
        """Set the wall-clock time left, from now, after which it is killed; `None` for no bound.

        A sandbox starts armed with its spec's `execution_timeout_s`. A worker is armed anew for each task.
        The clock stands while it is paused.
        """
        ...

    def usage(self) -> Usage:
        """What it uses now, read by the host; after its end, what it used. Cost: about 60 µs."""
        ...

    async def pause(self) -> None:
        """Freeze it: it gets no processor until `unpause`. A line sent meanwhile is read afterwards."""
        ...

    async def unpause(self) -> None:
        """Let it run on."""
        ...

    async def halt(self) -> None:
        """Freeze it for good, as fast as can be: nothing but `stop(force=True)` follows."""
        ...

    async def stop(self, *, force: bool = False) -> SandboxExit:
        """End it, and remove every trace of it. Safe to call twice, and while other calls wait.

        Args:
            force: Kill at once. Otherwise its stdin is closed first and it has 2 s to end by itself.
        """
        ...

    async def wait(self) -> SandboxExit:
        """Wait until it has ended by itself or was stopped. Never raises for how it ended."""
        ...

    def stderr_tail(self) -> bytes:
        """The last bytes it wrote to stderr, 16 KiB at most: for the operator, sealed like any error text."""
        ...


@runtime_checkable
class Backend(Protocol):
    """What serves one tier or more."""

    tiers: frozenset[SecurityTier]

    async def start(self, spec: SandboxSpec) -> Sandbox:
        """Start what `spec` says, verify it, and hand it out.

        Raises:
            SandboxUnavailableError: daemon, runtime or image is not here; the text says how to mend it.
            SandboxEscapeError: what runs is not what was asked for. It was killed.
            SandboxError: a limit or mount cannot be applied (named), or the start failed.
        """
        ...

    async def close(self) -> None:
        """End and remove every sandbox of this backend."""
        ...
