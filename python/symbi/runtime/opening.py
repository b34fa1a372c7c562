"""Opening the kernel of a runtime, under its settings.

Not here: what may be configured (`symbi.config`), what an opening finds in the trail (the kernel), what is joined to it
(`runtime`).
"""

from __future__ import annotations

import asyncio
import os
import resource
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from symbi.errors import InputError, PolicyError

if TYPE_CHECKING:
    from symbi._core import Kernel
    from symbi.runtime import Runtime

__all__ = ["open_kernel", "policy_paths"]


def policy_paths(policy: Iterable[Path | str] | Path | str) -> tuple[Path, ...]:
    """What `policy=` names.

    Raises:
        InputError: something else than paths.
    """
    given = [policy] if isinstance(policy, os.PathLike | str) else policy
    if isinstance(given, Iterable):
        listed = list(given)
        if all(isinstance(one, os.PathLike | str) for one in listed):
            return tuple(map(Path, listed))
    raise InputError("`policy` is a path or a list of paths: files, directories, names of starter policies")


async def open_kernel(runtime: Runtime, policy: Iterable[Path] | None) -> Kernel:
    """The kernel of this runtime's data directory, under its settings; it is closed with the runtime.

    Args:
        runtime: Whose.
        policy: Policy files or directories; None means the built-in `secure-default`.

    Raises:
        PolicyError: its policies do not compile. SymbiError: keys, trail or projections cannot be opened.
    """
    from symbi._core import Kernel
    from symbi.config.passphrase import key_passphrase
    from symbi.policy.archive import keep
    from symbi.policy.sources import read_policies

    texts = None if policy is None else read_policies(policy)
    if runtime.config.runtime.mode == "production":
        _no_crash_dumps()
    security, settings = runtime.config.security, runtime.config.runtime
    scheduler = runtime.config.scheduler
    audit = runtime.config.audit
    trail = audit.storage
    if not security.audit_enabled:
        # Development only: the monitor cannot work without a log, so it gets one that is thrown away.
        trail = Path(runtime.closing.enter_context(tempfile.TemporaryDirectory(prefix="symbi-trail-")))
    kernel = await asyncio.to_thread(
        Kernel.open,
        runtime.data,
        trail=trail,
        sources=None if texts is None else list(texts.sources),
        counters=[] if texts is None else list(texts.counters),
        enforce=security.enforce_policies,
        provider=security.crypto_provider,
        signers=settings.scheduler_threads,
        memory_mb=scheduler.memory_mb,
        cpu_millicores=scheduler.cpu_cores * 1000,
        disk_io_mbps=scheduler.disk_io_mbps,
        network_io_mbps=scheduler.network_io_mbps,
        sandboxes=scheduler.sandboxes,
        scheduling=scheduler.options(),
        tenants=scheduler.accounts(),
        supervision=asdict(runtime.config.supervision),
        agents_max=settings.max_concurrent_agents,
        mailbox_bytes_max=settings.message_buffer_size,
        snapshot_records=audit.snapshot_records,
        keeping=(audit.signing, audit.segment_age_h * 3_600, audit.retention_days * 86_400),
        passphrase=key_passphrase(),
        subject_key_backups=list(runtime.config.audit.subject_key_backups),
        message_rate=(
            (settings.message_rate_per_s, settings.message_burst) if settings.message_rate_per_s else None
        ),
        delivery=(
            settings.message_attempts,
            settings.message_patience_ms * 1_000,
            settings.message_backoff_ms * 1_000,
            settings.message_backoff_max_ms * 1_000,
        ),
    )
    runtime.closing.callback(kernel.close)
    if problems := kernel.policy_problems():
        raise PolicyError(problems)
    await asyncio.to_thread(keep, runtime.data, kernel.policy_digest(), texts)
    return kernel


def _no_crash_dumps() -> None:
    """This process holds keys and what agents say in plain: a file of its memory would give both away."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))
