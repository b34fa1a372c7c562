"""Whose sandbox is it, and does the owner still live: the labels, and the sweep at the next open.

Why: `StdinOnce` ends a running container when its host dies, but a paused one stays, and so does the body of
one that ended. A runtime must not leave processes behind, and must not remove those of a neighbour.

Invariants
- Q1 Removed is only what is certainly orphaned: of this home and another instance (the home's lock is ours),
  of an earlier boot, or of a process of our own process table that is gone or is another one by now.
- Q2 What cannot be judged (a neighbour in another PID namespace) stays.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from symbi.sandbox.engine import Engine, remove

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AGENT_LABEL", "INSTANCE_LABEL", "Owner", "is_orphan", "reap"]

INSTANCE_LABEL: Final = "symbi.instance"
AGENT_LABEL: Final = "symbi.agent"
_HOME_LABEL: Final = "symbi.home"
_OWNER_LABEL: Final = "symbi.owner"


@dataclass(frozen=True, slots=True)
class Owner:
    """One opened runtime.

    Attributes:
        instance: Random; new at each open.
        home: Digest of what only one runtime can hold at a time (the log's id or the locked data directory).
        process: `boot:pid-namespace:pid:start-time`.
    """

    instance: str
    home: str
    process: str

    @classmethod
    def current(cls, home: str | Path) -> Owner:
        """This process, as the owner of `home`: a data directory whose lock it holds, or a log id."""
        name = _place(home) if isinstance(home, Path) else home
        digest = hashlib.sha256(f"{_host()}\0{name}".encode()).hexdigest()[:32]
        return cls(secrets.token_hex(16), digest, _process(os.getpid()))

    def labels(self) -> dict[str, str]:
        """What marks a container as this owner's."""
        return {INSTANCE_LABEL: self.instance, _HOME_LABEL: self.home, _OWNER_LABEL: self.process}


def is_orphan(labels: Mapping[str, str], owner: Owner) -> bool:
    """Whether the container with these labels has lost its owner for certain (Q1)."""
    if labels.get(INSTANCE_LABEL) == owner.instance:
        return False
    if labels.get(_HOME_LABEL) == owner.home:
        return True
    boot, _, rest = labels.get(_OWNER_LABEL, "").partition(":")
    our_boot, _, ours = owner.process.partition(":")
    if not boot or not rest:
        return False  # not ours to judge (Q2)
    if boot != our_boot:
        return True
    namespace, _, pid = rest.partition(":")
    if namespace != ours.partition(":")[0]:
        return False  # Q2
    number = pid.partition(":")[0]
    return number.isdecimal() and _process(int(number)) != labels[_OWNER_LABEL]


def _place(path: Path) -> str:
    """A directory, named so that the same path in a neighbour's mount namespace is another name."""
    try:
        found = path.stat()
    except OSError:
        return f"{Path('/proc/self/ns/mnt').readlink()}:{os.path.realpath(path)}"
    return f"{found.st_dev}:{found.st_ino}"


def _host() -> str:
    """This boot of this machine: the same in every container on it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _process(pid: int) -> str:
    """A process, named so that a recycled number is another name; empty when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        namespace = Path("/proc/self/ns/pid").readlink().name
    except (OSError, UnicodeError):
        return ""
    fields = stat.rpartition(")")[2].split()
    if fields[0] in "ZX":  # dead, and only not yet buried
        return ""
    return f"{_host()}:{namespace.strip('pid:[]')}:{pid}:{fields[19]}"


async def reap(engine: Engine, owner: Owner) -> tuple[str, ...]:
    """Remove every orphan, running, paused or ended; the ids of those removed."""
    found = await engine.call(
        "list containers", lambda client: client.containers(all=True, filters={"label": INSTANCE_LABEL})
    )
    orphans = [item["Id"] for item in found if is_orphan(item.get("Labels") or {}, owner)]
    for container in orphans:
        await engine.call("remove", partial(remove, container=container))
    return tuple(orphans)
