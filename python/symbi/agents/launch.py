"""From an agent's configuration to the sandbox it runs in.

Not here: starting it. The specification made here is decided on by the monitor, byte for byte.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from symbi.agents.definition import worker_target
from symbi.errors import InputError
from symbi.sandbox.base import NOBODY, Mount, SandboxSpec, SecurityTier, fill_limits
from symbi.sandbox.interpreter import empty_directory, interpreter_mounts, project_masks
from symbi.sandbox.risk import TierChoice, choose_tier

if TYPE_CHECKING:
    from symbi.agents.definition import AgentConfig

__all__ = ["spec_of", "tier_of"]

_ENVIRONMENT = (
    ("HOME", "/work"),
    ("LANG", "C.UTF-8"),
    ("PYTHONDONTWRITEBYTECODE", "1"),
    ("PYTHONSAFEPATH", "1"),
    ("TMPDIR", "/tmp"),  # noqa: S108 - the sandbox's own
)


def tier_of(config: AgentConfig, default: SecurityTier) -> TierChoice:
    """The tier the agent runs in: asked for, or assessed; never below its minimum."""
    parse = SecurityTier.parse
    return choose_tier(
        config,
        explicit=parse(config.tier) if config.tier else None,
        minimum=parse(config.tier_min) if config.tier_min else None,
        default=default,
    )


def spec_of(
    config: AgentConfig, tier: SecurityTier, agent: str, instance: str, hidden: tuple[str, ...] = ()
) -> SandboxSpec:
    """The sandbox of this agent.

    Args:
        config: What it was made from.
        tier: Already chosen.
        agent: Its id. `instance`: the runtime's.
        hidden: Directories that lie empty where a mount of the agent would show them: the data directory.

    Raises:
        InputError: its function cannot be found from a worker, or a mount is not there.
    """
    mounts = [_mount(Path(path)) for path in config.mounts]
    shown = [Path(mount.source) for mount in mounts]
    environment = dict(_ENVIRONMENT)
    if config.program:
        argv = config.program
    else:
        file, name = worker_target(config)
        mounts += [_mount(path) for path in interpreter_mounts()]
        project = Path(config.project).resolve() if config.project else None
        if project is not None:
            if not file.is_relative_to(project):
                raise InputError(f"`{file}` is not in the agent's project `{project}`")
            mounts += [_mount(project), *project_masks(project)]
            shown.append(project)
            environment["PYTHONPATH"] = str(project)
        else:
            mounts.append(_mount(file))
        shown.append(file)
        argv = (sys.executable, "-s", "-m", "symbi.agents.worker", str(file), name)
    mounts += [
        Mount(str(empty_directory()), path)
        for path in hidden
        if any(
            Path(path) != Path(mount.source) and Path(path).is_relative_to(mount.source) for mount in mounts
        )
    ]
    return SandboxSpec(
        tier=tier,
        argv=argv,
        agent=agent,
        instance=instance,
        mounts=tuple(dict.fromkeys(mounts)),
        limits=fill_limits(config.limits),
        environment=tuple(environment.items()),
        user=_reader_of(shown),
    )


def _reader_of(paths: list[Path]) -> int:
    """Nobody; or this user, without any capability, where what was to be shown is closed to everybody else."""
    for path in paths:
        found = path.stat()
        needed = 0o5 if path.is_dir() else 0o4
        if found.st_mode & needed != needed and found.st_uid == os.geteuid():
            return found.st_uid
    return NOBODY


def _mount(path: Path) -> Mount:
    if not path.exists():
        raise InputError(f"there is no `{path}` to show to the agent")
    real = path if not path.is_symlink() else path.resolve()
    return Mount(str(real.absolute()), str(path.absolute()))
